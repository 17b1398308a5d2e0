"""Offline verification of an audit log."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greentic.store import segments
from greentic.store.chain import GENESIS, TRAILER, hash_of

_END = TRAILER + 1


@dataclass(frozen=True, slots=True)
class Head:
    """A number in the chain and the hash that its entry must have."""

    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class Finding:
    """The first bad entry: its file, its line there (from 1), and what is wrong."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a verification saw. `ok` when every entry links to the one before and the anchor, if any, was met."""

    entries: int
    segments: int
    first_sequence: int | None
    head: Head | None
    finding: Finding | None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.finding is None


def verify(path: Path, *, anchor: Head | None = None) -> AuditReport:
    """Check the log at `path` (an audit folder, or one file of it or of an export) entry by entry.

    Streams: memory does not grow with the log. Stops at the first bad entry; `entries` counts those before it.
    A whole folder must begin with entry 1; a single file may begin anywhere, and may end with a signed head. An
    unfinished last line is a finding: it is a torn write (the next change cuts and notes it) or a manipulation. That
    entries are missing at the end shows only against an `anchor`: a head known from elsewhere, such as the one in
    `environment.json` or a signed one.
    """
    whole = path.is_dir()
    files = segments.segments(path) if whole else [path]
    walk = Walk(GENESIS if whole else None, anchor)
    finding = next(filter(None, (walk.file(file) for file in files)), None)
    if finding is None and anchor is not None and not walk.anchored:
        last = files[-1].name if files else segments.CURRENT
        finding = Finding(last, walk.line, f"the log ends before entry {anchor.sequence}, which is known to exist")
    head = None if walk.sequence is None else Head(walk.sequence, walk.hash or GENESIS)
    return AuditReport(walk.entries, len(files), walk.first, head, finding)


class Walk:
    """The state of a verification, line by line. `genesis` None: the first line may be any entry."""

    def __init__(self, genesis: str | None, anchor: Head | None) -> None:
        self.hash = genesis
        self.sequence: int | None = None if genesis is None else 0
        self.first: int | None = None
        self.entries = 0
        self.line = 0
        self.anchored = False
        self._exported = genesis is None
        self._ended = False
        self._anchor = anchor
        self._anchored_at = None if anchor is None else anchor.sequence

    def file(self, path: Path) -> Finding | None:
        """Walk through one file; the first bad entry, None when there is none."""
        self.line = 0
        with path.open("rb") as file:
            for line in file:
                wrong = self.take(line)
                if wrong is not None:
                    return Finding(path.name, self.line, wrong)
        return None

    def take(self, line: bytes) -> str | None:
        """Look at the next line; what is wrong with it, None when nothing is."""
        self.line += 1
        if not self._ended and self._continues(line):
            return None
        value = _value(line)
        if self._exported and not self._ended and type(value) is dict and "payloadType" in value:
            self._ended = True  # the signed head; what it is worth is for those to say who know keys
            return None
        wrong = self._entry(line, value)
        return "it stands after the signed head, which ends an export" if self._ended else wrong

    def _continues(self, line: bytes) -> bool:
        """Whether `line` is, byte for byte as we write it, the entry that belongs here. The quick way: no parsing.

        Keys stand in canonical order, so nothing that a caller chose stands between objects before `previous_hash` and
        `sequence`: their first occurrences are those of the entry itself (quotes inside strings are escaped).
        """
        if self.sequence is None or self.hash is None or self.sequence + 1 == self._anchored_at:
            return False
        if line[-_END:-67] != b',"hash":"' or line[-3:] != b'"}\n':
            return False
        at = line.find(b'"previous_hash":"')
        if at < 0 or line[at + 17 : at + 81] != self.hash.encode():
            return False
        at = line.find(b',"sequence":', at)
        if at < 0 or not line.startswith(b"%d," % (self.sequence + 1), at + 12):
            return False
        found = hashlib.sha256(line[:-_END] + b"}").hexdigest()
        if found.encode() != line[-67:-3]:
            return False
        self.hash = found
        self.sequence += 1
        self.entries += 1
        if self.first is None:
            self.first = self.sequence
        return True

    def _entry(self, line: bytes, event: Any) -> str | None:
        if line[-1:] != b"\n":
            return "the line is not finished: a torn write, which the next change cuts and notes, or a cut by hand"
        if type(event) is not dict:
            return "it is not a JSON object"
        sequence, recorded = event.get("sequence"), event.get("hash")
        if recorded != hash_of(line[:-1], event):
            return "its hash does not match its content: it was altered"
        if type(sequence) is not int:
            return "it has no sequence number"
        if self.sequence is not None and sequence != self.sequence + 1:
            return f"it is entry {sequence}, not {self.sequence + 1}: entries are missing or out of order"
        if self.hash is not None and event.get("previous_hash") != self.hash:
            return "it does not continue the chain: the entry before it is not the one it was written after"
        self.sequence, self.hash = sequence, recorded
        if self.first is None:
            self.first = sequence
        if self._anchor is not None and sequence == self._anchor.sequence:
            if recorded != self._anchor.hash:
                return "it is not the entry that is known to stand here: the log was written anew"
            self.anchored = True
        self.entries += 1
        return None


def _value(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
