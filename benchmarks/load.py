"""What stands in when nginx or wrk is missing: a file server and a load generator on uvloop, no peers to compare."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import uvloop


class _Files(asyncio.Protocol):
    def __init__(self, files: Mapping[bytes, bytes]) -> None:
        self._files = files
        self._buffer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            body = self._files.get(head.split(b" ", 2)[1][1:], b"")
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


async def serve_files(port: int, folder: Path) -> None:
    """Serve the files of `folder` on 127.0.0.1 until cancelled."""
    files = {path.name.encode(): path.read_bytes() for path in folder.iterdir()}
    server = await asyncio.get_running_loop().create_server(lambda: _Files(files), "127.0.0.1", port)
    await server.serve_forever()


def generate(
    port: int, path: str, connections: int, seconds: float, fields: Mapping[str, str]
) -> tuple[float, float, float, int]:
    """Requests per second, p50 and p99 in milliseconds, and errors, of `connections` keep-alive clients."""
    lines = [
        f"GET /{path} HTTP/1.1",
        "Host: 127.0.0.1",
        *(f"{name}: {value}" for name, value in fields.items()),
        "",
        "",
    ]
    request = "\r\n".join(lines).encode()
    durations: list[float] = []
    errors = 0

    async def client(until: float) -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        while (began := time.perf_counter()) < until:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
            errors += not head.startswith(b"http/1.1 200")
            durations.append(time.perf_counter() - began)
        writer.close()

    async def clients() -> None:
        await asyncio.gather(*(client(time.perf_counter() + seconds) for _ in range(connections)))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(clients())
    durations.sort()
    count = len(durations)
    return count / seconds, durations[count // 2] * 1000, durations[count * 99 // 100] * 1000, errors


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_files(int(sys.argv[1]), Path(sys.argv[2])))
