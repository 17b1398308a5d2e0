"""TrafficSplit: the dial (reference 01, section 1.9)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from greentic.spec.identifiers import (
    BasisPoints,
    BundleId,
    Counter,
    DeploymentId,
    EnvironmentId,
    EventId,
    RevisionId,
    Timestamp,
)
from greentic.spec.parsing import Document, Text, absent
from greentic.spec.revision import OMITTED
from greentic.spec.router_settings import LONGEST_PIN_SECONDS

SlotRun = tuple[Annotated[int, Field(ge=1, le=10_000, strict=True)], Annotated[int, Field(ge=0, strict=True)]]
"""(how many slots, index into `entries`)."""


class PinMode(StrEnum):
    """What becomes of visitors' pins when the dial moves."""

    HONOUR = "honour"
    GRACE = "grace"
    EVICT = "evict"


class PinPolicy(Document):
    """What becomes of visitors' pins when the dial moves (reference 04, sections 1.4 and 1.11).

    `honour`: pins to revisions that keep a share stay, those to one that leaves live until their own end. `grace`: all
    stay as they are for `grace_seconds`, then end. `evict`: all end now, every visitor lands where the table says.
    Where nothing is said, pins to revisions that keep a share stay and those to one that leaves end.
    """

    mode: PinMode
    grace_seconds: Annotated[int, Field(ge=1, le=LONGEST_PIN_SECONDS, strict=True)] | None = OMITTED

    @model_validator(mode="after")
    def _grace_has_a_length(self) -> PinPolicy:
        if (self.mode is PinMode.GRACE) != (self.grace_seconds is not None):
            raise ValueError("grace_seconds is given with the mode grace, and only with it")
        return self


class SplitEntry(Document):
    """One revision's share.

    `since` is the generation at which it last came from nothing to a share above 0, or at which its older pins were
    evicted. `honour_until` promises every pin to it that is not older than the generation `honour_since` (absent: 0)
    that it holds until then (or its own end), whatever the share; an entry without a share stands in the split for such
    a promise alone.
    """

    revision_id: RevisionId
    weight_bps: BasisPoints
    since: Counter | None = OMITTED
    honour_until: Timestamp | None = OMITTED
    honour_since: Counter | None = OMITTED


class ScheduleRef(Document):
    """Which step of which schedule made a split, and the generation that was live before the schedule."""

    schedule_id: EventId
    step: Counter
    from_generation: Counter


class TrafficSplit(Document):
    """The shares of a deployment's revisions; they sum to exactly 10,000.

    `slots` is the table of 10,000 slots as run lengths in slot order. It is part of the document because a table
    follows from the history of splits, not from the weights alone: a move changes as few slots as possible, and a
    rollback restores the identical table on every replica. A split of the reference has none; it is then laid out in
    entry order.
    `note` says why, in the words of who moved the dial; `restored_generation` which split a rollback brought back;
    `pins` what the move asked to become of pins; `schedule` which step of a schedule it was.
    """

    schema_: Literal["greentic.traffic-split.v1"] = Field("greentic.traffic-split.v1", alias="schema")
    env_id: EnvironmentId
    deployment_id: DeploymentId
    bundle_id: BundleId
    generation: Counter
    entries: tuple[SplitEntry, ...]
    updated_at: Timestamp
    updated_by: Text
    idempotency_key: Text
    authorization_ref: Text
    previous_split_ref: Text | None = OMITTED
    slots: tuple[SlotRun, ...] = Field(default=(), exclude_if=absent)
    note: Text | None = OMITTED
    restored_generation: Counter | None = OMITTED
    pins: PinPolicy | None = OMITTED
    schedule: ScheduleRef | None = OMITTED
