"""Requests that say two things, that lie about what they are, or that a page in a browser sends."""

from __future__ import annotations

import logging
import socket

import pytest
from scene import ENV, ok, refused


def sent(server, head, body=b""):
    """(status, head, the rest) of an answer to bytes."""
    host, port = server.url.removeprefix("http://").strip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as wire:
        wire.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        data = b""
        while b"\r\n\r\n" not in data:
            piece = wire.recv(65_536)
            assert piece, "closed before the answer"
            data += piece
    told, _, rest = data.partition(b"\r\n\r\n")
    return int(told.split()[1]), told, rest


@pytest.mark.parametrize("name", ["idempotency-key", "if-match", "if-generation-match", "content-type"])
def test_a_header_that_stands_twice_is_not_chosen_from(env, name):
    values = {
        "idempotency-key": ("one", "two"),
        "if-match": ("a" * 64, "b" * 64),
        "if-generation-match": ("1", "9"),
        "content-type": ("application/json", "text/plain"),
    }
    headers = {"idempotency-key": "k", "content-type": "application/json", "content-length": "12", "host": "127.0.0.1"}
    headers.pop(name, None)
    lines = [f"PATCH {ENV} HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items())]
    lines += [f"{name}: {value}" for value in values[name]]
    assert sent(env, lines, b'{"name":"x"}')[0] == 400
    assert ok(env.ask("GET", ENV))["generation"] == 1


@pytest.mark.parametrize("hosts", [(), ("127.0.0.1", "localhost")])
def test_a_request_names_its_host_once(env, hosts):
    assert sent(env, ["GET /environments HTTP/1.1", *(f"host: {one}" for one in hosts)])[0] == 400


def test_nobody_is_sent_elsewhere(env):
    for path in ("/environments/", f"{ENV}/", "/healthz/", f"{ENV}%2F"):
        status, head, _ = sent(env, [f"GET {path} HTTP/1.1", "host: 127.0.0.1"])
        assert status == 404
        assert b"location" not in head.lower()


def test_what_strangers_send_wrong_does_not_fill_the_log(env, caplog):
    caplog.set_level(logging.WARNING)
    for _ in range(5):
        sent(env, ["GET", "x"])
        sent(env, ["GET /environments HTTP/1.1", "host: 127.0.0.1", "connection: upgrade", "upgrade: websocket"])
    assert not caplog.records


class TestBodies:
    @pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip"])
    def test_none_is_unpacked(self, env, encoding):
        refused(env.ask("PATCH", ENV, {"name": "x"}, **{"content-encoding": encoding}), 400, "invalid-request")
        ok(env.ask("PATCH", ENV, {"name": "x"}, **{"content-encoding": "identity"}))

    @pytest.mark.parametrize("codec", ["utf-16", "utf-8-sig", "utf-32", "latin-1"])
    def test_json_is_in_utf_8(self, env, codec):
        body = '{"name":"ü"}'.encode(codec)
        head = [f"PATCH {ENV} HTTP/1.1", "host: 127.0.0.1", "idempotency-key: k", "content-type: application/json"]
        assert sent(env, [*head, f"content-length: {len(body)}"], body)[0] == 400


class TestRehearsals:
    @pytest.mark.parametrize("said", ["1", "TRUE", "yes", "", "true&dry_run=false"])
    def test_what_is_no_clear_answer_changes_nothing(self, env, said):
        refused(env.ask("POST", f"{ENV}/verbs/env/update?dry_run={said}", {"name": "x"}), 400, "invalid-request")
        assert ok(env.ask("GET", ENV))["generation"] == 1

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [("PATCH", ENV, {"name": "x"}), ("POST", f"{ENV}/backups", None), ("PUT", f"{ENV}/files/env-packs/a", {})],
    )
    def test_where_there_are_none_nothing_happens(self, env, method, path, body):
        refused(env.ask(method, f"{path}?dry_run=true", body), 400, "invalid-request")
        assert ok(env.ask("GET", ENV))["generation"] == 1
        assert ok(env.ask("GET", f"{ENV}/backups"))["backups"] == []


class TestBrowsers:
    """A page must not drive the server of the user who looks at it."""

    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://127.0.0.1:8787"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-origin"},
            {"host": "rebound.evil.example:8787"},
            {"host": "127.0.0.1.evil.example"},
            {"host": "localhost.evil.example"},
        ],
    )
    def test_a_page(self, env, headers):
        refused(env.ask("GET", ENV, **headers), 403, "unauthorized")
        refused(env.ask("PATCH", ENV, {"name": "x"}, **headers), 403, "unauthorized")
        assert ok(env.ask("GET", ENV))["generation"] == 1

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1:8787", "[::1]:80", "[::1]", "a.localhost"])
    def test_names_of_this_machine(self, env, host):
        ok(env.ask("GET", ENV, host=host))

    def test_an_address_that_somebody_typed_into_a_browser(self, env):
        ok(env.ask("GET", ENV, **{"sec-fetch-site": "none"}))
