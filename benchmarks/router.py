"""The router beside nginx and HAProxy, in one run, in front of one upstream: `python -m benchmarks.router`.

Rounds are interleaved: every peer is measured once per round, and the median over rounds is reported, so that a noisy
neighbour harms all alike. Trust the ratios. Everything listens on 127.0.0.1 and ends with the run.

Peers: `direct` (no proxy), `nginx` (with an access log too) and `haproxy` (no selection), `rules` (HAProxy with the
router's selection rules, see haproxy-rules.cfg), `router`. Then the router by itself, beside a plain one of the same
run: with larger tables, with the access log, scraped every second, and with requests that name a session.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import plot
from benchmarks.load import generate
from benchmarks.peers import (
    HAPROXY,
    NGINX_PROXY,
    Peer,
    Router,
    cpu_seconds,
    free_port,
    haproxy_rules,
    nginx,
    running,
    table,
    tool,
    upstream_files,
    worker_pid,
)

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
SESSIONS = "1k sessions"
"""The small body, asked for by a thousand sessions in turn."""
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
BY_SESSION = """
local number = 0
request = function()
  number = number + 1
  wrk.headers["X-Greentic-Session"] = "session-" .. number % 1000
  return wrk.format("GET")
end
"""
SCRIPTS = {VARIED: VARY, SESSIONS: BY_SESSION}
SIZES = (100, 1_000)
"""Deployments in the larger tables."""


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
class Variant:
    """The router in another situation: what it is asked for, and what else is done meanwhile, every second."""

    peer: Peer
    body: str = "1k"
    meanwhile: Callable[[], Any] | None = None


def by_wrk(port: int, body: str, connections: int, seconds: float) -> tuple[float, float, float, int]:
    """Requests per second, p50 and p99 (ms), and errors."""
    fields = [word for name, value in FIELDS.items() for word in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", *fields]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        if body in SCRIPTS:
            script.write(SCRIPTS[body])
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


def measure(
    peer: Peer,
    body: str,
    connections: int,
    seconds: float,
    number: int,
    meanwhile: Callable[[], Any] | None = None,
) -> Sample:
    """One measurement in round `number`."""
    before = cpu_seconds(peer.pid)
    load = by_wrk if tool("wrk") else lambda *words: generate(*words, FIELDS)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(load, peer.port, body, connections, seconds)
        while meanwhile is not None and not running.done():
            meanwhile()
            time.sleep(1)
        rate, p50, p99, errors = running.result()
    after = cpu_seconds(peer.pid)
    spent = None
    if before is not None and after is not None and rate:
        spent = round((after - before) / (rate * max(1, round(seconds))) * 1e6, 1)
    return Sample(peer.name, body, connections, number, rate, p50, p99, errors, spent)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4, help="per measurement [4]")
    parser.add_argument("--connections", type=int, default=64, help="beside one [64]")
    parser.add_argument("--rounds", type=int, default=3, help="[3]")
    parser.add_argument("--short", action="store_true", help="one round of a second: whether it works, not how fast")
    parser.add_argument("--json", type=Path, help="where to write the raw samples; the plot goes beside them")
    options = parser.parse_args()
    if options.short:
        options.seconds = options.rounds = 1
    missing = [name for name in ("nginx", "haproxy", "wrk") if tool(name) is None]
    for name in missing:
        print(f"{name} is not installed: {'our own load generator is used' if name == 'wrk' else 'not compared'}")
    # Our own generator cannot vary its requests.
    bodies = [*BODIES, *([VARIED] if "wrk" not in missing else [])]
    samples: list[Sample] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="greentic-bench-")))
        upstream = stack.enter_context(upstream_files(folder, BODIES))
        peers = _peers(stack, folder, upstream, missing)
        variants = _variants(stack, folder, upstream, missing, peers[-1])
        for peer in [*peers, *(variant.peer for variant in variants)]:  # connections, caches, specialised bytecode
            measure(peer, "1k", options.connections, 1, -1)
        for number in range(options.rounds):
            for body in bodies:
                for connections in (options.connections, 1):
                    for peer in peers:
                        samples += [measure(peer, body, connections, options.seconds, number)]
            for variant in variants:
                words = (variant.peer, variant.body, options.connections, options.seconds, number)
                samples += [measure(*words, variant.meanwhile)]
    print_table(samples, bodies, options.connections)
    print_variants(samples, [variant.peer.name for variant in variants], options.connections)
    path = options.json or Path(__file__).parent / "results" / f"router-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "python": platform.python_version(),
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "missing": missing,
    }
    settings = {key: value for key, value in vars(options).items() if key != "json"}
    path.write_text(
        json.dumps({"about": about, "options": settings, "samples": [asdict(s) for s in samples]}, indent=1)
    )
    plot.write(path.with_suffix(".svg"), _charts(samples, bodies, options.connections))
    print(f"raw samples: {path}, plot: {path.with_suffix('.svg')}")
    return 1 if any(sample.errors for sample in samples) else 0


def _peers(stack: contextlib.ExitStack, folder: Path, upstream: int, missing: list[str]) -> list[Peer]:
    """The peers, the router last."""
    peers = [Peer("direct", upstream, None)]
    if "nginx" not in missing:
        # The same fields as the router's line, more or less, and written in pieces, as the router does.
        for name, log in (("nginx", "off"), ("nginx+log", f"{folder}/nginx.log combined buffer=64k flush=1s")):
            port = free_port()
            command = nginx(folder, name, NGINX_PROXY, port=port, upstream=upstream, log=log)
            process = stack.enter_context(running(command, port))
            peers.append(Peer(name, port, worker_pid(process)))
    if (haproxy := tool("haproxy")) is not None:
        port = free_port()
        (folder / "haproxy.cfg").write_text(HAPROXY.format(port=port, upstream=upstream))
        process = stack.enter_context(running([haproxy, "-db", "-f", str(folder / "haproxy.cfg")], port))
        peers += [Peer("haproxy", port, process.pid), stack.enter_context(haproxy_rules(folder, upstream))]
    return [*peers, _router(stack, "router", table(upstream, 1))[0]]


def _router(stack: contextlib.ExitStack, name: str, document: dict[str, object]) -> tuple[Peer, Router]:
    started = Router(document)
    stack.callback(started.close)
    print(f"{name}: {started.compile_ms} ms to compile")
    return Peer(name, started.port, started.pid), started


def _variants(
    stack: contextlib.ExitStack, folder: Path, upstream: int, missing: list[str], plain: Peer
) -> list[Variant]:
    """The router in other situations, and once more in the plain one, to compare with at the same moment."""
    variants = [Variant(Peer("plain", plain.port, plain.pid))]
    variants += [Variant(_router(stack, f"{size} deployments", table(upstream, size))[0]) for size in SIZES]
    logged = table(upstream, 1, access_log=str(folder / "access.jsonl"))
    variants.append(Variant(_router(stack, "access log", logged)[0]))
    peer, started = _router(stack, "scraped", table(upstream, 1))
    variants.append(Variant(peer, meanwhile=started.report))
    if "wrk" not in missing:
        variants.append(Variant(_router(stack, "sessions", table(upstream, 1))[0], SESSIONS))
    return variants


def _values(samples: list[Sample], peer: str, body: str | None, connections: int, what: str) -> list[float]:
    chosen = [s for s in samples if s.peer == peer and s.connections == connections and body in (None, s.body)]
    return [value for s in chosen if (value := getattr(s, what)) is not None]


def _middle(samples: list[Sample], peer: str, body: str | None, connections: int, what: str) -> float:
    values = _values(samples, peer, body, connections, what)
    return statistics.median(values) if values else float("nan")


def print_table(samples: list[Sample], bodies: list[str], connections: int) -> None:
    """Medians over the rounds (of rates the least and the greatest too), with ratios and the p50 added at one
    connection.
    """
    names = [
        name
        for name in ("direct", "nginx", "nginx+log", "haproxy", "rules", "router")
        if any(s.peer == name for s in samples)
    ]
    others = [name for name in ("nginx", "haproxy", "rules") if name in names]
    print(
        f"\n{'body':9} {'peer':9} {'req/s':>7} {'least–most':>13} {'p50 ms':>7} {'p99 ms':>7} {'CPU µs':>7}"
        + "".join(f" {'of ' + name:>10}" for name in others)
        + f" {'added p50 ms at 1':>18} {'errors':>7}"
    )
    for body in bodies:
        direct = _middle(samples, "direct", body, 1, "p50_ms")
        for peer in names:
            rates = _values(samples, peer, body, connections, "rate")
            rate = statistics.median(rates)
            errors = sum(s.errors for s in samples if (s.peer, s.body) == (peer, body))
            ratios = [rate / _middle(samples, other, body, connections, "rate") for other in others]
            print(
                f"{body:9} {peer:9} {rate:7.0f} {f'{min(rates):.0f}–{max(rates):.0f}':>13}"
                f" {_middle(samples, peer, body, connections, 'p50_ms'):7.2f}"
                f" {_middle(samples, peer, body, connections, 'p99_ms'):7.2f}"
                f" {_middle(samples, peer, body, connections, 'cpu_us'):7.1f}"
                + "".join(f" {ratio:10.2f}" for ratio in ratios)
                + f" {_middle(samples, peer, body, 1, 'p50_ms') - direct:18.3f} {errors:7}"
            )


def print_variants(samples: list[Sample], names: list[str], connections: int) -> None:
    """The router in other situations, and its ratio to the plain one."""
    plain = _middle(samples, "plain", None, connections, "rate")
    print(f"\n{'router':18} {'req/s':>7} {'CPU µs':>7} {'of plain':>9} {'errors':>7}")
    for name in names:
        rate = _middle(samples, name, None, connections, "rate")
        cpu = _middle(samples, name, None, connections, "cpu_us")
        errors = sum(s.errors for s in samples if s.peer == name)
        print(f"{name:18} {rate:7.0f} {cpu:7.1f} {rate / plain:9.2f} {errors:7}")


def _charts(samples: list[Sample], bodies: list[str], connections: int) -> list[plot.Chart]:
    others = [name for name in ("nginx", "haproxy", "rules") if any(s.peer == name for s in samples)]
    ratios = [
        (f"{body}, of {other}", _middle(samples, "router", body, connections, "rate") / rate)
        for body in bodies
        for other in others
        if (rate := _middle(samples, other, body, connections, "rate"))
    ]
    sizes = [("1 deployment", _middle(samples, "plain", None, connections, "rate"))]
    sizes += [(f"{s} deployments", _middle(samples, f"{s} deployments", None, connections, "rate")) for s in SIZES]
    return [
        plot.Chart(f"Router's requests/s as a part of others', {connections} connections", ratios, "{:.2f}", mark=1.0),
        plot.Chart(f"Router's requests/s by size of the table, 1k, {connections} connections", sizes, "{:,.0f}"),
    ]


if __name__ == "__main__":
    sys.exit(main())
