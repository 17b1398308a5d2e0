"""The doctor: everything that can be wrong with an environment, each with its fix. Loads even a broken one.

`examine` changes nothing. `repair` does what can be done without guessing: it finishes what an interrupted writer left,
removes files that no record names, tightens modes, and takes revisions whose files are gone out of the traffic. With a
store server the record is checked there and the log of it here, and what is mended is what this machine keeps: a change
in a database is whole or not there, and what was spoiled on its disk goes back by `backup restore`.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from greentic.bundles.digests import digest_file
from greentic.operations import doctor_trust, names, revisions, traffic, updates
from greentic.operations.context import Context, desired
from greentic.operations.findings import Finding
from greentic.operations.kept import kept
from greentic.spec import rules
from greentic.spec.capabilities import Slot
from greentic.spec.environment import Environment
from greentic.spec.errors import CorruptDocument, GreenticError, NotFound
from greentic.spec.identifiers import is_digest
from greentic.spec.lifecycle import PRESENT, Lifecycle
from greentic.spec.parsing import parse, parse_json
from greentic.spec.revision import PackListLock, Revision
from greentic.spec.weights import scale
from greentic.store import policies
from greentic.store.contract import Stored
from greentic.store.files import FilesStore

MAX_LOCK_BYTES = 4 * 1024 * 1024
SECRET_FILES = ("environment.json", "router-keys.json", "policy.json")
NEEDED = (Slot.DEPLOYER, Slot.SECRETS, Slot.TELEMETRY, Slot.SESSIONS, Slot.STATE)


async def examine(context: Context, environment_id: str, *, live: bool = True) -> dict[str, Any]:
    """Every finding; `ok` when there is none but notes. NotFound only when there is no such folder at all."""
    here, folder = isinstance(context.store, FilesStore), context.store.artifacts(environment_id)
    if not folder.is_dir():
        raise NotFound(
            f"there is no environment '{environment_id}'",
            details={"environment_id": environment_id},
            next_step=f"gtc op env create {environment_id}",
        )
    found = [*_folder(folder)] if here else []
    try:
        stored: Stored | None = context.store.load(environment_id)
    except GreenticError as error:
        if not here and not isinstance(error, CorruptDocument):
            raise  # there is none, or the server does not answer
        stored = None
        fix = error.next_step or f"gtc op backup restore {environment_id}"
        found.append(Finding("document", "error", "environment.json", error.message, fix))
    logged = [*_audit(context, environment_id)]
    found += logged
    if here:
        found += _backups(context, environment_id)
    if stored is not None:
        environment = stored.environment
        found += _rules(environment)
        if here:
            found += _policy(folder, environment_id)
        found += _packs(context, environment)
        if here or (folder / "revisions").is_dir():  # a server's environment runs on this machine, or on another
            found += _files(folder, environment, here=here)
        found += _lifecycles(environment)
        found += _channel(context, environment_id)
        found += doctor_trust.findings(context, environment, judge_head=not logged, signs=here)
        if live:
            found += await _live(context, stored)
    return {
        "environment_id": environment_id,
        "ok": all(one.severity == "note" for one in found),
        "findings": [asdict(one) for one in found],
        "checked_at": context.now(),
    }


async def repair(context: Context, environment_id: str) -> dict[str, Any]:
    """Mend what can be mended; on a dry run only say what would be done. The rest stands in `remaining`."""
    store = context.store
    folder = store.artifacts(environment_id)
    done: list[str] = []
    if isinstance(store, FilesStore) and not context.dry_run:
        stored = store.recover(environment_id)
        done.append("finished what an interrupted writer left")
    else:
        stored = store.load(environment_id)
    for path in _loose(folder):
        done.append(f"set the mode of {path.name} to 0600")
        if not context.dry_run:
            path.chmod(0o600)
    for path in _orphans(folder, stored.environment):
        done.append(f"removed {path.relative_to(folder)}, which no record names")
        if not context.dry_run:
            shutil.rmtree(path, ignore_errors=True)
    # Of a server's environment another machine may have the files: only who is there can say that they are gone.
    lost = _without_files(folder, stored.environment) if isinstance(store, FilesStore) else []
    for revision in lost:
        done.append(f"archived {revision.bundle_id} v{revision.sequence}, whose files are gone")
        if not context.dry_run:
            await _evict(context, environment_id, revision)
    remaining = (await examine(context, environment_id, live=False))["findings"]
    return {"environment_id": environment_id, "repaired": done, "remaining": remaining}


async def _evict(context: Context, environment_id: str, revision: Revision) -> None:
    """Take a revision that cannot run out of the traffic, its share going to the others, and archive it."""
    environment = context.store.load(environment_id).environment
    live = environment.split(revision.deployment_id)
    weight = revisions.weight(environment, revision)
    if live is not None and weight:
        others = {
            entry.revision_id: entry.weight_bps
            for entry in live.entries
            if entry.weight_bps and entry.revision_id != revision.revision_id
        }
        note = f"v{revision.sequence} lost its files"
        deployment = names.deployment(environment, revision.deployment_id)
        if others:
            shares = list(scale(others, 10_000).items())
            await traffic.set_split(context, environment_id, deployment.deployment_id, shares, note=note)
        else:
            await traffic.clear(context, environment_id, deployment.deployment_id, note=note)
    await revisions.archive(context, environment_id, revision, drained=True)


def _folder(folder: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        yield Finding(
            "folder-mode",
            "warning",
            str(folder),
            f"others can look into the folder ({mode:04o})",
            f"chmod 0700 '{folder}'",
        )
    for path in _loose(folder):
        mode = stat.S_IMODE(path.stat().st_mode)
        fix = f"gtc op env repair {folder.name} --apply"
        yield Finding("file-mode", "error", path.name, f"others can read it ({mode:04o})", fix)


def _loose(folder: Path) -> list[Path]:
    candidates = (folder / name for name in SECRET_FILES)
    return [path for path in candidates if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077]


def _audit(context: Context, environment_id: str) -> Iterator[Finding]:
    fix = "compare with an exported copy (gtc op audit export); a chain that was changed cannot be mended"
    try:
        report = kept(context).verify_audit(environment_id)
    except GreenticError as error:
        report = kept(context).audit(environment_id).verify()
        if report.finding is None:
            return  # only the anchor could not be read, and that is reported as a document finding
        yield Finding("audit", "error", "audit", error.message, fix)
        return
    if report.finding is not None:
        place = f"{report.finding.file} line {report.finding.line}"
        yield Finding("audit", "error", place, report.finding.reason, fix)


def _backups(context: Context, environment_id: str) -> Iterator[Finding]:
    for backup in kept(context).backups().list(environment_id):
        if backup.origin == "damaged":
            fix = f"remove it when it is understood: rm backups/{backup.name}"
            yield Finding("damaged-copy", "note", backup.name, "a damaged document was put aside here", fix)


def _rules(environment: Environment) -> Iterator[Finding]:
    for violation in rules.violations(environment):
        fix = f"gtc op backup restore {environment.environment_id}"
        yield Finding("rules", "error", violation.path, f"{violation.rule}: {violation.message}", fix)


def _policy(folder: Path, environment_id: str) -> Iterator[Finding]:
    if environment_id == policies.LOCAL:
        return
    try:
        policy = policies.load(folder)
    except GreenticError as error:
        yield Finding("policy", "error", policies.FILE, error.message, error.next_step or "mend the file by hand")
        return
    if policy is None:
        fix = f"gtc op policy init {environment_id}"
        yield Finding("policy", "error", policies.FILE, "there is no policy, so no change is allowed", fix)


def _packs(context: Context, environment: Environment) -> Iterator[Finding]:
    name = environment.environment_id
    for slot in NEEDED:
        if environment.binding(slot) is None:
            severity = "error" if slot is Slot.DEPLOYER else "warning"
            fix = f"gtc op env-packs add {slot} KIND@VERSION --env {name}"
            yield Finding("slot", severity, slot.value, "no env-pack fills this slot", fix)
    for binding in environment.packs:
        try:
            context.registry.bound(environment, binding.slot)
        except GreenticError as error:
            fix = error.next_step or f"gtc op env-packs update {binding.slot} KIND@VERSION --env {name}"
            yield Finding("env-pack", "error", binding.kind, error.message, fix)
            continue
        origin = next(one.origin() for one in context.registry.offers() if one.path == binding.kind.partition("@")[0])
        if origin is not None and origin.signed_by == ():
            fix = "have its publisher sign it, then gtc env-pack install FOLDER"
            yield Finding("env-pack", "warning", binding.kind, "is an executable that nobody signed", fix)


def _files(folder: Path, environment: Environment, *, here: bool) -> Iterator[Finding]:
    repair = f"gtc op env repair {environment.environment_id} --apply"
    missing = {revision.revision_id for revision in _without_files(folder, environment)}
    for revision in environment.revisions:
        if revision.lifecycle is Lifecycle.ARCHIVED:
            continue
        name = f"{revision.bundle_id} v{revision.sequence}"
        if revision.revision_id in missing and not here:
            fix = "look on the machine that runs it, or stage it anew from here"
            yield Finding("revision-files", "note", name, "its files are not on this machine", fix)
            continue
        if revision.revision_id in missing:
            yield Finding("revision-files", "error", name, "its files are gone, so it cannot run", repair)
            continue
        archive = folder / "revisions" / revision.revision_id / "bundle.gtbundle"
        if archive.is_file() and is_digest(revision.bundle_digest) and digest_file(archive) != revision.bundle_digest:
            fix = f"stage it anew: gtc op revisions stage {revision.bundle_id} --bundle FILE"
            yield Finding("bundle-digest", "error", name, "its bundle is not the one that was staged", fix)
        yield from _lock(folder, revision, name)
    for path in _orphans(folder, environment):
        yield Finding("orphan-files", "warning", str(path.relative_to(folder)), "no record names these files", repair)


def _lock(folder: Path, revision: Revision, name: str) -> Iterator[Finding]:
    path = folder / revision.pack_list_lock_ref
    fix = f"stage it anew: gtc op revisions stage {revision.bundle_id} --bundle FILE"
    try:
        lock = parse(PackListLock, parse_json(path.read_bytes()[:MAX_LOCK_BYTES], path.name), path.name)
    except (OSError, GreenticError) as error:
        yield Finding("pack-list-lock", "error", name, f"its pack list cannot be read: {error}", fix)
        return
    for pack in lock.packs:
        place = folder / pack.path
        if not place.is_file():
            yield Finding("pack", "error", f"{name}/{pack.pack_id}", "the pack's file is gone", fix)
        elif digest_file(place) != pack.digest:
            yield Finding("pack", "error", f"{name}/{pack.pack_id}", "the pack is not the one that was staged", fix)


def _without_files(folder: Path, environment: Environment) -> list[Revision]:
    """Revisions that should be able to run but lack their unpacked bundle or lock. One recorded without needs none."""
    return [
        revision
        for revision in environment.revisions
        if revision.lifecycle is not Lifecycle.ARCHIVED
        and revision.pack_list_lock_ref
        and not (
            (folder / revision.pack_list_lock_ref).is_file()
            and (folder / "revisions" / revision.revision_id / "bundle").is_dir()
        )
    ]


def _orphans(folder: Path, environment: Environment) -> list[Path]:
    """Revision folders that no record names: what an interrupted stage left."""
    known = {revision.revision_id for revision in environment.revisions}
    place = folder / "revisions"
    return [] if not place.is_dir() else sorted(path for path in place.iterdir() if path.name not in known)


def _lifecycles(environment: Environment) -> Iterator[Finding]:
    for revision in environment.revisions:
        name = f"{revision.bundle_id} v{revision.sequence}"
        if revision.lifecycle is Lifecycle.WARMING:
            fix = f"gtc op revisions warm {name}"
            yield Finding("interrupted", "warning", name, "its warming was interrupted", fix)
        elif revision.lifecycle is Lifecycle.DRAINING:
            fix = f"gtc op revisions drain {name}"
            yield Finding("interrupted", "warning", name, "its drain was interrupted", fix)
        elif revision.lifecycle is Lifecycle.FAILED:
            fix = f"gtc op revisions logs {name}, then gtc op revisions retry {name} or archive {name}"
            yield Finding("failed", "warning", name, revision.failure or "it failed", fix)


def _channel(context: Context, environment_id: str) -> Iterator[Finding]:
    try:
        updates.load(context.store.files(environment_id))
    except GreenticError as error:
        yield Finding("update-channel", "error", updates.FILE, error.message, error.next_step or "remove the file")


async def _live(context: Context, stored: Stored) -> list[Finding]:
    environment = stored.environment
    if environment.binding(Slot.DEPLOYER) is None:
        return []
    start = f"gtc start {environment.environment_id} --background"
    try:
        observation = await context.deployer(stored).observe(desired(stored))
    except GreenticError as error:
        return [Finding("live", "error", "deployer", error.message, error.next_step or start)]
    if not observation.running:
        try:
            await context.deployer(stored).check_settings(environment)
        except GreenticError as error:
            return [Finding("settings", "error", "routers", error.message, error.next_step or start)]
        wanted = any(revision.lifecycle in PRESENT for revision in environment.revisions)
        return [Finding("live", "warning", "data plane", "it is not running", start)] if wanted else []
    found = [Finding("settings", "warning", "routers", told.message, told.next_step) for told in observation.notices]
    for revision in environment.revisions:
        seen = observation.revisions.get(revision.revision_id)
        if revision.lifecycle is Lifecycle.READY and (seen is None or not seen.healthy):
            name = f"{revision.bundle_id} v{revision.sequence}"
            state = "absent" if seen is None else f"{seen.state} {seen.detail}".strip()
            severity = "error" if revisions.weight(environment, revision) else "warning"
            found.append(Finding("live", severity, name, f"its worker is {state}", f"gtc op revisions logs {name}"))
    for split in environment.traffic_splits:
        served = observation.generations.get(split.deployment_id)
        deployment = environment.deployment(split.deployment_id)
        if deployment is not None and deployment.status.value == "active" and served != split.generation:
            message = f"the routers serve generation {served}, recorded is {split.generation}"
            found.append(Finding("live", "error", deployment.bundle_id, message, start))
    return found
