"""AuditEvent: one entry of an audit log (reference 01, section 1.16; reference 02, section 3.3).

Ours beside the reference's fields: `phase` and the chain (`sequence`, `previous_hash`, `hash`); an intent has the
result `pending`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from greentic.spec.identifiers import Counter, EnvironmentId, EventId, Sequence, Timestamp
from greentic.spec.parsing import Document, Json, Text
from greentic.spec.revision import OMITTED

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""Lower-case hex SHA-256."""


class Actor(Document):
    """Who asked: `local-user`, `bearer-token`, `store-server`, `anonymous` …"""

    kind: Text
    user: Text | None = OMITTED
    uid: Counter | None = OMITTED


class Authorization(Document):
    """Whether it was allowed, by which policy and why."""

    decision: Literal["allow", "deny"]
    policy: Text
    reason: Text


class Result(Document):
    """How it ended: `error` has a kind and a message, `not-yet-implemented` a detail; `pending` has begun."""

    outcome: Literal["pending", "ok", "error", "not-yet-implemented"]
    kind: Text | None = OMITTED
    message: Text | None = OMITTED
    detail: Text | None = OMITTED

    @model_validator(mode="after")
    def _told(self) -> Result:
        if self.outcome == "error" and (self.kind is None or self.message is None):
            raise ValueError("an error has a kind and a message")
        if self.outcome == "not-yet-implemented" and self.detail is None:
            raise ValueError("what is not yet implemented is told by a detail")
        return self


class AuditEvent(Document):
    """One attempt, before or after. `target` is what was asked, without anything confidential."""

    schema_: Literal["greentic.audit.event.v1"] = Field("greentic.audit.event.v1", alias="schema")
    event_id: EventId
    ts: Timestamp
    actor: Actor
    env_id: EnvironmentId
    noun: Text
    verb: Text
    target: Json = None
    previous_generation: Counter | None = OMITTED
    new_generation: Counter | None = OMITTED
    idempotency_key: Text | None = OMITTED
    authorization: Authorization
    phase: Literal["intent", "outcome"] | None = OMITTED
    result: Result
    sequence: Sequence | None = OMITTED
    previous_hash: Hash | None = OMITTED
    hash: Hash | None = OMITTED
