"""The deployer at work: real commands of `gtc`, a real worker, real requests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[1]
MAIN = """
import os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = os.environ["GREENTIC_REVISION_NAME"].encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": STATUS, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


class Gtc:
    """The command line, with environments of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.variables = {
            **os.environ,
            "GREENTIC_STORE_ROOT": str(folder / "environments"),
            "GREENTIC_ENV_PACKS": str(folder / "env-packs"),
            "GTC_OPERATOR_KEY_PATH": str(folder / "operator" / "key.pem"),
        }

    def __call__(self, *words: str, fails: bool = False) -> Any:
        command = [sys.executable, "-m", "greentic.cli.main", *words, "--json"]
        done = subprocess.run(command, env=self.variables, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode != 0) is fails, done.stderr
        return json.loads((done.stderr if fails else done.stdout).splitlines()[-1])["error" if fails else "result"]

    def get(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=20) as answer:
            return str(answer.read().decode())

    def bundle(self, version: str, status: int = 200) -> str:
        pack = self.folder / version / "packs" / "web"
        pack.mkdir(parents=True)
        (self.folder / version / "bundle.yaml").write_text(f"bundle_id: web\nbundle_name: web\nversion: {version}\n")
        (pack / "pack.yaml").write_text(
            f"pack_id: web\nversion: {version}\nkind: application\n"
            "application: {kind: asgi, app: 'main:app'}\nhealth: {path: /, timeout_seconds: 10}\n"
        )
        (pack / "main.py").write_text(MAIN.replace("STATUS", str(status)))
        archive = self.folder / f"{version}.gtbundle"
        self("bundle", "build", str(self.folder / version), "--output", str(archive))
        return str(archive)


@pytest.fixture
def gtc(tmp_path: Path) -> Iterator[Gtc]:
    line = Gtc(tmp_path)
    line("op", "env", "init", "--listen-addr", f"127.0.0.1:{line.port}")
    if (PROJECT / "env-pack.json").exists():  # an executable; a distribution is there when it is installed
        line("env-pack", "seal", str(PROJECT), "--no-signature")
        line("env-pack", "install", str(PROJECT), "--unsigned")
    line("op", "env-packs", "update", "deployer", "acme.deployer.example")
    yield line
    line("stop")


def test_a_life_of_two_versions(gtc: Gtc) -> None:
    gtc("op", "deploy", "--bundle", gtc.bundle("1.0.0"), "web")
    assert gtc.get() == "v1"
    gtc("op", "deploy", "--bundle", gtc.bundle("2.0.0"), "web", "--traffic", "0%")
    assert {gtc.get() for _ in range(5)} == {"v1"}
    gtc("op", "traffic", "set", "web", "v1=50%", "v2=50%")
    assert sorted(gtc.get() for _ in range(20)) == ["v1"] * 10 + ["v2"] * 10
    gtc("op", "traffic", "rollback", "web")
    assert {gtc.get() for _ in range(5)} == {"v1"}
    gtc("op", "traffic", "set", "web", "v2=100%")
    assert {gtc.get() for _ in range(5)} == {"v2"}
    gtc("op", "revisions", "drain", "web", "v1")
    gtc("op", "revisions", "archive", "web", "v1")
    assert gtc.get() == "v2"
    gtc("stop")
    with pytest.raises(OSError):
        gtc.get()


def test_its_routers_are_greentics_own(gtc: Gtc) -> None:
    gtc("op", "deploy", "--bundle", gtc.bundle("1.0.0"), "web")
    gtc("op", "config", "set", "--router", "replicas=2")
    assert gtc("op", "status")["routers"] == 2
    before = {one["process_id"] for one in gtc("op", "status")["router_states"]}
    assert len(gtc("op", "router", "restart")["restarted"]) == 2
    assert not before & {one["process_id"] for one in gtc("op", "status")["router_states"] if one["state"] == "serving"}
    assert gtc("op", "router", "rotate-keys")["acknowledged"] == 2
    assert gtc.get() == "v1"


def test_a_worker_that_is_not_healthy_gets_no_traffic(gtc: Gtc) -> None:
    gtc("op", "deploy", "--bundle", gtc.bundle("1.0.0"), "web")
    error = gtc("op", "deploy", "--bundle", gtc.bundle("2.0.0", status=500), "web", fails=True)
    assert error["kind"] == "gate-failed"
    assert gtc.get() == "v1"
