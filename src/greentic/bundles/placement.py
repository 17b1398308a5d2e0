"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from greentic.spec.errors import Conflict, InputOutput


@contextlib.contextmanager
def file_system(what: str, path: Path) -> Iterator[None]:
    """Turns a failure of the file system into InputOutput."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputOutput(f"{what} failed: {reason}", details={"path": str(path), "reason": reason}) from error


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the name `path`, replacing what had it, when the block ends well, and vanishes otherwise.

    The content is on disk before the name is (temporary file in the same folder, fsync, rename, fsync of the folder).
    Its mode is that of any new file: 0666 less the umask. The file can be read too.
    """
    temporary = path.parent / f".{path.name[:100]}.{secrets.token_hex(8)}.partial"
    with file_system(f"writing {path}", path):
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            with file_system(f"writing {path}", path):
                file.flush()
                os.fsync(file.fileno())
        with file_system(f"writing {path}", path):
            temporary.replace(path)
            _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder that only its owner enters, to be filled in the block.

    When the block ends well it takes the name `path` and the mode 0755; otherwise it vanishes with all it holds, also
    on an interrupt. Raises Conflict when something has the name already.
    """
    if os.path.lexists(path):
        raise _taken(path)
    with file_system(f"unpacking to {path}", path):
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", suffix=".partial", dir=path.parent))
    try:
        yield temporary
        if os.path.lexists(path):
            raise _taken(path)
        with file_system(f"unpacking to {path}", path):
            temporary.chmod(0o755)
            temporary.rename(path)
            _sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _taken(path: Path) -> Conflict:
    return Conflict(
        f"{path} exists already",
        details={"path": str(path)},
        next_step="name a folder that does not exist yet, or remove this one",
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
