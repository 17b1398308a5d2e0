"""TrafficSplit: the dial (reference 01, section 1.9)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from greentic.spec.identifiers import (
    BasisPoints,
    BundleId,
    Counter,
    DeploymentId,
    EnvironmentId,
    RevisionId,
    Timestamp,
)
from greentic.spec.parsing import Document, Text, absent
from greentic.spec.revision import OMITTED

SlotRun = tuple[Annotated[int, Field(ge=1, le=10_000, strict=True)], Annotated[int, Field(ge=0, strict=True)]]
"""(how many slots, index into `entries`)."""


class SplitEntry(Document):
    """One revision's share. `since` is the generation at which it last came from nothing to a share above 0."""

    revision_id: RevisionId
    weight_bps: BasisPoints
    since: Counter | None = OMITTED


class TrafficSplit(Document):
    """The shares of a deployment's revisions; they sum to exactly 10,000.

    `slots` is the table of 10,000 slots as run lengths in slot order. It is part of the document because a table
    follows from the history of splits, not from the weights alone: a move changes as few slots as possible, and a
    rollback restores the identical table on every replica. A split of the reference has none; it is then laid out in
    entry order.
    `note` says why, in the words of who moved the dial; `restored_generation` which split a rollback brought back.
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
