"""The router beside nginx and HAProxy, in one run, in front of one upstream: `python -m benchmarks.router`.

Rounds are interleaved: every peer is measured once per round, and the median over rounds is reported, so that a noisy
neighbour harms all alike. Trust the ratios. Everything listens on 127.0.0.1 and ends with the run.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.load import generate
from greentic.router.control import RouterControl

FIELDS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.7",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://shop.example.org/basket/overview",
    "Cache-Control": "no-cache",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "cors",
    "Cookie": "theme=dark; consent=1; session=4f1c2a9be07d4d7b",
}
BODIES = {"1k": 1024, "100k": 100 * 1024}
VARIED = "1k varied"
"""The small body, asked for with another target and another Referer in every request, so that no head repeats."""
VARY = """
local number = 0
request = function()
  number = number + 1
  wrk.headers["Referer"] = "https://shop.example.org/basket/" .. number
  return wrk.format("GET", wrk.path .. "?number=" .. number)
end
"""

NGINX_UPSTREAM = """
daemon off; worker_processes 1; pid {folder}/upstream.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 75s; sendfile on; tcp_nopush on; {temp}
  server {{ listen 127.0.0.1:{port} backlog=1024; root {folder}/files; }} }}
"""
NGINX_PROXY = """
daemon off; worker_processes 1; pid {folder}/proxy.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; {temp}
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


@dataclass
class Sample:
    """One measurement: requests per second, latency (ms), failed requests, CPU per request (µs)."""

    peer: str
    body: str
    connections: int
    round: int
    rate: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_us: float | None


@dataclass
class Peer:
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
def running(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
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
    with contextlib.suppress(OSError):
        for child in children.read_text().split():
            return int(child)
    return process.pid


def cpu_seconds(pid: int | None) -> float | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def nginx(folder: Path, name: str, template: str, **values: int) -> list[str]:
    temp = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / f"{name}.conf"
    path.write_text(template.format(folder=folder, temp=temp, **values))
    return [tool("nginx") or "nginx", "-p", str(folder), "-c", str(path), "-e", "stderr"]


def tool(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def table(upstream: int, deployments: int) -> dict[str, object]:
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
        "deployments": [row(number) for number in range(deployments)], "options": {"stamp_revision": True},
    }  # fmt: skip


@contextlib.contextmanager
def router(upstream: int, deployments: int, *flags: str) -> Iterator[tuple[int, int]]:
    """The router with a table: its port and process id."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening, asyncio.Runner() as runner:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "greentic.router", "--listen-fd", str(listening.fileno()), *flags]
            process = subprocess.Popen(
                [*command, "--control-fd", str(theirs.fileno())], pass_fds=[listening.fileno(), theirs.fileno()]
            )
        try:
            control: RouterControl = runner.run(RouterControl.connect(ours))
            runner.run(control.ready())
            print(f"router: {runner.run(control.configure(table(upstream, deployments))).compile_ms} ms to compile")
            yield listening.getsockname()[1], process.pid
            runner.run(control.stop(0))
            process.wait(10)
        finally:
            process.kill()
            process.wait()


def by_wrk(port: int, body: str, connections: int, seconds: float) -> tuple[float, float, float, int]:
    fields = [word for name, value in FIELDS.items() for word in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", *fields]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        if body == VARIED:
            script.write(VARY)
            script.flush()
            command += ["-s", script.name]
        command.append(f"http://127.0.0.1:{port}/{body.split()[0]}")
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", output)[0])
    p50, p99 = (_milliseconds(re.findall(rf"^ +{share}%\s+(\S+)", output, re.MULTILINE)[0]) for share in (50, 99))
    failed = "".join(re.findall(r"(?:Socket errors: |Non-2xx or 3xx responses: )(.*)", output))
    errors = sum(map(int, re.findall(r"\d+", failed)))
    return rate, p50, p99, errors


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]


def measure(peer: Peer, body: str, connections: int, seconds: float, number: int) -> Sample:
    before = cpu_seconds(peer.pid)
    load = by_wrk if tool("wrk") else lambda *words: generate(*words, FIELDS)
    rate, p50, p99, errors = load(peer.port, body, connections, seconds)
    after = cpu_seconds(peer.pid)
    spent = None
    if before is not None and after is not None and rate:
        spent = round((after - before) / (rate * max(1, round(seconds))) * 1e6, 1)
    return Sample(peer.name, body, connections, number, rate, p50, p99, errors, spent)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="per measurement")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deployments", type=int, default=1, help="deployments in the router's table")
    parser.add_argument("--json", type=Path, help="where to write the raw samples")
    options = parser.parse_args()
    missing = [name for name in ("nginx", "haproxy", "wrk") if tool(name) is None]
    for name in missing:
        print(f"{name} is not installed: {'our own load generator is used' if name == 'wrk' else 'not compared'}")
    # Our own generator cannot vary its requests.
    bodies = [*BODIES, *([VARIED] if "wrk" not in missing else [])]
    samples: list[Sample] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="greentic-bench-")))
        folder.chmod(0o755)
        (folder / "files").mkdir()
        for name, size in BODIES.items():
            (folder / "files" / name).write_bytes(os.urandom(size))
        upstream = free_port()
        if "nginx" in missing:
            stack.enter_context(
                running([sys.executable, "-m", "benchmarks.load", str(upstream), str(folder / "files")], upstream)
            )
        else:
            stack.enter_context(running(nginx(folder, "upstream", NGINX_UPSTREAM, port=upstream), upstream))
        peers = [Peer("direct", upstream, None)]
        if "nginx" not in missing:
            port = free_port()
            process = stack.enter_context(
                running(nginx(folder, "proxy", NGINX_PROXY, port=port, upstream=upstream), port)
            )
            peers.append(Peer("nginx", port, worker_pid(process)))
        if (haproxy := tool("haproxy")) is not None:
            port = free_port()
            (folder / "haproxy.cfg").write_text(HAPROXY.format(port=port, upstream=upstream))
            process = stack.enter_context(running([haproxy, "-db", "-f", str(folder / "haproxy.cfg")], port))
            peers.append(Peer("haproxy", port, process.pid))
        port, pid = stack.enter_context(router(upstream, options.deployments))
        peers.append(Peer("router", port, pid))
        for peer in peers:  # warm up: connections, caches, specialised bytecode
            measure(peer, "1k", options.connections, 1, -1)
        for number in range(options.rounds):
            for body in bodies:
                for connections in (options.connections, 1):
                    for peer in peers:
                        samples += [measure(peer, body, connections, options.seconds, number)]
    print_table(samples, bodies, options.connections)
    path = options.json or Path(__file__).parent / "results" / f"router-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "python": platform.python_version(),
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "missing": missing,
    }
    settings = {key: value for key, value in vars(options).items() if key != "json"}
    path.write_text(
        json.dumps({"about": about, "options": settings, "samples": [asdict(s) for s in samples]}, indent=1)
    )
    print(f"raw samples: {path}")
    return 1 if any(sample.errors for sample in samples) else 0


def print_table(samples: list[Sample], bodies: list[str], connections: int) -> None:
    """Medians over the rounds, with ratios to nginx and HAProxy and the p50 added at one connection."""

    def middle(peer: str, body: str, count: int, what: str) -> float:
        values = [getattr(s, what) for s in samples if (s.peer, s.body, s.connections) == (peer, body, count)]
        values = [value for value in values if value is not None]
        return statistics.median(values) if values else float("nan")

    print(
        f"\n{'body':9} {'peer':8} {'req/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'CPU µs':>7}"
        f" {'of nginx':>9} {'of HAProxy':>11} {'added p50 ms at 1':>18} {'errors':>7}"
    )
    for body in bodies:
        rates = {s.peer: middle(s.peer, body, connections, "rate") for s in samples}
        direct = middle("direct", body, 1, "p50_ms")
        for peer, rate in rates.items():
            errors = sum(s.errors for s in samples if (s.peer, s.body) == (peer, body))
            ratios = [f"{rate / rates[other]:.2f}" if other in rates else "-" for other in ("nginx", "haproxy")]
            print(
                f"{body:9} {peer:8} {rate:9.0f} {middle(peer, body, connections, 'p50_ms'):8.2f}"
                f" {middle(peer, body, connections, 'p99_ms'):8.2f} {middle(peer, body, connections, 'cpu_us'):7.1f}"
                f" {ratios[0]:>9} {ratios[1]:>11} {middle(peer, body, 1, 'p50_ms') - direct:18.3f} {errors:7}"
            )


if __name__ == "__main__":
    sys.exit(main())
