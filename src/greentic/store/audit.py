"""The audit log of an environment: an intent before, an outcome after, one hash chain.

`AuditLog` is the writer; it is used under the environment's lock only. `AuditTrail` reads without a lock. `verify` is
offline and needs nothing but the files.

A write is one system call, so a crash leaves at most one torn line, at the end; the next writer cuts it and says so in
an entry of its own. A line that is not JSON cannot be linked to and is treated the same way, its size and digest noted.
A well-formed line is never cut, right or wrong: judging it is the business of `verify`.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from greentic.store import chain, folders
from greentic.store.chain import Entry
from greentic.store.io import FileSystem, write_all
from greentic.store.segments import CURRENT, closed_name, lines_backwards, parse, segments
from greentic.store.verification import AuditReport, Head, verify

__all__ = ["AuditLog", "AuditReport", "AuditTrail", "Cut", "Head", "verify"]

SEGMENT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cut:
    """What a recovery took from the end of the log: `size` bytes with the SHA-256 `digest`."""

    size: int
    digest: str


class AuditLog:
    """The writing end of `<env>/audit`. The caller holds the environment's lock until `close`."""

    def __init__(self, files: FileSystem, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._files = files
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._descriptor: int | None = None
        self.head: Entry | None = None

    def recover(self) -> Cut | None:
        """Find the head of the chain, cutting what a crash left unfinished behind it. OSError."""
        folders.exists(self._folder)
        existing = segments(self._folder)
        cut: Cut | None = None
        if existing and existing[-1].name == CURRENT:
            folders.regular(existing[-1])
            cut = self._cut(existing[-1])
        self.head = next((entry for path in reversed(existing) if (entry := _last(path)) is not None), None)
        return cut

    def append(self, entries: Sequence[Entry], *, sync: bool) -> None:
        """Add linked entries in one write; with `sync`, they and all before them are durable on return. OSError.

        A failure that leaves part of a line behind is undone as far as that is possible; otherwise `recover` undoes it.
        """
        descriptor = self._opened()
        size = os.fstat(descriptor).st_size
        try:
            write_all(self._files, descriptor, b"".join(entry.line() for entry in entries))
            if sync:
                self._files.sync(descriptor)
        except OSError:
            with suppress(OSError):
                self._files.truncate(descriptor, size)
            raise
        self.head = entries[-1]

    def link(self, event: Mapping[str, Any]) -> Entry:
        """`event` as the entry that would follow the head."""
        return chain.link(event, self.head)

    def rotate(self) -> None:
        """Close the current segment when it is large. Durable before anything is written to the next. OSError."""
        descriptor = self._opened()
        if os.fstat(descriptor).st_size < self._segment_bytes:
            return
        path = self._folder / CURRENT
        with path.open("rb") as file:
            first = parse(file.readline())
        if first is None:
            return
        self._files.sync(descriptor)
        self.close()
        self._files.rename(path, self._folder / closed_name(first.sequence))
        self._files.sync_folder(self._folder)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _opened(self) -> int:
        if self._descriptor is None:
            path = self._folder / CURRENT
            try:
                self._descriptor = self._files.open_append(path)
            except FileNotFoundError:
                folders.ensure(self._files, self._folder)
                os.close(self._files.create(path))
                self._files.sync_folder(self._folder)
                self._descriptor = self._files.open_append(path)
        return self._descriptor

    def _cut(self, path: Path) -> Cut | None:
        size = path.stat().st_size
        keep = 0
        for offset, line in lines_backwards(path):
            if line.endswith(b"\n") and parse(line) is not None:
                keep = offset + len(line)
                break
        if keep == size:
            return None
        with path.open("rb") as file:
            file.seek(keep)
            lost = Cut(size - keep, hashlib.file_digest(file, "sha256").hexdigest())
        self._files.truncate(self._opened(), keep)
        return lost


class AuditTrail:
    """The reading end of an environment's audit log. Takes no lock; an unfinished last line is not seen."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tail(self, count: int) -> tuple[Mapping[str, Any], ...]:
        """The newest `count` entries, oldest first."""
        return tuple(entry.event for entry in self.heads(count))

    def heads(self, count: int) -> tuple[Entry, ...]:
        """The newest `count` entries with their place in the chain, oldest first."""
        found: deque[Entry] = deque()
        for path in reversed(segments(self._folder)):
            for _, line in lines_backwards(path):
                if len(found) >= count:
                    return tuple(found)
                if line.endswith(b"\n") and (entry := parse(line)) is not None:
                    found.appendleft(entry)
        return tuple(found)

    def events(self, since_sequence: int = 0) -> Iterator[Mapping[str, Any]]:
        """The entries after number `since_sequence`, oldest first; segments that end before it are not read."""
        existing = segments(self._folder)
        for path, following in zip(existing, [*existing[1:], None], strict=True):
            first = None if following is None else _first(following)
            if first is not None and first.sequence <= since_sequence + 1:
                continue
            with path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n") and (entry := parse(line)) is not None and entry.sequence > since_sequence:
                        yield entry.event

    def export(self, target: BinaryIO, since_sequence: int = 0) -> int:
        """Write the entries after number `since_sequence` as lines that `verify` accepts; how many."""
        count = 0
        for event in self.events(since_sequence):
            target.write(Entry(event).line())
            count += 1
        return count

    def verify(self, anchor: Head | None = None) -> AuditReport:
        """Check the whole chain, see `verify`."""
        return verify(self._folder, anchor=anchor)


def _last(path: Path) -> Entry | None:
    return next((entry for _, line in lines_backwards(path) if (entry := parse(line)) is not None), None)


def _first(path: Path) -> Entry | None:
    with path.open("rb") as file:
        return parse(file.readline())
