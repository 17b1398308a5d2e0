"""What stands beside an environment's document: which paths there are, and the files of a folder (`contract.Files`)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path, PurePosixPath

from greentic.spec import policy_files
from greentic.spec.errors import Conflict, InvalidArgument
from greentic.store import folders
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


class WritableFolderFiles(FolderFiles):
    """The same for an effect that holds the environment's lock. A write is durable when it returns."""

    def __init__(self, files: FileSystem, folder: Path) -> None:
        super().__init__(folder)
        self._files = files

    def write(self, path: str, data: bytes) -> None:
        """Give the file `path` the content `data`, in one step. OSError."""
        target = self._folder / writable(path)
        refuse_rewriting(path, read(target), data)
        here = self._folder
        for part in PurePosixPath(path).parts[:-1]:
            here = here / part
            folders.ensure(self._files, here)  # one by one: none of them may be a link
        folders.replace(self._files, self._folder, target, data)

    def remove(self, path: str) -> None:
        """Remove a file; none is no error. OSError."""
        with suppress(FileNotFoundError):
            self._files.unlink(self._folder / writable(path))
