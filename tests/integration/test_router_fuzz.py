"""Damaged streams of requests over real sockets, through a real router to a real worker that reads with a parser of
another make. Whatever comes, the worker is told whole requests that are in the stream, in their order, and the router
answers, ends the connection and lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import h11
import pytest
from http_streams import REQUESTS, cut, damaged, known_to_differ, requests_by_h11
from hypothesis import HealthCheck, Phase, example, given, settings
from router_process import Reader, Stage, deployment, revision, staged, table


@dataclass
class Strict:
    """A worker that takes nothing but requests that h11 takes, and answers each with its target."""

    seen: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        method = target = body = b""
        try:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    data = await reader.read(65536)
                    if not data:
                        break
                    connection.receive_data(data)
                elif isinstance(event, h11.Request):
                    method, target, body = event.method, event.target, b""
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    self.seen.append((method, target, body))
                    answer = h11.Response(status_code=200, headers=[("content-length", str(len(target)))])
                    writer.write(connection.send(answer) or b"")
                    if method != b"HEAD":
                        writer.write(connection.send(h11.Data(data=target)) or b"")
                    connection.send(h11.EndOfMessage())
                    connection.start_next_cycle()
        except h11.RemoteProtocolError as error:
            # The router cuts what the client cut; everything else would be its own doing.
            if "peer unexpectedly closed" not in str(error):
                self.bad.append(str(error))
        except ConnectionError:
            pass
        writer.close()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged() as stage:
        stage.start_router()
        yield stage


@pytest.fixture(scope="module")
def worker(stage: Stage) -> Iterator[Strict]:
    strict = Strict()
    server = stage.run(asyncio.start_server(strict, "127.0.0.1", 0))
    stage.configure(table(deployment([revision("R1", server.sockets[0].getsockname()[1])])))
    yield strict

    async def close() -> None:
        server.close()

    stage.run(close())


@settings(
    max_examples=250,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cut(damaged(REQUESTS, 4)))
@example([REQUESTS[1], REQUESTS[1], REQUESTS[3] + REQUESTS[4][:-1], REQUESTS[4][-1:] + REQUESTS[0]])
def test_the_worker_is_told_what_is_in_the_stream_and_nothing_else(
    stage: Stage, worker: Strict, pieces: list[bytes]
) -> None:
    worker.seen.clear()
    whole = b"".join(pieces)
    there, why = requests_by_h11(re.sub(rb"(?<=[A-Z])  +(?=/)|(?<=[!-~])  +(?=HTTP/1)", b" ", whole))
    with stage.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
        answers = Reader(client).rest()
    assert worker.bad == []
    for at, seen in enumerate(worker.seen):
        if at >= len(there):
            assert known_to_differ(why), (why, seen)
            break
        assert seen == tuple(there[at][:3])
        assert there[at][3]
    statuses = re.findall(rb"(?:\A|(?<=\r\n\r\n)|(?<=[a-z]))HTTP/1\.1 ([0-9]{3}) ", answers)
    assert statuses.count(b"200") <= len(worker.seen)
    assert not {b"500", b"502", b"503", b"504"} & set(statuses), answers
    assert stage.process.poll() is None


def test_the_router_is_as_good_as_new_afterwards(stage: Stage, worker: Strict) -> None:
    assert stage.get("/still").body == b"/still"
    report = stage.report()
    assert "internal" not in report["unrouted"]
    assert "internal" not in report["revisions"]["R1"]["errors"]
    assert report["revisions"]["R1"]["in_flight"] == 0
