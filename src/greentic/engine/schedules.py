"""Transitions of a schedule: begin, advance, finish, pause, resume, abort.

The engine knows neither gates nor waiting: it records where the dial is on its way, and refuses a step by anybody but
the runner that the record names. So whoever drives may be killed at any moment, and the next one goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from greentic.engine import deployments, open_schedule, traffic
from greentic.engine.command import Command, Outcome
from greentic.engine.slots import relayout, table
from greentic.spec.deployment import BundleDeployment, DeploymentStatus
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, InvalidArgument, NotFound
from greentic.spec.identifiers import BASIS_POINTS, seconds_after
from greentic.spec.schedule import MAX_STEPS, ScheduledShare, ScheduleState, ScheduleStep, TrafficSchedule
from greentic.spec.schedule_payloads import (
    AbortSchedulePayload,
    AdvanceSchedulePayload,
    BeginSchedulePayload,
    FinishSchedulePayload,
    PauseSchedulePayload,
    ResumeSchedulePayload,
)
from greentic.spec.traffic import ScheduleRef, TrafficSplit
from greentic.spec.weights import format_share, scale

USUAL_STEPS = (100, 1_000, 5_000)
"""Shares on the way when none are asked for, in basis points."""


def begin(environment: Environment, payload: BeginSchedulePayload, command: Command, now: str) -> Outcome:
    """Record a schedule and make its first step live, in one change.

    InvalidArgument for steps that make no sense; Conflict when a schedule is open already, when nothing is live to move
    from, when the deployment serves nobody, or when the dial stands at the target.
    """
    deployment = deployments.find(environment, payload.deployment_id)
    open_schedule.refuse(environment, deployment.deployment_id)
    if deployment.status is not DeploymentStatus.ACTIVE:
        raise Conflict(
            f"'{deployment.bundle_id}' is {deployment.status}: gates say nothing of a revision that nobody asks",
            next_step=f"gtc op bundles update {deployment.bundle_id} --status active",
        )
    target = traffic.checked(environment, deployment, payload.entries)
    live = environment.split(deployment.deployment_id)
    if live is None:
        raise Conflict(
            f"'{deployment.bundle_id}' has no traffic yet, so there is nothing to move in steps",
            next_step=f"gtc op traffic set {deployment.bundle_id} REVISION=100%",
        )
    steps = planned(traffic.shares(live), target, payload.steps)
    schedule = TrafficSchedule(
        schedule_id=payload.schedule_id,
        env_id=environment.environment_id,
        deployment_id=deployment.deployment_id,
        bundle_id=deployment.bundle_id,
        state=ScheduleState.RUNNING,
        from_generation=live.generation,
        steps=steps,
        step=0,
        step_seconds=payload.over_seconds / len(steps),
        gates=payload.gates,
        runner=payload.runner,
        generation=live.generation,
        began_at=now,
        began_by=payload.updated_by,
        updated_at=now,
        updated_by=payload.updated_by,
        authorization_ref=payload.authorization_ref,
        pins=payload.pins,
        note=payload.note,
    )
    return _step(environment, deployment, schedule, command, now)


def advance(environment: Environment, payload: AdvanceSchedulePayload, command: Command, now: str) -> Outcome:
    """Make the next step live; nothing to do when it is. Conflict for any but the runner, or out of turn."""
    deployment = deployments.find(environment, payload.deployment_id)
    schedule = _driven(environment, deployment, payload.schedule_id, payload.runner)
    if payload.step == schedule.step:
        return Outcome(environment, _result(environment, schedule), changed=False)
    if payload.step != schedule.step + 1 or payload.step >= len(schedule.steps):
        raise Conflict(
            f"step {payload.step + 1} is not the next one of the schedule of '{deployment.bundle_id}' "
            f"({open_schedule.told(schedule)})",
            details={"step": schedule.step},
        )
    left = _left(schedule, payload.verdict).model_copy(update={"step": payload.step})
    return _step(environment, deployment, left, command, now)


def finish(environment: Environment, payload: FinishSchedulePayload, command: Command, now: str) -> Outcome:
    """The last step has passed: the schedule is done and the dial is free. Conflict before the last step."""
    deployment = deployments.find(environment, payload.deployment_id)
    newest = environment.schedule(deployment.deployment_id)
    if (
        newest is not None
        and newest.schedule_id == payload.schedule_id
        and newest.state is ScheduleState.FINISHED
        and newest.runner == payload.runner
    ):
        return Outcome(environment, _result(environment, newest), changed=False)
    schedule = _driven(environment, deployment, payload.schedule_id, payload.runner)
    if not schedule.last:
        raise Conflict(f"the schedule of '{deployment.bundle_id}' is not at its end ({open_schedule.told(schedule)})")
    done = _left(schedule, payload.verdict).model_copy(
        update={"state": ScheduleState.FINISHED, "next_step_at": None, "updated_at": now, "reason": None}
    )
    changed = open_schedule.put(environment, done)
    return Outcome(changed, _result(changed, done))


def pause(environment: Environment, payload: PauseSchedulePayload, command: Command, now: str) -> Outcome:
    """Hold the dial where it is until somebody resumes or aborts; nothing to do when it is paused."""
    deployment = deployments.find(environment, payload.deployment_id)
    schedule = _open(environment, deployment, payload.runner)
    if schedule.state is ScheduleState.PAUSED:
        return Outcome(environment, _result(environment, schedule), changed=False)
    held = schedule.model_copy(
        update={
            "state": ScheduleState.PAUSED,
            "next_step_at": None,
            "updated_at": now,
            "updated_by": payload.updated_by,
            "reason": payload.note,
        }
    )
    changed = open_schedule.put(environment, held)
    return Outcome(changed, _result(changed, held))


def resume(environment: Environment, payload: ResumeSchedulePayload, command: Command, now: str) -> Outcome:
    """Hand a paused schedule, or one whose command died, to a new runner; its present step is held once more."""
    deployment = deployments.find(environment, payload.deployment_id)
    schedule = _open(environment, deployment, None)
    taken = schedule.model_copy(
        update={
            "state": ScheduleState.RUNNING,
            "runner": payload.runner,
            "next_step_at": seconds_after(now, schedule.step_seconds),
            "updated_at": now,
            "updated_by": payload.updated_by,
            "reason": None,
        }
    )
    changed = open_schedule.put(environment, taken)
    return Outcome(changed, _result(changed, taken))


def abort(environment: Environment, payload: AbortSchedulePayload, command: Command, now: str) -> Outcome:
    """End the schedule: the split from before it comes back with its identical table, or the dial stays."""
    deployment = deployments.find(environment, payload.deployment_id)
    schedule = _open(environment, deployment, payload.runner)
    why = payload.gate or payload.note or ("aborted, the dial stays" if payload.stay else "aborted")
    state = ScheduleState.ABORTED if payload.gate is None else ScheduleState.FAILED
    ended = open_schedule.ended(environment, deployment.deployment_id, state, now, payload.updated_by, why)
    if payload.stay:
        return Outcome(ended, _result(ended, ended.schedule(deployment.deployment_id)))
    target = before(environment, schedule)
    outcome = traffic.restore(
        ended,
        deployment,
        target,
        now=now,
        by=payload.updated_by,
        key=command.idempotency_key,
        note=why if payload.gate is None else f"step {schedule.step + 1} failed its gate: {why}"[:2000],
    )
    changed = outcome.environment
    return Outcome(changed, {**outcome.result, **_result(changed, changed.schedule(deployment.deployment_id))})


def before(environment: Environment, schedule: TrafficSchedule) -> TrafficSplit:
    """The split from before `schedule`; NotFound when it is not kept any more."""
    past = environment.history(schedule.deployment_id)
    found = next((split for split in past if split.generation == schedule.from_generation), None)
    if found is None:
        raise NotFound(
            f"generation {schedule.from_generation} of '{schedule.bundle_id}', from before the schedule, is not kept",
            next_step=f"gtc op traffic abort {schedule.bundle_id} --stay",
        )
    return found


def planned(
    live: Mapping[str, int], target: Mapping[str, int], asked: Sequence[int] | None = None
) -> tuple[ScheduleStep, ...]:
    """The steps from the shares `live` to `target`: each of `asked` is what those who gain have then, together.

    For one revision that is its share of all traffic, as in other systems for progressive delivery (`setWeight` of Argo
    Rollouts, `stepWeights` of Flagger). Everybody else goes the same part of the way from `live` to `target`. What is
    reached already is left out; when nothing is asked for, the steps are USUAL_STEPS below the target, then the target.
    InvalidArgument unless the steps ascend to the target, Conflict when the dial stands there.
    """
    names = [*target, *(name for name in live if name not in target)]
    gaining = [name for name in names if target.get(name, 0) > live.get(name, 0)]
    if not gaining:
        raise Conflict("the dial stands at the target already", next_step="gtc op traffic show")
    began, end = (sum(shares.get(name, 0) for name in gaining) for shares in (live, target))
    if asked is None:
        asked = (*(share for share in USUAL_STEPS if share < end), end)
    _require_ascending(asked, end)
    steps = []
    seen = {name: share for name, share in live.items() if share}
    for step in (share for share in asked if share > began):
        exact = {name: live.get(name, 0) * (end - step) + target.get(name, 0) * (step - began) for name in names}
        weights = {name: share for name, share in scale(exact, BASIS_POINTS).items() if share or name in target}
        positive = {name: share for name, share in weights.items() if share}
        if positive != seen:
            entries = tuple(ScheduledShare(revision_id=name, weight_bps=share) for name, share in weights.items())
            steps.append(ScheduleStep(entries=entries))
        seen = positive
    return tuple(steps)


def _require_ascending(steps: Sequence[int], end: int) -> None:
    if not steps or len(steps) > MAX_STEPS:
        raise InvalidArgument(f"a schedule has 1 to {MAX_STEPS} steps, not {len(steps)}")
    said = ", ".join(map(format_share, steps))
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise InvalidArgument(
            f"steps ascend, each a larger share than the one before: not {said}",
            next_step="such as --steps 1%,10%,50%,100%",
        )
    if steps[-1] != end:
        raise InvalidArgument(
            f"a step is the share of the revision that gains, and the last one is its target, {format_share(end)}: "
            f"not {said}",
            next_step=f"end --steps with {format_share(end)}, or name another target",
        )


def _step(
    environment: Environment, deployment: BundleDeployment, schedule: TrafficSchedule, command: Command, now: str
) -> Outcome:
    """Make the step that `schedule` names live, and record the schedule as it then stands."""
    step = schedule.steps[schedule.step]
    weights = [(share.revision_id, share.weight_bps) for share in step.entries]
    traffic.require_ready(environment, [name for name, weight in weights if weight])
    live = environment.split(deployment.deployment_id)
    outcome = traffic.commit(
        environment,
        deployment,
        weights,
        relayout(() if live is None else table(live), weights),
        now=now,
        by=schedule.updated_by,
        key=command.idempotency_key,
        authorization=schedule.authorization_ref,
        note=f"{schedule.note + ': ' if schedule.note else ''}step {schedule.step + 1} of {len(schedule.steps)}",
        pins=schedule.pins,
        schedule=ScheduleRef(
            schedule_id=schedule.schedule_id, step=schedule.step, from_generation=schedule.from_generation
        ),
    )
    generation: int = outcome.result["new_generation"]
    began = step.model_copy(update={"generation": generation, "began_at": now})
    moved = schedule.model_copy(
        update={
            "steps": (*schedule.steps[: schedule.step], began, *schedule.steps[schedule.step + 1 :]),
            "generation": generation,
            "next_step_at": seconds_after(now, schedule.step_seconds),
            "updated_at": now,
        }
    )
    return Outcome(open_schedule.put(outcome.environment, moved), {**outcome.result, "schedule": moved.to_json()})


def _left(schedule: TrafficSchedule, verdict: str | None) -> TrafficSchedule:
    """`schedule` with the verdict on its present step."""
    judged = schedule.steps[schedule.step].model_copy(update={"verdict": verdict})
    return schedule.model_copy(
        update={"steps": (*schedule.steps[: schedule.step], judged, *schedule.steps[schedule.step + 1 :])}
    )


def _open(environment: Environment, deployment: BundleDeployment, runner: str | None) -> TrafficSchedule:
    newest = environment.schedule(deployment.deployment_id)
    if newest is None or not newest.state.open:
        last = "" if newest is None else f"; the last one is {newest.state}"
        raise Conflict(
            f"no schedule of '{deployment.bundle_id}' is open{last}",
            details={"reason": "schedule-closed", "state": None if newest is None else newest.state.value},
            next_step=f"gtc op traffic show {deployment.bundle_id}",
        )
    if runner is not None and newest.runner != runner:
        raise _taken(newest)
    return newest


def _driven(environment: Environment, deployment: BundleDeployment, schedule_id: str, runner: str) -> TrafficSchedule:
    """The open schedule that `runner` drives, running and with the dial where it put it; Conflict otherwise."""
    schedule = _open(environment, deployment, runner)
    live = environment.split(deployment.deployment_id)
    if schedule.schedule_id != schedule_id:
        raise _taken(schedule)
    if schedule.state is not ScheduleState.RUNNING:
        raise Conflict(
            f"the schedule of '{deployment.bundle_id}' is {schedule.state}"
            + (f": {schedule.reason}" if schedule.reason else ""),
            details={"reason": "schedule-paused"},
            next_step=f"gtc op traffic resume {deployment.bundle_id}",
        )
    if live is None or live.generation != schedule.generation:
        raise Conflict(
            f"the dial of '{deployment.bundle_id}' is not where the schedule put it",
            details={"reason": "schedule-overtaken", "generation": None if live is None else live.generation},
            next_step=f"gtc op traffic abort {deployment.bundle_id} --stay",
        )
    return schedule


def _taken(schedule: TrafficSchedule) -> Conflict:
    return Conflict(
        f"another command drives the schedule of '{schedule.bundle_id}' now",
        details={"reason": "schedule-taken", "runner": schedule.runner},
        next_step=f"gtc op traffic show {schedule.bundle_id}",
    )


def _result(environment: Environment, schedule: TrafficSchedule | None) -> dict[str, Any]:
    return {"schedule": None if schedule is None else schedule.to_json()}
