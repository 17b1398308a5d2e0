"""The words of the control socket: JSON lines, and how errors and results travel in them.

Request: {"id": n, "method": …, "params": {…}}. Answers: any number of {"id": n, "progress": "…"}, then one of
{"id": n, "result": …} or {"id": n, "error": {"kind", "message", "details"?, "next_step"?}}. An error comes out at the
other end as the same member of the error family.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from greentic.envpacks.deployer import (
    DesiredState,
    DrainReport,
    KeyRotation,
    Notice,
    Observation,
    Receipt,
    RevisionObservation,
    RouterObservation,
    RouterRestart,
)
from greentic.spec import errors
from greentic.spec.environment import Environment
from greentic.spec.parsing import parse

LIMIT_BYTES = 32 * 1024 * 1024
"""One line: room for the largest environment, and a bound for a confused peer."""


def encode(message: Mapping[str, Any]) -> bytes:
    """`message` as one line."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def desired_document(desired: DesiredState) -> dict[str, Any]:
    """The recorded state as JSON values."""
    return {"generation": desired.generation, "environment": desired.environment.to_json()}


def desired_from(document: Any) -> DesiredState:
    """The recorded state in `document`; SpecViolation when it is none."""
    if not isinstance(document, dict) or type(document.get("generation")) is not int:
        raise errors.SpecViolation("Malformed", "a desired state has a generation and an environment")
    environment = parse(Environment, document.get("environment"), "the desired state's environment")
    return DesiredState(environment, document["generation"])


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


def error_from(document: Any) -> errors.GreenticError:
    """The error that `document` describes, as the member of the family with that kind."""
    if not isinstance(document, dict):
        return errors.ProviderError("the runtime answered with something that is not an error")
    message = str(document.get("message", "the runtime gave no reason"))
    details = document.get("details") or {}
    next_step = document.get("next_step")
    family = _FAMILY.get(str(document.get("kind")), errors.ProviderError)
    if issubclass(family, errors.SpecViolation):
        return family(str(details.get("rule", "")), message, details=details, next_step=next_step)
    return family(message, details=details, next_step=next_step)


def _family(root: type[errors.GreenticError]) -> dict[str, type[errors.GreenticError]]:
    found = {root.kind: root}
    for member in root.__subclasses__():
        # Of several of one kind the most general is meant: which of them it was, the kind does not say.
        found = {**_family(member), **found}
    return found


_FAMILY = _family(errors.GreenticError)
