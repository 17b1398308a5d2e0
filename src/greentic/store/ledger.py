"""The idempotency ledger: which keys were used, for what request, and what was answered.

Records are lines of `<env>/ledger/<xx>.jsonl`, where xx are the first two hex digits of the key's SHA-256. A look-up
reads one of 256 files, so its cost is that of 1/256 of the records of the retention time (some 300 for 10,000 changes a
day), found by a byte search without parsing the others. An append is one write; a crash leaves at most one torn line at
a file's end, which readers skip and the next append cuts. A file in which expired records outweigh is written anew.
A file of its own per key would need two syncs (file and folder) where this needs one, and an inode each.

A key is honoured for the retention time (seven days unless told otherwise) and forgotten exactly then, whether its line
still stands or not. The caller holds the environment's lock except for `find`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from greentic.spec.errors import StoreError
from greentic.store import folders
from greentic.store.clock import moment
from greentic.store.io import FileSystem, read, write_all

RETENTION = timedelta(days=7)
COMPACT_BYTES = 64 * 1024
FIELDS = ("key", "fingerprint", "generation", "stored_at", "result", "failure")


class Ledger:
    """The ledger of one environment, in `folder`."""

    def __init__(
        self, files: FileSystem, folder: Path, retention: timedelta = RETENTION, compact_bytes: int = COMPACT_BYTES
    ) -> None:
        self._files = files
        self._folder = folder
        self._retention = retention
        self._compact_bytes = compact_bytes

    def find(self, key: str, now: datetime) -> Mapping[str, Any] | None:
        """The record of `key`, None when it was not used within the retention time. Needs no lock."""
        path = self._path(key)
        data = read(path)
        if data is None:
            return None
        wanted = _prefix(key)
        at = data.rfind(b"\n" + wanted) + 1
        if at == 0 and not data.startswith(wanted):
            return None
        end = data.find(b"\n", at)
        if end < 0:
            return self._complete_before(data, wanted, at, now)
        record = _parse(data[at:end], path)
        return None if self.expired(record, now) else record

    def append(self, record: Mapping[str, Any], now: datetime, *, sync: bool) -> None:
        """Add `record` (its fields are FIELDS); with `sync` it is durable on return. OSError."""
        path = self._path(record["key"])
        line = b"".join((_prefix(record["key"]), to_json(_without_key(record))[1:], b"\n"))
        descriptor = self._opened(path)
        try:
            _cut_torn_end(self._files, descriptor, path)
            write_all(self._files, descriptor, line)
            if sync:
                self._files.sync(descriptor)
        finally:
            os.close(descriptor)
        self._compact(path, now)

    def sync(self, key: str) -> None:
        """Make the record of `key` durable. OSError."""
        with suppress(FileNotFoundError):
            descriptor = self._files.open_append(self._path(key))
            try:
                self._files.sync(descriptor)
            finally:
                os.close(descriptor)

    def expired(self, record: Mapping[str, Any], now: datetime) -> bool:
        """Whether the retention time of `record` is over."""
        return now - moment(record["stored_at"]) > self._retention

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:2]}.jsonl"

    def _opened(self, path: Path) -> int:
        try:
            return self._files.open_append(path)
        except FileNotFoundError:
            folders.ensure(self._files, self._folder)
            os.close(self._files.create(path))
            # Before the first record: from then on, syncing the file is enough to make a record durable.
            self._files.sync_folder(self._folder)
            return self._files.open_append(path)

    def _complete_before(self, data: bytes, wanted: bytes, torn: int, now: datetime) -> Mapping[str, Any] | None:
        at = data.rfind(b"\n" + wanted, 0, max(torn - 1, 0)) + 1
        if torn == 0 or (at == 0 and not data.startswith(wanted)):
            return None
        record = json.loads(data[at : data.find(b"\n", at)])
        return None if self.expired(record, now) else record

    def _compact(self, path: Path, now: datetime) -> None:
        """Write the file anew without expired records, when those are more than half of it.

        Records stand in the order of time, so the one in the middle tells.
        """
        size = path.stat().st_size
        if size < self._compact_bytes:
            return
        with path.open("rb") as file:
            file.seek(size // 2)
            file.readline()
            middle = file.readline()
            if not middle or not self.expired(_parse(middle, path), now):
                return
            file.seek(0)
            kept = [line for line in file if not self.expired(_parse(line, path), now)]
        folders.replace(self._files, self._folder.parent, path, b"".join(kept))


def record_of(commit: Mapping[str, Any]) -> dict[str, Any]:
    """The ledger's part of the transaction record in `environment.json`."""
    return {field: commit[field] for field in FIELDS if field in commit}


def _prefix(key: str) -> bytes:
    return b'{"key":' + to_json(key) + b","


def _without_key(record: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in record.items() if field != "key"}


def _parse(line: bytes, path: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
        moment(record["stored_at"])
    except (ValueError, TypeError, KeyError):
        raise StoreError(
            f"{path} holds a record that cannot be read", details={"path": str(path)}, next_step=f"remove {path}"
        ) from None
    return dict(record)


def _cut_torn_end(files: FileSystem, descriptor: int, path: Path) -> None:
    size = os.fstat(descriptor).st_size
    if size == 0:
        return
    with path.open("rb") as file:
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        files.truncate(descriptor, file.read().rfind(b"\n") + 1)
