"""Transitions of revisions: the lifecycle (reference 01, section 2.3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from greentic.engine import deployments, open_schedule
from greentic.engine.command import Command, Outcome
from greentic.engine.promises import runs
from greentic.spec.deployment import DeploymentStatus
from greentic.spec.environment import REVISIONS_OF, Environment
from greentic.spec.errors import AlreadyExists, Conflict, GateFailed, NotFound
from greentic.spec.lifecycle import Lifecycle, allows
from greentic.spec.payloads import RevisionPayload, StageRevisionPayload, WarmRevisionPayload
from greentic.spec.revision import Revision
from greentic.spec.spans import replaced


def find(environment: Environment, revision_id: str) -> Revision:
    """The revision of that id; NotFound otherwise."""
    revision = environment.revision(revision_id)
    if revision is None:
        raise NotFound(
            f"there is no revision {revision_id} in the environment '{environment.environment_id}'",
            details={"environment_id": environment.environment_id, "revision_id": revision_id},
            next_step="gtc op revisions list",
        )
    return revision


def label(revision: Revision) -> str:
    """A revision as people call it: `helpdesk v2`."""
    return f"{revision.bundle_id} v{revision.sequence}"


def share(environment: Environment, revision: Revision) -> int:
    """The basis points that the live split gives to `revision`."""
    split = environment.split(revision.deployment_id)
    entries = () if split is None else split.entries
    return sum(entry.weight_bps for entry in entries if entry.revision_id == revision.revision_id)


def stage(environment: Environment, payload: StageRevisionPayload, command: Command, now: str) -> Outcome:
    """A new revision, staged; its sequence is the next of its deployment."""
    if environment.revision(payload.revision_id) is not None:
        raise AlreadyExists(
            f"the revision {payload.revision_id} exists already",
            details={"revision_id": payload.revision_id},
            next_step="stage it again under a new id, or leave the id out",
        )
    deployment = deployments.find(environment, payload.deployment_id)
    if deployment.status is DeploymentStatus.ARCHIVED:
        raise Conflict(
            f"'{deployment.bundle_id}' is archived and takes no new revision",
            next_step=f"gtc op bundles update {deployment.bundle_id} --status active",
        )
    sequences = (one.sequence for one in environment.grouped(REVISIONS_OF).get(deployment.deployment_id, ()))
    revision = Revision(
        revision_id=payload.revision_id,
        env_id=environment.environment_id,
        bundle_id=deployment.bundle_id,
        deployment_id=deployment.deployment_id,
        sequence=max(sequences, default=0) + 1,
        created_at=now,
        bundle_digest=payload.bundle_digest,
        bundle_source_uri=payload.bundle_source_uri,
        pack_list=payload.pack_list,
        pack_list_lock_ref=payload.pack_list_lock_ref,
        pack_config_refs=payload.pack_config_refs,
        config_digest=payload.config_digest,
        signature_sidecar_ref=payload.signature_sidecar_ref,
        lifecycle=Lifecycle.STAGED,
        staged_at=now,
        drain_seconds=payload.drain_seconds,
        display_version=payload.display_version,
    )
    changed = environment.model_copy(update={"revisions": (*environment.revisions, revision)})
    return Outcome(changed, {"revision": revision.to_json()})


def begin_warm(environment: Environment, payload: RevisionPayload, command: Command, now: str) -> Outcome:
    """staged -> warming, before the deployer starts the worker; nothing to do when warming or ready."""
    revision = find(environment, payload.revision_id)
    if revision.lifecycle in {Lifecycle.WARMING, Lifecycle.READY}:
        return _unchanged(environment, revision)
    _require(revision, {Lifecycle.STAGED}, "warmed", _WARM_NEXT)
    return _moved(environment, revision, Lifecycle.WARMING)


def warm(environment: Environment, payload: WarmRevisionPayload, command: Command, now: str) -> Outcome:
    """The verdict of the health gate: ready, or failed with the failure kept (committed, then raised as GateFailed)."""
    revision = find(environment, payload.revision_id)
    if revision.lifecycle is Lifecycle.READY:
        return _unchanged(environment, revision)
    _require(revision, {Lifecycle.STAGED, Lifecycle.WARMING}, "warmed", _WARM_NEXT)
    if payload.health_gate.failure is None:
        outcome = _moved(environment, revision, Lifecycle.READY, warmed_at=now, failure=None)
        vouched = {} if payload.vouched is None else {"vouched": payload.vouched.to_json()}
        return Outcome(outcome.environment, {**outcome.result, **vouched})
    failure = payload.health_gate.failure
    outcome = _moved(environment, revision, Lifecycle.FAILED, failure=failure.message[:2000])
    return Outcome(
        outcome.environment,
        outcome.result,
        failure=GateFailed(
            f"{label(revision)} is not healthy: {failure.message}",
            details={"revision_id": revision.revision_id, "failed_checks": list(failure.failed_checks)},
            next_step=f"gtc op revisions retry {label(revision)}, once the cause is mended",
        ),
    )


def retry(environment: Environment, payload: RevisionPayload, command: Command, now: str) -> Outcome:
    """failed or inactive -> staged, so that it can be warmed again; nothing to do when it is staged."""
    revision = find(environment, payload.revision_id)
    if revision.lifecycle is Lifecycle.STAGED:
        return _unchanged(environment, revision)
    _require(revision, {Lifecycle.FAILED, Lifecycle.INACTIVE}, "retried", {Lifecycle.WARMING: "warm"})
    return _moved(environment, revision, Lifecycle.STAGED, staged_at=now, failure=None)


def drain(environment: Environment, payload: RevisionPayload, command: Command, now: str) -> Outcome:
    """ready -> draining; nothing to do when draining or drained (inactive).

    Conflict while the split gives it traffic: the dial moves first.
    """
    revision = find(environment, payload.revision_id)
    if revision.lifecycle in {Lifecycle.DRAINING, Lifecycle.INACTIVE}:
        return _unchanged(environment, revision)
    _refuse_traffic(environment, revision, "drained")
    _require(revision, {Lifecycle.READY}, "drained", _DRAIN_NEXT)
    # What visitors were promised holds while the revision drains; the entry that says so goes when it has drained.
    kept = environment if _promised(environment, revision, now) else _forgotten(environment, revision)
    return _moved(kept, revision, Lifecycle.DRAINING)


def complete_drain(environment: Environment, payload: RevisionPayload, command: Command, now: str) -> Outcome:
    """draining -> inactive, after the deployer saw the last request end; nothing to do when inactive."""
    revision = find(environment, payload.revision_id)
    if revision.lifecycle is Lifecycle.INACTIVE:
        return _unchanged(environment, revision)
    _require(revision, {Lifecycle.DRAINING}, "completed", {Lifecycle.READY: "drain"})
    return _moved(_forgotten(environment, revision), revision, Lifecycle.INACTIVE)


def archive(environment: Environment, payload: RevisionPayload, command: Command, now: str) -> Outcome:
    """Any state -> archived (through inactive from draining), for good.

    Conflict while it gets traffic, and while visitors' pins to it are honoured and it was not drained.
    """
    revision = find(environment, payload.revision_id)
    if revision.lifecycle is Lifecycle.ARCHIVED:
        return _unchanged(environment, revision)
    _refuse_traffic(environment, revision, "archived")
    _refuse_promised(environment, revision, now)
    return _moved(_forgotten(environment, revision), revision, Lifecycle.ARCHIVED)


_WARM_NEXT = {Lifecycle.FAILED: "retry", Lifecycle.INACTIVE: "retry", Lifecycle.DRAINING: "drain"}
_DRAIN_NEXT = {Lifecycle.STAGED: "archive", Lifecycle.WARMING: "archive", Lifecycle.FAILED: "archive"}
"""By state: the verb that leads on from there, for somebody who wanted to warm or to drain."""


def _require(revision: Revision, allowed: Collection[Lifecycle], done: str, onward: Mapping[Lifecycle, str]) -> None:
    if revision.lifecycle not in allowed:
        step = onward.get(revision.lifecycle)
        raise Conflict(
            f"{label(revision)} is {revision.lifecycle} and cannot be {done}; "
            f"only {' or '.join(sorted(allowed))} revisions can",
            details={
                "revision_id": revision.revision_id,
                "actual": revision.lifecycle.value,
                "expected": sorted(state.value for state in allowed),
            },
            next_step=None if step is None else f"gtc op revisions {step} {label(revision)}",
        )


def _refuse_traffic(environment: Environment, revision: Revision, done: str) -> None:
    schedule = open_schedule.find(environment, revision.deployment_id)
    if schedule is not None and revision.revision_id in schedule.named:
        raise Conflict(
            f"{label(revision)} is part of an open schedule ({open_schedule.told(schedule)}) and cannot be {done}",
            details={"reason": "schedule-open", "revision_id": revision.revision_id},
            next_step=f"gtc op traffic abort {revision.bundle_id}",
        )
    weight = share(environment, revision)
    if weight:
        raise Conflict(
            f"{label(revision)} gets {weight / 100:g}% of the traffic and cannot be {done}",
            details={
                "revision_id": revision.revision_id,
                "splits": [
                    {
                        "deployment_id": revision.deployment_id,
                        "bundle_id": revision.bundle_id,
                        "weight_bps": weight,
                    }
                ],
            },
            next_step=f"move the dial first: gtc op traffic set {revision.bundle_id} OTHER=100%, "
            f"or gtc op traffic clear {revision.bundle_id}",
        )


def _promised(environment: Environment, revision: Revision, now: str) -> str | None:
    """Until when pins to `revision` are honoured; None when they are not, or no longer."""
    split = environment.split(revision.deployment_id)
    entries = () if split is None else split.entries
    return next(
        (entry.honour_until for entry in entries if entry.revision_id == revision.revision_id and runs(entry, now)),
        None,
    )


def _refuse_promised(environment: Environment, revision: Revision, now: str) -> None:
    until = _promised(environment, revision, now)
    if until is not None and revision.lifecycle in {Lifecycle.READY, Lifecycle.DRAINING}:
        raise Conflict(
            f"pins of visitors to {label(revision)} are honoured until {until}, so it cannot be archived undrained",
            details={"revision_id": revision.revision_id, "honour_until": until},
            next_step=f"gtc op revisions drain {label(revision)}, "
            f"or end them: gtc op traffic set {revision.bundle_id} … --pins evict",
        )


def _forgotten(environment: Environment, revision: Revision) -> Environment:
    """`environment` whose live split no longer lists `revision` with a share of nothing."""
    split = environment.split(revision.deployment_id)
    if split is None or all(entry.revision_id != revision.revision_id for entry in split.entries):
        return environment
    gone = next(index for index, entry in enumerate(split.entries) if entry.revision_id == revision.revision_id)
    kept = split.model_copy(
        update={
            "entries": split.entries[:gone] + split.entries[gone + 1 :],
            "slots": tuple((count, index - (index > gone)) for count, index in split.slots),
        }
    )
    return environment.model_copy(update={"traffic_splits": replaced(environment.traffic_splits, split, kept)})


def _moved(environment: Environment, revision: Revision, to: Lifecycle, **stamps: Any) -> Outcome:
    through = revision.lifecycle
    if through is Lifecycle.DRAINING and to is Lifecycle.ARCHIVED:
        through = Lifecycle.INACTIVE
    # A verdict may arrive for a revision that was never marked warming: staged -> warming -> ready in one step.
    if through is Lifecycle.STAGED and to is Lifecycle.READY:
        through = Lifecycle.WARMING
    if not allows(through, to):
        raise Conflict(f"{label(revision)} cannot go from {revision.lifecycle} to {to}")
    changed = revision.model_copy(update={"lifecycle": to, **stamps})
    return Outcome(
        environment.model_copy(update={"revisions": replaced(environment.revisions, revision, changed)}),
        {"revision": changed.to_json(), "starting_lifecycle": revision.lifecycle.value},
    )


def _unchanged(environment: Environment, revision: Revision) -> Outcome:
    return Outcome(
        environment,
        {"revision": revision.to_json(), "starting_lifecycle": revision.lifecycle.value},
        changed=False,
    )
