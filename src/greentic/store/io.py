"""The seam through which the store changes anything on disk.

Every system call that changes something goes through a `FileSystem`, so that a test can fail the n-th of them, cut a
write short, end the process at it, or lose what was not synced. Reading needs no seam: it changes nothing.
Nothing here follows a symbolic link in the last part of a path.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Protocol

from greentic.spec.errors import StoreError

FOLDER_MODE = 0o700
FILE_MODE = 0o600


class FileSystem(Protocol):
    """What the store does to a file system. Every method raises OSError and may be the last thing that happens."""

    def make_folder(self, path: Path) -> None:
        """Make one folder, readable by its owner alone."""
        ...

    def create(self, path: Path) -> int:
        """Open a file that must not exist yet for writing; the descriptor."""
        ...

    def open_append(self, path: Path) -> int:
        """Open an existing file for appending; the descriptor."""
        ...

    def write(self, descriptor: int, data: bytes) -> int:
        """Write some of `data`; how many bytes were taken."""
        ...

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file to `size` bytes."""
        ...

    def sync(self, descriptor: int) -> None:
        """Return when the file's content is on stable storage."""
        ...

    def sync_folder(self, path: Path) -> None:
        """Return when the folder's entries are on stable storage."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Give `source` the name `target` in one step, replacing what had it."""
        ...

    def link(self, source: Path, target: Path) -> None:
        """Give the file `source` a second name, which must be free."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        ...


class LocalFileSystem:
    """The real one (POSIX)."""

    def make_folder(self, path: Path) -> None:
        os.mkdir(path, FOLDER_MODE)  # noqa: PTH102 - one system call, nothing around it

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)

    def open_append(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)

    def write(self, descriptor: int, data: bytes) -> int:
        return os.write(descriptor, data)

    def truncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def sync_folder(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)  # noqa: PTH104

    def link(self, source: Path, target: Path) -> None:
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        os.unlink(path)  # noqa: PTH108


def write_all(files: FileSystem, descriptor: int, data: bytes) -> None:
    """Write the whole of `data`, however little each call takes; OSError when a call takes nothing."""
    view = memoryview(data)
    while view:
        taken = files.write(descriptor, bytes(view) if len(view) < len(data) else data)
        if taken <= 0:
            raise OSError(errno.EIO, "a write took nothing")
        view = view[taken:]


def read(path: Path) -> bytes | None:
    """The content of a regular file, None when there is none; StoreError when it is something else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise linked(path) from None
        raise StoreError(
            f"{path} cannot be read: {error.strerror}", details={"path": str(path), "errno": error.errno}
        ) from error
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - it is a descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StoreError(f"{path} is not a regular file", details={"path": str(path)})
        return file.readall()


def linked(path: Path) -> StoreError:
    """The refusal of a symbolic link where the store keeps its own files."""
    return StoreError(
        f"{path} is a symbolic link; the store keeps its files itself and follows none",
        details={"path": str(path)},
        next_step=f"remove the link, or name the folder it leads to: --store-root {path.parent.resolve()}",
    )
