"""Transitions of the dial: set, roll back to any generation, clear (reference 01, section 2.4; its limits lifted)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from greentic.engine import deployments, open_schedule, promises, revisions
from greentic.engine.command import Command, Outcome
from greentic.engine.slots import Run, moved, relayout, table
from greentic.spec.deployment import BundleDeployment, DeploymentStatus
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, InvalidArgument, NotFound, SpecViolation
from greentic.spec.identifiers import BASIS_POINTS
from greentic.spec.integrity import canonical_json
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.payloads import (
    ClearTrafficSplitPayload,
    RollbackTrafficSplitPayload,
    SetTrafficSplitPayload,
    WeightedRevision,
)
from greentic.spec.revision import Revision
from greentic.spec.schedule import ScheduleState
from greentic.spec.spans import replaced
from greentic.spec.traffic import PinPolicy, ScheduleRef, TrafficSplit

HISTORY_DEPTH = 32
"""Superseded splits kept per deployment."""


def set_split(environment: Environment, payload: SetTrafficSplitPayload, command: Command, now: str) -> Outcome:
    """Move the dial. Every revision named must be ready; the weights sum to exactly 10,000; each revision once.

    The same key with the same entries is a replay of the live split; with other entries it is a Conflict, and so is any
    move while a schedule has the dial.
    """
    deployment = deployments.find(environment, payload.deployment_id)
    asked = checked(environment, deployment, payload.entries)
    live = environment.split(deployment.deployment_id)
    if live is not None and live.idempotency_key == command.idempotency_key:
        if shares(live) == _positive(asked) and live.pins == payload.pins:
            return _replayed(environment, live)
        raise _reused(command.idempotency_key, live)
    open_schedule.refuse(environment, deployment.deployment_id)
    _require_open(deployment)
    require_ready(environment, asked)
    weights = list(asked.items())
    runs = relayout(() if live is None else table(live), weights)
    return commit(
        environment,
        deployment,
        weights,
        runs,
        now=now,
        by=payload.updated_by,
        key=command.idempotency_key,
        authorization=payload.authorization_ref,
        note=payload.note,
        pins=payload.pins,
    )


def rollback(environment: Environment, payload: RollbackTrafficSplitPayload, command: Command, now: str) -> Outcome:
    """Restore an earlier split with its identical slot table, as a new generation; so it can itself be undone.

    Without `to_generation` the split that was live before the present one comes back; a second one undoes the first.
    The steps of a schedule count as one move: what was live before the schedule comes back. An open schedule ends.
    The same key again is a replay: it does not undo what it did.
    """
    deployment = deployments.find(environment, payload.deployment_id)
    live = environment.split(deployment.deployment_id)
    if live is not None and live.idempotency_key == command.idempotency_key:
        return _rolled_back_again(environment, payload, command, live)
    target = rollback_target(environment, deployment, payload.to_generation)
    _require_open(deployment)
    why = f"rollback to generation {target.generation}"
    freed = open_schedule.ended(
        environment, deployment.deployment_id, ScheduleState.ABORTED, now, payload.updated_by, why
    )
    return restore(
        freed,
        deployment,
        target,
        now=now,
        by=payload.updated_by,
        key=command.idempotency_key,
        note=payload.note or why,
        pins=payload.pins,
    )


def rollback_target(environment: Environment, deployment: BundleDeployment, to_generation: int | None) -> TrafficSplit:
    """The split that a rollback restores. Conflict when there is none or it is live, NotFound when it is not kept."""
    past = environment.history(deployment.deployment_id)
    live = environment.split(deployment.deployment_id)
    if live is not None and to_generation == live.generation:
        raise Conflict(
            f"generation {live.generation} of '{deployment.bundle_id}' is live already",
            details={"generation": live.generation},
        )
    if not past:
        raise Conflict(
            f"'{deployment.bundle_id}' has no earlier split to return to",
            details={"deployment_id": deployment.deployment_id},
            next_step=f"gtc op traffic set {deployment.bundle_id} REVISION=100%",
        )
    wanted = to_generation
    if wanted is None:
        wanted = past[-1].generation
        if live is not None and live.schedule is not None:
            wanted = live.schedule.from_generation
    found = next((split for split in past if split.generation == wanted), None)
    if found is None:
        raise NotFound(
            f"generation {wanted} of '{deployment.bundle_id}' is not kept; "
            f"kept are {', '.join(str(split.generation) for split in past)}",
            details={"generations": [split.generation for split in past]},
            next_step=f"gtc op traffic history {deployment.bundle_id}",
        )
    return found


def restore(
    environment: Environment,
    deployment: BundleDeployment,
    target: TrafficSplit,
    *,
    now: str,
    by: str,
    key: str,
    note: str,
    pins: PinPolicy | None = None,
) -> Outcome:
    """Make `target`, a split of the history, live again with its identical table, as a new generation."""
    weights = shares(target)
    require_ready(environment, weights)
    outcome = commit(
        environment,
        deployment,
        list(weights.items()),
        table(target),
        now=now,
        by=by,
        key=key,
        authorization=target.authorization_ref,
        note=note,
        restored=target.generation,
        pins=pins,
    )
    return Outcome(outcome.environment, {**outcome.result, "restored_generation": target.generation})


def clear(environment: Environment, payload: ClearTrafficSplitPayload, command: Command, now: str) -> Outcome:
    """No traffic for the deployment; the split goes to the history, the generation grows, an open schedule ends."""
    deployment = deployments.find(environment, payload.deployment_id)
    live = environment.split(deployment.deployment_id)
    if live is None:
        return Outcome(
            environment,
            {"deployment_id": deployment.deployment_id, "cleared": False, "new_generation": None},
            changed=False,
        )
    environment = open_schedule.ended(
        environment, deployment.deployment_id, ScheduleState.ABORTED, now, payload.updated_by, "the traffic was cleared"
    )
    generation = _next_generation(environment, deployment)
    emptied = environment.model_copy(update={"traffic_splits": replaced(environment.traffic_splits, live)})
    stamped = deployment.model_copy(update={"traffic_generation": generation, "current_revisions": ()})
    return Outcome(
        _remember(deployments.replace(emptied, stamped), live),
        {
            "deployment_id": deployment.deployment_id,
            "cleared": True,
            "previous_generation": live.generation,
            "new_generation": generation,
        },
    )


def commit(
    environment: Environment,
    deployment: BundleDeployment,
    weights: Sequence[tuple[str, int]],
    runs: Sequence[Run],
    *,
    now: str,
    by: str,
    key: str,
    authorization: str,
    note: str | None,
    restored: int | None = None,
    pins: PinPolicy | None = None,
    schedule: ScheduleRef | None = None,
) -> Outcome:
    """The environment with the next split of the deployment: `weights` laid out as `runs`, the live one remembered."""
    live = environment.split(deployment.deployment_id)
    generation = _next_generation(environment, deployment)
    index = {revision_id: position for position, (revision_id, _) in enumerate(weights)}
    split = TrafficSplit(
        env_id=environment.environment_id,
        deployment_id=deployment.deployment_id,
        bundle_id=deployment.bundle_id,
        generation=generation,
        entries=promises.entries(environment, live, weights, pins, generation, now),
        updated_at=now,
        updated_by=by,
        idempotency_key=key,
        authorization_ref=authorization,
        previous_split_ref=None if live is None else _stash(live),
        slots=tuple((count, index[owner]) for count, owner in runs),
        note=note,
        restored_generation=restored,
        pins=pins,
        schedule=schedule,
    )
    current = tuple(revision_id for revision_id, weight in weights if weight)
    stamped = deployment.model_copy(update={"traffic_generation": generation, "current_revisions": current})
    present = environment.traffic_splits
    splits = (*present, split) if live is None else replaced(present, live, split)
    changed = deployments.replace(environment, stamped).model_copy(update={"traffic_splits": splits})
    result: dict[str, Any] = {
        "split": split.to_json(),
        "previous_generation": None if live is None else live.generation,
        "new_generation": generation,
        "moved_slots": moved(() if live is None else table(live), runs),
    }
    return Outcome(changed if live is None else _remember(changed, live), result)


def _next_generation(environment: Environment, deployment: BundleDeployment) -> int:
    """One more than any generation this deployment ever had; the first is 0 (reference 01, section 2.4)."""
    live = environment.split(deployment.deployment_id)
    used = [split.generation for split in environment.history(deployment.deployment_id)]
    used += [] if live is None else [live.generation]
    used += [] if deployment.traffic_generation is None else [deployment.traffic_generation]
    return max(used, default=-1) + 1


def _remember(environment: Environment, split: TrafficSplit) -> Environment:
    """`environment` with `split` in the history, after the others of its deployment: whatever stands around them stays
    where it is, however long the history is."""
    own, kept = environment.history(split.deployment_id), environment.split_history
    kept = replaced(kept, own[-1], own[-1], _superseded(split)) if own else (*kept, _superseded(split))
    for old in own[: len(own) + 1 - HISTORY_DEPTH] if len(own) >= HISTORY_DEPTH else ():
        kept = replaced(kept, old)
    return environment.model_copy(update={"split_history": kept})


def _superseded(split: TrafficSplit) -> TrafficSplit:
    return split.model_copy(update={"previous_split_ref": None})


def _stash(split: TrafficSplit) -> str:
    """The split as the reference keeps its predecessor: inline, one level, in URL-safe base64 without padding."""
    kept = split.model_copy(update={"previous_split_ref": None, "slots": ()})
    return "inline://" + base64.urlsafe_b64encode(canonical_json(kept.to_json())).decode().rstrip("=")


def checked(
    environment: Environment, deployment: BundleDeployment, entries: Sequence[WeightedRevision]
) -> dict[str, int]:
    """Basis points by revision; refused unless they sum to everything, each once, all of the deployment's own."""
    total = sum(entry.weight_bps for entry in entries)
    if total != BASIS_POINTS:
        raise SpecViolation(
            "BasisPointsSum",
            f"the shares sum to {total / 100:g}%, not 100%",
            details={"sum": total},
            next_step="name every revision's share, or let one take what is left with rest=REVISION",
        )
    asked = {entry.revision_id: entry.weight_bps for entry in entries}
    if len(asked) != len(entries):
        raise SpecViolation("DuplicateSplitEntry", "a revision is named twice in one split")
    for revision in _named(environment, asked):
        if revision.deployment_id != deployment.deployment_id:
            raise InvalidArgument(
                f"the revision {revision.revision_id} belongs to another deployment than '{deployment.bundle_id}'",
                details={"revision_id": revision.revision_id, "deployment_id": revision.deployment_id},
            )
    return asked


def _named(environment: Environment, revision_ids: Iterable[str]) -> list[Revision]:
    """The revisions of those ids, in that order; NotFound for the first that does not exist."""
    return [revisions.find(environment, named) for named in revision_ids]


def _require_open(deployment: BundleDeployment) -> None:
    # A paused deployment keeps its dial: moving it takes effect when the deployment is resumed.
    if deployment.status is DeploymentStatus.ARCHIVED:
        raise Conflict(
            f"'{deployment.bundle_id}' is archived and gets no traffic",
            details={"deployment_id": deployment.deployment_id, "status": deployment.status.value},
            next_step=f"gtc op bundles update {deployment.bundle_id} --status active",
        )


def require_ready(environment: Environment, revision_ids: Iterable[str]) -> None:
    """Conflict with the verb that leads on for the first of the revisions that is not ready."""
    for revision in _named(environment, revision_ids):
        if revision.lifecycle is not Lifecycle.READY:
            steps = {
                Lifecycle.STAGED: "warm",
                Lifecycle.WARMING: "warm",
                Lifecycle.FAILED: "retry",
                Lifecycle.INACTIVE: "retry",
            }
            step = steps.get(revision.lifecycle)
            raise Conflict(
                f"{revisions.label(revision)} is {revision.lifecycle}, not ready, and cannot get traffic",
                details={"revision_id": revision.revision_id, "lifecycle": revision.lifecycle.value},
                next_step=None if step is None else f"gtc op revisions {step} {revisions.label(revision)}",
            )


def shares(split: TrafficSplit) -> dict[str, int]:
    """The shares above nothing, by revision, in the order of the entries."""
    return {entry.revision_id: entry.weight_bps for entry in split.entries if entry.weight_bps}


def _positive(weights: Mapping[str, int]) -> dict[str, int]:
    return {revision_id: weight for revision_id, weight in weights.items() if weight}


def _rolled_back_again(
    environment: Environment, payload: RollbackTrafficSplitPayload, command: Command, live: TrafficSplit
) -> Outcome:
    """The answer when the live split bears the very key of this rollback: it must be what the rollback made."""
    restored = live.restored_generation
    if restored is not None and payload.to_generation in {None, restored} and live.pins == payload.pins:
        outcome = _replayed(environment, live)
        return Outcome(environment, {**outcome.result, "restored_generation": restored}, changed=False)
    raise _reused(command.idempotency_key, live)


def _replayed(environment: Environment, live: TrafficSplit) -> Outcome:
    return Outcome(
        environment,
        {"split": live.to_json(), "previous_generation": None, "new_generation": None, "moved_slots": 0},
        changed=False,
    )


def _reused(key: str, live: TrafficSplit) -> Conflict:
    return Conflict(
        f"the key '{key}' already moved this dial to other shares",
        details={"reason": "idempotency-key-reused", "generation": live.generation},
        next_step="use another --idempotency-key, or none",
    )
