"""Clients that ask a router without a pause and write down what became of each request."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

_BODY = b"x" * 700


@dataclass(frozen=True)
class Asked:
    """One request: when its connection was opened, when it was sent, when it was answered or failed, and how."""

    kind: str
    opened: float
    sent: float
    done: float
    answer: str
    failure: str = ""


@dataclass
class Load:
    """`keep` clients on connections they keep, `fresh` ones on a connection per request; every second one posts."""

    port: int
    keep: int = 6
    fresh: int = 3
    pause: float = 0.002
    log: list[Asked] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _over: bool = False

    async def __aenter__(self) -> Load:
        kinds = [True] * self.keep + [False] * self.fresh
        self._tasks = [asyncio.create_task(self._client(number, kept)) for number, kept in enumerate(kinds)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)

    @property
    def failed(self) -> list[Asked]:
        return [asked for asked in self.log if asked.failure]

    async def more(self, count: int, seconds: float = 20) -> None:
        """Wait until `count` further requests are over."""
        wanted = len(self.log) + count
        async with asyncio.timeout(seconds):
            while len(self.log) < wanted:
                await asyncio.sleep(0.005)

    async def _client(self, number: int, kept: bool) -> None:
        post = number % 2 == 1
        kind = f"{'kept' if kept else 'fresh'} {'POST' if post else 'GET'}"
        head = (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(_BODY)
            if post
            else b"GET / HTTP/1.1\r\nHost: x\r\n"
        )
        request = head + (b"\r\n" if kept else b"Connection: close\r\n\r\n") + (_BODY if post else b"")
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        opened = 0.0
        while not self._over:
            sent = time.monotonic()
            try:
                if connection is not None and connection[0].at_eof():
                    await _close(connection[1])
                    connection = None
                if connection is None:
                    opened = time.monotonic()
                    connection = await asyncio.open_connection("127.0.0.1", self.port)
                reader, writer = connection
                writer.write(request)
                answer, again = await _answer(reader)
                self.log.append(Asked(kind, opened, sent, time.monotonic(), answer))
            except (OSError, asyncio.IncompleteReadError) as error:
                self.log.append(Asked(kind, opened, sent, time.monotonic(), "", repr(error)))
                again = False
            if connection is not None and not (again and kept):
                await _close(connection[1])
                connection = None
            await asyncio.sleep(self.pause)
        if connection is not None:
            await _close(connection[1])


async def _answer(reader: asyncio.StreamReader) -> tuple[str, bool]:
    """(status and body, whether the connection may be used again)."""
    async with asyncio.timeout(15):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        body = await reader.readexactly(int(fields[b"content-length"]))
    return f"{int(lines[0].split(b' ')[1])} {body.decode()}", fields.get(b"connection", b"").lower() != b"close"


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
