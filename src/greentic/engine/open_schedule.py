"""The open schedule of a deployment, for verbs that meet one: what they refuse, and how they end it."""

from __future__ import annotations

from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict
from greentic.spec.schedule import ScheduleState, TrafficSchedule
from greentic.spec.spans import replaced


def find(environment: Environment, deployment_id: str) -> TrafficSchedule | None:
    """The schedule that the deployment's dial belongs to; None when it belongs to nobody."""
    schedule = environment.schedule(deployment_id)
    return schedule if schedule is not None and schedule.state.open else None


def refuse(environment: Environment, deployment_id: str) -> None:
    """Conflict while a schedule has the dial: two who move it would undo each other."""
    schedule = find(environment, deployment_id)
    if schedule is not None:
        raise Conflict(
            f"a schedule has the dial of '{schedule.bundle_id}' ({told(schedule)})",
            details={
                "reason": "schedule-open",
                "schedule_id": schedule.schedule_id,
                "state": schedule.state.value,
                "step": schedule.step,
            },
            next_step=f"gtc op traffic abort {schedule.bundle_id}, with --stay to keep the shares as they are",
        )


def told(schedule: TrafficSchedule) -> str:
    """Where it stands, in words: `running, step 2 of 4`."""
    return f"{schedule.state}, step {schedule.step + 1} of {len(schedule.steps)}"


def put(environment: Environment, schedule: TrafficSchedule) -> Environment:
    """`environment` with `schedule` as its deployment's newest one."""
    present, schedules = environment.schedule(schedule.deployment_id), environment.traffic_schedules
    kept = (*schedules, schedule) if present is None else replaced(schedules, present, schedule)
    return environment.model_copy(update={"traffic_schedules": kept})


def ended(
    environment: Environment, deployment_id: str, state: ScheduleState, now: str, by: str, why: str
) -> Environment:
    """`environment` whose open schedule of the deployment, when there is one, has come to `state` because of `why`."""
    schedule = find(environment, deployment_id)
    if schedule is None:
        return environment
    return put(
        environment,
        schedule.model_copy(
            update={"state": state, "next_step_at": None, "updated_at": now, "updated_by": by, "reason": why}
        ),
    )
