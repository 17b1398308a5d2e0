"""What the audit log says of an attempt (greentic.audit.event.v1; reference 01 section 1.16, reference 02 section 3.3).

Ours beside the reference's fields: `phase` (`intent` or `outcome`) and the chain (see `chain`). An intent has the
result `{"outcome": "pending"}`. `target` is the command's payload without what may be confidential: of
`config_overrides` only the names stand there, and a password in a URL is left out.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic_core import from_json, to_json

from greentic.engine.command import Command
from greentic.spec.errors import GreenticError
from greentic.store.chain import SCHEMA
from greentic.store.clock import timestamp
from greentic.store.contract import Decision, Request, Settled

EventId = Callable[[datetime], str]
"""A fresh ULID for the given time."""

_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
HIDDEN = "…@"


def event_id(moment: datetime) -> str:
    """A ULID whose time part is `moment`."""
    from ulid import ULID

    return str(ULID.from_datetime(moment))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of `apply`: who asks for what under which key, and whether it is allowed."""

    command: Command
    fingerprint: str
    decision: Decision
    moment: datetime
    request: Request | None = None

    def answer(self, settled: Settled) -> Mapping[str, Any]:
        """What is recorded under the key and returned: the result, or what the request makes of it."""
        return settled.result if self.request is None else self.request.answer(settled)

    def told(self, settled: Settled) -> Mapping[str, Any]:
        """As `answer`, all of it JSON values."""
        answer: dict[str, Any] = from_json(to_json(self.answer(settled)))
        return answer

    @property
    def now(self) -> str:
        """The time of the attempt, RFC 3339."""
        return timestamp(self.moment)


def intent(attempt: Attempt, generation: int | None, mint: EventId) -> dict[str, Any]:
    """The event before an attempt on the state `generation` (None: there is none)."""
    return {**_event(attempt, generation, mint, None), "phase": "intent", "result": {"outcome": "pending"}}


def outcome(
    attempt: Attempt,
    generation: int | None,
    mint: EventId,
    *,
    new: int | None,
    error: GreenticError | None,
    result: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The event after an attempt: `new` is the generation that it made, `error` what the caller gets for a result."""
    event = _event(attempt, generation, mint, result)
    if new is not None:
        event["new_generation"] = new
    if error is None and attempt.request is not None:
        error = attempt.request.reported
    end = {"outcome": "ok"} if error is None else {"outcome": "error", "kind": error.kind, "message": error.message}
    return {**event, "phase": "outcome", "result": end}


def interrupted(announced: Mapping[str, Any], moment: datetime, mint: EventId, *, sure: bool) -> dict[str, Any]:
    """The event for an intent whose process ended before it committed; not `sure`: the document cannot be asked."""
    told = "it committed nothing" if sure else "whether it committed cannot be told, for the document cannot be trusted"
    event = {key: value for key, value in announced.items() if key not in {"sequence", "previous_hash", "hash"}}
    return {
        **event,
        "event_id": mint(moment),
        "ts": timestamp(moment),
        "phase": "outcome",
        "result": {
            "outcome": "error",
            "kind": "interrupted",
            "message": f"the process ended in the middle; {told}",
        },
    }


def repaired(
    environment_id: str, generation: int | None, lost: Mapping[str, Any], moment: datetime, mint: EventId
) -> dict[str, Any]:
    """The event for an unfinished end of the log that was cut; `lost` says what it was."""
    event = {
        "schema": SCHEMA,
        "event_id": mint(moment),
        "ts": timestamp(moment),
        "actor": actor(_user()),
        "env_id": environment_id,
        "noun": "audit",
        "verb": "recover",
        "target": dict(lost),
        "authorization": {"decision": "allow", "policy": "recovery", "reason": "a write was interrupted"},
        "phase": "outcome",
        "result": {"outcome": "ok"},
    }
    return event if generation is None else {**event, "previous_generation": generation}


def actor(user: str) -> dict[str, Any]:
    """Who asks, on this machine."""
    return {"kind": "local-user", "user": user, "uid": os.getuid()}


def target(payload: Mapping[str, Any]) -> dict[str, Any]:
    """`payload` as it may stand in the log."""
    shown: dict[str, Any] = _shown(payload)
    return shown


def _event(attempt: Attempt, generation: int | None, mint: EventId, result: Mapping[str, Any] | None) -> dict[str, Any]:
    command, request = attempt.command, attempt.request
    payload = command.payload.to_json() if request is None or request.target is None else request.target(result)
    event: dict[str, Any] = {
        "schema": SCHEMA,
        "event_id": mint(attempt.moment),
        "ts": attempt.now,
        "actor": actor(command.actor) if request is None else dict(request.caller),
        "env_id": command.environment_id,
        "noun": command.noun,
        "verb": command.verb,
        "target": target(payload),
        "authorization": {
            "decision": "allow" if attempt.decision.allowed else "deny",
            "policy": attempt.decision.policy,
            "reason": attempt.decision.reason,
        },
    }
    if command.idempotency_key:
        event["idempotency_key"] = command.idempotency_key
    if generation is not None:
        event["previous_generation"] = generation
    return event


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _names(inner) if key == "config_overrides" else _shown(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    return _USERINFO.sub(HIDDEN, value) if isinstance(value, str) else value


def _names(overrides: Any) -> Any:
    """{pack: {key: value}} as {pack: [key]}; nothing else of it is shown."""
    if not isinstance(overrides, dict):
        return None
    return {pack: sorted(values) if isinstance(values, dict) else [] for pack, values in overrides.items()}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
