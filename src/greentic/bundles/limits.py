"""How much an archive may ask of the machine that opens it."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one bundle, its packs included: entries and bytes of nested packs count toward the same totals.

    - `max_archive_bytes`: bytes of the archive file itself. The reference caps downloads at the same 512 MiB
      (reference 04, section 4.3).
    - `max_entries`: number of entries (files, directories, and format records such as pax headers).
    - `max_entry_bytes`: uncompressed bytes of one entry.
    - `max_total_bytes`: uncompressed bytes of all entries. A pack counts as a file and again by what it holds, because
      both are written.
    - `max_ratio`: uncompressed bytes per compressed byte, checked while reading; within the first `ratio_floor_bytes`
      uncompressed bytes it is not checked, because small files of zeros compress well and harm nobody.
    - `max_depth`: segments of a path.
    """

    max_archive_bytes: int = 512 * MIB
    max_entries: int = 100_000
    max_entry_bytes: int = 1024 * MIB
    max_total_bytes: int = 4096 * MIB
    max_ratio: int = 200
    ratio_floor_bytes: int = 16 * MIB
    max_depth: int = 64


MAX_NAME_BYTES = 255
"""Bytes of one path segment: NAME_MAX of the file systems of Linux and macOS."""

MAX_PATH_BYTES = 4096
"""Bytes of a path inside an archive: PATH_MAX of Linux."""

MAX_ZSTD_WINDOW_BYTES = 128 * MIB
"""Bytes of window a zstd frame may ask for: what `zstd` itself accepts without being told more."""
