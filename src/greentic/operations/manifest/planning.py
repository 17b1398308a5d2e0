"""The plan: a resolved manifest and a recorded environment to ordered steps. Pure.

Order (reference 01, section 5.4): the environment, host settings, trust root, env-packs, secrets, the bundles one
by one, routes that change hands, extensions, endpoints; then what is pruned, and the update channel; last the
routers, when an earlier run left them behind.
"""

from __future__ import annotations

from typing import Any

from greentic.operations.manifest import bindings, bundles, endpoints, hosts, pruning, updates
from greentic.operations.manifest.bundles import BundlePlan, Keyed
from greentic.operations.manifest.held import Held, held_by
from greentic.operations.manifest.inputs import Recorded, Resolved
from greentic.operations.manifest.ownership import Claims
from greentic.operations.manifest.plan import Action, Plan, Step, step_key
from greentic.operations.manifest.pruning import Leftover
from greentic.operations.manifest.routes import Wish, handover, parked
from greentic.operations.manifest.tasks import Republish, UpdateDeployment
from greentic.spec.deployment import BundleDeployment, DeploymentStatus
from greentic.spec.payloads import UpdateDeploymentPayload


def make_plan(
    resolved: Resolved, recorded: Recorded, *, actor: str, prune: bool = False, key: str | None = None
) -> tuple[Plan, Claims]:
    """(the plan, what the manifest claims once it is carried out).

    `key` is the caller's idempotency key, None when there is none. Raises Conflict and NotFound for what cannot be
    reached from what is recorded: routes that clash, endpoints of another type, something pruned that is still needed.
    """
    manifest = resolved.manifest
    environment_id = manifest.environment.id
    epoch = f"{recorded.generation}:{key or ''}"

    def keyed(kind: str, natural: str, desired: Any) -> str:
        return step_key(environment_id, kind, natural, desired, epoch)

    left = pruning.leftover(resolved, recorded)
    plans, aside = _bundles(resolved, recorded, left if prune else Leftover(), keyed)
    old = pruning.superseded(plans, recorded)
    steps = [hosts.environment_step(manifest, recorded, keyed)]
    optional = (
        hosts.policy_step(manifest, recorded, actor, keyed),
        hosts.host_step(manifest, recorded, keyed),
        hosts.trust_step(manifest, recorded, keyed),
    )
    steps += [step for step in optional if step is not None]
    steps += bindings.pack_steps(resolved, recorded, keyed)
    steps += hosts.secret_steps(resolved, recorded, keyed)
    for one in plans:
        steps += one.steps
    steps += aside
    for one in plans:
        steps += one.last
    steps += bindings.extension_steps(resolved, recorded, keyed)
    added, warnings = endpoints.endpoint_steps(resolved, recorded, actor, keyed)
    steps += added
    if prune:
        steps += pruning.prune_steps(resolved, recorded, left, old, actor, keyed)
    elif left.names() or old:
        names = [*left.names(), *(f"{revision.bundle_id} v{revision.sequence}" for revision in old)]
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        warnings.append(f"described no more and left alone without --prune: {shown}")
    steps += updates.update_steps(manifest, recorded, keyed)
    steps += _republished(recorded, environment_id, keyed)
    warnings = [
        *_unused(resolved),
        *updates.unverifiable(manifest, recorded),
        *(warning for one in plans for warning in one.warnings),
        *warnings,
    ]
    pins = {
        "manifest": resolved.digest,
        **{
            f"bundles.{bundle}.{revision}": artifact.digest
            for (bundle, revision), artifact in sorted(resolved.artifacts.items())
        },
        **{place: answers.digest for place, answers in sorted(resolved.answers.items())},
    }
    plan = Plan(
        environment_id,
        recorded.generation,
        recorded.etag,
        tuple(steps),
        pins,
        resolved.missing,
        tuple(warnings),
    )
    return plan, _claims(resolved, recorded, plans, left, prune)


def _bundles(
    resolved: Resolved, recorded: Recorded, leaving: Leftover, keyed: Keyed
) -> tuple[list[BundlePlan], list[Step]]:
    """(the plans of the bundles, the steps by which others make way for them)."""
    environment = recorded.environment
    environment_id = resolved.manifest.environment.id
    wanted = [(target, bundles.deployment_of(target, environment_id, keyed)) for target in resolved.targets]
    wishes = [
        Wish(
            deployment.deployment_id,
            target.called,
            None if target.deployment is None else target.deployment.route_binding,
            DeploymentStatus.ACTIVE if target.deployment is None else target.deployment.status,
            deployment.route_binding,
            deployment.status,
        )
        for target, deployment in wanted
    ]
    described = {wish.deployment_id for wish in wishes}
    going = {one.deployment_id for one in leaving.deployments}
    others = [
        one
        for one in (() if environment is None else environment.bundles)
        if one.deployment_id not in described and one.deployment_id not in going
    ]
    hands = handover(wishes, leaving.deployments, others)
    held, nothing = held_by(environment), Held()
    plans = [
        bundles.plan_bundle(resolved, target, deployment, held.get(deployment.deployment_id, nothing), hands, keyed)
        for target, deployment in wanted
    ]
    aside = [_makes_way(one, keyed) for one in leaving.deployments if one.deployment_id in hands.aside]
    aside += [step for plan in plans for step in plan.aside]
    return plans, aside


def _makes_way(deployment: BundleDeployment, keyed: Keyed) -> Step:
    """A deployment that is pruned later in this run gives its route to who takes it."""
    name = pruning.called(deployment)
    route = parked(deployment.deployment_id, deployment.route_binding)
    change = {
        "before": {"route_binding": deployment.route_binding.to_json()},
        "after": {"route_binding": route.to_json()},
    }
    return Step(
        "update-bundle",
        name,
        Action.UPDATE,
        f"{name}: give up its route, for another bundle takes it",
        change,
        keyed("update-bundle", f"{name}:aside", change["after"]),
        UpdateDeployment(UpdateDeploymentPayload(deployment_id=deployment.deployment_id, route_binding=route)),
    )


def _republished(recorded: Recorded, environment_id: str, keyed: Keyed) -> list[Step]:
    if recorded.unfinished is None:
        return []
    return [
        Step(
            "publish",
            environment_id,
            Action.UPDATE,
            "tell the routers everything again, for an earlier run stopped before its end",
            {},
            keyed("publish", environment_id, None),
            Republish(recorded.unfinished),
        )
    ]


def _claims(resolved: Resolved, recorded: Recorded, plans: list[BundlePlan], left: Leftover, prune: bool) -> Claims:
    now = pruning.declared(resolved, plans)
    if prune or recorded.environment is None:
        return now
    # What is left alone this time can still be pruned another time.
    there = {one.revision_id for one in recorded.environment.revisions}
    kept = Claims(
        frozenset(pruning.called(one) for one in left.deployments),
        recorded.mine.revisions & there,
        frozenset(one.slot.value for one in left.packs),
        frozenset(bindings.extension_name(one.kind, one.instance_id) for one in left.extensions),
        frozenset(one.display_name for one in left.endpoints),
    )
    return now.joined(kept)


def _unused(resolved: Resolved) -> list[str]:
    sections = [name for name in ("cluster", "vault_bootstrap") if getattr(resolved.manifest, name) is not None]
    return [f"the section {name} describes a cluster to be made; apply leaves it alone" for name in sections]
