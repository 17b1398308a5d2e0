"""What is asked of the world while a step of a schedule is held. Pure: a judgement of what was seen.

A gate is a value of the schedule (`greentic.spec.schedule.Gate`); a new kind is a new class there and a case here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from greentic.envpacks.deployer import Observation
from greentic.operations.readiness import seen
from greentic.spec.environment import Environment
from greentic.spec.schedule import ErrorRate, TrafficSchedule, WorkersHealthy
from greentic.spec.weights import format_share


@dataclass(frozen=True, slots=True)
class Counters:
    """Requests that a revision got from the routers, those of them that failed, and starts of its worker after its
    first, since some beginning."""

    requests: int = 0
    errors: int = 0
    restarts: int = 0

    def since(self, earlier: Counters | None) -> Counters:
        """What came on top of `earlier`; everything when somebody began to count anew."""
        if earlier is None:
            return self
        restarts = max(0, self.restarts - earlier.restarts)
        if self.requests < earlier.requests or self.errors < earlier.errors:
            return Counters(self.requests, self.errors, restarts)
        return Counters(self.requests - earlier.requests, self.errors - earlier.errors, restarts)


@dataclass(frozen=True, slots=True)
class Judgement:
    """`failures` in words, none when every gate passes; `seen` sums up what was looked at."""

    failures: tuple[str, ...]
    seen: str


def counters(observation: Observation) -> dict[str, Counters]:
    """What the routers have counted so far, by revision."""
    return {
        name: Counters(found.requests, found.errors, found.restarts) for name, found in observation.revisions.items()
    }


def judge(
    environment: Environment, schedule: TrafficSchedule, observation: Observation, begin: Mapping[str, Counters]
) -> Judgement:
    """Whether the present step of `schedule` passes; `begin` is what the routers had counted when it began."""
    failures: list[str] = []
    now = counters(observation)
    gaining = {name: now.get(name, Counters()).since(begin.get(name)) for name in gaining_by(environment, schedule)}
    for gate in schedule.gates:
        match gate:
            case WorkersHealthy():
                failures += _unhealthy(environment, schedule, observation, begin)
            case ErrorRate():
                failures += _failing(environment, gate, gaining)
    requests = sum(found.requests for found in gaining.values())
    errors = sum(found.errors for found in gaining.values())
    names = ", ".join(_name(environment, name) for name in gaining)
    return Judgement(tuple(failures), f"{names}: {requests} requests, {errors} failed")


def gaining_by(environment: Environment, schedule: TrafficSchedule) -> list[str]:
    """The revisions whose share the schedule raises: those that are on trial."""
    past = environment.history(schedule.deployment_id)
    before = next((split for split in past if split.generation == schedule.from_generation), None)
    had = {} if before is None else {entry.revision_id: entry.weight_bps for entry in before.entries}
    return [name for name, weight in schedule.target.items() if weight > had.get(name, 0)]


def _unhealthy(
    environment: Environment, schedule: TrafficSchedule, observation: Observation, begin: Mapping[str, Counters]
) -> list[str]:
    found = []
    now = counters(observation)
    for share in schedule.steps[schedule.step].entries:
        worker = seen(observation, share.revision_id)
        if share.weight_bps and not worker.healthy:
            detail = f": {worker.detail}" if worker.detail else ""
            found.append(f"the worker of {_name(environment, share.revision_id)} is {worker.state}{detail}")
            continue
        # It may die and be back between two looks.
        early = begin.get(share.revision_id)
        if share.weight_bps and early is not None and now.get(share.revision_id, early).since(early).restarts:
            found.append(f"the worker of {_name(environment, share.revision_id)} ended and was started again")
    return found


def _failing(environment: Environment, gate: ErrorRate, gaining: Mapping[str, Counters]) -> list[str]:
    found = []
    for name, counted in gaining.items():
        if counted.requests >= gate.min_requests and counted.errors * 10_000 > gate.limit_bps * counted.requests:
            rate = format_share(round(10_000 * min(1.0, counted.errors / counted.requests)))
            found.append(
                f"{_name(environment, name)} failed {counted.errors} of {counted.requests} requests ({rate}), "
                f"more than {format_share(gate.limit_bps)}"
            )
    return found


def _name(environment: Environment, revision_id: str) -> str:
    revision = environment.revision(revision_id)
    return revision_id if revision is None else f"v{revision.sequence}"
