"""The folder of an environment: its name, its files, and that it really is a folder of ours."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from greentic.spec.errors import StoreError
from greentic.spec.identifiers import environment_id as checked
from greentic.store.io import FileSystem, linked, write_all

DOCUMENT = "environment.json"
RUNTIME = "runtime-config.json"
LOCK = ".lock"
AUDIT = "audit"
LEDGER = "ledger"
BACKUPS = "backups"
_TEMPORARY = ".greentic-"
_SUFFIX = ".tmp"


def folder_of(root: Path, environment_id: str) -> Path:
    """Where `environment_id` lives under `root`; InvalidArgument for a name that cannot be a folder of ours."""
    return root / checked(environment_id)


def exists(folder: Path) -> bool:
    """Whether there is a folder; StoreError when something else, or a symbolic link, has its name."""
    try:
        mode = os.lstat(folder).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISLNK(mode):
        raise linked(folder)
    if not stat.S_ISDIR(mode):
        raise StoreError(f"{folder} is not a folder", details={"path": str(folder)})
    return True


def regular(path: Path) -> None:
    """StoreError unless `path` is a regular file, reached without a symbolic link."""
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        raise linked(path)
    if not stat.S_ISREG(mode):
        raise StoreError(f"{path} is not a regular file", details={"path": str(path)})


def ensure(files: FileSystem, folder: Path) -> None:
    """Make `folder` and the folders above it that are missing, each durable before the next is made."""
    if exists(folder):
        return
    if not folder.parent.exists():
        ensure(files, folder.parent)
    with suppress(FileExistsError):  # another writer was first
        files.make_folder(folder)
    files.sync_folder(folder.parent)


def replace(files: FileSystem, folder: Path, target: Path, data: bytes, *, durable: bool = True) -> None:
    """Give `target`, in or under the environment's `folder`, the content `data` in one step.

    The old content stays when anything fails (OSError). With `durable` the new name is on stable storage when this
    returns; without, the content is but the name may not be.
    """
    source = prepare(files, folder, target.name, data)
    try:
        files.rename(source, target)
    except OSError:
        with suppress(OSError):
            files.unlink(source)
        raise
    if durable:
        files.sync_folder(target.parent)


def prepare(files: FileSystem, folder: Path, name: str, data: bytes) -> Path:
    """A synced temporary file in the environment's `folder`, where `sweep` looks; none is left by an OSError."""
    source = folder / f"{_TEMPORARY}{name}.{secrets.token_hex(8)}{_SUFFIX}"
    descriptor = files.create(source)
    try:
        try:
            write_all(files, descriptor, data)
            files.sync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        with suppress(OSError):
            files.unlink(source)
        raise
    return source


def sweep(files: FileSystem, folder: Path) -> None:
    """Remove the temporary files that a dead writer left. The caller holds the environment's lock."""
    with os.scandir(folder) as entries:
        left = [entry.name for entry in entries if entry.name.startswith(_TEMPORARY) and entry.name.endswith(_SUFFIX)]
    for name in left:
        files.unlink(folder / name)
