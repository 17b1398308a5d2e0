"""Clients that are slow: those that only pretend to go on are ended, those that do go on are not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from router_process import Reader, Stage, answering, deployment, echo, revision, staged, table

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SIZE = 12_000_000


@pytest.fixture
def stage() -> Iterator[Stage]:
    with staged() as stage:
        stage.start_router()
        yield stage


def every(seconds: float, act: Callable[[], bool], at_most: float = 12.0) -> None:
    """Do `act` at a pace until it says that it is over."""
    end = time.monotonic() + at_most
    while not act():
        assert time.monotonic() < end, "no end"
        time.sleep(seconds)


@pytest.mark.parametrize("framing", [b"Content-Length: 3000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_a_body_that_drips_is_refused(stage: Stage, framing: bytes) -> None:
    worker = stage.worker(echo)
    rows = [revision("R1", worker.port)]
    stage.configure(table(deployment(rows), body_idle_seconds=0.6, client_bytes_per_second=200.0))
    with stage.connect(timeout=0.001) as client:
        client.sendall(POST + framing)

        def drip() -> bool:
            client.sendall(b"1\r\na\r\n" if b"chunked" in framing else b"a")
            with contextlib.suppress(TimeoutError):
                return client.recv(1, 2) == b"H"  # MSG_PEEK
            return False

        every(0.05, drip)
        client.settimeout(10)
        response = Reader(client).response()
        assert (response.status, json.loads(response.body)["error"]["kind"]) == (408, "slow-body")
    assert stage.report()["revisions"]["R1"]["errors"] == {"slow-body": 1}


def test_a_body_that_comes_slowly_is_taken(stage: Stage) -> None:
    worker = stage.worker(echo)
    rows = [revision("R1", worker.port)]
    stage.configure(table(deployment(rows), body_idle_seconds=0.6, client_bytes_per_second=200.0))
    with stage.connect() as client:
        client.sendall(POST + b"Content-Length: 3000\r\n\r\n")
        left = [b"x" * 100] * 30

        def send() -> bool:
            client.sendall(left.pop())
            return not left

        every(0.08, send)
        assert Reader(client).response().body.endswith(b"x" * 3000)


async def generous(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
    for _ in range(SIZE // 100_000):
        writer.write(b"x" * 100_000)
        await writer.drain()
    return True


def test_a_client_that_takes_next_to_nothing_is_cut(stage: Stage) -> None:
    worker = stage.worker(generous)
    rows = [revision("R1", worker.port)]
    stage.configure(table(deployment(rows), write_stall_seconds=0.6, client_bytes_per_second=50_000.0))
    with stage.connect(receive_buffer=8192) as client:
        client.sendall(GET)

        def sip() -> bool:
            with contextlib.suppress(ConnectionError):
                return client.recv(500) == b""
            return True

        every(0.05, sip)
    assert stage.report()["revisions"]["R1"]["errors"] == {"client-stalled": 1}


def test_a_client_that_takes_its_time_gets_all_of_it(stage: Stage) -> None:
    """The kernel holds megabytes for it and asks for no more until a good part has left: that is no stall."""
    worker = stage.worker(generous)
    rows = [revision("R1", worker.port)]
    stage.configure(table(deployment(rows), write_stall_seconds=0.3, client_bytes_per_second=1000.0))
    with stage.connect() as client:
        client.sendall(GET)
        reader = Reader(client)
        reader.head()
        received = 0

        def sip() -> bool:
            nonlocal received
            for _ in range(20 if received > 2_500_000 else 1):
                received += len(reader.exactly(min(50_000, SIZE - received)))
            return received == SIZE

        every(0.05, sip)


@pytest.mark.parametrize(
    ("first", "answers"),
    [
        (b"", 66),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 1),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\r\n", 1),
    ],
)
def test_more_than_is_answered_makes_the_end_no_reset(stage: Stage, first: bytes, answers: int) -> None:
    worker = stage.worker(answering(b"x" * 200))
    stage.configure(table(deployment([revision("R1", worker.port)])))
    for _ in range(10):
        with stage.connect() as client:
            sending = threading.Thread(target=client.sendall, args=(first + GET * 20_000,))
            sending.start()
            reader = Reader(client)
            for _ in range(answers):
                assert reader.response().status == 200
            assert client.recv(1) == b"", "an end in order"
            sending.join()


def test_what_follows_an_upgrade_that_ends_its_connection_makes_the_end_no_reset(stage: Stage) -> None:
    """Little came, and all of it was read: the rest may be on its way."""
    worker = stage.worker(answering(b"x"))
    stage.configure(table(deployment([revision("R1", worker.port)])))
    upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\r\n"
    with stage.connect() as client:
        client.sendall(upgrade + GET)
        reader = Reader(client)
        assert reader.response().status == 200
        assert reader.closed()
        for _ in range(5):
            client.sendall(GET)
