"""The dial moves ten times a second under load, and nobody notices: `python -m benchmarks.proof`, or `make proof`.

A real environment in a temporary folder: two revisions of a small ASGI worker, deployed by `gtc`, one router. A process
of its own sends requests at a steady rate, each as a new visitor; this one moves the dial through the operations that
`gtc op traffic set` and `rollback` use (locks, fsync, audit, the router's acknowledgement: everything but the start of
a process for each command). Proven of every single request:

- it was answered with 200 by a worker;
- it was decided by the table of a generation that was live, and of those that one generation decided, each revision
  served its exact share, give or take less than one request;
- none that was sent after a move had been acknowledged went by an older table.

The exit status is 1 when anything of this does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.steady import Answer, read
from greentic.bundles.build import build
from greentic.cli.invocation import Invocation
from greentic.operations import traffic
from greentic.operations.context import Context
from greentic.spec.errors import GreenticError
from greentic.trust.keys import VARIABLE

WORKER = """
import os

NAME = os.environ["GREENTIC_REVISION_ID"].encode()
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(NAME)).encode())]}

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send(START)
    await send({"type": "http.response.body", "body": NAME})
"""
PACK = """
pack_id: worker
version: {version}
kind: application
application: {{kind: asgi, app: "main:application"}}
health: {{path: /healthz, timeout_seconds: 10}}
"""
SHARES = (1, 2_500, 5_000, 3_333, 9_999, 7_500, 100, 10_000, 6_667, 0)
"""Basis points of the second revision, in turn; each differs from the one before, so that each table is a new one."""
NAME = "web"


@dataclass(frozen=True, slots=True)
class Move:
    """One move: when it was asked for and acknowledged (CLOCK_MONOTONIC), the generation, and the shares it made."""

    asked: int
    acknowledged: int
    generation: int
    shares: dict[str, int]


@dataclass(frozen=True, slots=True)
class Found:
    """What a run came to."""

    requests: int
    failed: list[str]
    moves: int
    generations: int
    refused_moves: list[str] = field(default_factory=list)
    unknown: int = 0
    """Answers whose cookie names a generation that no move made."""
    unfair: list[str] = field(default_factory=list)
    stale: int = 0
    """Requests that were sent after an acknowledgement and decided by an older table."""
    latency_ms: dict[str, float] = field(default_factory=dict)
    move_ms: dict[str, float] = field(default_factory=dict)
    rate: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether everything that is to be proven held."""
        return not (self.failed or self.refused_moves or self.unknown or self.unfair or self.stale)


def generation_of(cookie: str) -> int:
    """The generation by which the router decided: it stands in the visitor's cookie."""
    payload = cookie.partition("=")[2].partition(".")[0]
    return int(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["g"])


def judge(answers: Sequence[Answer], moves: Sequence[Move], refused: Sequence[str], seconds: float) -> Found:
    """What `answers` and `moves` of one run prove."""
    failed = [f"{one.status} {one.body[:120]}" for one in answers if one.status != 200 or not one.cookie]
    good = [(one, generation_of(one.cookie)) for one in answers if one.status == 200 and one.cookie]
    shares = {move.generation: move.shares for move in moves}
    served: dict[int, Counter[str]] = defaultdict(Counter)
    for one, generation in good:
        served[generation][one.body] += 1
    unfair = []
    for generation, counts in served.items():
        total = counts.total()
        wanted = shares.get(generation, {})
        unfair += [
            f"generation {generation}: {counts[revision]} of {total} at {wanted.get(revision, 0)} bp"
            for revision in (counts.keys() | wanted.keys() if wanted else ())
            if abs(counts[revision] * 10_000 - total * wanted.get(revision, 0)) >= 10_000
        ]
    # The newest generation that was acknowledged when a request was sent is the oldest that may decide it.
    stale, newest, rest = 0, 0, sorted(moves, key=lambda move: move.acknowledged)
    for one, generation in sorted(good, key=lambda pair: pair[0].sent):
        while rest and rest[0].acknowledged < one.sent:
            newest = max(newest, rest.pop(0).generation)
        stale += generation < newest
    return Found(
        requests=len(answers),
        failed=failed,
        moves=len(moves) - 1,
        generations=len(served),
        refused_moves=list(refused),
        unknown=sum(counts.total() for generation, counts in served.items() if generation not in shares),
        unfair=unfair,
        stale=stale,
        latency_ms=_spread([(one.received - one.sent) / 1e6 for one, _ in good]),
        move_ms=_spread([(move.acknowledged - move.asked) / 1e6 for move in moves[1:]]),
        rate=len(good) / seconds,
    )


def _spread(values: list[float]) -> dict[str, float]:
    values = sorted(values) or [0.0]
    places = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(values[min(len(values) - 1, int(len(values) * place))], 2) for name, place in places.items()}


def run(folder: Path, *, rate: float, seconds: float, every: float) -> Found:
    """One run in `folder`, which is empty."""
    root = folder / "environments"
    with _operator_key(folder / "operator.pem"), _environment(folder, root) as (port, revisions):
        answers = folder / "answers"
        command = [sys.executable, "-m", "benchmarks.steady", str(port), str(rate), str(seconds), str(answers)]
        with subprocess.Popen(command) as load:
            moves, refused = asyncio.run(_move(_context(root), revisions, seconds, every))
            if load.wait(seconds + 60):
                raise SystemExit("the load generator failed")
        return judge(read(answers), moves, refused, seconds)


def _context(root: Path) -> Context:
    return Invocation("traffic", "set", json=True, root=root).context()


async def _move(
    context: Context, revisions: tuple[str, str], seconds: float, every: float
) -> tuple[list[Move], list[str]]:
    """Moves until `seconds` are over; the first is what the dial stands at."""
    live = traffic.show(context, "local", NAME)
    first = Move(0, 0, live["generation"], _shares(live))
    moves, refused = [first], []
    began = time.monotonic()
    for number in itertools.count():
        # A move that took longer than its turn is not made up for.
        due = began + every * number
        late = time.monotonic() - due
        if late < 0:
            await asyncio.sleep(-late)
        elif late > every:
            continue
        if time.monotonic() - began > seconds:
            return moves, refused
        asked = time.monotonic_ns()
        try:
            # A fresh key for each: `mint` gives one.
            if number % 10 == 9:
                told = await traffic.rollback(context, "local", NAME)
            else:
                share = SHARES[number % len(SHARES)]
                told = await traffic.set_split(context, "local", NAME, [(revisions[1], share), (revisions[0], None)])
        except GreenticError as error:
            refused.append(f"{error.kind}: {error.message}")
            continue
        moves.append(Move(asked, time.monotonic_ns(), told["generation"], _shares(told)))
    raise AssertionError("the count has no end")


def _shares(told: dict[str, Any]) -> dict[str, int]:
    return {entry["revision_id"]: entry["weight_bps"] for entry in told["entries"]}


@contextlib.contextmanager
def _operator_key(path: Path) -> Iterator[None]:
    """Sign with the key at `path` meanwhile, since that of the user is none of our business."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(path)
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


@contextlib.contextmanager
def _environment(folder: Path, root: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    """Two deployed revisions; the router's port and the revisions' ids."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {**os.environ, "GREENTIC_STORE_ROOT": str(root)}
    environment.pop("GREENTIC_ENV", None)

    def gtc(*words: str) -> Any:
        command = [sys.executable, "-m", "greentic.cli.main", *words, "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise SystemExit(f"gtc {' '.join(words)}: {done.stderr}")
        return json.loads(done.stdout)["result"]

    gtc("op", "env", "init", "--listen-addr", f"127.0.0.1:{port}")
    try:
        revisions = []
        for number in (1, 2):
            source = folder / f"source-{number}"
            pack = source / "packs" / "worker"
            pack.mkdir(parents=True)
            (source / "bundle.yaml").write_text(f"bundle_id: {NAME}\nbundle_name: Web\nversion: {number}.0.0\n")
            (pack / "pack.yaml").write_text(PACK.format(version=f"{number}.0.0"))
            (pack / "main.py").write_text(WORKER)
            bundle = build(source, folder / f"{number}.gtbundle").path
            share = () if number == 1 else ("--traffic", "0%")
            revisions.append(gtc("op", "deploy", "--bundle", str(bundle), NAME, *share)["revision_id"])
        yield port, (revisions[0], revisions[1])
    finally:
        gtc("stop")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=2_000, help="requests per second [2000]")
    parser.add_argument("--seconds", type=float, default=60, help="how long [60]")
    parser.add_argument("--every", type=float, default=0.1, help="seconds from one move to the next [0.1]")
    parser.add_argument("--json", type=Path, help="where to write what was found")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="greentic-proof-") as folder:
        found = run(Path(folder), rate=options.rate, seconds=options.seconds, every=options.every)
    for name, value in dataclasses.asdict(found).items():
        print(f"{name:14} {value if not isinstance(value, list) else f'{len(value)} {value[:3]}'}")
    if options.json is not None:
        options.json.write_text(json.dumps(dataclasses.asdict(found), indent=1))
    print("holds" if found.holds else "DOES NOT HOLD")
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main())
