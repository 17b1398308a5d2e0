"""Take a deployment out of service for good: no traffic, nothing running, nothing left."""

from __future__ import annotations

from typing import Any

from greentic.engine.deployments import refuse_linked
from greentic.operations import deployments, names, revisions, traffic
from greentic.operations.context import Context
from greentic.spec.capabilities import Slot
from greentic.spec.errors import NotFound
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.payloads import RevisionPayload
from greentic.spec.revision import Revision


async def retire(context: Context, environment_id: str, word: str, *, note: str | None = None) -> dict[str, Any]:
    """Clear the traffic, drain what serves, archive every revision, remove the deployment.

    A deployment that is not there has the state `absent`, so an interrupted call can be repeated. Conflict while a
    messaging endpoint reaches the bundle and no other deployment of it remains.
    """
    environment = context.store.load(environment_id).environment
    try:
        deployment = names.deployment(environment, word)
    except NotFound:
        return {"environment_id": environment_id, "name": word, "state": "absent"}
    refuse_linked(environment, deployment)
    alive = [
        one for one in environment.revisions_of(deployment.deployment_id) if one.lifecycle is not Lifecycle.ARCHIVED
    ]
    told: dict[str, Any] = {
        "environment_id": environment_id,
        "name": word,
        "bundle_id": deployment.bundle_id,
        "customer_id": deployment.customer_id,
        "deployment_id": deployment.deployment_id,
        "traffic_cleared": environment.split(deployment.deployment_id) is not None,
        "archived": [f"v{revision.sequence}" for revision in alive],
    }
    if context.dry_run:
        return {**told, "state": "present"}
    if told["traffic_cleared"]:
        context.progress("clearing the traffic")
        await traffic.clear(context.with_key("clear"), environment_id, deployment.deployment_id, note=note)
    for revision in alive:
        context.progress(f"archiving v{revision.sequence}")
        await _archive(context.with_key(revision.revision_id), environment_id, revision)
    context.progress("removing the deployment")
    removed = await deployments.remove(context.with_key("remove"), environment_id, deployment.deployment_id)
    return {
        **told,
        "state": "retired",
        "pruned_revision_ids": removed["pruned_revision_ids"],
        "generation": removed["generation"],
    }


async def _archive(context: Context, environment_id: str, revision: Revision) -> None:
    """Drain a revision that serves, then archive it; where no deployer is bound nothing runs, the record is enough."""
    if context.store.load(environment_id).environment.binding(Slot.DEPLOYER) is not None:
        await revisions.archive(context, environment_id, revision)
        return
    context.apply(environment_id, "revisions", "archive", RevisionPayload(revision_id=revision.revision_id))
