"""A real redis-server of the test's own, on a Unix socket and a free port of 127.0.0.1."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PASSWORD = "correct horse"


@dataclass
class RedisServer:
    """Where it listens, and its process."""

    port: int
    process: subprocess.Popen[bytes]
    directory: Path

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def settings(self, **more: object) -> dict[str, object]:
        return {"url": self.url, "namespace": "gt", "timeout_ms": 1000, "password": PASSWORD, **more}

    def ask(self, *words: str) -> str:
        """What redis-cli prints."""
        command = ["redis-cli", "-p", str(self.port), "--no-auth-warning", "-a", PASSWORD, *words]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def redis_server(directory: Path, port: int | None = None) -> Iterator[RedisServer]:
    """Skips the test when redis-server is not installed."""
    if shutil.which("redis-server") is None or shutil.which("redis-cli") is None:
        pytest.skip("redis-server is not installed")
    port = free_port() if port is None else port
    options = {"port": port, "bind": "127.0.0.1", "dir": directory, "save": "", "appendonly": "no"}
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    process = subprocess.Popen(
        ["redis-server", *arguments, "--requirepass", PASSWORD],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = RedisServer(port, process, directory)
    try:
        _until_it_answers(server)
        yield server
    finally:
        process.kill()
        process.wait(10)


def _until_it_answers(server: RedisServer) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=1) as probe:
            probe.sendall(b"PING\r\n")
            if probe.recv(64):
                return
        assert server.process.poll() is None
    raise AssertionError("redis-server does not answer")
