"""What a reconcile would change, from what is recorded and what is seen: pure computations for `Deployer.plan`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from greentic.envpacks.deployer import Change, DesiredState, Observation, Plan
from greentic.spec.deployment import DeploymentStatus
from greentic.spec.environment import Environment
from greentic.spec.lifecycle import PRESENT, Lifecycle

_ABSENT = "absent"
_FAILED = "failed"


def planned(desired: DesiredState, seen: Observation) -> Plan:
    """The plan that follows from an observation, for a deployer that starts whatever is recorded and not there.

    Of tables an observation tells their generations alone.
    """
    environment = desired.environment
    opened = () if seen.running else opening(environment, 1)
    states = {name: one.state for name, one in seen.revisions.items()}
    served = [{"deployment_id": name, "generation": number} for name, number in seen.generations.items()]
    recorded = [
        {"deployment_id": one.deployment_id, "generation": split.generation if split else one.traffic_generation or 0}
        for one, split in ((one, environment.split(one.deployment_id)) for one in environment.bundles)
        if one.status is not DeploymentStatus.ARCHIVED
    ]
    return Plan((*opened, *starts(environment, states), *tables(recorded, served), *ends(environment, states)))


def opening(environment: Environment, routers: int) -> tuple[Change, ...]:
    """The listener and that many routers, where there are none."""
    return (
        Change("start", "listener", environment.host_config.listen_address, "the data plane is not running"),
        *(Change("start", "router", f"router-{index}", "the data plane is not running") for index in range(routers)),
    )


def starts(environment: Environment, states: Mapping[str, str]) -> Iterator[Change]:
    """The workers that are meant to exist and are not seen, or have failed while they served; states by revision."""
    for revision in environment.revisions:
        state = states.get(revision.revision_id, _ABSENT)
        gone = state == _ABSENT or (state == _FAILED and revision.lifecycle is not Lifecycle.WARMING)
        if revision.lifecycle in PRESENT and gone:
            yield starting(revision.revision_id, revision.lifecycle, state)


def starting(revision_id: str, lifecycle: Lifecycle, state: str) -> Change:
    """A worker is started because the record wants it, and it is not there or has failed."""
    return Change("start", "worker", revision_id, f"the revision is {lifecycle}, its worker is {state}")


def ends(environment: Environment, states: Mapping[str, str]) -> Iterator[Change]:
    """The workers that are seen and not meant to exist."""
    present = {revision.revision_id for revision in environment.revisions if revision.lifecycle in PRESENT}
    seen = {name for name, state in states.items() if state != _ABSENT}
    return ending(environment, sorted(seen - present))


def ending(environment: Environment, names: Iterable[str]) -> Iterator[Change]:
    """The workers of these revisions are ended."""
    for name in names:
        revision = environment.revision(name)
        recorded = "is not recorded" if revision is None else f"is {revision.lifecycle}"
        yield Change("end", "worker", name, f"the revision {recorded}, and its worker is there")


def tables(recorded: Sequence[Mapping[str, Any]], served: Collection[Mapping[str, Any]]) -> Iterator[Change]:
    """The deployments whose rows of the routers' table differ; rows have `deployment_id` and `generation` at least."""
    before = {row["deployment_id"]: row for row in served}
    for row in recorded:
        name = row["deployment_id"]
        old = before.pop(name, None)
        if old is None:
            yield Change("publish", "table", name, f"generation {row['generation']} is recorded, none is served")
        elif old["generation"] != row["generation"]:
            reason = f"generation {row['generation']} is recorded, {old['generation']} is served"
            yield Change("publish", "table", name, reason)
        elif old != row:
            yield Change("publish", "table", name, "its routes or the workers behind them are others than those served")
    for name in before:
        yield Change("publish", "table", name, "the deployment is served and not recorded")
