"""Whether those who are to get traffic can carry it: looked at before the dial moves, not believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from greentic.engine.revisions import label
from greentic.envpacks.deployer import Observation, RevisionObservation
from greentic.operations.context import Context, desired
from greentic.spec.deployment import BundleDeployment
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.revision import Revision
from greentic.spec.weights import format_share
from greentic.store.contract import Applied, Stored


async def require(
    context: Context, stored: Stored | Applied, deployment: BundleDeployment, weights: Mapping[str, int]
) -> None:
    """See that every revision with a share answers and has enough workers ready for it; Conflict otherwise.

    The data plane is started when it is down, and brought to the record when somebody with a share does not answer.
    """
    state = desired(stored)
    named = [state.environment.revision(revision_id) for revision_id, weight in weights.items() if weight]
    if any(revision is None or revision.lifecycle is not Lifecycle.READY for revision in named):
        return  # the engine refuses it, in its own words
    provider = context.deployer(stored)
    observation = await provider.observe(state)
    down = not observation.running
    if down or any(_short(seen(observation, name), share) for name, share in weights.items() if share):
        observation = await provider.reconcile(state, context.progress)
    refuse(state.environment, deployment, weights, observation)


def refuse(
    environment: Environment, deployment: BundleDeployment, weights: Mapping[str, int], observation: Observation
) -> None:
    """Conflict for the first revision whose share is more than what is seen of it can carry."""
    for revision_id, share in weights.items():
        revision = environment.revision(revision_id)
        found = seen(observation, revision_id)
        if revision is None or not share or not _short(found, share):
            continue
        if found.healthy and found.capacity_bps:
            raise _too_little(environment, deployment, revision, share, found)
        raise Conflict(
            f"{label(revision)} is recorded ready but its worker is {found.state}"
            + (f": {found.detail}" if found.detail else ""),
            details={"revision_id": revision_id, "state": found.state},
            next_step=f"gtc op revisions logs {deployment.bundle_id} v{revision.sequence}",
        )


def verdict(environment: Environment, weights: Mapping[str, int], observation: Observation) -> list[dict[str, Any]]:
    """Each revision with a share: what it is to carry and what its ready workers can; `enough` is the comparison."""
    rows = []
    for revision_id, share in weights.items():
        revision = environment.revision(revision_id)
        if revision is None or not share:
            continue
        found = seen(observation, revision_id)
        row: dict[str, Any] = {
            "revision_id": revision_id,
            "name": f"v{revision.sequence}",
            "weight_bps": share,
            "capacity_bps": found.capacity_bps,
            "state": found.state,
            "enough": not _short(found, share),
        }
        if found.wanted_workers is not None:
            row |= {"ready_workers": found.ready_workers or 0, "wanted_workers": found.wanted_workers}
        rows.append(row)
    return rows


def seen(observation: Observation, revision_id: str) -> RevisionObservation:
    """What is seen of a revision; absent where nothing is."""
    return observation.revisions.get(revision_id) or RevisionObservation(revision_id, "absent")


def _short(found: RevisionObservation, share: int) -> bool:
    return not found.healthy or found.capacity_bps < share


def _too_little(
    environment: Environment,
    deployment: BundleDeployment,
    revision: Revision,
    share: int,
    found: RevisionObservation,
) -> Conflict:
    most = found.capacity_bps
    live = environment.split(deployment.deployment_id)
    others = () if live is None else [one for one in live.entries if one.revision_id != revision.revision_id]
    rest = max(others, key=lambda entry: entry.weight_bps, default=None)
    other = None if rest is None or not rest.weight_bps else environment.revision(rest.revision_id)
    return Conflict(
        f"{label(revision)} has {found.ready_workers} of {found.wanted_workers} workers ready: it can carry "
        f"{format_share(most)} of the traffic, not {format_share(share)}",
        details={
            "reason": "ready-capacity",
            "revision_id": revision.revision_id,
            "ready_workers": found.ready_workers,
            "wanted_workers": found.wanted_workers,
            "capacity_bps": most,
            "weight_bps": share,
        },
        next_step="wait until more workers are ready: gtc op status"
        if other is None
        else f"gtc op traffic set {deployment.bundle_id} v{revision.sequence}={format_share(most)} "
        f"rest=v{other.sequence}",
    )
