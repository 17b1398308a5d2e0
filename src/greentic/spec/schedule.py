"""TrafficSchedule: a move of the dial in steps with gates between them. Ours: the reference has no such document."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from greentic.spec.identifiers import (
    BASIS_POINTS,
    BasisPoints,
    BundleId,
    Counter,
    DeploymentId,
    EnvironmentId,
    EventId,
    RevisionId,
    Timestamp,
)
from greentic.spec.parsing import Document, Text, kinds
from greentic.spec.revision import OMITTED
from greentic.spec.traffic import PinPolicy

MAX_STEPS = 20
"""Fewer than the splits that are kept (`engine.traffic.HISTORY_DEPTH`): the one before a schedule is never forgotten
while it runs."""
LONGEST_STEP_SECONDS = 30 * 24 * 3600
LEAST_REQUESTS = 20
"""Below this many requests of a step an error rate says nothing."""


class ScheduleState(StrEnum):
    """Where a schedule stands. `failed`: a gate said no, and what was before is live again."""

    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    ABORTED = "aborted"
    FAILED = "failed"

    @property
    def open(self) -> bool:
        """Whether the dial belongs to the schedule."""
        return self in {ScheduleState.RUNNING, ScheduleState.PAUSED}


class WorkersHealthy(Document):
    """Passes while the worker of every revision with a share answers its health path, and none had to be restarted."""

    kind: Literal["health"] = "health"


class ErrorRate(Document):
    """Passes while each revision that gains by the schedule fails at most `limit_bps` of the requests it got since the
    step began. Fewer than `min_requests` are not judged."""

    kind: Literal["error-rate"] = "error-rate"
    limit_bps: BasisPoints
    min_requests: Annotated[int, Field(ge=1, le=10**9, strict=True)] = LEAST_REQUESTS


Gate = Annotated[WorkersHealthy | ErrorRate, kinds("kind", WorkersHealthy, ErrorRate)]
"""What is asked while a step is held and before the next one; one of another kind is refused, never skipped."""
StepShare = Annotated[int, Field(ge=1, le=BASIS_POINTS, strict=True)]
"""What a step gives to the revisions that gain by the schedule, together, in basis points of all traffic."""
StepSeconds = Annotated[float, Field(gt=0, le=LONGEST_STEP_SECONDS, allow_inf_nan=False)]


class ScheduledShare(Document):
    """A revision's share in a step."""

    revision_id: RevisionId
    weight_bps: BasisPoints


class ScheduleStep(Document):
    """One step: everybody's share in it. The other fields tell how it went, once it has begun.

    `generation` is the split by which it became live, `verdict` what the gates saw when it was left.
    """

    entries: tuple[ScheduledShare, ...]
    generation: Counter | None = OMITTED
    began_at: Timestamp | None = OMITTED
    verdict: Text | None = OMITTED


class TrafficSchedule(Document):
    """A deployment's newest schedule; while it is open nobody else moves the dial up or down.

    `step` is the index of the step that is live; each is held for `step_seconds`, the last one too, and left only when
    every gate passes. `runner` names the command that drives it: a step asked for by another is refused, so two never
    drive one schedule. `from_generation` is the split that an abort or a failed gate restores. `reason` says why it was
    paused, aborted or failed.
    """

    schema_: Literal["greentic.traffic-schedule.v1"] = Field("greentic.traffic-schedule.v1", alias="schema")
    schedule_id: EventId
    env_id: EnvironmentId
    deployment_id: DeploymentId
    bundle_id: BundleId
    state: ScheduleState
    from_generation: Counter
    steps: Annotated[tuple[ScheduleStep, ...], Field(min_length=1, max_length=MAX_STEPS)]
    step: Counter
    step_seconds: StepSeconds
    gates: tuple[Gate, ...]
    runner: EventId
    generation: Counter
    next_step_at: Timestamp | None = OMITTED
    began_at: Timestamp
    began_by: Text
    updated_at: Timestamp
    updated_by: Text
    authorization_ref: Text
    pins: PinPolicy | None = OMITTED
    note: Text | None = OMITTED
    reason: Text | None = OMITTED

    @property
    def target(self) -> dict[str, int]:
        """The shares at the end, by revision."""
        return {share.revision_id: share.weight_bps for share in self.steps[-1].entries}

    @property
    def named(self) -> frozenset[str]:
        """Every revision that a step gives a share."""
        return frozenset(share.revision_id for step in self.steps for share in step.entries)

    @property
    def last(self) -> bool:
        """Whether the live step is the last one."""
        return self.step + 1 >= len(self.steps)
