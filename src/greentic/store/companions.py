"""Files that are committed together with a change: written before it, named by it, never overwritten.

A companion is whole and durable under its name before the rename that commits the change that names it. A crash before
that rename leaves companions that no state names. When a later change brings a file of the same name, what is left is
put aside (`<name>.<beginning of its SHA-256>.aside`), not overwritten: should it ever have been named, by a document
that somebody put back by hand, the evidence is still there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from greentic.spec.errors import InvalidArgument
from greentic.store import folders
from greentic.store.io import FileSystem, read

Companions = tuple[tuple[str, bytes], ...]
"""(path relative to the environment's folder, content) in the order of writing."""
_ASIDE = ".aside"


def place(files: FileSystem, folder: Path, companions: Companions) -> None:
    """Make each companion stand in the environment's `folder`, durable on return. OSError; StoreError for a link."""
    touched: dict[Path, None] = {}
    for path, data in companions:
        target = _target(files, folder, path)
        present = read(target)
        touched[target.parent] = None
        if present == data:
            continue
        source = folders.prepare(files, folder, target.name, data)
        if present is not None:
            files.rename(target, target.with_name(f"{target.name}.{hashlib.sha256(present).hexdigest()[:16]}{_ASIDE}"))
        files.rename(source, target)
    for parent in touched:
        files.sync_folder(parent)


def _target(files: FileSystem, folder: Path, path: str) -> Path:
    """Where the companion `path` goes, its folders made; InvalidArgument for a path that leaves the folder."""
    parts = PurePosixPath(path).parts
    if len(parts) < 2 or path.startswith("/") or ".." in parts:
        raise InvalidArgument(f"'{path}' is not a path in a folder of the environment")
    here = folder
    for name in parts[:-1]:
        here = here / name
        folders.ensure(files, here)  # one by one: none of them may be a link
    return here / parts[-1]
