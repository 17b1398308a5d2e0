"""What is seen of the environment: workers as they are, joined with what the router has counted."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from greentic.envpacks.deployer import Observation, RevisionObservation, RouterObservation
from greentic.providers.local import listening
from greentic.providers.local.workers import Workers
from greentic.router.tally import quantile_ms
from greentic.spec.environment import Environment
from greentic.spec.lifecycle import PRESENT


def observation(
    environment: Environment,
    workers: Workers,
    listener: socket.socket,
    report: Mapping[str, Any],
    routers: tuple[RouterObservation, ...],
    asked: str,
) -> Observation:
    """The observation; `report` is the sum of the routers' (`greentic.router.merging`)."""
    tallies: Mapping[str, Any] = report["revisions"]
    seen = {worker.revision_id: workers.observation(worker) for worker in workers.all()}
    for revision in environment.revisions:
        if revision.lifecycle in PRESENT and revision.revision_id not in seen:
            seen[revision.revision_id] = absent(revision.revision_id)
    return Observation(
        running=True,
        url=listening.url_of(listener),
        routers=sum(router.ready for router in routers),
        generations=report["generations"],
        revisions={name: with_counts(found, tallies.get(name)) for name, found in seen.items()},
        discovered={"listen_addr": listening.address_of(listener), "listen_addr_asked": asked},
        router_states=routers,
    )


def absent(revision_id: str) -> RevisionObservation:
    """A revision that nothing runs for."""
    return RevisionObservation(revision_id, "absent")


def with_counts(found: RevisionObservation, tally: Mapping[str, Any] | None) -> RevisionObservation:
    """A worker as it is seen, with what the routers have counted for its revision."""
    if tally is None:
        return found
    latencies = tally["latency_counts"]
    measured = any(latencies)
    return dataclasses.replace(
        found,
        in_flight=tally.get("in_flight", 0),  # a router that has ended counts no more
        requests=tally["requests"],
        # Each failed request once, and none that failed by its client: what broke off, and what was answered 5xx by the
        # worker or in its place.
        errors=tally["responses"]["5xx"] + tally["cut"],
        p50_ms=quantile_ms(latencies, 0.5) if measured else None,
        p99_ms=quantile_ms(latencies, 0.99) if measured else None,
        pins=tally.get("pins"),
        latency_counts=tuple(latencies),
    )


def unready(routers: Iterable[RouterObservation]) -> tuple[str, ...]:
    """What keeps the environment from being ready, in words; nothing when it is.

    It is when a router is ready and none that answers requests may be behind. One that is being started answers nobody
    yet, and one that finishes is given every table still: the others stand in for both.
    """
    routers = tuple(routers)
    doubtful = [router for router in routers if router.state == "serving" and not router.ready]
    if not doubtful and not any(router.ready for router in routers):
        doubtful = [router for router in routers if not router.ready]
        if not doubtful:
            return ("no router runs",)
    return tuple(f"{router.name}: {router.reason}" for router in doubtful)
