"""The skeleton of a new bundle: it builds, and what it builds answers."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import runpy
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from greentic.bundles.build import build
from greentic.bundles.scaffold import init
from greentic.bundles.unpack import unpack
from greentic.bundles.verify import verify
from greentic.spec.errors import Conflict, InvalidArgument


@pytest.mark.parametrize(("kind", "program"), [("asgi", "main.py"), ("process", "serve")])
def test_it_builds(tmp_path, kind, program):
    paths = init(tmp_path / "new/helpdesk", "helpdesk", kind)
    assert [path.relative_to(tmp_path / "new/helpdesk").as_posix() for path in paths] == [
        "bundle.yaml",
        *sorted([f"packs/helpdesk/{program}", "packs/helpdesk/pack.yaml"]),
    ]
    built = build(tmp_path / "new/helpdesk", tmp_path / "b")
    assert verify(built.path).ok


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "a").mkdir()
    assert init(tmp_path / "a", "a")


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / ".hidden").write_text("x")
    with pytest.raises(Conflict):
        init(tmp_path, "a")
    with pytest.raises(Conflict):
        init(tmp_path / ".hidden", "a")
    assert [path.name for path in tmp_path.iterdir()] == [".hidden"]


@pytest.mark.parametrize("bundle_id", ["", "A", "-a", "a/b", "..", "a" * 64, "a b", "ä", "a\n"])
def test_bundle_ids_that_cannot_be(tmp_path, bundle_id):
    with pytest.raises(InvalidArgument):
        init(tmp_path / "x", bundle_id)
    assert list(tmp_path.iterdir()) == []


def test_unknown_kind(tmp_path):
    with pytest.raises(InvalidArgument, match="asgi, process"):
        init(tmp_path / "x", "a", "wasm")


IDENTITY = {"GREENTIC_ENV_ID": "local", "GREENTIC_REVISION_ID": "01J", "GREENTIC_BUNDLE_ID": "helpdesk"}


def answers(ask):
    """What every skeleton answers; `ask(method, path, body)` gives status and document."""
    assert ask("GET", "/healthz", b"") == (200, {"status": "ok"})
    status, document = ask("GET", "/", b"")
    assert status == 200
    assert document["greentic_revision_id"] == "01J"
    assert document["greentic_deployment_id"] is None
    status, document = ask("POST", "/message", b'{"text": "hi"}')
    assert (status, document["reply"]) == (200, "You said: hi")
    for body in (b"{", b"[]", b"{}", b"\xff"):
        assert ask("POST", "/message", body)[0] == 400
    assert ask("GET", "/nothing", b"")[0] == 404
    assert ask("POST", "/nothing", b"")[0] == 404
    assert ask("POST", "/message", b"x" * 70_000)[0] == 413


def test_asgi(tmp_path, monkeypatch):
    init(tmp_path / "s", "helpdesk")
    entry = unpack(build(tmp_path / "s", tmp_path / "b").path, tmp_path / "out").entry
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GREENTIC_DEPLOYMENT_ID", raising=False)
    app = runpy.run_path(str(entry.directory / "main.py"))["app"]

    def ask(method, path, body):
        sent = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(event):
            sent.append(event)

        asyncio.run(app({"type": "http", "method": method, "path": path}, receive, send))
        assert dict(sent[0]["headers"])[b"content-length"] == str(len(sent[1]["body"])).encode()
        return sent[0]["status"], json.loads(sent[1]["body"])

    answers(ask)


def test_process(tmp_path):
    init(tmp_path / "s", "helpdesk", "process")
    entry = unpack(build(tmp_path / "s", tmp_path / "b").path, tmp_path / "out").entry
    assert entry.manifest.application.command == ("./serve", "--port", "$PORT")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        ["./serve"],
        cwd=entry.directory,
        env={"PATH": path, "PORT": str(port), **IDENTITY},
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)

        def ask(method, path, body):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request(method, path, body)
                response = connection.getresponse()
                return response.status, json.loads(response.read())
            finally:
                connection.close()

        answers(ask)
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
