"""What the store server does over HTTP: `python -m benchmarks.store_server [--seconds N] [--clients N] [--db PLACE]`.

A real server process on SQLite beside this folder, on its real disk; `clients` connections from processes of our own,
each changing the name of one of several environments under a fresh key, then each reading one. In the same run, on the
same disk, a plain loop of one write and one fdatasync. `benchmarks.store_sql` measures the store without a server.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httptools

ENVIRONMENTS = 8
HOST = "127.0.0.1"


class Client(asyncio.Protocol):
    """One connection that sends a request when the one before was answered."""

    def __init__(self, requests: object, until: float) -> None:
        self.requests, self.until = iter(requests), until  # type: ignore[call-overload]
        self.times: list[float] = []
        self.wrong = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.next()

    def next(self) -> None:
        now = time.perf_counter()
        if now >= self.until:
            self.transport.close()
            self.done.set_result(None)
            return
        self.parser, self.sent = httptools.HttpResponseParser(self), now
        self.transport.write(next(self.requests))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.wrong += self.parser.get_status_code() != 200
        self.times.append(time.perf_counter() - self.sent)
        self.next()


def changes(client: int):
    number = 0
    while True:
        number += 1
        body = b'{"name": "n%d-%d"}' % (client, number)
        head = b"PATCH /environments/e%d HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n" % (
            client % ENVIRONMENTS
        )
        key = os.urandom(12).hex().encode()
        yield head + b"idempotency-key: %b\r\ncontent-length: %d\r\n\r\n" % (key, len(body)) + body


def reads(client: int):
    while True:
        yield b"GET /environments/e%d HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" % (client % ENVIRONMENTS)


async def drive(port: int, make, clients: int, seconds: float) -> tuple[float, list[float], int]:
    """(requests a second, their times, how many were not answered 200)."""
    loop, begun = asyncio.get_running_loop(), time.perf_counter()
    running = []
    for number in range(clients):
        _, client = await loop.create_connection(
            lambda number=number: Client(make(number), begun + seconds), HOST, port
        )
        running.append(client)
    await asyncio.gather(*(client.done for client in running))
    times = [one for client in running for one in client.times]
    return len(times) / (time.perf_counter() - begun), times, sum(client.wrong for client in running)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1_000:.2f} ms"


def syncs(folder: Path, seconds: float) -> list[float]:
    """Times of one write of 4 KB and one fdatasync."""
    found = []
    with (folder / "plain").open("wb", buffering=0) as file:
        until = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < until:
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            found.append(time.perf_counter() - begun)
    return found


def begin(port: int, name: str) -> None:
    """A new environment."""
    wire = http.client.HTTPConnection(HOST, port, timeout=30)
    body = json.dumps({"env_id": name, "name": name, "host_config": {"env_id": name}})
    wire.request("POST", "/environments", body, {"content-type": "application/json", "idempotency-key": name})
    assert wire.getresponse().status == 200
    wire.close()


def processor(process: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(folder: Path, port: int, process: int, options: argparse.Namespace) -> None:
    plain = syncs(folder, 1.0)
    print(f"plain write and fdatasync: p50 {milliseconds(statistics.median(plain))}")
    for number in range(ENVIRONMENTS):
        begin(port, f"e{number}")
    for what, make, clients in (
        ("serial changes", changes, 1),
        (f"changes by {options.clients} clients", changes, options.clients),
        (f"reads by {options.clients} clients", reads, options.clients),
    ):
        before = processor(process)
        rate, times, wrong = await drive(port, make, clients, options.seconds)
        busy = (processor(process) - before) / len(times) * 1e6
        ranked = sorted(times)
        p99 = ranked[int(len(ranked) * 0.99)]
        print(
            f"{what}: {rate:,.0f}/s, p50 {milliseconds(statistics.median(ranked))}, p99 {milliseconds(p99)}, "
            f"processor {busy:.0f} µs each, {wrong} not answered 200"
        )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=5.0)
    arguments.add_argument("--clients", type=int, default=64)
    arguments.add_argument("--db", default=None)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as name:
        folder = Path(name)
        with socket.create_server((HOST, 0)) as free:
            port = free.getsockname()[1]
        command = [
            *(sys.executable, "-m", "greentic.cli.main", "store", "serve", "--bind", f"{HOST}:{port}"),
            *("--db", options.db or str(folder / "store.db"), "--operator-key", str(folder / "key.pem"), "--quiet"),
        ]
        with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
            try:
                until_it_listens(port, server)
                asyncio.run(measure(folder, port, server.pid, options))
            finally:
                server.terminate()


def until_it_listens(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None, "the server ended"
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server does not listen")


if __name__ == "__main__":
    main()
