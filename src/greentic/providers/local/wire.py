"""The words of the control socket: JSON lines, and how errors and results travel in them.

Request: {"id": n, "method": …, "params": {…}}. Answers: any number of {"id": n, "progress": "…"}, then one of
{"id": n, "result": …} or {"id": n, "error": {"kind", "message", "details"?, "next_step"?}}. An error comes out at the
other end as the same member of the error family.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from greentic.envpacks.deployer import (
    Change,
    DrainReport,
    KeyRotation,
    Notice,
    Observation,
    Plan,
    Receipt,
    RevisionObservation,
    RouterObservation,
    RouterRestart,
)
from greentic.envpacks.wire import LIMIT_BYTES, desired_document, desired_from, encode, error_from

__all__ = [
    "LIMIT_BYTES",
    "desired_document",
    "desired_from",
    "encode",
    "error_from",
    "fields",
    "observation_document",
    "observation_from",
    "plan_from",
]


def fields(value: Receipt | DrainReport | KeyRotation | RouterRestart | Plan) -> dict[str, Any]:
    """A receipt, a report or a plan, as JSON values."""
    return dataclasses.asdict(value)


def observation_document(observation: Observation) -> dict[str, Any]:
    """What is seen, as JSON values."""
    return {
        "running": observation.running,
        "url": observation.url,
        "routers": observation.routers,
        "generations": dict(observation.generations),
        "revisions": {key: dataclasses.asdict(value) for key, value in observation.revisions.items()},
        "discovered": dict(observation.discovered),
        "router_states": [dataclasses.asdict(state) for state in observation.router_states],
        "notices": list(observation.notices),
    }


def observation_from(document: Mapping[str, Any]) -> Observation:
    """The observation in `document`."""
    revisions = {key: RevisionObservation(**value) for key, value in document["revisions"].items()}
    routers = tuple(RouterObservation(**state) for state in document["router_states"])
    notices = tuple(Notice(*notice) for notice in document["notices"])
    return Observation(**{**document, "revisions": revisions, "router_states": routers, "notices": notices})


def plan_from(document: Mapping[str, Any]) -> Plan:
    """The plan in `document`."""
    return Plan(tuple(Change(**change) for change in document["changes"]))
