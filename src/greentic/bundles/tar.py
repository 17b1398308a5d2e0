"""Reading tar: ustar, pax and the long names of GNU tar (POSIX.1-2017 `pax`; GNU tar manual, "Basic Tar Format").

A reader of its own rather than `tarfile`, because a hostile archive must be judged by what it says: `tarfile` ends
silently at a damaged header, unfolds sparse maps, keeps whatever a pax header weighs in memory, and (before 3.11.14)
loops for ever on negative sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from greentic.bundles.admission import Budget
from greentic.bundles.entries import Entry, Kind
from greentic.bundles.limits import MAX_PATH_BYTES
from greentic.bundles.refusals import Rule, refusal, shown
from greentic.bundles.streams import Stream

BLOCK_BYTES = 512
_ZEROS = bytes(BLOCK_BYTES)
_MOST_RECORD_BYTES = 64 * 1024
"""Bytes of one pax or long-name record; a path is at most 4096 bytes, the rest is slack for attributes."""
_MOST_PADDING_BYTES = 1024 * 1024
"""Bytes of zeros behind the end: tar programs fill a record of some 10 KiB."""

_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.SPECIAL,
    b"4": Kind.SPECIAL,
    b"5": Kind.DIRECTORY,
    b"6": Kind.SPECIAL,
}
_PAX_RECORD = re.compile(rb"([1-9][0-9]{0,8}) ([^=\n\0]+)=")
_PAX_UTF8 = (b"ISO-IR 10646 2000 UTF-8", b"BINARY")


@dataclass(frozen=True, slots=True)
class _Header:
    name: bytes
    mode: int
    size: int
    typeflag: bytes
    target: bytes


def entries(stream: Stream, budget: Budget) -> Iterator[Entry]:
    """The entries of a tar stream. Raises BundleError at whatever is not plainly what it should be."""
    extended: dict[bytes, bytes] = {}
    while True:
        block = stream.exactly(BLOCK_BYTES)
        if block == _ZEROS:
            if extended:
                raise refusal(Rule.MALFORMED, "the tar archive ends behind an extended header")
            _expect_end(stream)
            return
        header = _parse(block)
        if header.typeflag in (b"x", b"g", b"L", b"K"):
            _merge(extended, header, _record(stream, header, budget))
            continue
        entry = _described(header, extended)
        extended = {}
        content = stream.pieces(entry.size) if entry.kind is Kind.FILE else iter(())
        yield Entry(
            name=entry.name,
            kind=entry.kind,
            size=entry.size,
            executable=entry.executable,
            target=entry.target,
            content=lambda content=content: content,  # type: ignore[misc]
        )
        for _ in content:
            pass
        stream.exactly(-entry.size % BLOCK_BYTES)


def _described(header: _Header, extended: dict[bytes, bytes]) -> Entry:
    """The entry that a header and the extended headers before it describe together."""
    name = extended.get(b"path", header.name)
    if header.typeflag == b"S" or any(key.startswith(b"GNU.sparse.") for key in extended):
        raise refusal(Rule.SPARSE_FILE, f"{shown(name)} is a sparse file", entry=name)
    kind = _KINDS.get(header.typeflag)
    if kind is None:
        raise refusal(
            Rule.UNSUPPORTED_FEATURE,
            f"{shown(name)} is of the tar type {shown(header.typeflag)!r}, which is not read",
            entry=name,
        )
    size = header.size
    # A pax size is for what 11 octal digits cannot hold, 8 GiB and more; below it can only contradict.
    if extended.get(b"size", b"%d" % size) != b"%d" % size:
        raise refusal(Rule.MALFORMED, f"{shown(name)} has two sizes", entry=name)
    if kind is Kind.DIRECTORY:
        name = name.removesuffix(b"/")
        if size:
            raise refusal(Rule.MALFORMED, f"the folder {shown(name)} has content", entry=name)
    return Entry(
        name=name,
        kind=kind,
        size=size,
        executable=bool(header.mode & 0o100),
        target=extended.get(b"linkpath", header.target),
    )


def _record(stream: Stream, header: _Header, budget: Budget) -> bytes:
    budget.count_entry(header.name)
    if header.size > _MOST_RECORD_BYTES:
        raise refusal(Rule.MALFORMED, f"an extended tar header has {header.size} bytes")
    budget.count_bytes(header.size, header.name)
    data = stream.exactly(header.size)
    stream.exactly(-header.size % BLOCK_BYTES)
    return data


def _merge(extended: dict[bytes, bytes], header: _Header, data: bytes) -> None:
    """Adds what an extended header says about the next entry; one that says a thing twice is refused."""
    if header.typeflag == b"g":
        # A global header may comment (git archive does); one that renames or resizes every later entry hides things.
        found = _pax(data)
        if any(key in (b"path", b"size", b"linkpath") or key.startswith(b"GNU.") for key in found):
            raise refusal(Rule.UNSUPPORTED_FEATURE, "a global pax header describes entries")
        return
    if header.typeflag == b"x":
        found = _pax(data)
    else:
        key = b"path" if header.typeflag == b"L" else b"linkpath"
        found = {key: data.removesuffix(b"\0")}
    if found.keys() & extended.keys():
        raise refusal(Rule.MALFORMED, "two extended tar headers describe the same thing of one entry")
    extended.update(found)


def _pax(data: bytes) -> dict[bytes, bytes]:
    """The records of a pax header: `<length> <key>=<value>\\n`."""
    found: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        match = _PAX_RECORD.match(data, position)
        end = position + int(match[1]) if match else 0
        if not match or end > len(data) or end <= match.end() or data[end - 1 : end] != b"\n":
            raise refusal(Rule.MALFORMED, "a pax header cannot be read")
        key = match[2]
        if key in found:
            raise refusal(Rule.MALFORMED, f"a pax header has {shown(key)} twice")
        found[key] = data[match.end() : end - 1]
        position = end
    if found.pop(b"hdrcharset", _PAX_UTF8[0]) not in _PAX_UTF8:
        raise refusal(Rule.UNSUPPORTED_FEATURE, "a pax header is not in UTF-8")
    return found


def _parse(block: bytes) -> _Header:
    checksum = _number(block[148:156], "checksum")
    if checksum != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise refusal(Rule.MALFORMED, "a tar header does not match its checksum")
    magic = block[257:265]
    if magic not in (b"ustar\x0000", b"ustar  \0"):
        raise refusal(Rule.MALFORMED, "a tar header is neither ustar nor GNU")
    name = _text(block[0:100], "name")
    prefix = _text(block[345:500], "prefix") if magic == b"ustar\x0000" else b""
    return _Header(
        name=prefix + b"/" + name if prefix else name,
        mode=_number(block[100:108], "mode"),
        size=_number(block[124:136], "size"),
        typeflag=block[156:157],
        target=_text(block[157:257], "link target"),
    )


def _text(field: bytes, what: str) -> bytes:
    text, _, rest = field.partition(b"\0")
    if rest.strip(b"\0"):
        raise refusal(Rule.MALFORMED, f"the {what} of a tar header goes on behind its end")
    return text


def _number(field: bytes, what: str) -> int:
    if field[0] == 0x80:
        # GNU base-256, for what octal digits cannot hold; the sign bit (0xff) is refused below as it is no digit.
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]*", digits):
        raise refusal(Rule.MALFORMED, f"the {what} of a tar header is not a number")
    return int(digits or b"0", 8)


def _expect_end(stream: Stream) -> None:
    if stream.exactly(BLOCK_BYTES) != _ZEROS:
        raise refusal(Rule.MALFORMED, "the tar archive ends with one empty block instead of two")
    padding = 0
    while rest := stream.some(BLOCK_BYTES):
        padding += len(rest)
        if rest.strip(b"\0") or padding > _MOST_PADDING_BYTES:
            raise refusal(Rule.TRAILING_DATA, "something stands behind the end of the tar archive")


assert MAX_PATH_BYTES < _MOST_RECORD_BYTES
