"""Steps that remove what this manifest declared before and declares no more. Pure.

Nothing that another manifest claims is removed, and nothing that no manifest declared. What cannot be removed is
refused before
anything is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from greentic.operations.manifest.bindings import extension_name, remove_extension, remove_pack
from greentic.operations.manifest.bundles import BundlePlan, Keyed
from greentic.operations.manifest.endpoints import remove_endpoint
from greentic.operations.manifest.inputs import Recorded, Resolved
from greentic.operations.manifest.ownership import Claims
from greentic.operations.manifest.plan import Action, Step
from greentic.operations.manifest.tasks import RemoveDeployment, RetireRevision
from greentic.spec.capabilities import Slot
from greentic.spec.deployment import BundleDeployment
from greentic.spec.environment import Environment, ExtensionBinding, MessagingEndpoint, PackBinding
from greentic.spec.errors import Conflict
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.revision import Revision


@dataclass(frozen=True, slots=True)
class Leftover:
    """What this manifest declared before, declares no more, and no other manifest claims."""

    deployments: tuple[BundleDeployment, ...] = ()
    packs: tuple[PackBinding, ...] = ()
    extensions: tuple[ExtensionBinding, ...] = ()
    endpoints: tuple[MessagingEndpoint, ...] = ()

    def names(self) -> list[str]:
        """Each by a name for people."""
        return [
            *(f"the deployment {called(one)}" for one in self.deployments),
            *(f"the env-pack in the slot {one.slot.value}" for one in self.packs),
            *(f"the extension {extension_name(one.kind, one.instance_id)}" for one in self.extensions),
            *(f"the endpoint {one.display_name}" for one in self.endpoints),
        ]


def called(deployment: BundleDeployment) -> str:
    """A deployment as claims name it."""
    return f"{deployment.bundle_id}@{deployment.customer_id}"


def declared(resolved: Resolved, plans: Sequence[BundlePlan] = ()) -> Claims:
    """What the manifest declares now; `plans` say which revisions that means."""
    manifest = resolved.manifest
    return Claims(
        frozenset(target.called for target in resolved.targets),
        frozenset(place.revision_id for plan in plans for place in plan.placed),
        frozenset(entry.slot.value for entry in manifest.packs),
        frozenset(extension_name(entry.kind, entry.instance_id) for entry in manifest.extensions),
        frozenset(entry.name for entry in manifest.messaging_endpoints),
    )


def leftover(resolved: Resolved, recorded: Recorded) -> Leftover:
    """What is left over of earlier declarations."""
    environment = recorded.environment
    if environment is None:
        return Leftover()
    now, mine, others = declared(resolved), recorded.mine, recorded.others
    deployments = mine.deployments - now.deployments - others.deployments
    packs = mine.packs - now.packs - others.packs
    extensions = mine.extensions - now.extensions - others.extensions
    endpoints = mine.endpoints - now.endpoints - others.endpoints
    return Leftover(
        tuple(one for one in environment.bundles if called(one) in deployments),
        tuple(one for one in environment.packs if one.slot.value in packs),
        tuple(one for one in environment.extensions if extension_name(one.kind, one.instance_id) in extensions),
        tuple(one for one in environment.messaging_endpoints if one.display_name in endpoints),
    )


def superseded(plans: Sequence[BundlePlan], recorded: Recorded) -> list[Revision]:
    """Revisions of declared deployments that this manifest declared before and declares no more, without traffic."""
    found: list[Revision] = []
    for plan in plans:
        kept = {place.revision_id for place in plan.placed}
        split = plan.held.split
        moves = any(step.kind == "move-traffic" for step in plan.steps)
        live = {one.revision_id for one in (() if split is None or moves else split.entries) if one.weight_bps}
        for revision in plan.held.revisions:
            mine = revision.revision_id in recorded.mine.revisions - recorded.others.revisions
            if mine and revision.revision_id not in kept | live and revision.lifecycle is not Lifecycle.ARCHIVED:
                found.append(revision)
    return found


def prune_steps(
    resolved: Resolved, recorded: Recorded, left: Leftover, revisions: Sequence[Revision], by: str, keyed: Keyed
) -> list[Step]:
    """The steps that remove `left` and retire `revisions`; Conflict when something still needs what would go."""
    environment = recorded.environment
    if environment is None:
        return []
    _refuse(resolved, environment, left)
    steps = [remove_endpoint(endpoint, keyed) for endpoint in left.endpoints]
    steps += [remove_extension(extension, by, keyed) for extension in left.extensions]
    steps += [_retire(revision, keyed) for revision in revisions]
    steps += [_remove(environment, deployment, keyed) for deployment in left.deployments]
    steps += [remove_pack(binding.slot, by, keyed) for binding in left.packs]
    return steps


def _refuse(resolved: Resolved, environment: Environment, left: Leftover) -> None:
    leaving = {one.deployment_id for one in left.deployments}
    remaining = [one for one in environment.bundles if one.deployment_id not in leaving]
    kept = {one.bundle_id for one in remaining} | {target.entry.bundle_id for target in resolved.targets}
    going = {one.display_name for one in left.endpoints}
    links = {entry.name: entry.links for entry in resolved.manifest.messaging_endpoints}
    for endpoint in environment.messaging_endpoints:
        if endpoint.display_name in going:
            continue
        for bundle in links.get(endpoint.display_name, endpoint.linked_bundles):
            if bundle not in kept:
                raise Conflict(
                    f"the deployment of '{bundle}' cannot be pruned: the endpoint {endpoint.display_name} reaches it",
                    next_step=f"take {bundle} out of the endpoint's links first",
                )
    alive = any(
        one.lifecycle is not Lifecycle.ARCHIVED and one.deployment_id not in leaving for one in environment.revisions
    )
    if (alive or resolved.targets) and any(binding.slot is Slot.DEPLOYER for binding in left.packs):
        raise Conflict(
            "the env-pack in the slot deployer cannot be pruned: it runs what remains",
            next_step="declare a deployer again, or remove the bundles too",
        )


def _retire(revision: Revision, keyed: Keyed) -> Step:
    name = f"{revision.bundle_id} v{revision.sequence}"
    return Step(
        "remove-revision",
        revision.revision_id,
        Action.REMOVE,
        f"drain and archive {name}, which is described no more",
        {"before": revision.lifecycle.value, "after": Lifecycle.ARCHIVED.value},
        keyed("remove-revision", revision.revision_id, None),
        RetireRevision(revision.revision_id),
    )


def _remove(environment: Environment, deployment: BundleDeployment, keyed: Keyed) -> Step:
    alive = [
        f"v{one.sequence}"
        for one in environment.revisions_of(deployment.deployment_id)
        if one.lifecycle is not Lifecycle.ARCHIVED
    ]
    return Step(
        "remove-bundle",
        called(deployment),
        Action.REMOVE,
        f"remove {called(deployment)}" + (f": drain and archive {', '.join(alive)}" if alive else ""),
        {"before": {"revisions": alive, "status": deployment.status.value}, "after": None},
        keyed("remove-bundle", called(deployment), deployment.deployment_id),
        RemoveDeployment(deployment.deployment_id),
    )
