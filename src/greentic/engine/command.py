"""What goes into a transition and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from greentic.spec.environment import Environment
from greentic.spec.errors import GreenticError
from greentic.spec.parsing import Payload


@dataclass(frozen=True, slots=True)
class Command:
    """One change that somebody asks for. Deterministic: identifiers are minted by the caller and stand in the payload.

    `idempotency_key` names the request: the same key with the same request has one effect. `actor` is who asks.
    `evidence` is what a data plane signed for it (`trust.health`): how it is shown to be true, and no part of what is
    asked, for a repetition brings newer evidence.
    """

    environment_id: str
    noun: str
    verb: str
    payload: Payload
    idempotency_key: str
    actor: str
    evidence: tuple[str, ...] = ()

    def fingerprint(self) -> Mapping[str, Any]:
        """What makes two requests the same request: everything but the key, the actor and the evidence."""
        return {
            "environment_id": self.environment_id,
            "noun": self.noun,
            "verb": self.verb,
            "payload": self.payload.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """The environment after a command, and what the caller is told.

    `changed` is False when nothing has to be written (a replay, a no-op). `failure` is an error that the caller gets
    although the new environment must be committed: a failed health gate leaves the revision `failed`.
    """

    environment: Environment
    result: Mapping[str, Any] = field(default_factory=dict)
    changed: bool = True
    failure: GreenticError | None = None
