"""Sends spans through a process of its own, so that neither the SDK's work nor a collector that hangs takes anything
from the router: what the router does per span is to write a tuple into a pipe.

To the process: frames of a length (4 bytes, big-endian) and a value (`marshal`, both ends are the same Python): first
the settings, which may hold a secret and so are no argument, then lists of spans. From it: 4 bytes per list, how many
of it were lost. One that does not answer in time is killed, and another one started.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from greentic.router.spans import Fields, Origin

LENGTH: Final = struct.Struct(">I")
PAUSE_SECONDS: Final = 5.0
"""After a process that ended, before the next one is started."""
_MARGIN_SECONDS: Final = 5.0
"""What an answer may take beyond the time of an export: the process has to start, and to read."""
MOST: Final = 512
"""Spans per export: OpenTelemetry's own default for a batch."""


class OtlpExporter:
    """See `greentic.router.spans.Exporter`."""

    def __init__(self, settings: Mapping[str, Any], origin: Origin) -> None:
        self._hello = marshal.dumps(
            {
                "endpoint": str(settings["endpoint"]),
                "headers": dict(settings["headers"]),
                "seconds": settings["timeout_ms"] / 1000,
                "env_id": origin.env_id,
                "process_id": origin.process_id,
            }
        )
        self._seconds = settings["timeout_ms"] / 1000 + _MARGIN_SECONDS
        self._process: subprocess.Popen[bytes] | None = None
        self._not_before = float("-inf")
        self._closed = False

    def export(self, spans: Sequence[Fields]) -> int:
        """Send them in portions; what cannot be sent is lost, and so is the rest while nobody is there to send."""
        lost = 0
        for first in range(0, len(spans), MOST):
            portion: Any = spans[first : first + MOST]
            try:
                lost += self._ask(self._living(), marshal.dumps(portion))
            except OSError:
                lost += len(portion)
                self._end()
        return lost

    def close(self) -> None:
        """End the process: it has nothing more to send, or is out of time. Whoever waits for it is told."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()
            process.wait()

    def _living(self) -> subprocess.Popen[bytes]:
        """The process; OSError when there is none and it is too early for another."""
        if self._process is not None:
            return self._process
        if self._closed or time.monotonic() < self._not_before:
            raise BrokenPipeError
        # Nothing of the router is inherited: a listening socket in another process would keep its queue alive.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "greentic.providers.otlp.sender"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=True,
        )
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        self._process = process
        self._write(process, self._hello, time.monotonic() + self._seconds)
        return process

    def _ask(self, process: subprocess.Popen[bytes], batch: bytes) -> int:
        deadline = time.monotonic() + self._seconds
        self._write(process, batch, deadline)
        assert process.stdout is not None
        descriptor, answer = process.stdout.fileno(), b""
        while len(answer) < LENGTH.size:
            self._wait([descriptor], [], deadline)
            data = os.read(descriptor, LENGTH.size - len(answer))
            if not data:
                raise BrokenPipeError
            answer += data
        return int(LENGTH.unpack(answer)[0])

    def _write(self, process: subprocess.Popen[bytes], value: bytes, deadline: float) -> None:
        assert process.stdin is not None
        descriptor = process.stdin.fileno()
        data = memoryview(LENGTH.pack(len(value)) + value)
        while data:
            self._wait([], [descriptor], deadline)
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(descriptor, data) :]

    def _wait(self, readable: list[int], writable: list[int], deadline: float) -> None:
        """Until one of the descriptors can be used. TimeoutError at the deadline, BrokenPipeError when it is closed."""
        left = deadline - time.monotonic()
        found = select.select(readable, writable, [], max(left, 0.0))
        if self._closed:
            raise BrokenPipeError
        if not (found[0] or found[1]):
            raise TimeoutError

    def _end(self) -> None:
        process, self._process = self._process, None
        self._not_before = time.monotonic() + PAUSE_SECONDS
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
