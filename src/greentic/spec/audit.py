"""AuditEvent: one entry of an audit log (reference 01, section 1.16; reference 02, section 3.3).

Ours beside the reference's fields: `phase` and the chain (`sequence`, `previous_hash`, `hash`); an intent has the
result `pending`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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


class Pending(Document):
    """The attempt has begun."""

    outcome: Literal["pending"]


class Succeeded(Document):
    """It did what was asked."""

    outcome: Literal["ok"]


class Failed(Document):
    """It was refused or failed, with the kind of the error."""

    outcome: Literal["error"]
    kind: Text
    message: Text


class Unimplemented(Document):
    """The verb is known and not there yet."""

    outcome: Literal["not-yet-implemented"]
    detail: Text


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
    result: Annotated[Pending | Succeeded | Failed | Unimplemented, Field(discriminator="outcome")]
    sequence: Sequence | None = OMITTED
    previous_hash: Hash | None = OMITTED
    hash: Hash | None = OMITTED
