"""Whoever asks for much, or for nothing at all, holds up nobody else."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from running import served
from scene import ENV, ok
from test_access import Keys, guarded, keys  # noqa: F401 - fixtures
from test_watching import stream

from greentic.engine.command import Command
from greentic.server import exchange, watching, wire
from greentic.server.doors import Bucket, GuardedDoor
from greentic.server.oidc import Issuers
from greentic.server.serving import Settings
from greentic.spec.parsing import Payload
from greentic.spec.store_access import Issuer


def test_a_probe_that_hangs_is_asked_for_once(guarded, monkeypatch):  # noqa: F811
    """Anybody may ask whether the server is ready: a database that is away must not take all threads."""
    let, asked = threading.Event(), []

    def probe():
        asked.append(1)
        assert let.wait(60)

    monkeypatch.setattr(guarded.desk.store, "probe", probe)
    monkeypatch.setattr(guarded.desk, "_probed", None)
    with ThreadPoolExecutor(80) as strangers:
        waiting = [strangers.submit(guarded.ask, "GET", "/readyz") for _ in range(80)]
        try:
            assert not wait(waiting, timeout=2).done
            with ThreadPoolExecutor(1) as friend:
                seen = friend.submit(guarded.ask, "GET", ENV, token=guarded.keys_of.values["root"])
                done = wait([seen], timeout=10).done
                let.set()
                assert done, "who is known is answered meanwhile"
                ok(seen.result())
        finally:
            let.set()
        assert {one.result().status_code for one in waiting} == {200}
    assert len(asked) == 1


class TestTheLaneOfAllEnvironments:
    def test_much_of_one_does_not_hold_up_another(self, env):
        done = []

        def job(name, seconds):
            def work(_view):
                time.sleep(seconds)
                done.append(name)

            return work

        def put(environment, number, seconds):
            command = Command(environment, "env", "update", Payload(), f"{environment}{number}", "x")
            return env.desk.store.enqueue(command, job((environment, number), seconds))

        much = [put("much", number, 0.02) for number in range(60)]
        little = [put(f"little{number}", 0, 0) for number in range(3)]
        wait(little, timeout=30)
        assert len([one for one in done if one[0] == "much"]) < 20, "a turn ends, and the others come in between"
        wait(much, timeout=30)
        assert [number for name, number in done if name == "much"] == list(range(60)), "each in its order"


class TestAnswersThatNobodyReads:
    @pytest.fixture
    def crowded(self, tmp_path, monkeypatch):
        monkeypatch.setattr(wire, "STRANGER_SECONDS", 0.5)
        monkeypatch.setattr(wire, "CLOSING_SECONDS", 0.5)
        monkeypatch.setattr(wire, "STALL_SECONDS", 0.5)
        found = Keys(tmp_path / "tokens.json")
        value = found("root")

        def wrap(app):
            async def large(scope, receive, send):
                if not scope["path"].startswith("/large"):
                    await app(scope, receive, send)
                    return
                if scope["path"] == "/large/known":
                    scope["state"]["recognised"](scope["client"][0])
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"x" * 32_000_000})

            return large

        door = GuardedDoor(found.path)
        with served(tmp_path, door, settings=Settings(connections=8), wrap=wrap) as server:
            server.token = value
            yield server

    @pytest.mark.parametrize("path", ["/large/stranger", "/large/known"])
    def test_they_take_no_place_for_ever(self, crowded, path):
        host, port = crowded.url.removeprefix("http://").strip("/").split(":")
        with contextlib.ExitStack() as held:
            for number in range(8):
                source = (f"127.0.0.{number + 2}", 0)
                one = held.enter_context(socket.create_connection((host, int(port)), 20, source_address=source))
                one.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            deadline = time.monotonic() + 20
            while crowded.ask("GET", "/environments", token=crowded.token).status_code != 200:
                assert time.monotonic() < deadline, "whoever reads nothing holds every place"
                time.sleep(0.1)


def test_one_caller_takes_half_of_the_streams(guarded, monkeypatch):  # noqa: F811
    monkeypatch.setattr(watching, "MAX_STREAMS", 4)
    one, other = (guarded.keys_of(name, "read-only") for name in ("one", "other"))
    with contextlib.ExitStack() as held:
        watched = [held.enter_context(stream(guarded, f"{ENV}/watch", authorization=f"Bearer {one}")) for _ in range(2)]
        assert all(next(events) for events in watched)
        assert guarded.ask("GET", f"{ENV}/watch", token=one).status_code == 503
        next(held.enter_context(stream(guarded, f"{ENV}/watch", authorization=f"Bearer {other}")))


class TestIssuers:
    KEY = ed25519.Ed25519PrivateKey.generate()
    CLAIMS = {"iss": "https://id.example", "aud": "store", "sub": "ann", "groups": ["deployers"], "exp": 4e9}  # noqa: RUF012

    @pytest.fixture
    def recognise(self):
        jwk = {**jwt.algorithms.OKPAlgorithm.to_jwk(self.KEY.public_key(), as_dict=True), "kid": "one"}
        broken = {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "broken"}
        published = json.dumps({"keys": [broken, jwk]}).encode()
        grants = [{"claim": "groups", "value": "deployers", "role": "operator"}]
        entry = {"issuer": "https://id.example", "audience": "store", "jwks_uri": "https://id.example/keys"}
        issuer = Issuer.model_validate({**entry, "algorithms": ["EdDSA"], "grants": grants})
        return Issuers((issuer,), lambda _url: published).recognise

    def signed(self, text):
        return jwt.api_jws.encode(text.encode(), self.KEY, "EdDSA", headers={"kid": "one"})

    def test_who_is_granted_something(self, recognise):
        found = recognise(self.signed(json.dumps(self.CLAIMS)))
        assert found.user == "ann (https://id.example)"

    @pytest.mark.parametrize("sub", ["a\nb", "\x1b[31m", "\ud800", " ", "", "a" * 257, 7, ["ann"], None])
    def test_names_that_are_none(self, recognise, sub):
        assert recognise(self.signed(json.dumps({**self.CLAIMS, "sub": sub}))) is None

    @pytest.mark.parametrize("change", ['"exp": 1e999', '"exp": NaN', '"exp": "x"', '"nbf": 1e999', '"iat": 1e999'])
    def test_times_that_are_none(self, recognise, change):
        text = json.dumps({name: value for name, value in self.CLAIMS.items() if name not in change})
        assert recognise(self.signed(f"{text[:-1]}, {change}}}")) is None

    def test_what_is_nested_without_end(self, recognise):
        header, _, signature = self.signed("{}").split(".")
        deep = jwt.utils.base64url_encode(b"[" * 9_000).decode()
        assert recognise(f"{header}.{deep}.{signature}") is None
        assert recognise(f"{deep}.{deep}.{signature}") is None
        assert recognise(self.signed('{"iss":"https://id.example","x":' + "[" * 9_000)) is None


def test_a_stranger_with_a_bomb_for_a_token_is_told_what_every_stranger_is(guarded, monkeypatch, caplog):  # noqa: F811
    path = guarded.keys_of.path
    document = json.loads(path.read_text())
    grant = {"claim": "c", "value": "v", "role": "admin"}
    entry = {"issuer": "https://id.example", "audience": "s", "jwks_uri": "https://id.example/k", "grants": [grant]}
    path.write_text(json.dumps({**document, "issuers": [entry]}))
    deep = jwt.utils.base64url_encode(b"[" * 9_000).decode()
    guarded.desk.doorkeeper = GuardedDoor(path, strangers=Bucket(10_000, 10_000))
    assert guarded.ask("GET", ENV, token=f"{deep[:100]}.{deep}.{deep[:8]}").status_code == 401
    assert guarded.ask("GET", ENV, token=f"{deep}.e30.{deep[:8]}").status_code == 401
    assert "defect" not in caplog.text


def test_a_large_body_is_worked_on_beside(env, monkeypatch):
    let, plain = threading.Event(), exchange.json_of

    def slow(data):
        assert len(data) < 100_000 or let.wait(30)
        return plain(data)

    monkeypatch.setattr(exchange, "json_of", slow)
    with ThreadPoolExecutor(3) as callers:
        large = [callers.submit(env.ask, "PATCH", ENV, {"name": letter * 500_000}) for letter in "ab"]
        try:
            assert not wait(large, timeout=0.5).done
            small = callers.submit(env.ask, "PATCH", ENV, {"name": "x"})
            done = wait([small], timeout=10).done
        finally:
            let.set()
        assert done
        assert [one.result().status_code for one in (*large, small)] == [200] * 3
