"""`audit/head.json`: the newest signed head of the audit log, beside the log.

Whoever signs it is none of the store's business: a `Seal` makes the bytes, or says that there is nobody to sign. The
file is written after a change is committed; that it is missing or old is no fault of the change.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from greentic.spec.environment import Environment
from greentic.store import folders
from greentic.store.io import FileSystem
from greentic.store.io import read as read_file

FILE = "head.json"
Seal = Callable[[Environment, int, str, str], bytes | None]
"""(the environment after the change, sequence and hash of the change's outcome, the time in RFC 3339) -> the signed
head, None when nobody can sign here. Raises GreenticError."""


def nobody(_environment: Environment, _sequence: int, _hash: str, _now: str) -> None:
    """A `Seal` where nobody signs."""
    return


def write(files: FileSystem, folder: Path, data: bytes) -> None:
    """Make `data` the signed head of the environment in `folder`. The caller holds its lock. OSError."""
    folders.replace(files, folder, folder / folders.AUDIT / FILE, data, durable=False)


def read(folder: Path) -> bytes | None:
    """The signed head of the environment in `folder`, None when there is none; StoreError for what is no file."""
    return read_file(folder / folders.AUDIT / FILE)
