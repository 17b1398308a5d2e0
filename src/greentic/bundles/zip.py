"""Reading zip (PKWARE APPNOTE 6.3.10), with the central directory judged before `zipfile` sees it.

`zipfile` loads a central directory of any length, takes names at their word and tolerates bytes before the archive;
the scan here bounds the count, insists that the file is exactly one archive, and that no two entries share bytes.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from greentic.bundles.admission import Budget
from greentic.bundles.entries import CHUNK_BYTES, Entry, Kind
from greentic.bundles.limits import MAX_PATH_BYTES, Limits
from greentic.bundles.refusals import Rule, reading, refusal, shown

_END = struct.Struct("<4s4H2LH")
_CENTRAL = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s2B4HL2L2H")
_MOST_COMMENT_BYTES = 65535
_ENCRYPTED = 0x1 | 0x40
_UTF8 = 0x800
_STORED, _DEFLATED = 0, 8


@dataclass(frozen=True, slots=True)
class _Directory:
    """Where the central directory stands, in bytes from the start of the file."""

    offset: int
    size: int
    count: int


@dataclass(frozen=True, slots=True)
class _Record:
    """What the central directory says of one entry."""

    name: bytes
    flags: int
    method: int
    compressed_size: int
    size: int
    mode: int
    offset: int


def entries(file: BinaryIO, limits: Limits, budget: Budget) -> Iterator[Entry]:
    """The entries of a zip archive. Raises BundleError at whatever is not plainly what it should be."""
    import zipfile

    with reading("zip archive"):
        directory = _find(file)
        records = _scan(file, directory, limits, budget)
        _refuse_overlaps(file, records, directory)
        file.seek(0)
        archive = zipfile.ZipFile(file)
        members = archive.infolist()
        if len(members) != len(records):
            raise refusal(Rule.MALFORMED, "the zip archive's directory can be read in two ways")
    for record, member in zip(records, members, strict=True):
        yield _entry(archive, member, record)


def _entry(archive: object, member: object, record: _Record) -> Entry:
    kind = _kind(record)

    def content() -> Iterator[bytes]:
        with reading("zip archive"), archive.open(member) as stream:  # type: ignore[attr-defined]
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk

    target = b""
    if kind is Kind.SYMLINK and record.size <= MAX_PATH_BYTES:
        target = b"".join(content())
    if kind is Kind.DIRECTORY and record.size:
        raise refusal(Rule.MALFORMED, f"the folder {shown(record.name)} has content", entry=record.name)
    return Entry(
        name=record.name.removesuffix(b"/") if kind is Kind.DIRECTORY else record.name,
        kind=kind,
        size=record.size,
        executable=bool(record.mode & 0o100),
        target=target,
        compressed_size=record.compressed_size,
        content=content,
    )


def _kind(record: _Record) -> Kind:
    """From the Unix mode where there is one, else from the trailing slash (APPNOTE 4.4.17)."""
    form = stat.S_IFMT(record.mode)
    if form == 0:
        return Kind.DIRECTORY if record.name.endswith(b"/") else Kind.FILE
    return {
        stat.S_IFREG: Kind.FILE,
        stat.S_IFDIR: Kind.DIRECTORY,
        stat.S_IFLNK: Kind.SYMLINK,
    }.get(form, Kind.SPECIAL)


def _find(file: BinaryIO) -> _Directory:
    """The end record, which must end the file."""
    length = file.seek(0, 2)
    start = max(0, length - _END.size - _MOST_COMMENT_BYTES)
    file.seek(start)
    tail = file.read()
    position = len(tail) - _END.size
    if position < 0 or tail[position : position + 4] != b"PK\5\6":
        position = tail.rfind(b"PK\5\6")
    if position < 0 or position + _END.size > len(tail):
        raise refusal(Rule.MALFORMED, "the zip archive has no end record; it may be cut short")
    _, disk, first_disk, count_here, count, size, offset, comment = _END.unpack_from(tail, position)
    if position + _END.size + comment != len(tail):
        raise refusal(Rule.TRAILING_DATA, "something stands behind the zip archive")
    if (
        tail[max(0, position - 20) : position].startswith(b"PK\6\7")
        or 0xFFFF in (count, disk)
        or 0xFFFFFFFF in (size, offset)
    ):
        raise refusal(Rule.UNSUPPORTED_FEATURE, "ZIP64 is not read; no bundle within its limits needs it")
    if disk or first_disk or count_here != count:
        raise refusal(Rule.UNSUPPORTED_FEATURE, "the zip archive is one part of several")
    if offset + size != start + position:
        raise refusal(Rule.TRAILING_DATA, "the zip archive holds bytes that belong to nothing")
    return _Directory(offset=offset, size=size, count=count)


def _scan(file: BinaryIO, directory: _Directory, limits: Limits, budget: Budget) -> list[_Record]:
    if directory.count > limits.max_entries - budget.entries:
        raise refusal(
            Rule.TOO_MANY_ENTRIES,
            f"the archive has more than {limits.max_entries} entries",
            limit=limits.max_entries,
        )
    records: list[_Record] = []
    file.seek(directory.offset)
    left = directory.size
    for _ in range(directory.count):
        fields = _CENTRAL.unpack(file.read(_CENTRAL.size))
        if fields[0] != b"PK\1\2":
            raise refusal(Rule.MALFORMED, "the zip archive's directory cannot be read")
        flags, method, compressed_size, size = fields[5], fields[6], fields[10], fields[11]
        name_length, extra_length, comment_length = fields[12:15]
        name = file.read(name_length)
        file.seek(extra_length + comment_length, 1)
        left -= _CENTRAL.size + name_length + extra_length + comment_length
        if flags & _ENCRYPTED:
            raise refusal(Rule.ENCRYPTED, f"{shown(name)} is encrypted", entry=name)
        if flags & _UTF8 and not _is_utf8(name):
            raise refusal(Rule.NAME_NOT_UTF8, f"the name {shown(name)} is not UTF-8", entry=name)
        if method not in (_STORED, _DEFLATED):
            raise refusal(
                Rule.UNSUPPORTED_FEATURE,
                f"{shown(name)} is compressed by method {method}; stored and deflated are read",
                entry=name,
            )
        if method == _STORED and size != compressed_size:
            raise refusal(Rule.MALFORMED, f"{shown(name)} is stored with two sizes", entry=name)
        records.append(_Record(name, flags, method, compressed_size, size, fields[17] >> 16, fields[18]))
    if left:
        raise refusal(Rule.MALFORMED, "the zip archive's directory is not as long as it says")
    return records


def _refuse_overlaps(file: BinaryIO, records: list[_Record], directory: _Directory) -> None:
    """Entries that share bytes are how a small zip becomes a huge one (D. Fifield, "A better zip bomb", 2019)."""
    end = 0
    for record in sorted(records, key=lambda record: record.offset):
        if record.offset < end:
            raise refusal(Rule.MALFORMED, f"{shown(record.name)} shares its bytes with another", entry=record.name)
        file.seek(record.offset)
        local = _LOCAL.unpack(file.read(_LOCAL.size))
        name_length, extra_length = local[10:12]
        if local[0] != b"PK\3\4" or file.read(name_length) != record.name:
            raise refusal(Rule.MALFORMED, f"{shown(record.name)} is described in two ways", entry=record.name)
        end = record.offset + _LOCAL.size + name_length + extra_length + record.compressed_size
    if end > directory.offset:
        raise refusal(Rule.MALFORMED, "an entry of the zip archive reaches into its directory")


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
