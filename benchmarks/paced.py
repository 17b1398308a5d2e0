"""A load of a fixed rate that accounts for every request that fails: when, how, and with which status or errno.

Each of so many keep-alive clients has its own times at which requests are due, whatever the others do; one that is late
goes on at once. Clients leave and come back after a while, so that connections come and go. What a client may retry by
HTTP's rules is not retried: it counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import uvloop

REQUESTS_PER_CONNECTION: Final = 250
TIMEOUT_SECONDS: Final = 10
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


@dataclass(frozen=True)
class Failure:
    """A request that was not answered with 200: `at` seconds after the beginning, in the `state` of its client
    (connecting, asking), with the `status` of an answer and what it says, or the error's name and errno.
    """

    at: float
    unix: float
    state: str
    request: int
    on_connection: int
    kind: str
    status: int = 0
    errno: str = ""
    said: str = ""


@dataclass
class Load:
    """What became of a load so far."""

    answered: int = 0
    connections: int = 0
    greatest_ms: float = 0.0
    failures: list[Failure] = field(default_factory=list)


def run(
    port: int,
    rate: float,
    seconds: float,
    clients: int,
    requests: Callable[[], Iterator[bytes]],
    load: Load,
) -> None:
    """Put a load of `rate` requests a second on 127.0.0.1:`port` for `seconds`; `load` is kept up to date. `requests`
    makes what one client sends, one after the other.
    """

    async def all_clients() -> None:
        began = time.monotonic()
        await asyncio.gather(
            *(_client(port, clients / rate, began + number / rate, began, seconds, requests(), load)
              for number in range(clients))
        )  # fmt: skip

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(all_clients())


async def _client(
    port: int, every: float, due: float, began: float, seconds: float, requests: Iterator[bytes], load: Load
) -> None:
    writer: asyncio.StreamWriter | None = None
    sent = 0
    for number in itertools.count():
        now = time.monotonic()
        due = max(due + every, now) if number else due
        if due >= began + seconds:
            break
        await asyncio.sleep(due - now)
        state = "asking" if writer is not None else "connecting"
        asked = time.monotonic()
        status, said, close = 0, "", True
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
                    load.connections += 1
                    sent = 0
                    state = "asking"
                sent += 1
                writer.write(next(requests))
                head = await reader.readuntil(b"\r\n\r\n")
                state = "reading"
                status = int(head[9:12])
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1])) if length is not None else b""
                close = _CLOSE.search(head) is not None or sent >= REQUESTS_PER_CONNECTION
                if status == 200:
                    load.answered += 1
                    load.greatest_ms = max(load.greatest_ms, (time.monotonic() - asked) * 1000)
                else:
                    said = body[:300].decode(errors="replace")
                    load.failures.append(_failure(began, state, number, sent, "status", status=status, said=said))
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            name = errno.errorcode.get(error.errno or 0, "") if isinstance(error, OSError) else ""
            kind = type(error).__name__
            load.failures.append(
                _failure(began, state, number, sent, kind, status=status, errno=name, said=str(error)[:300])
            )
            close = True
        if close and writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            writer = None
    if writer is not None:
        writer.close()


def _failure(
    began: float, state: str, request: int, sent: int, kind: str, *, status: int = 0, errno: str = "", said: str = ""
) -> Failure:
    at = round(time.monotonic() - began, 3)
    return Failure(at, round(time.time(), 3), state, request, sent, kind, status, errno, said)
