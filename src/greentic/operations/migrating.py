"""One-shot moves from old layouts: the environment `dev`, and the old deployment state (reference 01, section 4.9).

Each looks first and changes nothing when something stands in the way; each leaves what it moved under a name that says
so, and finds nothing to do the second time.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greentic.operations.context import Context
from greentic.spec.environment import Environment, ExtensionBinding, PackBinding
from greentic.spec.errors import Conflict, Differs, GreenticError, InputOutput, InvalidArgument, NotFound
from greentic.spec.merging import MigrateMergePayload, MigrateSeedPayload

DEV = "dev"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something seen before a move; a `blocking` one forbids it."""

    kind: str
    blocking: bool
    location: str
    message: str

    def document(self) -> dict[str, str]:
        """The finding as JSON (reference 01, section 4.9)."""
        severity = "blocking" if self.blocking else "info"
        return {"kind": self.kind, "severity": severity, "location": self.location, "message": self.message}


def migrate_dev(context: Context, target: str, *, apply: bool) -> dict[str, Any]:
    """Move the bindings of the environment `dev` to `target`, which keeps what it has; put `dev` aside.

    Without `apply` it is a check: Differs when there is something to move. Conflict when something stands in the way:
    workloads or credentials in `dev`, or a record that cannot be read.
    """
    if target == DEV:
        raise InvalidArgument("'dev' cannot be migrated to itself", next_step="name another environment, such as local")
    folder = context.store.artifacts(DEV)
    told: dict[str, Any] = {"from_env": DEV, "to_env": target, "mode": "apply" if apply else "check"}
    if not folder.is_dir():
        return {**told, "clean": True, "findings": [], **_merged((), (), None)}
    source, findings = _scanned(context, folder, target)
    told["findings"] = [finding.document() for finding in findings]
    blocking = [finding for finding in findings if finding.blocking]
    if blocking:
        raise Conflict(
            f"'dev' cannot be migrated: {'; '.join(finding.message for finding in blocking)}",
            details=told,
            next_step="move what is named there by hand, then run this again",
        )
    if not apply:
        raise Differs(
            "the environment 'dev' is still there", details=told, next_step=f"gtc op env migrate-dev {target} --apply"
        )
    assert source is not None
    seed = MigrateSeedPayload(
        host_config=source.host_config,
        revocation=source.revocation,
        retention=source.retention,
        health=source.health,
    )
    payload = MigrateMergePayload(packs=source.packs, extensions=source.extensions, seed_if_missing=seed)
    taken = _answers_taken(context, folder, target, source)
    try:
        applied = context.apply(target, "env", "migrate-bindings", payload)
    except GreenticError:
        for path in taken:
            with suppress(OSError):
                path.unlink()
        raise
    aside = _put_aside(folder, f".dev-migrated-{_stamp(context)}")
    result = applied.result
    return {
        **told,
        "clean": False,
        **_merged(tuple(result["merged_slots"]), tuple(result["merged_extensions"]), str(aside)),
    }


def migrate_state(context: Context, environment_id: str, state_dir: Path, *, apply: bool) -> dict[str, Any]:
    """Put the old deployment state, `<state_dir>/deploy`, aside. Without `apply`: Differs when it is there."""
    context.store.load(environment_id)
    old = state_dir / "deploy"
    told: dict[str, Any] = {
        "env_id": environment_id,
        "state_dir": str(state_dir),
        "mode": "apply" if apply else "check",
        "renamed_to": None,
    }
    if not os.path.lexists(old):
        return {**told, "clean": True, "leaf_count": 0, "findings": []}
    if old.is_symlink() or not old.is_dir():
        raise Conflict(f"{old} is not a folder of its own", next_step="look what it is; nothing was changed")
    leaves = _leaves(old)
    finding = Finding("old-state", False, str(old), f"{leaves} files of the old deployment state")
    told |= {"clean": False, "leaf_count": leaves, "findings": [finding.document()]}
    if not apply:
        raise Differs(
            f"{old} is still there",
            details=told,
            next_step=f"gtc op env migrate-state {environment_id} --apply --state-dir {state_dir}",
        )
    with _locked(state_dir / ".migrate-state.lock"):
        aside = _put_aside(old, f".deploy-migrated-{_stamp(context)}")
    return {**told, "renamed_to": str(aside)}


def _scanned(context: Context, folder: Path, target: str) -> tuple[Environment | None, list[Finding]]:
    place = str(folder)
    findings = [
        Finding("secrets-store", False, place, "secrets are not moved: put them anew with `gtc op secrets put`"),
        Finding("audit-log", False, place, "the audit log stays with what is put aside"),
    ]
    if os.environ.get("GREENTIC_ENV") == DEV:
        message = f"GREENTIC_ENV is 'dev': set it to '{target}'"
        findings.append(Finding("runtime-config", False, "GREENTIC_ENV", message))
    try:
        source = context.store.load(DEV).environment
    except GreenticError as error:
        return None, [*findings, Finding("local-fs-store", True, place, f"it cannot be read: {error.message}")]
    held = {
        "credentials": int(source.credentials_ref is not None),
        "deployments": len(source.bundles),
        "revisions": len(source.revisions),
        "traffic splits": len(source.traffic_splits),
        "messaging endpoints": len(source.messaging_endpoints),
    }
    for what, count in held.items():
        if count:
            findings.append(Finding("local-fs-store", True, place, f"it holds {count} {what}"))
    try:
        context.store.load(target)
    except NotFound:
        findings.append(Finding("local-fs-store", False, target, f"'{target}' does not exist and will be made"))
    if (folder / "revisions").is_dir() and any((folder / "revisions").iterdir()):
        findings.append(Finding("bundle-hint", False, place, "files of revisions stay with what is put aside"))
    return source, findings


def _answers_taken(context: Context, folder: Path, target: str, source: Environment) -> list[Path]:
    """Copy the answers of bindings to where the target's bindings will look for them; the files that are new."""
    taken: list[Path] = []
    place = context.store.artifacts(target)
    bound: tuple[PackBinding | ExtensionBinding, ...] = (*source.packs, *source.extensions)
    references = [one.answers_ref for one in bound if one.answers_ref]
    for reference in references if place.is_dir() else ():
        data = (folder / reference).read_bytes()
        copy = place / reference
        if copy.exists():
            if copy.read_bytes() != data:
                raise Conflict(f"{copy} exists with other answers", next_step="move it by hand")
            continue
        copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        copy.write_bytes(data)
        copy.chmod(0o600)
        taken.append(copy)
    if references and not place.is_dir():
        raise Conflict(
            f"the bindings of 'dev' have answers and '{target}' does not exist yet",
            next_step=f"gtc op env create {target}, then run this again",
        )
    return taken


def _merged(slots: tuple[str, ...], extensions: tuple[str, ...], aside: str | None) -> dict[str, Any]:
    return {"merged_slots": list(slots), "merged_extensions": list(extensions), "legacy_dir_renamed_to": aside}


def _put_aside(folder: Path, name: str) -> Path:
    aside = folder.with_name(name)
    if os.path.lexists(aside):
        raise Conflict(f"{aside} exists already", next_step="move it away, then run this again")
    try:
        folder.rename(aside)
    except OSError as error:
        raise InputOutput(f"{folder} cannot be renamed to {aside.name}: {error.strerror}") from None
    return aside


def _stamp(context: Context) -> str:
    return "".join(character for character in context.now() if character.isdigit())[:14]


def _leaves(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


class _locked:
    """Holds an advisory lock on a file; Conflict when somebody else does."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        import fcntl

        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise InputOutput(f"{self._path} cannot be made: {error.strerror}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise Conflict(f"another migration holds {self._path}", next_step="wait for it to end") from None

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
