"""The caps on connections: of clients to the router, of the router to a worker; who waits, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from router_process import Reader, Stage, Worker, answering, deployment, read_body, revision, staged, table

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with staged() as stage:
        stage.start_router()
        yield stage


class Turnstile:
    """A worker that answers when it is let to, and knows how many are inside."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._turns = asyncio.Semaphore(0)
        self.inside = self.most = 0
        self.worker: Worker = stage.worker(self._handle)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        self.inside += 1
        self.most = max(self.most, self.inside)
        body = head.split(b" ", 2)[1] + await read_body(reader, head)
        if b"\r\nUpgrade: " in head:
            writer.write(b"HTTP/1.1 101 OK\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
            await reader.read()
        else:
            await self._turns.acquire()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        self.inside -= 1
        return True

    def let(self, count: int) -> None:
        for _ in range(count):
            self._stage._loop.call_soon_threadsafe(self._turns.release)

    def serve(self, version: int = 1, **limits: float) -> None:
        rows = [revision("R1", self.worker.port)]
        self._stage.configure(table(deployment(rows), version=version, **limits))


def told(stage: Stage) -> tuple[int, int]:
    """Connections to the worker, and requests that wait for one."""
    row = stage.report()["revisions"]["R1"]
    return row["connections"], row["waiting"]


def until(stage: Stage, holds: Callable[[], bool]) -> None:
    for _ in range(2000):
        if holds():
            return
        stage.report()
    raise AssertionError(stage.report()["revisions"])


def kind(response: Any) -> str:
    return str(json.loads(response.body)["error"]["kind"])


def asking(stage: Stage, stack: contextlib.ExitStack, requests: list[bytes]) -> list[Reader]:
    """A client for each request, one after the other."""
    readers = []
    for at, request in enumerate(requests):
        client = stack.enter_context(stage.connect())
        client.sendall(request)
        readers.append(Reader(client))
        until(stage, lambda at=at: stage.report()["revisions"]["R1"]["in_flight"] == at + 1)  # type: ignore[misc]
    return readers


@pytest.mark.parametrize("limit", [1, 3])
def test_a_worker_has_no_more_connections_than_it_may_and_those_who_wait_go_in_turn(stage: Stage, limit: int) -> None:
    gate = Turnstile(stage)
    gate.serve(max_worker_connections=limit)
    requests = [GET.replace(b"/", b"/%d" % at, 1) if at % 3 else POST.replace(b"/", b"/%d" % at, 1) for at in range(9)]
    with contextlib.ExitStack() as stack:
        readers = asking(stage, stack, requests)
        until(stage, lambda: gate.inside == limit)
        assert told(stage) == (limit, 9 - limit)
        for at, reader in enumerate(readers):
            gate.let(1 if limit == 1 else 9)
            assert reader.response().body == b"/%d" % at + (b"" if at % 3 else b"abc")
    assert gate.most == limit
    assert [head.split(b" ")[1] for head in gate.worker.requests] == [b"/%d" % at for at in range(9)] or limit > 1
    assert told(stage)[1] == 0


def test_a_queue_that_is_full_and_a_wait_that_is_too_long_are_answered(stage: Stage) -> None:
    gate = Turnstile(stage)
    gate.serve(max_worker_connections=1, max_waiting=1, waiting_seconds=0.5)
    with contextlib.ExitStack() as stack:
        first, second = asking(stage, stack, [GET, POST])
        refused = stage.get()
        assert (refused.status, kind(refused), refused.one("retry-after")) == (503, "worker-busy", "1")
        late = second.response()
        assert (late.status, kind(late)) == (503, "waiting-timeout")
        gate.let(1)
        assert first.response().status == 200
    assert stage.report()["revisions"]["R1"]["errors"] == {"worker-busy": 1, "waiting-timeout": 1}
    gate.let(1)
    assert stage.get().status == 200


def test_a_client_that_leaves_gives_up_its_place_in_the_queue(stage: Stage) -> None:
    gate = Turnstile(stage)
    gate.serve(max_worker_connections=1, max_waiting=2)
    with contextlib.ExitStack() as stack:
        first, _, third = asking(stage, stack, [GET] * 3)
        assert told(stage) == (1, 2)
        with stage.connect() as fourth:
            fourth.sendall(GET)
            assert kind(Reader(fourth).response()) == "worker-busy"
        # With a reset: a client that only closes may be waiting for its answer still.
        third._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        third._client.close()
        until(stage, lambda: told(stage) == (1, 1))
        gate.let(2)
        assert first.response().status == 200


def test_who_waits_goes_on_when_there_is_more_room_or_the_worker_has_moved(stage: Stage) -> None:
    gate, other = Turnstile(stage), Turnstile(stage)
    gate.serve(max_worker_connections=1)
    with contextlib.ExitStack() as stack:
        readers = asking(stage, stack, [GET, GET, POST])
        assert told(stage) == (1, 2)
        gate.serve(2, max_worker_connections=2)
        until(stage, lambda: gate.inside == 2)
        assert told(stage) == (2, 1)
        other.serve(3, max_worker_connections=2)
        until(stage, lambda: other.inside == 1)
        gate.let(2)
        other.let(1)
        assert [reader.response().status for reader in readers] == [200] * 3


def test_a_connection_that_was_upgraded_counts(stage: Stage) -> None:
    gate = Turnstile(stage)
    gate.serve(max_worker_connections=1)
    with contextlib.ExitStack() as stack:
        upgrade = GET[:-2] + b"Connection: upgrade\r\nUpgrade: x\r\n\r\n"
        upgraded, waiting = asking(stage, stack, [upgrade, GET])
        assert upgraded.head().status == 101
        assert told(stage) == (1, 1)
        upgraded._client.shutdown(socket.SHUT_WR)
        gate.let(1)
        assert waiting.response().status == 200


def test_a_worker_that_refuses_connections_gives_its_places_back(stage: Stage) -> None:
    gate = Turnstile(stage)
    gate.serve(max_worker_connections=1, connect_retry_seconds=0.1)
    stage.close_worker(gate.worker)
    assert [stage.get().status for _ in range(3)] == [502] * 3
    assert told(stage) == (0, 0)


# Which requests ride a used connection


@pytest.mark.parametrize("request_bytes", [GET, POST])
def test_a_worker_that_closes_behind_each_answer_fails_nobody(stage: Stage, request_bytes: bytes) -> None:
    """It does not say that it will: the answer looks as if the connection stayed. Hostile on purpose."""
    ran = 0

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        nonlocal ran
        await read_body(reader, head)
        ran += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        await writer.drain()
        await asyncio.sleep((ran % 5) / 4000)
        return False

    worker = stage.worker(closing)
    stage.configure(table(deployment([revision("R1", worker.port)])))
    with stage.connect() as client:
        reader = Reader(client)
        for _ in range(600):
            client.sendall(request_bytes)
            assert reader.response().status == 200
    assert ran == 600


def test_a_worker_that_keeps_its_connections_is_sent_what_may_run_once_on_them(stage: Stage) -> None:
    worker = stage.worker(answering(b"x"))
    stage.configure(table(deployment([revision("R1", worker.port)])))

    def post(count: int) -> int:
        before = worker.connections
        with stage.connect() as client:
            reader = Reader(client)
            for _ in range(count):
                client.sendall(POST)
                assert reader.response().status == 200
        return worker.connections - before

    assert post(20) > 10, "nobody knows yet whether it keeps them"
    assert told(stage)[0] <= 3, "those that are not used again do not pile up"
    until(stage, lambda: post(1) == 0)
    assert post(50) <= 1


# Clients


def test_who_finds_no_room_is_told_so_although_its_request_is_on_its_way(stage: Stage) -> None:
    worker = stage.worker(answering(b"x"))
    stage.configure(table(deployment([revision("R1", worker.port)]), max_connections=1))
    with stage.connect() as first:
        first.sendall(GET)
        assert Reader(first).response().status == 200
        for _ in range(30):
            with stage.connect() as client:
                # Bytes that nobody reads would make the close a reset, which can overtake the answer.
                client.sendall(POST.replace(b": 3", b": 200000") + b"x" * 100_000)
                response = Reader(client).response()
                assert (response.status, kind(response)) == (503, "connection-limit")
                assert response.one("connection") == "close"
                assert client.recv(1) == b"", "an end in order"
    assert stage.report()["unrouted"] == {"connection-limit": 30}


def test_many_who_find_no_room_do_not_pile_up(stage: Stage) -> None:
    worker = stage.worker(answering(b"x"))
    stage.configure(table(deployment([revision("R1", worker.port)]), max_connections=1))
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(stage.connect())
        until(stage, lambda: stage.report()["unrouted"].get("connection-limit", 0) == 59)
        assert stage.report()["connections"] <= 1 + 16 + 1


def test_limits_that_change_hold_for_connections_that_are_open(stage: Stage) -> None:
    worker = stage.worker(answering(b"x"))
    rows = [revision("R1", worker.port)]
    stage.configure(table(deployment(rows)))
    long = GET[:-2] + b"X-A: " + b"a" * 5000 + b"\r\n\r\n"
    with stage.connect() as client:
        reader = Reader(client)
        client.sendall(long)
        assert reader.response().status == 200
        stage.configure(table(deployment(rows), version=2, max_header_bytes=4000))
        client.sendall(GET)
        assert reader.response().status == 200
        client.sendall(long)
        assert reader.response().status == 431


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the kernel's table of sockets")
def test_the_system_asks_silent_clients_whether_they_are_there(stage: Stage) -> None:
    worker = stage.worker(answering(b"x"))
    stage.configure(table(deployment([revision("R1", worker.port)])))
    with stage.connect() as client:
        client.sendall(GET)
        assert Reader(client).response().status == 200
        ends = [f"0100007F:{port:04X}" for port in (stage.port, client.getsockname()[1])]
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        (row,) = [row for row in rows if row[1:3] == ends]
        assert row[5].startswith("02:"), "no keep-alive timer (proc(5))"


def test_a_client_that_half_closes_before_its_tunnel_begins_is_heard_to_the_end(stage: Stage) -> None:
    gate = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        await gate.wait()
        writer.write(b"HTTP/1.1 101 OK\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        writer.write((await reader.read()).upper())
        return False

    worker = stage.worker(handler)
    stage.configure(table(deployment([revision("R1", worker.port)])))
    with stage.connect() as client:
        client.sendall(GET[:-2] + b"Connection: upgrade\r\nUpgrade: x\r\n\r\nall of it")
        client.shutdown(socket.SHUT_WR)
        until(stage, lambda: bool(worker.requests))
        stage._loop.call_soon_threadsafe(gate.set)
        reader = Reader(client)
        assert reader.head().status == 101
        assert reader.rest() == b"ALL OF IT"


def test_a_half_closed_tunnel_that_says_nothing_ends(stage: Stage) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(b"HTTP/1.1 101 OK\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        await asyncio.Event().wait()
        return False

    worker = stage.worker(handler)
    stage.configure(table(deployment([revision("R1", worker.port)]), response_idle_seconds=0.3))
    with stage.connect() as client:
        client.sendall(GET[:-2] + b"Connection: upgrade\r\nUpgrade: x\r\n\r\n")
        reader = Reader(client)
        assert reader.head().status == 101
        client.shutdown(socket.SHUT_WR)
        assert reader.closed()


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit(2)")
def test_no_more_clients_are_let_in_than_the_system_grants_files_for(stage: Stage) -> None:
    worker = stage.worker(answering(b"x"))
    resource.prlimit(stage.process.pid, resource.RLIMIT_NOFILE, (104, 104))
    acknowledged = stage.configure(table(deployment([revision("R1", worker.port)])))
    assert "20 clients" in acknowledged.warnings[0]
    with contextlib.ExitStack() as stack:
        statuses = []
        for _ in range(30):
            client = stack.enter_context(stage.connect())
            client.sendall(GET)
            statuses.append(Reader(client).response().status)
        assert statuses == [200] * 20 + [503] * 10
