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
    DrainReport,
    KeyRotation,
    Notice,
    Observation,
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
]


def fields(value: Receipt | DrainReport | KeyRotation | RouterRestart) -> dict[str, Any]:
    """A receipt or a report, as JSON values."""
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
