"""The lock of an environment: one writer at a time, whatever the process or thread.

An advisory `flock` on `<env>/.lock`. The kernel releases it when its holder dies, so nothing has to be cleaned up and a
stale lock does not exist. What stands in the file (process id and verb) only names the holder to those who wait.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from greentic.spec.errors import TimedOut
from greentic.store import io

_SHORTEST, _LONGEST = 0.000_5, 0.02  # seconds between two tries


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a lock (`seconds`), on which clock, and how to pass the time."""

    seconds: float = 10.0
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@contextmanager
def held(files: io.FileSystem, path: Path, verb: str, patience: Patience) -> Iterator[None]:
    """Hold the lock at `path` for `verb`. TimedOut naming the holder after `patience.seconds`; OSError."""
    descriptor = _take(files, path, patience)
    try:
        with suppress(OSError):  # it is for messages only; a full disk must not refuse a lock
            _sign(files, descriptor, verb)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked child may still hold the descriptor open
        os.close(descriptor)


def holder(path: Path) -> str | None:
    """Who holds, or last held, the lock: `process 4711 (traffic set)`; None when nobody wrote it."""
    text = (io.read(path) or b"").decode(errors="replace")
    pid, _, verb = text.strip().partition(" ")
    return f"process {pid} ({verb.strip()})" if pid.isdigit() else None


def _take(files: io.FileSystem, path: Path, patience: Patience) -> int:
    deadline = patience.monotonic() + patience.seconds
    pause = _SHORTEST
    while True:
        descriptor = _open(files, path)
        try:
            while not _try(descriptor):
                left = deadline - patience.monotonic()
                if left <= 0:
                    raise _timed_out(path, patience.seconds)
                patience.sleep(min(left, pause * random.uniform(0.5, 1.5)))  # noqa: S311 - spreads those who wait
                pause = min(pause * 2, _LONGEST)
            if _same(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the file was replaced while we waited: its lock excludes nobody


def _open(files: io.FileSystem, path: Path) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.close(files.create(path))
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise io.linked(path) from None
            raise


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _sign(files: io.FileSystem, descriptor: int, verb: str) -> None:
    files.truncate(descriptor, 0)
    files.write(descriptor, f"{os.getpid()} {verb}\n".encode())


def _timed_out(path: Path, seconds: float) -> TimedOut:
    who = holder(path) or "another process"
    return TimedOut(
        f"the environment '{path.parent.name}' is busy: {who} did not release its lock within {seconds:g} s",
        details={"environment_id": path.parent.name, "holder": who, "seconds": seconds},
        next_step="wait for it to end and run the command again",
    )
