"""Transitions of deployments (reference 01, section 2.6)."""

from __future__ import annotations

from collections.abc import Iterable

from greentic.engine import policies
from greentic.engine.command import Command, Outcome
from greentic.spec.deployment import BundleDeployment, DeploymentStatus
from greentic.spec.element_rules import canonical_binding, deployment_violations
from greentic.spec.environment import Environment, RetiredPolicy
from greentic.spec.errors import AlreadyExists, Conflict, NotFound
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.payloads import AddDeploymentPayload, RemoveDeploymentPayload, UpdateDeploymentPayload
from greentic.spec.revision import Revision
from greentic.spec.rules import refuse
from greentic.spec.spans import replaced


def find(environment: Environment, deployment_id: str) -> BundleDeployment:
    """The deployment of that id; NotFound otherwise."""
    deployment = environment.deployment(deployment_id)
    if deployment is None:
        raise NotFound(
            f"there is no deployment {deployment_id} in the environment '{environment.environment_id}'",
            details={"environment_id": environment.environment_id, "deployment_id": deployment_id},
            next_step="gtc op bundles list",
        )
    return deployment


def replace(environment: Environment, deployment: BundleDeployment) -> Environment:
    """`environment` with the deployment of that id exchanged."""
    present = find(environment, deployment.deployment_id)
    return environment.model_copy(update={"bundles": replaced(environment.bundles, present, deployment)})


def add(environment: Environment, payload: AddDeploymentPayload, command: Command, now: str) -> Outcome:
    """A new deployment; Conflict when the customer has the bundle already or the id is taken."""
    for found in environment.bundles:
        if (found.bundle_id, found.customer_id) == (payload.bundle_id, payload.customer_id):
            raise AlreadyExists(
                f"'{payload.bundle_id}' is already deployed for '{payload.customer_id}'",
                details={"deployment_id": found.deployment_id},
                next_step=f"gtc op bundles update {payload.bundle_id}, or stage a revision into it",
            )
        if found.deployment_id == payload.deployment_id:
            raise AlreadyExists(
                f"the deployment id {payload.deployment_id} is taken",
                details={"deployment_id": payload.deployment_id},
                next_step="leave the id out, so that a new one is made",
            )
    deployment = BundleDeployment(
        deployment_id=payload.deployment_id,
        env_id=environment.environment_id,
        bundle_id=payload.bundle_id,
        customer_id=payload.customer_id,
        status=DeploymentStatus.ACTIVE,
        route_binding=payload.route_binding,
        revenue_share=payload.revenue_share,
        revenue_policy_ref=payload.revenue_policy_ref or "",
        created_at=now,
        authorization_ref=payload.authorization_ref,
        config_overrides=payload.config_overrides,
    )
    deployment = _checked(deployment)
    changed = policies.retired(environment.model_copy(update={"bundles": (*environment.bundles, deployment)}))
    return Outcome(changed, {"deployment": deployment.to_json()})


def update(environment: Environment, payload: UpdateDeploymentPayload, command: Command, now: str) -> Outcome:
    """Replace the fields that are named, whole; the others stay."""
    deployment = find(environment, payload.deployment_id)
    named = {
        field: value
        for field in ("status", "route_binding", "revenue_share", "revenue_policy_ref", "config_overrides")
        if (value := getattr(payload, field)) is not None
    }
    updated = _checked(deployment.model_copy(update=named))
    result = {"deployment": updated.to_json(), "revenue_share_changed": "revenue_share" in named}
    if updated == deployment:
        return Outcome(environment, result, changed=False)
    return Outcome(policies.retired(replace(environment, updated)), result)


def remove(environment: Environment, payload: RemoveDeploymentPayload, command: Command, now: str) -> Outcome:
    """Take out a deployment that has no traffic and only archived revisions, with all its history."""
    deployment = find(environment, payload.deployment_id)
    splits = [split for split in environment.traffic_splits if split.deployment_id == deployment.deployment_id]
    revisions = environment.revisions_of(deployment.deployment_id)
    alive = [revision.revision_id for revision in _alive(revisions)]
    if splits or alive:
        raise Conflict(
            f"'{deployment.bundle_id}' is still live: "
            + ("it has a traffic split" if splits else "")
            + (" and " if splits and alive else "")
            + (f"{len(alive)} of its revisions are not archived" if alive else ""),
            details={"active_splits": len(splits), "active_revisions": alive},
            next_step=f"gtc op traffic clear {deployment.bundle_id}"
            if splits
            else f"gtc op revisions archive {deployment.bundle_id} v{_alive(revisions)[0].sequence}, and so on",
        )
    refuse_linked(environment, deployment)
    kept = environment.model_copy(
        update={
            "bundles": tuple(one for one in environment.bundles if one.deployment_id != deployment.deployment_id),
            "revisions": tuple(one for one in environment.revisions if one.deployment_id != deployment.deployment_id),
            "split_history": tuple(
                one for one in environment.split_history if one.deployment_id != deployment.deployment_id
            ),
            "traffic_schedules": tuple(
                one for one in environment.traffic_schedules if one.deployment_id != deployment.deployment_id
            ),
        }
    )
    remembered = RetiredPolicy(
        bundle_id=deployment.bundle_id,
        customer_id=deployment.customer_id,
        revenue_policy_ref=deployment.revenue_policy_ref,
    )
    kept = kept.model_copy(update={"retired_policies": (*environment.retired_policies, remembered)})
    return Outcome(
        policies.retired(kept),
        {
            "deployment": deployment.to_json(),
            "pruned_revision_ids": [revision.revision_id for revision in revisions],
        },
    )


def refuse_linked(environment: Environment, deployment: BundleDeployment) -> None:
    """Conflict when a messaging endpoint reaches the bundle and no other deployment of it would remain."""
    linked = [one for one in environment.messaging_endpoints if deployment.bundle_id in one.linked_bundles]
    if linked and sum(one.bundle_id == deployment.bundle_id for one in environment.bundles) == 1:
        raise Conflict(
            f"{', '.join(repr(one.display_name) for one in linked)} would reach '{deployment.bundle_id}' no more",
            details={"endpoint_ids": [one.endpoint_id for one in linked]},
            next_step=f"gtc op messaging endpoint unlink-bundle {linked[0].provider_id} {deployment.bundle_id}",
        )


def _alive(revisions: Iterable[Revision]) -> list[Revision]:
    return [revision for revision in revisions if revision.lifecycle is not Lifecycle.ARCHIVED]


def _checked(deployment: BundleDeployment) -> BundleDeployment:
    """`deployment` with its routes in canonical form; SpecViolation when it breaks a rule of its own."""
    # Judged as written, since the canonical form would hide what is wrong with it.
    refuse(list(deployment_violations(deployment, "deployment")))
    return deployment.model_copy(update={"route_binding": canonical_binding(deployment.route_binding)})
