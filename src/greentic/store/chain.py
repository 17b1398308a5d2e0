"""One entry of the audit log and how entries are linked.

An entry is an audit event (reference 01, section 1.16) with `sequence` (1, 2, 3 …), `previous_hash` (that of the entry
before; 64 zeros for the first) and `hash`: the hex SHA-256 of the entry's canonical JSON without `hash`. Any tool can
check that from the parsed values. A line of the log is that canonical JSON with `hash` added at its end, so that a
check of ours hashes the bytes as they stand instead of sorting and writing them anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from greentic.spec.integrity import canonical_json

SCHEMA = "greentic.audit.event.v1"
GENESIS = "0" * 64
TRAILER = len(',"hash":""}') + 64
"""How many bytes of a line, without its newline, `hash` takes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A linked entry. `event` holds all its fields, `hash` included."""

    event: Mapping[str, Any]

    @property
    def sequence(self) -> int:
        """Its number in the chain."""
        return int(self.event["sequence"])

    @property
    def hash(self) -> str:
        """What the next entry refers to."""
        return str(self.event["hash"])

    @property
    def is_intent(self) -> bool:
        """Whether it announces an attempt, rather than saying how one ended."""
        return self.event.get("phase") == "intent"

    @property
    def generation(self) -> int:
        """The environment's generation after it, as far as it says; 0 when it does not."""
        named = (self.event.get("new_generation"), self.event.get("previous_generation"))
        return max((value for value in named if isinstance(value, int)), default=0)

    def line(self) -> bytes:
        """The entry as a line of the log, with its newline."""
        unsealed = canonical_json({key: value for key, value in self.event.items() if key != "hash"})
        return b"".join((unsealed[:-1], b',"hash":"', self.hash.encode(), b'"}\n'))


def link(event: Mapping[str, Any], after: Entry | None) -> Entry:
    """`event` as the entry that follows `after` (None: as the first)."""
    linked = {
        **event,
        "sequence": 1 if after is None else after.sequence + 1,
        "previous_hash": GENESIS if after is None else after.hash,
    }
    return Entry({**linked, "hash": hashlib.sha256(canonical_json(linked)).hexdigest()})


def linked_line(event: Mapping[str, Any], sequence: int, previous_hash: str) -> tuple[Entry, bytes]:
    """`event` as entry `sequence` after the one with `previous_hash`, and its line; as `link`, written once."""
    linked = {**event, "sequence": sequence, "previous_hash": previous_hash}
    unsealed = canonical_json(linked)
    hash = hashlib.sha256(unsealed).hexdigest()
    return Entry({**linked, "hash": hash}), b"".join((unsealed[:-1], b',"hash":"', hash.encode(), b'"}\n'))


def hash_of(line: bytes, event: Mapping[str, Any]) -> str:
    """The hash that the entry in `line` (without newline) ought to have."""
    if line[-TRAILER:-66] == b',"hash":"':
        return hashlib.sha256(line[:-TRAILER] + b"}").hexdigest()
    return hashlib.sha256(canonical_json({key: value for key, value in event.items() if key != "hash"})).hexdigest()
