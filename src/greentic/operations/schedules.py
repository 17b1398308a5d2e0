"""A schedule of the dial: begun, driven step by step through its gates, paused, resumed, aborted.

The record is the truth: whoever drives may be killed at any moment, and `resume` goes on from there. The record names
the runner whose steps count, so two commands never drive one schedule; a lock that ends with its process keeps a second
one from taking over by accident.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from greentic.engine import open_schedule, schedules
from greentic.operations import driver_lock, gates, names, readiness, rehearsal, schedule_summary, traffic
from greentic.operations.context import Context, desired
from greentic.spec.deployment import BundleDeployment
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, GateFailed, GreenticError, InvalidArgument
from greentic.spec.identifiers import unix_seconds
from greentic.spec.payloads import WeightedRevision
from greentic.spec.schedule import LONGEST_STEP_SECONDS, Gate, ScheduleState, TrafficSchedule
from greentic.spec.schedule_payloads import (
    AbortSchedulePayload,
    AdvanceSchedulePayload,
    BeginSchedulePayload,
    FinishSchedulePayload,
    PauseSchedulePayload,
    ResumeSchedulePayload,
)
from greentic.spec.traffic import PinPolicy
from greentic.spec.weights import format_share
from greentic.store.contract import Applied, Stored

LOOK_SECONDS = 1.0
"""How often the gates are asked while a step is held."""
_NOW_SECONDS = 0.001
"""What is nearer than this has come: timestamps are read as floating-point seconds."""
_NOT_OURS = frozenset({"schedule-closed", "schedule-taken", "schedule-paused", "schedule-overtaken"})


async def begin(
    context: Context,
    environment_id: str,
    word: str,
    shares: traffic.Shares,
    *,
    steps: Sequence[int] | None,
    over_seconds: float,
    gates: tuple[Gate, ...],
    note: str | None = None,
    authorization_ref: str = "auth.json",
    pins: PinPolicy | None = None,
    drive: bool = True,
) -> dict[str, Any]:
    """Move the dial in steps. Returns when the last one has passed its gates, or, unless `drive`, after the first.

    Each of `steps` is the share of those who gain then; None: the usual ones. What is reached already is left out, the
    others are each held for an equal part of `over_seconds`. GateFailed when a gate said no: what was before is live
    again then. Conflict when somebody else paused, aborted or took the schedule over.
    """
    stored = context.store.load(environment_id)
    deployment = names.deployment(stored.environment, word)
    weights = traffic.resolve(stored.environment, deployment, shares)
    if steps is not None and any(step < 1 for step in steps):
        raise InvalidArgument("a step of 0% moves nothing", next_step="such as --steps 1%,10%,50%,100%")
    if not 0 < over_seconds <= LONGEST_STEP_SECONDS:
        raise InvalidArgument(f"a schedule takes more than nothing and at most {LONGEST_STEP_SECONDS // 86_400} days")
    runner = _derived(context, "runner")
    payload = BeginSchedulePayload(
        deployment_id=deployment.deployment_id,
        schedule_id=_derived(context, "schedule"),
        runner=runner,
        entries=tuple(WeightedRevision(revision_id=name, weight_bps=weight) for name, weight in weights.items()),
        steps=None if steps is None else tuple(steps),
        over_seconds=over_seconds,
        gates=gates,
        updated_by=context.by,
        authorization_ref=authorization_ref,
        note=note,
        pins=pins,
    )
    if context.dry_run:
        applied = context.apply(environment_id, "traffic", "begin-schedule", payload)
        told = _told(applied, deployment)
        return {**told, "rehearsal": await rehearsal.rehearse(context, stored, applied, deployment)}
    await readiness.require(context, stored, deployment, weights)
    with driver_lock.sole(context, environment_id, deployment):
        applied = context.apply(environment_id, "traffic", "begin-schedule", payload)
        schedule = _newest(applied.environment, deployment)
        if steps is not None and len(schedule.steps) < len(steps):
            context.progress(f"{len(steps) - len(schedule.steps)} of {len(steps)} steps left out: reached already")
        if applied.replayed and (schedule.schedule_id != payload.schedule_id or not schedule.state.open):
            return _told(applied, deployment)
        if applied.replayed:
            return await _resumed(context, environment_id, deployment, drive=drive)
        if not drive:
            return {**_told(applied, deployment), "receipt": await _publish(context, applied, deployment)}
        return await _guarded(context, environment_id, deployment, runner, applied)


async def resume(context: Context, environment_id: str, word: str) -> dict[str, Any]:
    """Go on with a schedule that is paused or whose command has ended: hold its present step once more, then drive it.

    Conflict while another command drives it.
    """
    stored = context.store.load(environment_id)
    deployment = names.deployment(stored.environment, word)
    if context.dry_run:
        payload = ResumeSchedulePayload(
            deployment_id=deployment.deployment_id, runner=context.mint(), updated_by=context.by
        )
        return _told(context.apply(environment_id, "traffic", "resume", payload), deployment)
    with driver_lock.sole(context, environment_id, deployment):
        return await _resumed(context, environment_id, deployment, drive=True)


async def pause(context: Context, environment_id: str, word: str, *, note: str | None = None) -> dict[str, Any]:
    """Hold the dial at the present step until somebody resumes or aborts; the command that drove it ends."""
    deployment = names.deployment(context.store.load(environment_id).environment, word)
    payload = PauseSchedulePayload(deployment_id=deployment.deployment_id, updated_by=context.by, note=note)
    applied = context.apply(environment_id, "traffic", "pause", payload)
    return {**_told(applied, deployment), "changed": not applied.replayed}


async def abort(
    context: Context, environment_id: str, word: str, *, stay: bool = False, note: str | None = None
) -> dict[str, Any]:
    """End the schedule: the split from before it is live again when this returns, or the dial stays where it is."""
    stored = context.store.load(environment_id)
    deployment = names.deployment(stored.environment, word)
    payload = AbortSchedulePayload(deployment_id=deployment.deployment_id, updated_by=context.by, stay=stay, note=note)
    open_ = open_schedule.find(stored.environment, deployment.deployment_id)
    if open_ is not None and not stay and not context.dry_run:
        await readiness.require(context, stored, deployment, _before(stored.environment, open_))
    applied = context.apply(environment_id, "traffic", "abort", payload)
    told = _told(applied, deployment)
    if context.dry_run:
        return {**told, "rehearsal": await rehearsal.rehearse(context, stored, applied, deployment)}
    return told if stay else {**told, "receipt": await _publish(context, applied, deployment)}


# Driving


async def _resumed(
    context: Context, environment_id: str, deployment: BundleDeployment, *, drive: bool
) -> dict[str, Any]:
    """Take the schedule over as a new runner; the caller holds the lock."""
    runner = context.mint()
    payload = ResumeSchedulePayload(deployment_id=deployment.deployment_id, runner=runner, updated_by=context.by)
    applied = context.apply(environment_id, "traffic", "resume", payload, step="resume")
    if not drive:
        return {**_told(applied, deployment), "receipt": await _publish(context, applied, deployment)}
    return await _guarded(context, environment_id, deployment, runner, applied)


async def _guarded(
    context: Context, environment_id: str, deployment: BundleDeployment, runner: str, applied: Applied
) -> dict[str, Any]:
    """Drive, and leave a schedule that cannot be driven on paused, with the reason, never running without a driver."""
    from asyncio import CancelledError

    # What follows are steps of their own: the caller's key and precondition were for the first change.
    own = replace(context, key=None, expected_generation=None, if_match=None)
    try:
        return await _drive(own, environment_id, deployment, runner, applied)
    except CancelledError:
        _hold(own, environment_id, deployment, runner, "the command that drove it was interrupted")
        raise
    except GateFailed:
        raise
    except GreenticError as error:
        if error.details.get("reason") in _NOT_OURS:
            raise _given_up(own, environment_id, deployment, error) from None
        held = _hold(own, environment_id, deployment, runner, error.message)
        if held:
            error.next_step = f"gtc op traffic resume {deployment.bundle_id}, or abort it"
        raise


async def _drive(
    context: Context, environment_id: str, deployment: BundleDeployment, runner: str, applied: Applied
) -> dict[str, Any]:
    schedule = _newest(applied.environment, deployment)
    begin = gates.counters(await context.deployer(applied).observe(desired(applied)))
    receipt = await _publish(context, applied, deployment)
    _say(context, applied.environment, schedule, receipt)
    while True:
        stored = context.store.load(environment_id)
        schedule = _ours(stored.environment, deployment, runner)
        observation = await context.deployer(stored).observe(desired(stored))
        if not observation.running:
            # That the data plane is down is no fault of the revision on trial.
            observation = await context.deployer(stored).reconcile(desired(stored), context.progress)
            begin = gates.counters(observation)
        judged = gates.judge(stored.environment, schedule, observation, begin)
        if judged.failures:
            await _failed(context, stored, deployment, runner, schedule, "; ".join(judged.failures))
        left = unix_seconds(schedule.next_step_at or context.now()) - unix_seconds(context.now())
        if left > _NOW_SECONDS:
            await context.sleep(min(left, LOOK_SECONDS))
            continue
        context.progress(f"step {schedule.step + 1} passed ({judged.seen})")
        about = {
            "deployment_id": deployment.deployment_id,
            "schedule_id": schedule.schedule_id,
            "runner": runner,
            "verdict": judged.seen,
        }
        if schedule.last:
            applied = context.apply(environment_id, "traffic", "finish", FinishSchedulePayload(**about))
            return {**_told(applied, deployment), "receipt": receipt}
        following = {share.revision_id: share.weight_bps for share in schedule.steps[schedule.step + 1].entries}
        readiness.refuse(stored.environment, deployment, following, observation)
        begin = gates.counters(observation)
        advance = AdvanceSchedulePayload(**about, step=schedule.step + 1)
        applied = context.apply(environment_id, "traffic", "advance", advance)
        receipt = await _publish(context, applied, deployment)
        _say(context, applied.environment, _newest(applied.environment, deployment), receipt)


async def _failed(
    context: Context,
    stored: Stored,
    deployment: BundleDeployment,
    runner: str,
    schedule: TrafficSchedule,
    why: str,
) -> None:
    """Roll back and raise GateFailed; where those from before cannot carry the load, hold the dial and say so."""
    environment_id = stored.environment.environment_id
    message = f"step {schedule.step + 1} of {len(schedule.steps)} of '{deployment.bundle_id}' failed its gate: {why}"
    details: dict[str, Any] = {"schedule_id": schedule.schedule_id, "step": schedule.step + 1}
    restored = _before(stored.environment, schedule)
    try:
        await readiness.require(context, stored, deployment, restored)
    except Conflict as short:
        reason = f"{why}; not rolled back: {short.message}"
        _hold(context, environment_id, deployment, runner, reason)
        raise GateFailed(
            f"{message}. Not rolled back, the dial stays where it is: {short.message}",
            details={**details, "state": ScheduleState.PAUSED.value},
            next_step=f"gtc op status, then gtc op traffic resume {deployment.bundle_id} or abort it",
        ) from None
    payload = AbortSchedulePayload(
        deployment_id=deployment.deployment_id, updated_by=context.by, gate=why, runner=runner
    )
    applied = context.apply(environment_id, "traffic", "abort", payload)
    receipt = await _publish(context, applied, deployment)
    split = applied.environment.split(deployment.deployment_id)
    assert split is not None
    suspects = gates.gaining_by(stored.environment, schedule)
    revision = stored.environment.revision(suspects[0]) if suspects else None
    raise GateFailed(
        f"{message}. Rolled back to {_shares_in_words(applied.environment, restored)} "
        f"(generation {split.generation}, on {receipt['acknowledged']}/{receipt['expected']} routers)",
        details={**details, "state": ScheduleState.FAILED.value, "receipt": receipt},
        next_step=None if revision is None else f"gtc op revisions logs {deployment.bundle_id} v{revision.sequence}",
    )


def _ours(environment: Environment, deployment: BundleDeployment, runner: str) -> TrafficSchedule:
    """The schedule as recorded now; Conflict when it is not this runner's to drive any more."""
    schedule = _newest(environment, deployment)
    if schedule.state is ScheduleState.RUNNING and schedule.runner == runner:
        return schedule
    taken = schedule.state is ScheduleState.RUNNING
    raise Conflict(
        "another command drives it" if taken else f"it is {schedule.state}",
        details={"reason": "schedule-taken" if taken else "schedule-closed"},
    )


def _given_up(context: Context, environment_id: str, deployment: BundleDeployment, error: GreenticError) -> Conflict:
    """Why this command stops driving, in the words of whoever ended or took the schedule."""
    schedule = _newest(context.store.load(environment_id).environment, deployment)
    taken = schedule.state is ScheduleState.RUNNING
    by = f" by {schedule.updated_by}" + (f": {schedule.reason}" if schedule.reason else "")
    return Conflict(
        f"the schedule of '{deployment.bundle_id}' stopped at step {schedule.step + 1} of {len(schedule.steps)}: "
        + ("another command drives it now" if taken else f"it was {schedule.state}{by}"),
        details={**error.details, "state": schedule.state.value, "step": schedule.step + 1},
        next_step=f"gtc op traffic resume {deployment.bundle_id}, or abort it"
        if schedule.state is ScheduleState.PAUSED
        else f"gtc op traffic show {deployment.bundle_id}",
    )


def _hold(context: Context, environment_id: str, deployment: BundleDeployment, runner: str, reason: str) -> bool:
    """Pause the schedule if it is still this runner's; whether that was possible."""
    payload = PauseSchedulePayload(
        deployment_id=deployment.deployment_id, updated_by=context.by, note=reason[:2000], runner=runner
    )
    with suppress(GreenticError):
        context.apply(environment_id, "traffic", "pause", payload)
        context.progress(f"paused: {reason}; go on with gtc op traffic resume {deployment.bundle_id}, or abort it")
        return True
    return False


# Small parts


def _derived(context: Context, what: str) -> str:
    """A fresh id, or one of the caller's key, so that the same request is the same again."""
    if context.key is None:
        return context.mint()
    number = int.from_bytes(hashlib.sha256(f"greentic-{what}:{context.key}".encode()).digest()[:16], "big")
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    return "".join(alphabet[(number >> shift) & 31] for shift in range(125, -1, -5))


def _newest(environment: Environment, deployment: BundleDeployment) -> TrafficSchedule:
    schedule = environment.schedule(deployment.deployment_id)
    if schedule is None:
        raise Conflict(f"'{deployment.bundle_id}' has no schedule", details={"reason": "schedule-closed"})
    return schedule


def _before(environment: Environment, schedule: TrafficSchedule) -> dict[str, int]:
    split = schedules.before(environment, schedule)
    return {entry.revision_id: entry.weight_bps for entry in split.entries if entry.weight_bps}


async def _publish(context: Context, applied: Applied, deployment: BundleDeployment) -> dict[str, Any]:
    deployer = context.deployer(applied)
    receipt = await deployer.apply_traffic_split(desired(applied), deployment.deployment_id, context.progress)
    return traffic.receipt_document(receipt)


def _told(applied: Applied, deployment: BundleDeployment) -> dict[str, Any]:
    environment = applied.environment
    split = environment.split(deployment.deployment_id)
    schedule = environment.schedule(deployment.deployment_id)
    told: dict[str, Any] = {} if split is None else traffic.summary(environment, split)
    return told if schedule is None else {**told, "schedule": schedule_summary.document(environment, schedule)}


def _say(context: Context, environment: Environment, schedule: TrafficSchedule, receipt: Mapping[str, Any]) -> None:
    step = schedule.steps[schedule.step]
    weights = {share.revision_id: share.weight_bps for share in step.entries if share.weight_bps}
    context.progress(
        f"step {schedule.step + 1} of {len(schedule.steps)}: {_shares_in_words(environment, weights)}, live on "
        f"{receipt['acknowledged']}/{receipt['expected']} routers (generation {receipt['generation']}); "
        f"held for {round(schedule.step_seconds, 1):g} s"
    )


def _shares_in_words(environment: Environment, weights: Mapping[str, int]) -> str:
    named = []
    for revision_id, weight in weights.items():
        revision = environment.revision(revision_id)
        named.append(f"{revision_id if revision is None else f'v{revision.sequence}'} {format_share(weight)}")
    return ", ".join(named)
