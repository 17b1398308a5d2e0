"""Header lines that were judged before: what a line says is a function of its bytes, and most lines repeat.

Even where no head repeats (another target, another Referer, another ETag), most of its lines do. A head whose lines are
all of the plain form below has one reading only, which llhttp takes too, and needs no parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import filterfalse
from typing import Final, NamedTuple

LINES_LIMIT: Final = 1024
"""Lines remembered by one process, of each direction; few enough to stay in the cache of a core."""
LINE_BYTES: Final = 1024
"""A longer line is judged every time."""

PLAIN: Final = re.compile(rb"([A-Za-z][A-Za-z0-9-]*): ([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)")
"""Narrower than RFC 9112 section 5: one blank, visible ASCII, nothing to trim and no empty value."""


def sorter(characters: bytes) -> bytes:
    """A table by which `translate` makes letters of `characters` and blanks of others: `isalpha` then says whether
    a text is of them alone, and not empty. The cheapest way to ask.
    """
    return bytes(0x61 if byte in characters else 0x20 for byte in range(256))


VISIBLE: Final = sorter(bytes(range(0x20, 0x7F)))


class Reserved(NamedTuple):
    """A line of a field that the router reads itself: the name in lower case, and the value."""

    line: bytes
    name: bytes
    value: bytes


class KnownLines:
    """The lines of one direction. `reserved` are the names, in lower case, of the fields that the router reads, and
    `prefixes` how the names of others begin that do not simply go on.
    """

    __slots__ = ("_names", "_passing", "_prefixes", "_reserved")

    def __init__(self, reserved: frozenset[bytes], prefixes: tuple[bytes, ...] = ()) -> None:
        self._names = reserved
        self._prefixes = prefixes
        self._passing: set[bytes] = set()
        self._reserved: dict[bytes, Reserved] = {}

    def reserved(self, lines: Iterable[bytes]) -> list[Reserved] | None:
        """Those of `lines` (without their ends) that the router reads; the others go on as they came. None when one is
        not plain, so that the parser has to read the head.
        """
        found: list[Reserved] = []
        for line in filterfalse(self._passing.__contains__, lines):
            known = self._reserved.get(line)
            if known is None:
                plain = PLAIN.fullmatch(line)
                if plain is None:
                    return None
                name, value = plain.groups()
                name = name.lower()
                if name not in self._names and not name.startswith(self._prefixes):
                    self._remember(line, None)
                    continue
                known = Reserved(line, name, value)
                self._remember(line, known)
            found.append(known)
        return found

    def _remember(self, line: bytes, reserved: Reserved | None) -> None:
        if len(line) > LINE_BYTES:
            return
        if len(self._passing) + len(self._reserved) >= LINES_LIMIT:
            self._passing.clear()
            self._reserved.clear()
        if reserved is None:
            self._passing.add(line)
        else:
            self._reserved[line] = reserved
