"""Drives the real `gtc` as a user does: a process per command, a folder of its own, a free port."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

APPLICATION = """
import asyncio, json, os, sys

VERSION = {version!r}
CONFIG = json.load(open(os.environ["GREENTIC_CONFIG_FILE"])) if os.environ.get("GREENTIC_CONFIG_FILE") else {{}}

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({{"type": message["type"] + ".complete"}})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["path"].endswith("/slow"):
        await asyncio.sleep(float(scope["query_string"] or b"1"))
    if scope["path"].endswith("/exit"):
        os._exit(3)
    answer = json.dumps({{
        "version": VERSION, "revision": os.environ["GREENTIC_REVISION_ID"], "pid": os.getpid(), "path": scope["path"],
        "config": CONFIG, "body": len(body), "operator": os.environ.get("OPERATOR_SECRET"),
    }}).encode()
    await send({{"type": "http.response.start", "status": {status} if scope["path"] == "/healthz" else 200,
                "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]}})
    await send({{"type": "http.response.body", "body": answer}})
"""


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)["result"]

    @property
    def error(self) -> Mapping[str, Any]:
        assert self.status != 0, self.out
        return json.loads(self.err.strip().splitlines()[-1])["error"]


class CommandLine:
    """`gtc` with its own environments."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        self.environment = {**os.environ, "GREENTIC_STORE_ROOT": str(root), "OPERATOR_SECRET": "hunter2"}
        self.environment.pop("GREENTIC_ENV", None)

    def __call__(self, *words: str, as_json: bool = True, stdin: str | None = None) -> Ran:
        """Run `gtc WORDS`; progress and errors of people are in `err`."""
        command = [sys.executable, "-m", "greentic.cli.main", *words, *(["--json"] if as_json else [])]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=90, input=stdin, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def init(self) -> None:
        """The environment `local` on a free port."""
        assert self("op", "env", "init", "--listen-addr", f"127.0.0.1:{self.port}").result["outcome"] == "created"

    def get(self, path: str = "/", **headers: str) -> tuple[int, Any]:
        """One request as a new visitor: (status, JSON body)."""
        status, body = request(self.port, path, headers)
        return status, json.loads(body)


def request(port: int, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """One GET on a connection of its own."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in (headers or {}).items()]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_worker(folder: Path, version: str, *, status: int = 200, application: str | None = None) -> Path:
    """A bundle's source: an ASGI application that says who it is."""
    pack = folder / "packs" / "assistant"
    pack.mkdir(parents=True)
    (folder / "bundle.yaml").write_text(f"bundle_id: assistant\nbundle_name: Assistant\nversion: {version}\n")
    (pack / "pack.yaml").write_text(
        f"""pack_id: assistant
version: {version}
kind: application
application: {{kind: asgi, app: "main:application"}}
health: {{path: /healthz, timeout_seconds: 10}}
setup:
  - {{name: tone, type: string, default: calm}}
"""
    )
    (pack / "main.py").write_text(
        APPLICATION.format(version=version, status=status) if application is None else application
    )
    return folder


def build(source: Path, output: Path) -> Path:
    """The bundle of `source` at `output`."""
    from greentic.bundles.build import build as make

    return make(source, output).path
