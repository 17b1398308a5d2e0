"""What every archive format is read as: a sequence of entries."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass

CHUNK_BYTES = 128 * 1024
"""Bytes moved at a time, when the format leaves the choice."""


class Kind(enum.Enum):
    """What an entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    SPECIAL = "special"
    """A device, FIFO or socket."""


def _nothing() -> Iterator[bytes]:
    return iter(())


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as the archive states it; nothing here has been judged.

    - `name`: the bytes of its path, without the slash that some formats put behind a directory.
    - `size`: uncompressed bytes, as declared.
    - `executable`: whether its owner may execute it. No other mode bit is ever taken over.
    - `target`: what a link points at.
    - `compressed_size`: bytes it takes in the archive, where the format says so per entry.
    - `content`: starts the stream of a file. It may be called once, and is used up before the next entry is asked for.
    """

    name: bytes
    kind: Kind
    size: int = 0
    executable: bool = False
    target: bytes = b""
    compressed_size: int | None = None
    content: Callable[[], Iterator[bytes]] = _nothing
