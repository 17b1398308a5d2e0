"""What the verbs of a schedule are asked: begin, advance, finish, pause, resume, abort."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from greentic.spec.identifiers import Counter, DeploymentId, EventId
from greentic.spec.parsing import Flag, Payload, Text
from greentic.spec.payloads import Asked, WeightedRevision
from greentic.spec.revision import OMITTED
from greentic.spec.schedule import Gate, StepSeconds, StepShare
from greentic.spec.traffic import PinPolicy


class BeginSchedulePayload(Payload):
    """A move of the dial to `entries` in steps; each of `steps` is the share of those who gain, the usual ones when
    none are named.

    `runner` is the command that is going to drive it; `over_seconds` is how long the steps are held, all together.
    """

    deployment_id: DeploymentId
    schedule_id: EventId
    runner: EventId
    entries: tuple[WeightedRevision, ...]
    steps: tuple[StepShare, ...] | None = OMITTED
    over_seconds: StepSeconds
    gates: Annotated[tuple[Asked[Gate], ...], Field(max_length=10)] = ()
    updated_by: Text
    authorization_ref: Text = "auth.json"
    note: Text | None = None
    pins: Asked[PinPolicy] | None = OMITTED


class AdvanceSchedulePayload(Payload):
    """On to the step of index `step`; `verdict` is what the gates saw of the one before."""

    deployment_id: DeploymentId
    schedule_id: EventId
    runner: EventId
    step: Counter
    verdict: Text | None = None


class FinishSchedulePayload(Payload):
    """The last step has passed its gates."""

    deployment_id: DeploymentId
    schedule_id: EventId
    runner: EventId
    verdict: Text | None = None


class PauseSchedulePayload(Payload):
    """Hold the dial where it is. `runner` is given when the driving command itself asks: it pauses its own only."""

    deployment_id: DeploymentId
    updated_by: Text
    note: Text | None = None
    runner: EventId | None = None


class ResumeSchedulePayload(Payload):
    """Hold the present step once more, driven by `runner`, then go on."""

    deployment_id: DeploymentId
    runner: EventId
    updated_by: Text


class AbortSchedulePayload(Payload):
    """End the schedule and restore the split from before it, or `stay` where the dial is.

    `gate` says why a gate failed: the schedule is then recorded as failed. `runner`: as for a pause.
    """

    deployment_id: DeploymentId
    updated_by: Text
    stay: Flag = False
    note: Text | None = None
    gate: Text | None = None
    runner: EventId | None = None
