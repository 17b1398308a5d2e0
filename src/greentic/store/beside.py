"""What stands beside an environment's document: which paths there are, and the files of a folder (`contract.Files`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from greentic.spec import policy_files
from greentic.spec.errors import Conflict, InvalidArgument
from greentic.store import folders
from greentic.store.contract import Files
from greentic.store.io import FileSystem, read

MAX_PATH = 1024
"""Characters of a path."""
_OURS = frozenset({folders.DOCUMENT, folders.LOCK, folders.AUDIT, folders.LEDGER, folders.BACKUPS})


def checked(path: str) -> str:
    """`path` as it was given; InvalidArgument unless it is relative and stays where it is."""
    parts = path.split("/")
    if len(path) > MAX_PATH or any(not part or part in {".", ".."} or set(part) & {"\\", "\0"} for part in parts):
        raise InvalidArgument(f"'{path[:80]}' is not a relative path of a file of an environment")
    return path


def writable(path: str) -> str:
    """As `checked`; InvalidArgument for what only the store itself writes."""
    if checked(path).split("/", 1)[0] in _OURS:
        raise InvalidArgument(f"'{path}' is written by the store alone")
    return path


def refuse_rewriting(path: str, present: bytes | None, data: bytes) -> None:
    """Conflict when `data` would take the place of a signed policy that says something else."""
    if present is not None and present != data and path.startswith(f"{policy_files.FOLDER}/"):
        raise Conflict(f"'{path}' is a signed policy, and those are only ever added", details={"reason": "append-only"})


class FolderFiles:
    """The files of the environment in `folder`, for reading."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, path: str) -> bytes | None:
        """The content of a file, None when there is none."""
        return read(self._folder / checked(path))

    def names(self, under: str) -> tuple[str, ...]:
        """The paths of all files below the folder `under`, in order."""
        place = self._folder / checked(under)
        found = (Path(where) / name for where, _, names in os.walk(place) for name in names)
        return tuple(sorted(PurePosixPath(one.relative_to(self._folder)).as_posix() for one in found))


class PendingFiles:
    """Files as an effect sees them that may change them: `files`, and over them what it changed (`changes`)."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.changes: dict[str, bytes | None] = {}

    def read(self, path: str) -> bytes | None:
        """The content of a file, None when there is none."""
        return self.changes[path] if path in self.changes else self._files.read(path)

    def names(self, under: str) -> tuple[str, ...]:
        """The paths of all files below a folder, in order."""
        begin = f"{under}/"
        found = {*self._files.names(under), *(path for path in self.changes if path.startswith(begin))}
        return tuple(sorted(path for path in found if self.changes.get(path, b"") is not None))

    def write(self, path: str, data: bytes) -> None:
        """Give the file `path` the content `data`; Conflict for a signed policy that says otherwise."""
        refuse_rewriting(path, self.read(writable(path)), data)
        self.changes[path] = data

    def remove(self, path: str) -> None:
        """Remove a file; Conflict for a signed policy."""
        refuse_rewriting(path, self.read(writable(path)), b"")
        self.changes[path] = None


def settle(files: FileSystem, folder: Path, changes: Mapping[str, bytes | None]) -> None:
    """Carry out `changes` in the environment's `folder`, each in one step and durable. OSError."""
    for path, data in changes.items():
        target = folder / path
        if data is None:
            with suppress(FileNotFoundError):
                files.unlink(target)
            continue
        here = folder
        for part in PurePosixPath(path).parts[:-1]:
            here = here / part
            folders.ensure(files, here)  # one by one: none of them may be a link
        folders.replace(files, folder, target, data)
