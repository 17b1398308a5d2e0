"""A steady stream of new visitors, from a process of its own: `python -m benchmarks.steady PORT RATE SECONDS FILE`.

Requests are due at fixed times, whatever became of those before (an open loop), over keep-alive connections. What came
of each is written to FILE, one line per request: when it was sent and answered (nanoseconds of CLOCK_MONOTONIC, which
all processes of a machine share), the status (0: none), what the worker says it is, and the cookie that the visitor
got.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

CONNECTIONS = 64
TIMEOUT_SECONDS = 10
REQUEST = (
    b"GET /whoami HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/130.0\r\n"
    b"Accept: */*\r\nAccept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\n\r\n"
)
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_COOKIE = re.compile(rb"\r\nset-cookie: *(_gt_rev_[^;\r]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request; `status` is 0 when nothing did, and then `body` says why."""

    sent: int
    received: int
    status: int
    body: str
    cookie: str


class _Client(asyncio.Protocol):
    """One connection: a request at a time."""

    def __init__(self, done: Callable[[_Client, Answer], None]) -> None:
        self._done = done
        self._data = b""
        self.sent = 0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def ask(self) -> None:
        self._data = b""
        self.sent = time.monotonic_ns()
        self.transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or length is None or len(body) < int(length[1]):
            return
        cookie = _COOKIE.search(head)
        self._end(int(head[9:12]), body.decode(), cookie[1].decode() if cookie else "")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(0, f"closed: {exc}", "")

    def _end(self, status: int, body: str, cookie: str) -> None:
        sent, self.sent = self.sent, 0
        if sent:
            self._done(self, Answer(sent, time.monotonic_ns(), status, body.replace("\n", " "), cookie))


async def stream(port: int, rate: float, seconds: float) -> list[Answer]:
    """The answers to `rate` requests a second for `seconds`."""
    loop = asyncio.get_running_loop()
    answers: list[Answer] = []
    idle: list[_Client] = []
    free = asyncio.Event()

    def done(client: _Client, answer: Answer) -> None:
        answers.append(answer)
        if answer.status and not client.transport.is_closing():
            idle.append(client)
            free.set()

    async def client() -> _Client:
        if idle:
            return idle.pop()
        return (await loop.create_connection(lambda: _Client(done), "127.0.0.1", port))[1]

    idle.extend([await client() for _ in range(CONNECTIONS)])
    began = loop.time()
    for number in range(round(rate * seconds)):
        due = began + number / rate
        if (early := due - loop.time()) > 0.001:
            await asyncio.sleep(early)
        try:
            (await client()).ask()
        except OSError as error:
            answers.append(Answer(time.monotonic_ns(), time.monotonic_ns(), 0, str(error), ""))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while len(answers) < round(rate * seconds):
                free.clear()
                await free.wait()
    missing = round(rate * seconds) - len(answers)
    return answers + [Answer(0, 0, 0, "no answer in time", "")] * missing


def read(file: Path) -> list[Answer]:
    """What `main` wrote."""
    answers = []
    for line in file.read_text().splitlines():
        sent, received, status, cookie, body = line.split("\t", 4)
        answers.append(Answer(int(sent), int(received), int(status), body, cookie))
    return answers


def main(port: str, rate: str, seconds: str, file: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answers = runner.run(stream(int(port), float(rate), float(seconds)))
    rows = (f"{one.sent}\t{one.received}\t{one.status}\t{one.cookie}\t{one.body}\n" for one in answers)
    Path(file).write_text("".join(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
