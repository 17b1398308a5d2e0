"""An issuer that hangs: whose keys are not there holds nobody up but those who need them."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from scene import ENV, ok
from test_access import guarded, keys  # noqa: F401 - fixtures

from greentic.server import desk, oidc
from greentic.server.doors import Bucket, GuardedDoor
from greentic.server.oidc import Issuers

ISSUER = {
    "issuer": "https://id.example",
    "audience": "store",
    "jwks_uri": "https://id.example/keys",
    "grants": [{"claim": "c", "value": "v", "role": "admin"}],
}


class Hanging:
    """An issuer's keys, which come when they are let."""

    def __init__(self):
        self.asked, self.let, self.count = threading.Event(), threading.Event(), 0

    def __call__(self, _url):
        self.count += 1
        self.asked.set()
        assert self.let.wait(30)
        return json.dumps({"keys": []}).encode()


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.fixture
def hanging():
    found = Hanging()
    yield found
    found.let.set()


def test_what_is_known_is_told_while_one_fetches(hanging):
    time = [0.0]
    held = oidc._Keys("https://id.example/keys", hanging, lambda: time[0], found={"old": "key"})
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(held.of, "new")
        assert hanging.asked.wait(10)
        assert held.of("old") == "key"
        assert held.of("another") is None
        hanging.let.set()
        assert fetching.result(10) is None
    assert hanging.count == 1


def test_strangers_who_wait_for_an_issuer_do_not_hold_up_who_is_known(guarded, hanging):  # noqa: F811
    root, path = guarded.keys_of.values["root"], guarded.keys_of.path
    path.write_text(json.dumps({**json.loads(path.read_text()), "issuers": [ISSUER]}))
    door = GuardedDoor(
        path, strangers=Bucket(10_000, 10_000), issuers=lambda access: Issuers(access.issuers, fetch=hanging)
    )
    guarded.desk.doorkeeper = door
    forged = f"{part({'kid': 'x', 'alg': 'RS256'})}.{part({'iss': 'https://id.example'})}.{part('nobody')}"
    host, port = guarded.url.removeprefix("http://").strip("/").split(":")
    request = f"GET {ENV} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {forged}\r\n\r\n".encode()
    with contextlib.ExitStack() as held:
        for _ in range(desk.THREADS + desk.ASKING):
            wire = held.enter_context(socket.create_connection((host, int(port)), timeout=20))
            wire.sendall(request)
        assert hanging.asked.wait(10)
        with ThreadPoolExecutor(1) as pool:
            known = pool.submit(guarded.ask, "GET", ENV, token=root)
            try:
                ok(known.result(4))
            finally:
                hanging.let.set()


def test_a_fetch_ends_whatever_its_sender_does(monkeypatch):
    monkeypatch.setattr(oidc, "FETCH_SECONDS", 0.4)
    over = threading.Event()

    def drip(listener):
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
            while not over.wait(0.05):
                connection.sendall(b"a")

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        dripping = pool.submit(drip, listener)
        try:
            with pytest.raises(OSError, match="within"):
                oidc.fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/keys")
        finally:
            over.set()
        dripping.result(10)
