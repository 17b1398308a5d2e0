"""Ask a worker whether it is well: one HTTP GET, bounded in time and size.

The request is plain HTTP/1.1 (RFC 9112) and only the status counts: 2xx is healthy. No library: one line is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
from dataclasses import dataclass

HEAD_BYTES = 64 * 1024
REST_SECONDS = 0.1
"""How long a body may take after its head: read only so that a simple server is not cut while it writes."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r?\n)")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: whether it means healthy, and in words what it was."""

    healthy: bool
    detail: str


async def probe(host: str, port: int, path: str, seconds: float) -> Answer:
    """GET `path` from `host`:`port` within `seconds`. Never raises but on cancellation."""
    try:
        async with asyncio.timeout(seconds):
            return await _ask(host, port, path)
    except TimeoutError:
        return Answer(False, f"no answer from {path} within {seconds:.3g} s")
    except OSError as error:
        return Answer(False, _reason(error))


async def _ask(host: str, port: int, path: str) -> Answer:
    reader, writer = await asyncio.open_connection(host, port, limit=HEAD_BYTES)
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: greentic-health\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n".encode()
        )
        try:
            head = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                return Answer(False, "it closed the connection without an answer")
            head = error.partial
        except asyncio.LimitOverrunError:
            head = b""
        found = _STATUS.match(head)
        if found is None:
            return Answer(False, f"what it answered on {path} is not HTTP")
        status = int(found[1])
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(REST_SECONDS):
                await reader.read(HEAD_BYTES)
        return Answer(200 <= status < 300, f"{path} answered {status}")
    finally:
        writer.transport.abort()


def _reason(error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return "it does not listen on $PORT"
    return os.strerror(error.errno) if error.errno else str(error)
