"""Revisions: stage, warm, retry, drain, archive, and what is to be seen of them."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from greentic.bundles.digests import digest_file
from greentic.engine.revisions import label
from greentic.operations import artifacts, health_evidence, names, revocations
from greentic.operations.context import Context, desired
from greentic.spec.deployment import BundleDeployment, Overrides
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, GateFailed
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.payloads import (
    GateFailure,
    HealthGate,
    RevisionPayload,
    StageRevisionPayload,
    WarmRevisionPayload,
)
from greentic.spec.revision import Revision
from greentic.store.contract import Applied

DRAIN_SECONDS = 30


def summary(revision: Revision) -> dict[str, Any]:
    """The revision in short (RevisionSummary of reference 01, with its name, version and digest)."""
    return {
        "revision_id": revision.revision_id,
        "name": f"v{revision.sequence}",
        "deployment_id": revision.deployment_id,
        "bundle_id": revision.bundle_id,
        "sequence": revision.sequence,
        "version": revision.display_version,
        "lifecycle": revision.lifecycle.value,
        "bundle_digest": revision.bundle_digest,
        "created_at": revision.created_at,
    }


async def stage(
    context: Context,
    environment_id: str,
    word: str,
    archive: Path,
    *,
    overrides: Overrides | None = None,
    drain_seconds: int = DRAIN_SECONDS,
    bundle_source_uri: str | None = None,
) -> dict[str, Any]:
    """A new revision of a deployment from a bundle, frozen with the deployment's parameters; nothing runs yet."""
    stored = context.store.load(environment_id)
    deployment = names.deployment(stored.environment, word)
    context.require_deployer(stored)
    applied = freeze(
        context,
        environment_id,
        deployment,
        archive,
        overrides=overrides,
        drain_seconds=drain_seconds,
        bundle_source_uri=bundle_source_uri,
    )
    revision = Revision.model_validate(applied.result["revision"])
    if not context.dry_run:
        await context.deployer(applied).stage_revision(desired(applied), revision.revision_id, context.progress)
    return _told(applied, revision)


def freeze(
    context: Context,
    environment_id: str,
    deployment: BundleDeployment,
    archive: Path,
    *,
    overrides: Overrides | None = None,
    drain_seconds: int = DRAIN_SECONDS,
    bundle_source_uri: str | None = None,
    step: str = "",
) -> Applied:
    """Put the revision's files in place and record it as staged; on a dry run the files go again."""
    environment = context.store.load(environment_id).environment
    folder = context.store.artifacts(environment_id)
    revision_id = _revision_id(context)
    merged = merge(deployment.config_overrides, overrides or {})
    known = environment.revision(revision_id)
    if known is not None:
        # The same key again after the record was made: its files stand, and the ledger answers the rest.
        if digest_file(archive) != known.bundle_digest:
            raise Conflict(
                "this idempotency key already staged another bundle",
                details={"reason": "idempotency-key-reused", "revision_id": revision_id},
                next_step="use another --idempotency-key, or none",
            )
        return _replayed(context, environment_id, known)
    prepared = artifacts.prepare(folder, environment, revision_id, archive, merged)
    try:
        revocations.refuse(context, environment, "bundle", prepared.digest)
    except BaseException:
        artifacts.discard(folder, revision_id)
        raise
    payload = StageRevisionPayload(
        revision_id=revision_id,
        deployment_id=deployment.deployment_id,
        bundle_digest=prepared.digest,
        bundle_source_uri=bundle_source_uri,
        pack_list=prepared.pack_list,
        pack_list_lock_ref=prepared.lock_ref,
        pack_config_refs=prepared.config_refs,
        config_digest=prepared.config_digest,
        drain_seconds=drain_seconds,
        display_version=prepared.version,
    )
    try:
        applied = context.apply(environment_id, "revisions", "stage", payload, step=step)
    except BaseException:
        artifacts.discard(folder, revision_id)
        raise
    if context.dry_run:
        artifacts.discard(folder, revision_id)
    return applied


async def warm(context: Context, environment_id: str, revision: Revision, *, step: str = "") -> dict[str, Any]:
    """Start the worker, wait until it answers, record it ready. A worker that does not answer is recorded failed."""
    payload = RevisionPayload(revision_id=revision.revision_id)
    stored = context.store.load(environment_id)
    revocations.refuse(context, stored.environment, "bundle", revision.bundle_digest)
    context.require_deployer(stored)
    applied = context.apply(environment_id, "revisions", "begin-warm", payload, step=f"{step}begin")
    if context.dry_run:
        return _told(applied, revision)
    deployer = context.deployer(applied)
    context.progress(f"warming {label(revision)}")
    try:
        await deployer.stage_revision(desired(applied), revision.revision_id, context.progress)
        await deployer.warm_revision(desired(applied), revision.revision_id, context.progress)
        evidence = await health_evidence.seen(context, deployer, applied, revision.revision_id)
    except GateFailed as failure:
        verdict = HealthGate(ok=False, failure=GateFailure(failed_checks=("provider-health",), message=failure.message))
        with suppress(GateFailed):  # recorded as failed, as meant; the deployer's own words go to the caller
            context.apply(environment_id, "revisions", "warm", _verdict(revision, verdict), step=f"{step}warm")
        raise
    ready = _verdict(revision, HealthGate(ok=True))
    applied = context.apply(environment_id, "revisions", "warm", ready, step=f"{step}warm", evidence=evidence)
    await deployer.reconcile(desired(applied), context.progress)
    return _told(applied, Revision.model_validate(applied.result["revision"]))


def _verdict(revision: Revision, gate: HealthGate) -> WarmRevisionPayload:
    return WarmRevisionPayload(revision_id=revision.revision_id, health_gate=gate)


async def retry(context: Context, environment_id: str, revision: Revision) -> dict[str, Any]:
    """Make a failed or inactive revision staged again, and warm it."""
    applied = context.apply(
        environment_id, "revisions", "retry", RevisionPayload(revision_id=revision.revision_id), step="retry"
    )
    if context.dry_run:
        return _told(applied, revision)
    return await warm(context, environment_id, Revision.model_validate(applied.result["revision"]))


async def drain(context: Context, environment_id: str, revision: Revision) -> dict[str, Any]:
    """No new sessions, wait for what is in flight (at most the drain seconds), end the worker, record it."""
    payload = RevisionPayload(revision_id=revision.revision_id)
    applied = context.apply(environment_id, "revisions", "drain", payload)
    if context.dry_run:
        return _told(applied, revision)
    report = await context.deployer(applied, leaving=True).drain_revision(
        desired(applied), revision.revision_id, context.progress
    )
    applied = context.apply(environment_id, "revisions", "complete-drain", payload, step="complete")
    told = _told(applied, Revision.model_validate(applied.result["revision"]))
    return {
        **told,
        "finished": report.finished,
        "cut": report.cut,
        "cut_streams": report.cut_streams,
        "cut_tunnels": report.cut_tunnels,
        "pins_cut": report.pins_cut,
        "seconds": round(report.seconds, 3),
    }


async def archive(
    context: Context, environment_id: str, revision: Revision, *, drained: bool = False
) -> dict[str, Any]:
    """Archive for good: the record first, then nothing is left running. The files stay until the deployment goes."""
    payload = RevisionPayload(revision_id=revision.revision_id)
    if revision.lifecycle is Lifecycle.READY and not drained and not context.dry_run:
        await drain(context.with_key("drain"), environment_id, revision)
    applied = context.apply(environment_id, "revisions", "archive", payload)
    if not context.dry_run:
        await context.deployer(applied, leaving=True).archive_revision(
            desired(applied), revision.revision_id, context.progress
        )
    return _told(applied, Revision.model_validate(applied.result["revision"]))


def list_(context: Context, environment_id: str, word: str | None = None) -> dict[str, Any]:
    """The revisions of the environment, or of one deployment."""
    environment = context.store.load(environment_id).environment
    found = (
        environment.revisions
        if word is None
        else environment.revisions_of(names.deployment(environment, word).deployment_id)
    )
    return {
        "environment_id": environment_id,
        "revisions": [{**summary(revision), "weight_bps": weight(environment, revision)} for revision in found],
    }


def show(context: Context, environment_id: str, revision: Revision) -> dict[str, Any]:
    """The whole record of a revision, with its share of the traffic."""
    environment = context.store.load(environment_id).environment
    return {"revision": revision.to_json(), "weight_bps": weight(environment, revision)}


def find(context: Context, environment_id: str, words: tuple[str, ...]) -> Revision:
    """The revision that the words name."""
    return names.find(context.store.load(environment_id).environment, words)


def weight(environment: Environment, revision: Revision) -> int:
    """The basis points the live split gives the revision."""
    split = environment.split(revision.deployment_id)
    return (
        0
        if split is None
        else sum(entry.weight_bps for entry in split.entries if entry.revision_id == revision.revision_id)
    )


def merge(base: Overrides, over: Overrides) -> Overrides:
    """`base` with the keys of `over` on top, pack by pack."""
    return {pack: {**base.get(pack, {}), **over.get(pack, {})} for pack in (*base, *(p for p in over if p not in base))}


def _revision_id(context: Context) -> str:
    """Fresh, or derived from the caller's key: the same request stages the same revision (reference 01, 3.5)."""
    if context.key is None:
        return context.mint()
    number = int.from_bytes(hashlib.sha256(f"greentic-deploy-revision:{context.key}".encode()).digest()[:16], "big")
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    return "".join(alphabet[(number >> shift) & 31] for shift in range(125, -1, -5))


def _replayed(context: Context, environment_id: str, revision: Revision) -> Applied:
    stored = context.store.load(environment_id)
    return Applied({"revision": revision.to_json()}, stored.environment, stored.generation, stored.etag, replayed=True)


def _told(applied: Applied, revision: Revision) -> dict[str, Any]:
    return {**summary(revision), "generation": applied.generation, "replayed": applied.replayed}
