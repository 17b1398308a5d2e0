"""What the router is measured beside, and how each is started: nginx, HAProxy, and the router itself.

Everything listens on 127.0.0.1 and ends with its context. One process and one thread each.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greentic.router.control import RouterControl

NGINX_UPSTREAM = """
daemon off; worker_processes 1; pid {folder}/upstream.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 75s; sendfile on; tcp_nopush on; {temp}
  server {{ listen 127.0.0.1:{port} backlog=1024; root {folder}/files; }} }}
"""
NGINX_PROXY = """
daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{ access_log {log}; keepalive_requests 1000000000; {temp}
  upstream workers {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=1024;
    location / {{ proxy_pass http://workers; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Request-Id $request_id; proxy_buffers 8 64k; proxy_buffer_size 64k; }} }} }}
"""
HAPROXY = """
global
    nbthread 1
    maxconn 8000
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    option http-keep-alive
    http-reuse always
    option forwardfor
frontend fe
    bind 127.0.0.1:{port} backlog 1024
    http-request set-header X-Request-Id %[uuid()]
    default_backend workers
backend workers
    server w 127.0.0.1:{upstream} pool-max-conn 512
"""
READY_SECONDS = 60.0
"""A router under a profiler on a busy machine takes its time."""
HAPROXY_RULES = Path(__file__).with_name("haproxy-rules.cfg")


@dataclass
class Peer:
    """Somebody who answers on `port`; `pid` is None when nobody counts the CPU."""

    name: str
    port: int
    pid: int | None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"a peer did not start: {process.args!r}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise SystemExit("a peer did not listen within 10 s")


@contextlib.contextmanager
def running(command: list[str], port: int, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """`command` until the end of the context, once it listens on `port`; `how` goes to Popen."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **how)
    try:
        wait_for(port, process)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def worker_pid(process: subprocess.Popen[bytes]) -> int:
    """The process that does the work: nginx's one worker, or the process itself."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 1
    # The one that listens may not have forked yet.
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                return int(child)
        time.sleep(0.02)
    return process.pid


def cpu_seconds(pid: int | None) -> float | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def nginx(folder: Path, name: str, template: str, **values: int | str) -> list[str]:
    temp = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / f"{name}.conf"
    path.write_text(template.format(folder=folder, name=name, temp=temp, **values))
    return [tool("nginx") or "nginx", "-p", str(folder), "-c", str(path), "-e", "stderr"]


def tool(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def table(upstream: int, deployments: int, **options: Any) -> dict[str, object]:
    """A split of two revisions at 99:1, and as many other deployments beside it as asked for."""

    def row(number: int) -> dict[str, object]:
        name = f"D{number}"
        revisions = [
            {
                "revision_id": f"{name}R{index}",
                "address": f"127.0.0.1:{upstream}",
                "state": "ready",
                "since": 1,
                "name": "v",
            }
            for index in range(2)
        ]
        return {
            "deployment_id": name, "bundle_id": "bench", "customer_id": "bench", "tenant": "bench", "team": "bench",
            "hosts": [], "path_prefixes": ["/"] if not number else [f"/other/{number}"], "generation": 1,
            "revisions": revisions, "slots": [[9_900, 0], [100, 1]],
        }  # fmt: skip

    secret = base64.b64encode(os.urandom(32)).decode()
    return {
        "version": 1, "env_id": "bench", "keys": {"active": "k", "ring": [{"kid": "k", "secret": secret}]},
        "deployments": [row(number) for number in range(deployments)], "options": {"stamp_revision": True, **options},
    }  # fmt: skip


@contextlib.contextmanager
def upstream_files(folder: Path, bodies: Mapping[str, int]) -> Iterator[int]:
    """The port of a server of files of random bytes, by name and size: nginx, or our own where there is none."""
    folder.chmod(0o755)
    (folder / "files").mkdir()
    for name, size in bodies.items():
        (folder / "files" / name).write_bytes(os.urandom(size))
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.load", str(port), str(folder / "files")]
    if tool("nginx") is not None:
        command = nginx(folder, "upstream", NGINX_UPSTREAM, port=port)
    with running(command, port):
        yield port


@contextlib.contextmanager
def haproxy_rules(folder: Path, upstream: int) -> Iterator[Peer]:
    """HAProxy with the router's rules."""
    place = folder / "rules"
    place.mkdir()
    (place / "dial.map").write_text("0:99 canary\n100:9999 stable\n")
    port = free_port()
    environment = {
        **os.environ,
        "PORT": str(port),
        "UPSTREAM": str(upstream),
        "SIGNING_KEY": base64.b64encode(os.urandom(32)).decode(),
        "TRUST_TOKEN": os.urandom(16).hex(),
    }
    command = [tool("haproxy") or "haproxy", "-db", "-f", str(HAPROXY_RULES)]
    with running(command, port, cwd=place, env=environment) as process:
        yield Peer("rules", port, process.pid)


class Router:
    """The router with a table, until it is closed."""

    def __init__(self, document: Mapping[str, object], *flags: str, prefix: Sequence[str] = ()) -> None:
        """`prefix`: a command that the router's is given to, a profiler."""
        self._runner = asyncio.Runner()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        ours, theirs = socket.socketpair()
        with theirs:
            command = [*prefix, sys.executable, "-m", "greentic.router", *flags]
            command += ["--listen-fd", str(self._listening.fileno())]
            self._process = subprocess.Popen(
                [*command, "--control-fd", str(theirs.fileno())],
                pass_fds=[self._listening.fileno(), theirs.fileno()],
            )
        try:
            self._control: RouterControl = self._runner.run(RouterControl.connect(ours))
            self._runner.run(self._control.ready(READY_SECONDS))
            self.compile_ms = self.configure(document)
        except BaseException:
            self.kill()
            raise
        self.port = int(self._listening.getsockname()[1])
        self.pid = self._process.pid

    def configure(self, document: Mapping[str, object]) -> float:
        """Serve by the table in `document`; the milliseconds it took to compile."""
        return self._runner.run(self._control.configure(document)).compile_ms

    def report(self) -> dict[str, Any]:
        """Everything that it counted."""
        return self._runner.run(self._control.report())

    def close(self) -> None:
        """Stop it, and see that it ends."""
        try:
            self._runner.run(self._control.stop(0))
            self._process.wait(10)
        finally:
            self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._listening.close()
        self._runner.close()
