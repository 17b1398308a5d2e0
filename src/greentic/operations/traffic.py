"""The dial: move it, undo it, clear it, and prove that the routers follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from greentic.engine.revisions import label
from greentic.engine.slots import moved, table
from greentic.engine.traffic import rollback_target
from greentic.envpacks.deployer import Receipt
from greentic.operations import names, readiness, rehearsal, schedule_summary
from greentic.operations.context import Context, desired
from greentic.spec.deployment import BundleDeployment, DeploymentStatus
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, GreenticError, InvalidArgument
from greentic.spec.identifiers import BASIS_POINTS
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.payloads import (
    ClearTrafficSplitPayload,
    RollbackTrafficSplitPayload,
    SetTrafficSplitPayload,
    WeightedRevision,
)
from greentic.spec.traffic import PinPolicy, SplitEntry, TrafficSplit
from greentic.store.contract import Applied, Stored

REST = "rest"
"""In place of a revision: it takes what the others leave."""

Shares = Sequence[tuple[str, int | None]]
"""(revision as named, basis points); None takes what the others leave."""


def resolve(environment: Environment, deployment: BundleDeployment, shares: Shares) -> dict[str, int]:
    """Basis points by revision id, in the order given; InvalidArgument for a revision named twice or two rests."""
    weights: dict[str, int] = {}
    remainder: str | None = None
    for word, share in shares:
        revision = names.revision(environment, deployment, word)
        if revision.revision_id in weights:
            raise InvalidArgument(f"v{revision.sequence} is named twice", next_step="give each revision one share")
        if share is None:
            if remainder is not None:
                raise InvalidArgument("only one revision can take the rest")
            remainder = revision.revision_id
        weights[revision.revision_id] = share or 0
    if remainder is not None:
        left = BASIS_POINTS - sum(weights.values())
        if left < 0:
            raise InvalidArgument(f"the shares exceed 100% by {-left / 100:g}%, nothing is left for rest")
        weights[remainder] = left
    return weights


async def set_split(
    context: Context,
    environment_id: str,
    word: str,
    shares: Shares,
    *,
    note: str | None = None,
    authorization_ref: str = "auth.json",
    pins: PinPolicy | None = None,
) -> dict[str, Any]:
    """Move the dial and return when every router serves it. The same shares again move nothing and prove the same.

    `pins` says what becomes of visitors' pins; None: those to revisions that keep a share stay, the others end.
    """
    stored = context.store.load(environment_id)
    deployment = names.deployment(stored.environment, word)
    weights = resolve(stored.environment, deployment, shares)
    entries = tuple(
        WeightedRevision(revision_id=revision_id, weight_bps=weight) for revision_id, weight in weights.items()
    )
    live = stored.environment.split(deployment.deployment_id)
    if live is not None and pins is None and not context.guarded and _shares(live) == _positive(weights):
        return await _again(context, stored, deployment, live)
    payload = SetTrafficSplitPayload(
        deployment_id=deployment.deployment_id,
        entries=entries,
        updated_by=context.by,
        authorization_ref=authorization_ref,
        note=note,
        pins=pins,
    )
    if not context.dry_run:
        await readiness.require(context, stored, deployment, weights)
    applied = context.apply(environment_id, "traffic", "set", payload)
    return await _publish(context, stored, applied, deployment)


async def rollback(
    context: Context,
    environment_id: str,
    word: str,
    *,
    to_generation: int | None = None,
    note: str | None = None,
    pins: PinPolicy | None = None,
) -> dict[str, Any]:
    """Restore the split before the live one, or that of a generation; itself undoable."""
    stored = context.store.load(environment_id)
    deployment = names.deployment(stored.environment, word)
    payload = RollbackTrafficSplitPayload(
        deployment_id=deployment.deployment_id,
        to_generation=to_generation,
        updated_by=context.by,
        note=note,
        pins=pins,
    )
    weights: dict[str, int] = {}
    if not context.dry_run:
        with suppress(GreenticError):  # the engine refuses it, and knows a repeated key
            target = rollback_target(stored.environment, deployment, to_generation)
            weights = _shares(target)
    if not context.dry_run and weights:
        await readiness.require(context, stored, deployment, weights)
    applied = context.apply(environment_id, "traffic", "rollback", payload)
    told = await _publish(context, stored, applied, deployment)
    return {**told, "restored_generation": applied.result["restored_generation"]}


async def clear(context: Context, environment_id: str, word: str, *, note: str | None = None) -> dict[str, Any]:
    """No traffic for the deployment any more; every router has let go of it when this returns."""
    stored = context.store.load(environment_id)
    deployment = names.deployment(stored.environment, word)
    payload = ClearTrafficSplitPayload(deployment_id=deployment.deployment_id, updated_by=context.by, note=note)
    context.require_deployer(stored)
    applied = context.apply(environment_id, "traffic", "clear", payload)
    told: dict[str, Any] = {
        "environment_id": environment_id,
        "deployment_id": deployment.deployment_id,
        "bundle_id": deployment.bundle_id,
        "cleared": applied.result["cleared"],
        "generation": applied.result["new_generation"],
    }
    if context.dry_run:
        return told
    deployer = context.deployer(applied)
    if (await deployer.observe(desired(applied))).running:
        receipt = await deployer.apply_traffic_split(desired(applied), deployment.deployment_id, context.progress)
        told["receipt"] = receipt_document(receipt)
    return told


def show(context: Context, environment_id: str, word: str) -> dict[str, Any]:
    """The live split (TrafficSummary of reference 01, with who moved it, when and why)."""
    environment = context.store.load(environment_id).environment
    deployment = names.deployment(environment, word)
    live = environment.split(deployment.deployment_id)
    schedule = schedule_summary.summary(context, environment, deployment.deployment_id)
    if live is None:
        return {
            "environment_id": environment_id,
            "deployment_id": deployment.deployment_id,
            "bundle_id": deployment.bundle_id,
            "generation": deployment.traffic_generation,
            "entries": [],
            "has_previous": bool(environment.history(deployment.deployment_id)),
            **schedule,
        }
    return {**summary(environment, live), **schedule}


def history(context: Context, environment_id: str, word: str) -> dict[str, Any]:
    """Every split that is kept, newest first, the live one on top, each with the slots it moved."""
    environment = context.store.load(environment_id).environment
    deployment = names.deployment(environment, word)
    live = environment.split(deployment.deployment_id)
    splits = [*environment.history(deployment.deployment_id), *([] if live is None else [live])]
    rows = []
    for index, split in enumerate(splits):
        before = table(splits[index - 1]) if index else ()
        rows.append(
            {
                **summary(environment, split),
                "live": split is live,
                "moved_slots": moved(before, table(split)) if index else BASIS_POINTS,
            }
        )
    return {"deployment_id": deployment.deployment_id, "bundle_id": deployment.bundle_id, "splits": rows[::-1]}


async def preview(
    context: Context, environment_id: str, word: str, revision_word: str, *, seconds: int
) -> dict[str, Any]:
    """A URL that reaches a ready revision whatever its share, for `seconds`."""
    stored = context.store.load(environment_id)
    deployment = names.deployment(stored.environment, word)
    revision = names.revision(stored.environment, deployment, revision_word)
    if revision.lifecycle is not Lifecycle.READY:
        raise Conflict(
            f"{label(revision)} is {revision.lifecycle}; only a ready revision can be previewed",
            next_step=f"gtc op revisions warm {deployment.bundle_id} v{revision.sequence}",
        )
    if deployment.status is not DeploymentStatus.ACTIVE:
        raise Conflict(f"'{deployment.bundle_id}' is {deployment.status}; only an active deployment can be previewed")
    deployer = context.deployer(stored)
    observation = await deployer.reconcile(desired(stored), context.progress)
    token = await deployer.preview(desired(stored), revision.revision_id, seconds)
    base = stored.environment.host_config.public_base_url or observation.url or ""
    binding = deployment.route_binding
    prefix = binding.path_prefixes[0] if binding.path_prefixes else "/"
    path = prefix if prefix.endswith("/") else prefix + "/"
    told = {
        "revision_id": revision.revision_id,
        "name": f"v{revision.sequence}",
        "url": f"{base}{path}?gt_preview={token}",
        "header": {"x-greentic-preview": token},
        "expires_in_seconds": seconds,
    }
    return {**told, "host": binding.hosts[0]} if binding.hosts else told


def summary(environment: Environment, split: TrafficSplit) -> dict[str, Any]:
    """A split in short."""
    entries = []
    for entry in split.entries:
        revision = environment.revision(entry.revision_id)
        entries.append(
            {
                "revision_id": entry.revision_id,
                "name": None if revision is None else f"v{revision.sequence}",
                "weight_bps": entry.weight_bps,
                **_honoured(entry),
            }
        )
    told: dict[str, Any] = {
        "environment_id": split.env_id,
        "deployment_id": split.deployment_id,
        "bundle_id": split.bundle_id,
        "generation": split.generation,
        "entries": entries,
        "has_previous": bool(environment.history(split.deployment_id)),
        "updated_at": split.updated_at,
        "updated_by": split.updated_by,
        "idempotency_key": split.idempotency_key,
    }
    if split.note is not None:
        told["note"] = split.note
    if split.pins is not None:
        told["pins"] = split.pins.to_json()
    deployment = environment.deployment(split.deployment_id)
    if deployment is not None and deployment.status is not DeploymentStatus.ACTIVE:
        told["deployment_status"] = deployment.status.value
    return told


def _honoured(entry: SplitEntry) -> dict[str, str]:
    return {} if entry.honour_until is None else {"honour_until": entry.honour_until}


def receipt_document(receipt: Receipt) -> dict[str, Any]:
    """A receipt as JSON."""
    return {
        "generation": receipt.generation,
        "acknowledged": receipt.acknowledged,
        "expected": receipt.expected,
        "milliseconds": round(receipt.milliseconds, 3),
        "missing": list(receipt.missing),
    }


async def _again(context: Context, stored: Stored, deployment: BundleDeployment, live: TrafficSplit) -> dict[str, Any]:
    """The dial stands there already: nothing is recorded, but the routers are asked to prove it."""
    told = {**summary(stored.environment, live), "changed": False, "moved_slots": 0}
    if context.dry_run:
        return told
    deployer = context.deployer(stored)
    await deployer.reconcile(desired(stored), context.progress)
    receipt = await deployer.apply_traffic_split(desired(stored), deployment.deployment_id, context.progress)
    return {**told, "receipt": receipt_document(receipt)}


async def _publish(context: Context, stored: Stored, applied: Applied, deployment: BundleDeployment) -> dict[str, Any]:
    split = applied.environment.split(deployment.deployment_id)
    if split is None:
        raise Conflict("the split was cleared by somebody else meanwhile", next_step="look: gtc op traffic history")
    told = {
        **summary(applied.environment, split),
        "changed": not applied.replayed,
        "moved_slots": applied.result.get("moved_slots", 0),
        "previous_generation": applied.result.get("previous_generation"),
    }
    if context.dry_run:
        return {**told, "rehearsal": await rehearsal.rehearse(context, stored, applied, deployment)}
    deployer = context.deployer(applied)
    receipt = await deployer.apply_traffic_split(desired(applied), deployment.deployment_id, context.progress)
    return {**told, "receipt": receipt_document(receipt)}


def _shares(split: TrafficSplit) -> dict[str, int]:
    return {entry.revision_id: entry.weight_bps for entry in split.entries if entry.weight_bps}


def _positive(weights: Mapping[str, int]) -> dict[str, int]:
    return {revision_id: weight for revision_id, weight in weights.items() if weight}
