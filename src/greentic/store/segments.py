"""The files of an audit log: `events.jsonl` grows; when it is large it becomes `events-<first sequence>.jsonl`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from greentic.store.chain import Entry

CURRENT = "events.jsonl"
_CLOSED = re.compile(r"events-(\d+)\.jsonl")
_CHUNK = 64 * 1024


def segments(folder: Path) -> list[Path]:
    """The existing files of the log in the order of their entries."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names, not paths
    except (FileNotFoundError, NotADirectoryError):
        return []
    closed = sorted((int(match[1]), name) for name in names if (match := _CLOSED.fullmatch(name)))
    return [folder / name for _, name in closed] + ([folder / CURRENT] if CURRENT in names else [])


def closed_name(first_sequence: int) -> str:
    """The name of a closed segment."""
    return f"events-{first_sequence}.jsonl"


def parse(line: bytes) -> Entry | None:
    """The entry in `line`; None when it is none."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("hash"), str):
        return None
    return Entry(event) if isinstance(event.get("sequence"), int) else None


def lines_backwards(path: Path, size: int | None = None) -> Iterator[tuple[int, bytes]]:
    """(offset, line with its newline) from the last to the first, of the first `size` bytes.

    The very first may lack its newline: a torn write. Reads as much as is asked for, whatever the file's size.
    """
    with path.open("rb", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size if size is None else size
        rest, position = b"", end
        while position > 0:
            length = min(_CHUNK, position)
            position -= length
            rest = os.pread(file.fileno(), length, position) + rest
            # A newline that ends a line begins the next one; what precedes the first newline may be incomplete.
            while (cut := rest.rfind(b"\n", 0, len(rest) - 1)) >= 0:
                yield position + cut + 1, rest[cut + 1 :]
                rest = rest[: cut + 1]
        if rest:
            yield 0, rest
