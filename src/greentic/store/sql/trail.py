"""The audit log of an environment in a database, for reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from greentic.store.chain import GENESIS, Entry
from greentic.store.segments import parse
from greentic.store.sql.database import Database, blob
from greentic.store.verification import AuditReport, Finding, Head, Walk

_PAGE = 500
PLACE = "audit"


class SqlTrail:
    """The reading end; `contract.Trail`. Reads in pages, so that memory does not grow with the log."""

    def __init__(self, database: Database, environment_id: str) -> None:
        self._database = database
        self._environment_id = environment_id

    def tail(self, count: int) -> tuple[Mapping[str, Any], ...]:
        """The newest `count` entries, oldest first."""
        return tuple(entry.event for entry in self.heads(count))

    def heads(self, count: int) -> tuple[Entry, ...]:
        """The newest `count` entries with their place in the chain, oldest first."""
        with self._database.reading() as connection:
            found = connection.query(
                "SELECT line FROM audit WHERE env_id = ? ORDER BY sequence DESC LIMIT ?", self._environment_id, count
            )
        entries = (parse(blob(line)) for (line,) in reversed(found))
        return tuple(entry for entry in entries if entry is not None)

    def events(self, since_sequence: int = 0) -> Iterator[Mapping[str, Any]]:
        """The entries after number `since_sequence`, oldest first."""
        for _, line in self._lines(since_sequence):
            entry = parse(line)
            if entry is not None:
                yield entry.event

    def export(self, target: BinaryIO, since_sequence: int = 0) -> int:
        """Write the entries after number `since_sequence` as lines that `verification.verify` accepts; how many."""
        count = 0
        for _, line in self._lines(since_sequence):
            target.write(line)
            count += 1
        return count

    def verify(self, anchor: Head | None = None) -> AuditReport:
        """Check the whole chain, from the oldest entry that is kept, and that it holds `anchor`."""
        with self._database.reading() as connection:
            told = connection.query("SELECT audit_from FROM environments WHERE env_id = ?", self._environment_id)
        first = int(told[0][0]) if told else 1
        walk = Walk(GENESIS if first == 1 else None, anchor)
        walk.line = first - 1
        if next(self._lines(0), (first, b""))[0] != first:
            return _report(walk, Finding(PLACE, first, f"the log does not begin with entry {first}, the oldest kept"))
        for sequence, line in self._lines(0):
            reason = walk.take(line)
            if reason is None and sequence != walk.sequence:
                reason = f"it stands in the place of entry {sequence}"
            if reason is not None:
                return _report(walk, Finding(PLACE, walk.line, reason))
        if anchor is not None and not walk.anchored:
            reason = f"the log ends before entry {anchor.sequence}, which is known to exist"
            return _report(walk, Finding(PLACE, walk.line, reason))
        return _report(walk, None)

    def _lines(self, since: int) -> Iterator[tuple[int, bytes]]:
        while True:
            with self._database.reading() as connection:
                found = connection.query(
                    "SELECT sequence, line FROM audit WHERE env_id = ? AND sequence > ? ORDER BY sequence LIMIT ?",
                    self._environment_id,
                    since,
                    _PAGE,
                )
            for sequence, line in found:
                yield sequence, blob(line)
            if len(found) < _PAGE:
                return
            since = found[-1][0]


def _report(walk: Walk, finding: Finding | None) -> AuditReport:
    head = None if walk.sequence is None else Head(walk.sequence, walk.hash or GENESIS)
    return AuditReport(walk.entries, 1 if walk.entries else 0, walk.first, head, finding)
