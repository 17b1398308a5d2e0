"""The lock that makes a runtime the only one of its environment (flock(2)); it ends with the process, however that
ends."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

_POLL_SECONDS = 0.002


class Held(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock at `path` within the block. Held when another process does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Held from None
        yield
    finally:
        os.close(descriptor)


def held(path: Path) -> bool:
    """Whether a process holds the lock at `path`."""
    if not path.exists():
        return False
    try:
        with hold(path):
            return False
    except Held:
        return True


async def released(path: Path, seconds: float) -> bool:
    """Wait until nobody holds the lock; False after `seconds`."""
    deadline = time.monotonic() + seconds
    while held(path):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True
