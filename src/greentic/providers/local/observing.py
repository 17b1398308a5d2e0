"""What is seen of the environment: workers as they are, joined with what the router has counted."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Mapping
from typing import Any

from greentic.envpacks.deployer import Observation, RevisionObservation, RouterObservation
from greentic.providers.local import listening
from greentic.providers.local.workers import Workers
from greentic.router.tally import quantile_ms
from greentic.spec.environment import Environment
from greentic.spec.lifecycle import PRESENT

_CALLER_LEFT = "client-closed"
"""Counted by the router, but no failure of a revision: whoever asked went away."""


def observation(
    environment: Environment, workers: Workers, listener: socket.socket, report: Mapping[str, Any] | None, asked: str
) -> Observation:
    """The observation; `report` is the router's (`greentic.router.report`), None when there is none that answers."""
    counted: Mapping[str, Any] = report["revisions"] if report is not None else {}
    seen = {worker.revision_id: workers.observation(worker) for worker in workers.all()}
    for revision in environment.revisions:
        if revision.lifecycle in PRESENT and revision.revision_id not in seen:
            seen[revision.revision_id] = absent(revision.revision_id)
    return Observation(
        running=True,
        url=listening.url_of(listener),
        routers=1 if report is not None and report["version"] is not None else 0,
        generations=report["generations"] if report is not None else {},
        revisions={name: _counted(found, counted.get(name)) for name, found in seen.items()},
        discovered={"listen_addr": listening.address_of(listener), "listen_addr_asked": asked},
    )


def absent(revision_id: str) -> RevisionObservation:
    """A revision that nothing runs for."""
    return RevisionObservation(revision_id, "absent")


def _counted(found: RevisionObservation, tally: Mapping[str, Any] | None) -> RevisionObservation:
    if tally is None:
        return found
    latencies = tally["latency_counts"]
    measured = any(latencies)
    return dataclasses.replace(
        found,
        in_flight=tally["in_flight"],
        requests=tally["requests"],
        errors=sum(count for kind, count in tally["errors"].items() if kind != _CALLER_LEFT)
        + tally["responses"]["5xx"],
        p50_ms=quantile_ms(latencies, 0.5) if measured else None,
        p99_ms=quantile_ms(latencies, 0.99) if measured else None,
        pins=tally.get("pins"),
        latency_counts=tuple(latencies),
    )


def router_states(reports: Mapping[str, Mapping[str, Any] | None]) -> tuple[RouterObservation, ...]:
    """The routers by name, None for one that does not answer."""
    return tuple(
        RouterObservation(name, False, "it does not answer")
        if report is None
        else RouterObservation(
            name,
            ready=(reason := unready(report)) is None,
            reason=reason or "",
            process_id=report["pid"],
            version=report["version"],
            generations=report["generations"],
            connections=report["connections"],
            uptime_seconds=report["uptime_seconds"],
        )
        for name, report in reports.items()
    )


def unready(report: Mapping[str, Any]) -> str | None:
    """Why a router that answers may not be given traffic; None when it may."""
    if report.get("ready", True) is False:
        return str(report.get("reason") or "it says that it is not ready")
    return "it has no routing table yet" if report["version"] is None else None
