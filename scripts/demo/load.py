"""The clients: a few connections that are kept alive and send requests at a steady rate, each as a new visitor.

Raw streams of the standard library, so that what is measured is the platform and not a client library. Times are those
of `time.perf_counter_ns`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from dataclasses import dataclass
from typing import Any

NS = 1_000_000_000
TIMEOUT_SECONDS = 10.0
COOKIE = b"_gt_rev_"
QUESTIONS = ("I forgot my password", "What is the status of ticket T-1042?", "When are you open?", "Thank you")


@dataclass(frozen=True, slots=True)
class Answer:
    """One request and what came of it.

    `status` is 0 when there was no answer, and `problem` says why. `revision` and `version` are what the worker itself
    says in its body; `generation` is that of the split by which the router decided, which it writes into the visitor's
    signed cookie.
    """

    sent: int
    received: int
    status: int
    revision: str = ""
    version: str = ""
    cookie: bytes = b""
    problem: str = ""

    @property
    def failed(self) -> bool:
        return self.status != 200 or not self.revision

    @property
    def generation(self) -> int | None:
        """The generation in the cookie (its payload is JSON in base64url); None without a cookie."""
        payload = self.cookie.partition(b"=")[2].partition(b".")[0]
        if not payload:
            return None
        return int(json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))["g"])


class Connection:
    """One keep-alive connection to the router; opened again when it has been closed."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, text: str, *headers: str) -> Answer:
        """POST /message with `text`; never raises for what the other side does."""
        body = json.dumps({"text": text}).encode()
        head = ["POST /message HTTP/1.1", f"Host: {self._host}:{self._port}", "Content-Type: application/json"]
        request = "\r\n".join([*head, f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body
        sent = time.perf_counter_ns()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(self._host, self._port)
                    sent = time.perf_counter_ns()
                reader, writer = self._streams
                writer.write(request)
                status, fields, content = await self._read(reader)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
            self.close()
            problem = f"{type(error).__name__}: {error}".rstrip(": ")
            return Answer(sent, time.perf_counter_ns(), 0, problem=problem)
        received = time.perf_counter_ns()
        if fields.get(b"connection", b"").lower() == b"close":
            self.close()
        if status != 200:
            return Answer(sent, received, status, problem=content.decode(errors="replace").strip()[:200])
        try:
            said: dict[str, Any] = json.loads(content)
            cookie = fields.get(b"set-cookie", b"").partition(b";")[0]
            return Answer(sent, received, status, said["revision"], said["version"], cookie)
        except (ValueError, KeyError) as error:
            return Answer(sent, received, status, problem=f"not an answer of the helpdesk: {error}")

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes], bytes]:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        fields = {}
        for line in lines:
            name, _, value = line.partition(b":")
            # Of several cookies only that of the visitor's revision is of interest.
            if name.lower() != b"set-cookie" or value.strip().startswith(COOKIE):
                fields[name.lower()] = value.strip()
        return int(first.split(b" ", 2)[1]), fields, await reader.readexactly(int(fields[b"content-length"]))

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Load:
    """Clients that send `rate` requests a second over `connections` connections, until `stop`."""

    def __init__(self, host: str, port: int, *, connections: int, rate: float) -> None:
        self._address = (host, port)
        self._connections = connections
        self._interval = connections / rate
        self.answers: list[Answer] = []
        self._gate = asyncio.Event()
        self._idle = asyncio.Event()
        self._in_flight = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._counting: tuple[int, asyncio.Event] = (0, asyncio.Event())

    def start(self) -> None:
        """Begin."""
        self._gate.set()
        self._idle.set()
        self._tasks = [
            asyncio.create_task(self._client(number * self._interval / self._connections))
            for number in range(self._connections)
        ]

    async def stop(self) -> None:
        """Let what is in flight finish, then end."""
        self._gate.clear()
        await self._idle.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def pause(self) -> None:
        """Return when every request that was sent has been answered; nothing is sent until `resume`."""
        self._gate.clear()
        await self._idle.wait()

    def resume(self) -> None:
        """Go on sending."""
        self._gate.set()

    async def count(self, total: int, seconds: float) -> None:
        """Return when there are `total` answers, or after `seconds`."""
        reached = asyncio.Event()
        self._counting = (total, reached)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if len(self.answers) < total:
                    await reached.wait()

    async def _client(self, delay: float) -> None:
        connection = Connection(*self._address)
        due = time.perf_counter() + delay
        try:
            for number in range(1 << 62):
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                while not self._gate.is_set():
                    await self._gate.wait()
                self._in_flight += 1
                self._idle.clear()
                try:
                    self.answers.append(await connection.ask(QUESTIONS[number % len(QUESTIONS)]))
                finally:
                    self._in_flight -= 1
                    if not self._in_flight:
                        self._idle.set()
                if len(self.answers) >= self._counting[0]:
                    self._counting[1].set()
                if self.answers[-1].status == 0:
                    await asyncio.sleep(0.05)
                # What was missed is not made up for: a burst would be no steady load.
                due = max(due + self._interval, time.perf_counter())
        finally:
            with contextlib.suppress(OSError):
                connection.close()
