"""What SQLite does to its files, call by call, and what a loss of power at any of them can leave.

The driver's own library is asked for its default VFS, whose `xOpen` and `xDelete` are replaced, and in the files that
it opens `xWrite`, `xTruncate` and `xSync`. So what is recorded are the calls of the very code that runs in production.
The shared-memory file is not recorded: SQLite makes it anew from the log.
"""

from __future__ import annotations

import ctypes
import random
import sqlite3  # noqa: F401 - loads the library that is looked for below
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p, cast
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Call:
    """One call: `write` of data at an offset, `truncate` to an offset, `sync`, `delete`, or `open` of a new file."""

    kind: Literal["open", "write", "truncate", "sync", "delete"]
    name: str
    offset: int = 0
    data: bytes = b""


class _Vfs(Structure):
    pass


_Open = CFUNCTYPE(c_int, POINTER(_Vfs), c_void_p, POINTER(c_void_p), c_int, c_void_p)
_Delete = CFUNCTYPE(c_int, POINTER(_Vfs), c_char_p, c_int)
_Vfs._fields_ = [
    ("version", c_int),
    ("size", c_int),
    ("longest", c_int),
    ("next", c_void_p),
    ("name", c_char_p),
    ("data", c_void_p),
    ("open", _Open),
    ("delete", _Delete),
]
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)


class _Methods(Structure):
    _fields_ = [
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", _Write),
        ("truncate", _Truncate),
        ("sync", _Sync),
        ("rest", c_void_p * 13),
    ]


def library() -> ctypes.CDLL:
    """The library that the driver uses; skipped loudly when it stands inside the driver."""
    loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libsqlite3" in line}
    if not loaded:
        pytest.skip("SQLite is built into this Python: its calls cannot be recorded, and no crash of it was tried")
    return ctypes.CDLL(loaded.pop())


@contextmanager
def recording(folder: Path) -> Iterator[list[Call]]:
    """Record what SQLite does in `folder` meanwhile."""
    found = library()
    found.sqlite3_vfs_find.restype = POINTER(_Vfs)
    vfs = found.sqlite3_vfs_find(None).contents
    calls: list[Call] = []
    names: dict[int, str] = {}
    tables: dict[int, tuple[_Methods, object]] = {}
    # By address: what a field gives follows the field, and would call itself once that is replaced.
    real_open, real_delete = (_Open(cast(vfs.open, c_void_p).value), _Delete(cast(vfs.delete, c_void_p).value))

    def watched(table: int) -> _Methods:
        if table not in tables:
            real = cast(table, POINTER(_Methods)).contents
            copy = _Methods.from_buffer_copy(real)
            write, truncate, sync = real.write, real.truncate, real.sync

            def on_write(file, data, size, offset):
                calls.append(Call("write", names[file], offset, ctypes.string_at(data, size)))
                return write(file, data, size, offset)

            def on_truncate(file, size):
                calls.append(Call("truncate", names[file], size))
                return truncate(file, size)

            def on_sync(file, flags):
                calls.append(Call("sync", names[file]))
                return sync(file, flags)

            kept = (_Write(on_write), _Truncate(on_truncate), _Sync(on_sync))
            copy.write, copy.truncate, copy.sync = kept
            tables[table] = (copy, kept)
        return tables[table][0]

    def on_open(this, name, file, flags, out):
        path = Path(ctypes.string_at(name).decode()) if name else None
        mine = path is not None and path.is_relative_to(folder)
        fresh = mine and not path.exists()
        status = real_open(this, name, file, flags, out)
        if status == 0 and mine:
            address = cast(file, c_void_p).value
            names[address] = str(path.relative_to(folder))
            file[0] = ctypes.addressof(watched(file[0]))
            if fresh:
                calls.append(Call("open", names[address]))
        return status

    def on_delete(this, name, durable):
        path = Path(name.decode())
        status = real_delete(this, name, durable)
        if status == 0 and path.is_relative_to(folder):
            calls.append(Call("delete", str(path.relative_to(folder))))
        return status

    mine = (_Open(on_open), _Delete(on_delete))
    vfs.open, vfs.delete = mine
    try:
        yield calls
    finally:
        vfs.open, vfs.delete = real_open, real_delete


Loss = Literal["nothing", "everything", "some", "torn"]


def image(before: dict[str, bytes], calls: Sequence[Call], loss: Loss, seed: int) -> dict[str, bytes]:
    """The files after `calls` and a loss of power: of what no sync came after, `loss` is lost.

    `torn`: some is lost, and of the last write some sectors are there and some are not.
    """
    chance = random.Random(seed)
    files = dict(before)
    pending: dict[str, list[Call]] = {}
    for call in calls:
        if call.kind == "sync":
            files[call.name] = _written(files.get(call.name, b""), pending.pop(call.name, []))
        elif call.kind == "delete":
            files.pop(call.name, None)
            pending.pop(call.name, None)
        else:
            pending.setdefault(call.name, []).append(call)
    last = calls[-1] if calls else None
    for name, left in pending.items():
        kept = left
        if loss == "everything":
            kept = []
        elif loss in {"some", "torn"}:
            kept = [call for call in left if chance.random() < 0.5]
        if loss == "torn" and last is not None and last.name == name and last.kind == "write":
            sectors = [at for at in range(0, len(last.data), SECTOR) if chance.random() < 0.5]
            kept = [call for call in kept if call is not last]
            kept += [Call("write", name, last.offset + at, last.data[at : at + SECTOR]) for at in sectors]
        if kept or name in files:
            files[name] = _written(files.get(name, b""), kept)
    return files


def _written(content: bytes, calls: Sequence[Call]) -> bytes:
    whole = bytearray(content)
    for call in calls:
        if call.kind == "truncate":
            del whole[call.offset :]
            whole.extend(b"\0" * (call.offset - len(whole)))
        elif call.kind == "write":
            if len(whole) < call.offset:
                whole.extend(b"\0" * (call.offset - len(whole)))
            whole[call.offset : call.offset + len(call.data)] = call.data
    return bytes(whole)
