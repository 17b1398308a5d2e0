"""100,000 requests over real HTTP: a real router, a worker for each revision, every visitor counted where it went."""

from __future__ import annotations

import asyncio
import re
import socket
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.integration.router_process import Stage, deployment, revision, table

CLIENTS = 40
REQUESTS = 20_000
"""Of each split; five splits."""
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REVISION = re.compile(rb"\r\nX-Greentic-Revision: (\S+)\r\n")


class Worker(asyncio.Protocol):
    """Counts requests and answers them."""

    def __init__(self, counts: Counter[str], name: str) -> None:
        self._counts = counts
        self._name = name
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        # The router writes a head in one piece, and no other before the answer.
        assert data.endswith(b"\r\n\r\n")
        self._counts[self._name] += 1
        self.transport.write(ANSWER)


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


def answer(client: socket.socket) -> bytes:
    """The head of the next answer."""
    data = client.recv(65_536)
    while not data.endswith(b"\r\n\r\nok"):
        piece = client.recv(65_536)
        assert piece, data
        data += piece
    assert data.startswith(b"HTTP/1.1 200 "), data
    return data


@pytest.mark.parametrize(
    "shares",
    [
        (9_900, 100),
        (5_000, 5_000),
        (3_333, 3_333, 3_334),
        (9_989, 1, 2, 3, 5),
        (1_250, 1_250, 625, 625, 1_000, 250, 500, 500, 1_111, 889, 300, 700, 400, 100, 499, 1),
    ],
    ids=str,
)
def test_each_revision_gets_its_share_of_20_000_visitors_to_within_one(stage: Stage, shares: tuple[int, ...]) -> None:
    """After every round in which nothing is in flight, that is after every 40 visitors."""
    names = [f"r{number}" for number in range(len(shares))]
    arrived: Counter[str] = Counter()

    async def serve(name: str) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(lambda: Worker(arrived, name), "127.0.0.1", 0)

    servers = [stage.run(serve(name)) for name in names]
    try:
        stage.start_router()
        rows = [revision(name, one.sockets[0].getsockname()[1]) for name, one in zip(names, servers, strict=True)]
        slots = [[share, index] for index, share in enumerate(shares)]
        stage.configure(table(deployment(rows, slots)))
        told: Counter[str] = Counter()
        clients = [stage.connect() for _ in range(CLIENTS)]
        sent = 0
        while sent < REQUESTS:
            for number, client in enumerate(clients):
                client.sendall(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % (sent + number))
            for client in clients:
                found = REVISION.search(answer(client))
                assert found is not None
                told[found[1].decode()] += 1
            sent += CLIENTS
            for name, share in zip(names, shares, strict=True):
                assert abs(told[name] * 10_000 - sent * share) < 10_000, (sent, name, told[name])
        for client in clients:
            client.close()
        # It went where the answer says, and each slot of the table was as good as any other: two rounds are complete.
        assert arrived == told == Counter({name: 2 * share for name, share in zip(names, shares, strict=True)})
        counted = stage.report()["revisions"]
        assert {name: counted[name]["requests"] for name in names} == dict(told)
    finally:
        for server in servers:
            stage.run(_close(server))


async def _close(server: asyncio.Server) -> None:
    server.close()
