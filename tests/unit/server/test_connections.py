"""Connections: whoever is not known takes no place for long, and never that of somebody who is."""

from __future__ import annotations

import contextlib
import json
import socket

import pytest
from running import served
from scene import ok
from test_access import Keys

from greentic.server import wire
from greentic.server.doors import GuardedDoor
from greentic.server.serving import Settings

LIMIT = 8


@pytest.fixture
def small(tmp_path):
    """A guarded server with eight places."""
    keys = Keys(tmp_path / "tokens.json")
    value, other = keys("root"), keys("other")
    with served(tmp_path, GuardedDoor(keys.path), settings=Settings(connections=LIMIT)) as found:
        found.token, found.other = value, other
        yield found


@contextlib.contextmanager
def connected(server):
    address = server.url.removeprefix("http://").strip("/").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=20) as wire:
        yield wire


def answer(wire, path, token=None, body=b""):
    """(status, headers, body) of a request on the connection."""
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nhost: x\r\n"
    head += f"authorization: Bearer {token}\r\n" if token else ""
    head += f"content-length: {len(body)}\r\n" if body else ""
    wire.sendall(f"{head}\r\n".encode() + body)
    data = b""
    while b"\r\n\r\n" not in data:
        piece = wire.recv(65_536)
        assert piece, "closed before the answer"
        data += piece
    told, _, rest = data.partition(b"\r\n\r\n")
    lines = told.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    while len(rest) < int(headers["content-length"]):
        rest += wire.recv(65_536)
    return int(lines[0].split()[1]), headers, rest


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/environments", "/nowhere"])
def test_an_answer_to_a_stranger_ends_the_connection(small, path):
    with connected(small) as wire:
        _, headers, _ = answer(wire, path)
        assert headers["connection"] == "close"
        assert wire.recv(1) == b""


def test_who_is_known_stays_connected(small):
    with connected(small) as wire:
        for path in ("/environments", "/healthz", "/environments"):
            status, headers, _ = answer(wire, path, small.token)
            assert (status, headers.get("connection")) == (200, None)


def test_a_stranger_who_sends_a_body_hears_the_answer_and_is_let_go(small, monkeypatch):
    monkeypatch.setattr(wire, "STRANGER_SECONDS", 0.3)
    with connected(small) as connection:
        status, _, _ = answer(connection, "/environments", body=b"x" * 100_000)
        assert status == 401
        assert connection.recv(1) == b""
    with connected(small) as connection:
        assert connection.recv(1) == b"", "who says nothing is let go as well"


def test_idle_strangers_of_one_address_lock_nobody_out(small):
    with contextlib.ExitStack() as held:
        for _ in range(3 * LIMIT):
            held.enter_context(connected(small))
        assert ok(small.ask("GET", "/environments", token=small.token)) == {"environments": []}


def test_a_server_without_a_place_says_so_as_a8_does(small):
    with contextlib.ExitStack() as held:
        for number in range(LIMIT - 1):
            connection = held.enter_context(connected(small))
            assert answer(connection, "/environments", (small.token, small.other)[number % 2])[0] == 200
        status, headers, body = answer(held.enter_context(connected(small)), "/environments", small.token)
        assert (status, headers["retry-after"], headers["content-type"]) == (503, "1", "application/json")
        assert json.loads(body)["kind"] == "busy"


def test_one_caller_takes_half_of_the_places(small):
    """A client that opens connections and forgets them locks out neither others nor itself."""
    with contextlib.ExitStack() as held:
        for _ in range(3 * LIMIT):
            connection = held.enter_context(connected(small))
            assert answer(connection, "/environments", small.token)[0] == 200
        assert ok(small.ask("GET", "/environments", token=small.other)) == {"environments": []}
