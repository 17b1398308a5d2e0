"""The dial while it works: shares asked and shares seen, rates and latencies over the last seconds, routers, drains.

Routers count and never forget, so a rate is the difference of two readings. A counter that became smaller belongs to
another process: what it counts since then is the difference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from greentic.envpacks.deployer import Observation, RevisionObservation
from greentic.operations import status
from greentic.operations.context import Context
from greentic.router.tally import quantile_ms
from greentic.spec.errors import InvalidArgument
from greentic.spec.identifiers import BASIS_POINTS

WINDOW_SECONDS = 10.0
"""What is called a rate is an average over this long, or over as long as has been watched."""
SHORTEST_INTERVAL = 0.1
LONGEST_INTERVAL = 3600.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What was seen at `at` (seconds of a clock that never goes back)."""

    at: float
    observation: Observation


async def watch(
    context: Context,
    environment_id: str,
    word: str | None,
    *,
    interval: float,
    clock: Callable[[], float],
    pause: Callable[[float], Awaitable[None]],
) -> AsyncGenerator[dict[str, Any], None]:
    """A picture every `interval` seconds, for ever: the first at once, with rates from the second on.

    The data plane may stop, start and be replaced meanwhile; a deployer that cannot be asked is told as
    `observation_error`. Raises InvalidArgument for an interval out of bounds and NotFound for a name that is none.
    """
    if not SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL:
        raise InvalidArgument(
            f"the interval is {SHORTEST_INTERVAL:g} to {LONGEST_INTERVAL:g} seconds",
            next_step="gtc op watch --interval 1",
        )
    readings: deque[Reading] = deque()
    while True:
        began = clock()
        stored = context.store.load(environment_id)
        observation, problem = await status.look(context, stored)
        if not observation.running:
            readings.clear()
        readings.append(Reading(clock(), observation))
        while len(readings) > 2 and readings[-1].at - readings[1].at >= WINDOW_SECONDS:
            readings.popleft()
        described = status.describe(stored, observation, word)
        picture = {"at": context.now(), **paint(described, readings[0], readings[-1])}
        yield picture if problem is None else {**picture, "observation_error": problem}
        await pause(max(0.0, interval - (clock() - began)))


def paint(described: Mapping[str, Any], first: Reading, last: Reading) -> dict[str, Any]:
    """The tree of `status` with what happened between two readings; rates are None when they are one reading."""
    seconds = last.at - first.at
    deployments = [
        _deployment(deployment, first.observation, last.observation, seconds) for deployment in described["deployments"]
    ]
    return {**described, "window_seconds": round(seconds, 3), "deployments": deployments}


def _deployment(described: Mapping[str, Any], first: Observation, last: Observation, seconds: float) -> dict[str, Any]:
    deployment_id, generation = described["deployment_id"], described["generation"]
    revisions = [
        _revision(
            revision, first.revisions.get(revision["revision_id"]), last.revisions.get(revision["revision_id"]), seconds
        )
        for revision in described["revisions"]
    ]
    total = sum(revision["requests_in_window"] for revision in revisions)
    for revision in revisions:
        revision["seen_bps"] = round(revision["requests_in_window"] * BASIS_POINTS / total) if total else None
    return {
        **described,
        "requests_per_second": round(total / seconds, 2) if seconds else None,
        "lagging": [
            state.name
            for state in last.router_states
            if generation is not None and state.generations.get(deployment_id, -1) < generation
        ],
        "revisions": revisions,
    }


def _revision(
    described: Mapping[str, Any],
    first: RevisionObservation | None,
    last: RevisionObservation | None,
    seconds: float,
) -> dict[str, Any]:
    requests = _grown(first.requests if first else 0, last.requests if last else 0)
    errors = _grown(first.errors if first else 0, last.errors if last else 0)
    latencies = _counts(first, last)
    measured = seconds > 0 and any(latencies)
    return {
        **described,
        "requests_in_window": requests if seconds else 0,
        "requests_per_second": round(requests / seconds, 2) if seconds else None,
        "errors_per_second": round(errors / seconds, 2) if seconds else None,
        "p50_ms": quantile_ms(latencies, 0.5) if measured else None,
        "p99_ms": quantile_ms(latencies, 0.99) if measured else None,
        "pins": None if last is None or last.pins is None else dict(last.pins),
        "drain_seconds_left": None if last is None else last.drain_seconds_left,
        "ready_workers": None if last is None else last.ready_workers,
        "wanted_workers": None if last is None else last.wanted_workers,
    }


def _grown(before: int, after: int) -> int:
    return after - before if after >= before else after


def _counts(first: RevisionObservation | None, last: RevisionObservation | None) -> tuple[int, ...]:
    after = () if last is None or last.latency_counts is None else last.latency_counts
    before = () if first is None or first.latency_counts is None else first.latency_counts
    if len(before) != len(after) or any(old > new for old, new in zip(before, after, strict=True)):
        return after
    return tuple(new - old for old, new in zip(before, after, strict=True))
