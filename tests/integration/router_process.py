"""A real router process, real workers that say exactly the bytes a test wants, and a client that reads raw HTTP."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from greentic.router.control import RouterControl

T = TypeVar("T")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[bool]]
"""Given the streams and one request head, answers it; True to read another request from the connection."""

SECRET = bytes(range(32))
KEYS = {"active": "k1", "ring": [{"kid": "k1", "secret": base64.b64encode(SECRET).decode()}]}


def revision(revision_id: str, port: int, *, state: str = "ready", since: int = 1) -> dict[str, Any]:
    return {
        "revision_id": revision_id,
        "address": f"127.0.0.1:{port}",
        "state": state,
        "since": since,
        "name": revision_id,
    }


def deployment(
    revisions: list[dict[str, Any]],
    slots: list[list[int]] | None = None,
    *,
    deployment_id: str = "D1",
    generation: int = 1,
    hosts: tuple[str, ...] = (),
    path_prefixes: tuple[str, ...] = (),
) -> dict[str, Any]:
    return {
        "deployment_id": deployment_id, "bundle_id": "web", "customer_id": "acme", "tenant": "acme", "team": "ops",
        "hosts": list(hosts), "path_prefixes": list(path_prefixes), "generation": generation, "pin_seconds": 3600,
        "revisions": revisions, "slots": [[10_000, 0]] if slots is None else slots,
    }  # fmt: skip


def table(*deployments: dict[str, Any], version: int = 1, stamp: bool = True, **limits: float) -> dict[str, Any]:
    return {
        "version": version, "env_id": "local", "keys": KEYS, "deployments": list(deployments),
        "options": {"stamp_revision": stamp, "limits": limits},
    }  # fmt: skip


@dataclass
class Worker:
    """A worker of the test: what it was asked, and on how many connections."""

    port: int
    server: asyncio.Server
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0


class Stage:
    """Runs the workers and the parent's side of the control socket on a loop of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._servers: list[Worker] = []
        self.process: subprocess.Popen[bytes]
        self.control: RouterControl
        self.listening = socket.socket()
        self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listening.bind(("127.0.0.1", 0))
        self.listening.listen(512)
        self.port = self.listening.getsockname()[1]

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 30) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def later(self, work: Coroutine[Any, Any, T]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def start_router(self, *arguments: str) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "greentic.router", "--listen-fd", str(self.listening.fileno())]
            self.process = subprocess.Popen(
                [*command, "--control-fd", str(theirs.fileno()), *arguments],
                pass_fds=[self.listening.fileno(), theirs.fileno()],
                stderr=subprocess.PIPE,
            )
        self.control = self.run(RouterControl.connect(ours))
        assert self.run(self.control.ready(20)) == self.process.pid

    def configure(self, document: dict[str, Any]) -> Any:
        return self.run(self.control.configure(document))

    def report(self) -> dict[str, Any]:
        return self.run(self.control.report())

    def worker(self, handler: Handler, port: int = 0) -> Worker:
        async def start() -> Worker:
            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                worker.connections += 1
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                    while True:
                        head = await reader.readuntil(b"\r\n\r\n")
                        worker.requests.append(head)
                        if not await handler(reader, writer, head):
                            break
                writer.close()

            server = await asyncio.start_server(connected, "127.0.0.1", port)
            worker = Worker(server.sockets[0].getsockname()[1], server)
            return worker

        made = self.run(start())
        self._servers.append(made)
        return made

    def close_worker(self, worker: Worker) -> None:
        async def close() -> None:
            worker.server.close()

        self.run(close())

    def close(self) -> None:
        with contextlib.suppress(AttributeError):
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            assert self.process.stderr is not None
            self.process.stderr.close()

        async def end() -> None:
            with contextlib.suppress(AttributeError):
                self.control.close()
            for worker in self._servers:
                worker.server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)

        self.run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.listening.close()

    # A raw client

    def connect(self, timeout: float = 10, receive_buffer: int = 0) -> socket.socket:
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(timeout)
        client.connect(("127.0.0.1", self.port))
        return client

    def ask(self, request: bytes) -> Response:
        """Send one request on a connection of its own; its final response."""
        with self.connect() as client:
            client.sendall(request)
            return Reader(client).response(head_only=request.startswith(b"HEAD"))

    def get(self, path: str = "/", *fields: str, method: str = "GET", host: str = "example.org") -> Response:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]
        return self.ask("\r\n".join(lines).encode())


@dataclass
class Response:
    status: int
    fields: list[tuple[str, str]]
    body: bytes
    trailers: bytes = b""
    raw_head: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    def one(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, values
        return values[0] if values else None

    def cookie(self) -> str:
        (line,) = self.all("set-cookie")
        return line.partition(";")[0]


class Closed(Exception):
    """The connection ended before the message did."""


class Reader:
    """Reads responses strictly; raises Closed on a truncated one."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._buffer = b""

    def _more(self) -> None:
        try:
            data = self._client.recv(65536)
        except ConnectionError as error:
            raise Closed from error
        if not data:
            raise Closed
        self._buffer += data

    def until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        part, _, self._buffer = self._buffer.partition(mark)
        return part + mark

    def exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._more()
        part, self._buffer = self._buffer[:count], self._buffer[count:]
        return part

    def rest(self) -> bytes:
        with contextlib.suppress(Closed):
            while True:
                self._more()
        rest, self._buffer = self._buffer, b""
        return rest

    def closed(self) -> bool:
        """Wait for the end; whether nothing came before it."""
        return self.rest() == b""

    def head(self) -> Response:
        head = self.until(b"\r\n\r\n")
        assert b"\n" not in head.replace(b"\r\n", b"")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return Response(int(first.split(" ")[1]), fields, b"", raw_head=head)

    def response(self, head_only: bool = False, informational: bool = False) -> Response:
        response = self.head()
        while response.status < 200 and response.status != 101 and not informational:
            response = self.head()
        length = response.one("content-length")
        if head_only or response.status in (101, 204, 304) or response.status < 200:
            return response
        if response.one("transfer-encoding") == "chunked":
            assert length is None
            while size := int(self.until(b"\r\n"), 16):
                response.body += self.exactly(size)
                assert self.exactly(2) == b"\r\n"
            while (line := self.until(b"\r\n")) != b"\r\n":
                response.trailers += line
        elif length is not None:
            response.body = self.exactly(int(length))
        else:
            response.body = self.rest()
        return response


def answering(body: bytes, *fields: bytes, status: bytes = b"200 OK") -> Handler:
    """A handler that reads a declared or chunked body and answers with `body`."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        await read_body(reader, head)
        lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *fields, b"", body]
        writer.write(b"\r\n".join(lines))
        return True

    return handler


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
    """Answers with the request as it was received: head, then body."""
    body = head + await read_body(reader, head)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    return True


def saying(response: bytes, *, then_close: bool = True) -> Handler:
    """A handler that says exactly `response`."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(response)
        await writer.drain()
        return not then_close

    return handler


async def read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    fields = {
        name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    if fields.get(b"transfer-encoding") == b"chunked":
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            body += b"trailer " + line
        return body
    return await reader.readexactly(int(fields.get(b"content-length", b"0")))


@contextlib.contextmanager
def staged() -> Iterator[Stage]:
    stage = Stage()
    try:
        yield stage
    finally:
        stage.close()


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as statm:  # noqa: PTH123
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
