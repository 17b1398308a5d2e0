"""Environments on their way from one store to another: read whole, and written whole into a folder.

What moves is the record: the document with its generation, the audit log entry by entry, the keys that were used, the
files beside the document and the backups. What belongs to the machine where workers run (artifacts, secrets, keys of
routers, logs) stays there. The other end, a database, is `sql.moving`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, CorruptDocument, GreenticError, StoreError
from greentic.store import backup, chain, document, folders, lock
from greentic.store.beside import FolderFiles
from greentic.store.chain import Entry
from greentic.store.contract import Origin, Stored
from greentic.store.files import FilesStore
from greentic.store.ledger import Ledger
from greentic.store.segments import CURRENT

BESIDE = ("billing-policies", "env-packs", "extensions")
"""Folders beside the document that belong to the record."""
SINGLE = ("policy.json", "trust-root.json", "update-channel.json", "runtime.json")
_NOT_LOCAL = (*BESIDE, *SINGLE, folders.DOCUMENT, folders.LOCK, folders.AUDIT, folders.LEDGER, folders.BACKUPS)


@dataclass(frozen=True, slots=True)
class OldState:
    """A backup: when it was made, its generation, why, and the document."""

    created_at: datetime
    generation: int
    origin: Origin
    environment: Environment


@dataclass(frozen=True, slots=True)
class Whole:
    """An environment with all that is recorded of it. `ledger` are records as a folder's ledger has them, oldest
    first, at most one of a key; `skipped` names backups that cannot be read."""

    stored: Stored
    log: tuple[Entry, ...]
    files: Mapping[str, bytes]
    ledger: tuple[Mapping[str, Any], ...]
    backups: tuple[OldState, ...]
    skipped: tuple[str, ...] = ()

    @property
    def environment_id(self) -> str:
        """Its name."""
        return self.stored.environment.environment_id

    def counts(self) -> dict[str, Any]:
        """What is told of it."""
        return {
            "environment_id": self.environment_id,
            "generation": self.stored.generation,
            "etag": self.stored.etag,
            "audit_entries": len(self.log),
            "keys": len(self.ledger),
            "files": len(self.files),
            "backups": len(self.backups),
            "skipped": list(self.skipped),
        }


def read(store: FilesStore, environment_id: str, *, recover: bool) -> Whole:
    """The environment in a folder, its writers held off meanwhile; `recover`: an interrupted one's work is finished.

    CorruptDocument when the document or the audit log cannot be trusted: what moves is what holds.
    """
    folder = store.artifacts(environment_id)
    if recover:
        store.recover(environment_id)
    with lock.held(store.io, folder / folders.LOCK, "store import", lock.Patience()):
        stored = store.load(environment_id)
        report = store.audit(environment_id).verify()
        if report.finding is not None:
            raise CorruptDocument(
                f"the audit log of '{environment_id}' cannot be trusted: {report.finding.reason}",
                details={"environment_id": environment_id, "line": report.finding.line},
                next_step=f"gtc op audit verify --env {environment_id}",
            )
        files = FolderFiles(folder)
        paths = [path for place in BESIDE for path in files.names(place)]
        beside = {path: data for path in (*paths, *SINGLE) if (data := files.read(path)) is not None}
        old, skipped = [], []
        for kept in backup.kept(folder):
            path = folder / folders.BACKUPS / kept.name
            try:
                if kept.origin == "damaged":
                    raise CorruptDocument("it holds what could not be trusted")
                record = document.decode(backup.content(folder, kept.name), path, environment_id)
            except GreenticError:
                skipped.append(kept.name)
                continue
            old.append(OldState(kept.created_at, kept.generation, kept.origin, record.stored.environment))
        log = tuple(Entry(event) for event in store.audit(environment_id).events())
        return Whole(stored, log, beside, _keys(folder), tuple(old), tuple(skipped))


def write(store: FilesStore, whole: Whole, closing: Mapping[str, Any]) -> Stored:
    """Put the environment into a folder, all of it by one rename; `closing` is the audit event that says so.

    Conflict when something has its name there. StoreError when the folder cannot be written.
    """
    name = whole.environment_id
    target = folders.folder_of(store.root, name)
    if os.path.lexists(target):
        raise Conflict(f"there is something at {target} already", details={"environment_id": name})
    io = store.io
    store.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = Path(tempfile.mkdtemp(prefix=".greentic-", suffix=".tmp", dir=store.root))
    try:
        for path, data in whole.files.items():
            _put(store, draft, path, data)
        last = chain.link(closing, whole.log[-1] if whole.log else None)
        lines = [entry.line() for entry in (*whole.log, last)]
        _put(store, draft, f"{folders.AUDIT}/{CURRENT}", b"".join(lines))
        records = Ledger(io, draft / folders.LEDGER)
        for record in whole.ledger:
            records.append(record, datetime.fromisoformat(record["stored_at"]), sync=True)
        for old in whole.backups:
            body = document.body(old.environment, None)
            raw = document.encode(body, old.environment, old.generation, {}).raw
            _put(store, draft, f"{folders.BACKUPS}/{backup.name_of(old.created_at, old.generation, old.origin)}", raw)
        stored = whole.stored
        commit = {
            "key": f"store-import-{last.hash[:16]}",
            "fingerprint": "",
            "generation": stored.generation,
            "stored_at": closing["ts"],
            "result": {},
            "outcome": dict(last.event),
        }
        body = document.body(stored.environment, None)
        _put(store, draft, folders.DOCUMENT, document.encode(body, stored.environment, stored.generation, commit).raw)
        for place in [*draft.rglob("*"), draft]:
            if place.is_dir():
                io.sync_folder(place)
        io.rename(draft, target)
        io.sync_folder(store.root)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}", details={"path": str(target)}) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return store.recover(name)  # derived files


def local_part(folder: Path) -> tuple[str, ...]:
    """What stands in an environment's folder and belongs to the machine, not to the record; by name."""
    if not folder.is_dir():
        return ()
    names = sorted(path.name for path in folder.iterdir())
    return tuple(name for name in names if name not in _NOT_LOCAL and not name.startswith(".greentic-"))


def _put(store: FilesStore, draft: Path, path: str, data: bytes) -> None:
    target = draft / path
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folders.replace(store.io, draft, target, data, durable=False)


def _keys(folder: Path) -> tuple[Mapping[str, Any], ...]:
    """Every record of the ledger, oldest first, the newest of each key; a torn line at a file's end is none."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted((folder / folders.LEDGER).glob("*.jsonl")):
        for line in path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                continue
            with suppress(ValueError, TypeError, KeyError):
                record = from_json(line)
                found[record["key"]] = record
    return tuple(sorted(found.values(), key=lambda one: str(one["stored_at"])))
