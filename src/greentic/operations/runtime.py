"""The data plane of an environment as a whole: run it in the foreground, end it, read a worker's log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from greentic.envpacks.deployer import DeployerContext, DesiredState
from greentic.operations.context import Context, desired
from greentic.spec.environment import Environment, HostConfig
from greentic.spec.errors import NotFound, StoreError, TimedOut
from greentic.spec.payloads import DEFAULT_PACKS
from greentic.spec.revision import Revision


async def serve(context: Context, environment_id: str) -> None:
    """Run the data plane here until it is stopped."""
    stored = context.store.load(environment_id)
    await context.deployer(stored).serve(desired(stored), context.progress)


async def start(context: Context, environment_id: str) -> dict[str, Any]:
    """Start the data plane in the background, or bring a running one to the recorded state."""
    stored = context.store.load(environment_id)
    observation = await context.deployer(stored).reconcile(desired(stored), context.progress)
    healthy = sum(seen.healthy for seen in observation.revisions.values())
    return {
        "environment_id": environment_id,
        "running": observation.running,
        "url": observation.url,
        "routers": observation.routers,
        "workers": len(observation.revisions),
        "healthy": healthy,
    }


async def plan(context: Context, environment_id: str) -> dict[str, Any]:
    """What `start` would change at the provider, without changing it."""
    stored = context.store.load(environment_id)
    changes = (await context.deployer(stored, leaving=True).plan(desired(stored))).changes
    return {
        "environment_id": environment_id,
        "dry_run": True,
        "changes": [
            {
                "action": one.action,
                "kind": one.kind,
                "name": one.name,
                "called": _called(stored.environment, one.name),
                "reason": one.reason,
            }
            for one in changes
        ],
    }


def _called(environment: Environment, name: str) -> str:
    """What people call the revision or the deployment of that id; the name itself when it is neither's."""
    revision, deployment = environment.revision(name), environment.deployment(name)
    if revision is not None:
        return f"{revision.bundle_id} v{revision.sequence}"
    return name if deployment is None else deployment.bundle_id


async def stop(context: Context, environment_id: str) -> dict[str, Any]:
    """End the data plane; the record stays, and the next start returns to it. Also when the environment does not trust
    its deployer any more: then above all.

    When the store does not answer, what runs on this machine is ended all the same. Its error is raised when nothing
    does: a deployer of elsewhere may have something to end, and only the record says which. `store_error` is what the
    store said when it did not answer, else None.
    """
    try:
        stored = context.store.load(environment_id)
    except (StoreError, TimedOut) as error:
        if not await _stopped_here(context, environment_id):
            raise
        context.progress(f"{error.message}; what ran on this machine was ended without it")
        return {"environment_id": environment_id, "stopped": True, "store_error": error.document()}
    stopped = await context.deployer(stored, leaving=True).stop(desired(stored), context.progress)
    return {"environment_id": environment_id, "stopped": stopped, "store_error": None}


async def _stopped_here(context: Context, environment_id: str) -> bool:
    """End what the deployer that every environment begins with runs on this machine; whether there was anything."""
    bare = Environment(
        environment_id=environment_id,
        name=environment_id,
        host_config=HostConfig(env_id=environment_id),
        packs=DEFAULT_PACKS,
    )
    folder = context.store.artifacts(environment_id)
    deployer = context.registry.deployer(bare, DeployerContext(environment_id, folder, {}))
    return await deployer.stop(DesiredState(bare, 0), context.progress)


async def metrics(context: Context, environment_id: str) -> dict[str, Any]:
    """What is measured now, in Prometheus' text format; Conflict when the data plane is down."""
    stored = context.store.load(environment_id)
    return {
        "environment_id": environment_id,
        "text": await context.deployer(stored, leaving=True).metrics(desired(stored)),
    }


async def log(context: Context, environment_id: str, revision: Revision) -> Path:
    """The file that holds the output of the revision's worker; NotFound when it never ran here or wrote nothing."""
    stored = context.store.load(environment_id)
    observation = await context.deployer(stored, leaving=True).observe(desired(stored))
    seen = observation.revisions.get(revision.revision_id)
    place = None if seen is None or seen.log is None else Path(seen.log)
    if place is None:
        place = context.store.artifacts(environment_id) / "logs" / "revisions" / f"{revision.revision_id}.log"
    if not place.is_file():
        raise NotFound(
            f"{revision.bundle_id} v{revision.sequence} has no log: it never ran here, or wrote nothing",
            next_step=f"gtc op revisions warm {revision.bundle_id} v{revision.sequence}",
        )
    return place
