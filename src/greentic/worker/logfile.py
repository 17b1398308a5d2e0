"""A worker's log: bounded in size, private, with the last lines at hand.

The supervisor reads the worker's output from a pipe and writes it here, so the file can be rotated without the worker's
knowing. One old file is kept (`<name>.1`), so a log takes at most twice `max_bytes`.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

MAX_BYTES = 10 * 1024 * 1024
TAIL_LINES = 20
TAIL_LINE_BYTES = 2_000


class LogFile:
    """An append-only file of mode 0600 that is rotated when it would grow beyond `max_bytes`.

    A disk that is full or gone loses lines, never the worker: errors of writing are remembered in `trouble`.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self.trouble: str | None = None
        self._max_bytes = max_bytes
        self._descriptor: int | None = None
        self._size = 0
        self._tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._partial = b""

    def write(self, data: bytes) -> None:
        """Append `data` and remember its last lines."""
        self._remember(data)
        try:
            descriptor = self._open()
            if self._size and self._size + len(data) > self._max_bytes:
                descriptor = self._rotate()
            view = memoryview(data)
            while view:
                written = os.write(descriptor, view)
                self._size += written
                view = view[written:]
        except OSError as error:
            self.trouble = f"{self.path} cannot be written: {error.strerror}"

    def tail(self) -> list[str]:
        """The last lines since `forget`, at most TAIL_LINES."""
        lines = [*self._tail, self._partial] if self._partial else [*self._tail]
        return [line.decode(errors="replace").rstrip("\r") for line in lines[-TAIL_LINES:]]

    def forget(self) -> None:
        """Begin a new tail: the lines of an earlier run do not explain this one."""
        self._tail.clear()
        self._partial = b""

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _remember(self, data: bytes) -> None:
        *lines, partial = (self._partial + data).split(b"\n")
        self._tail.extend(line[:TAIL_LINE_BYTES] for line in lines[-TAIL_LINES:])
        self._partial = partial[:TAIL_LINE_BYTES]

    def _open(self) -> int:
        if self._descriptor is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(self.path, flags, 0o600)
            self._size = os.fstat(self._descriptor).st_size
        return self._descriptor

    def _rotate(self) -> int:
        self.close()
        self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        return self._open()
