"""What is told of a schedule."""

from __future__ import annotations

from typing import Any

from greentic.operations import driver_lock
from greentic.operations.context import Context
from greentic.spec.environment import Environment
from greentic.spec.schedule import ScheduleState, TrafficSchedule


def summary(context: Context, environment: Environment, deployment_id: str) -> dict[str, Any]:
    """Where the deployment's newest schedule stands, as `schedule`; nothing when it never had one.

    `driven` says whether a command of this machine drives it now; only an open one can be.
    """
    schedule = environment.schedule(deployment_id)
    if schedule is None:
        return {}
    told = document(environment, schedule)
    if schedule.state is ScheduleState.RUNNING:
        told["driven"] = driver_lock.driven(context, environment.environment_id, deployment_id)
    return {"schedule": told}


def document(environment: Environment, schedule: TrafficSchedule) -> dict[str, Any]:
    """The schedule as people and programs read it: names beside ids, steps counted from 1."""
    called = {revision.revision_id: f"v{revision.sequence}" for revision in environment.revisions}
    told: dict[str, Any] = {
        "schedule_id": schedule.schedule_id,
        "state": schedule.state.value,
        "step": schedule.step + 1,
        "steps": [
            {
                "entries": [
                    {
                        "revision_id": share.revision_id,
                        "name": called.get(share.revision_id),
                        "weight_bps": share.weight_bps,
                    }
                    for share in step.entries
                ],
                **{
                    key: value
                    for key, value in (
                        ("generation", step.generation),
                        ("began_at", step.began_at),
                        ("verdict", step.verdict),
                    )
                    if value is not None
                },
            }
            for step in schedule.steps
        ],
        "step_seconds": schedule.step_seconds,
        "gates": [gate.to_json() for gate in schedule.gates],
        "from_generation": schedule.from_generation,
        "began_at": schedule.began_at,
        "began_by": schedule.began_by,
        "updated_at": schedule.updated_at,
        "updated_by": schedule.updated_by,
    }
    optional = {"next_step_at": schedule.next_step_at, "note": schedule.note, "reason": schedule.reason}
    return {**told, **{key: value for key, value in optional.items() if value is not None}}
