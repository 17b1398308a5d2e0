"""What a long load does to the router's memory: `python -m benchmarks.soak [--seconds 3600] [--rate 400]`, or
`make soak`.

A load of a fixed rate: equal and varied requests, a thousand sessions and long bodies by turns, from clients that come
and go, with the access log on and a new table every five seconds, in the middle of it. The resident memory of the
router is read all the time; the slope over the second half, when caches and rings are full, is what counts. Every
request that fails is recorded with its time, kind and status or errno, beside what the router counted. The exit status
is 1 when one failed or, in a run of ten minutes or more, the slope is above --limit.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.paced import Load, run
from benchmarks.peers import Router, table, upstream_files
from benchmarks.router import BODIES, FIELDS

TABLE_SECONDS = 5.0
"""How long a table lasts."""
SAMPLE_SECONDS = 5.0
JUDGED_SECONDS = 600
"""In less, memory is still being filled that is bounded."""


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def requests() -> Iterator[bytes]:
    """The requests of one client, of all kinds by turns."""
    for number in itertools.count():
        fields = {**FIELDS}
        target = "/1k"
        match number % 4:
            case 1:
                unique = random.getrandbits(64)
                target += f"?number={unique}"
                fields["Referer"] = f"https://shop.example.org/basket/{unique}"
            case 2:
                fields["X-Greentic-Session"] = f"session-{random.randrange(1000)}"
            case 3:
                target = "/100k"
        lines = (f"{name}: {value}" for name, value in fields.items())
        yield "\r\n".join((f"GET {target} HTTP/1.1", "Host: 127.0.0.1", *lines, "", "")).encode()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3_600, help="how long [3600]")
    parser.add_argument("--rate", type=float, default=400, help="requests a second [400]")
    parser.add_argument("--connections", type=int, default=64, help="[64]")
    parser.add_argument("--limit", type=float, default=20.0, help="MB per hour of the second half [20]")
    parser.add_argument("--json", type=Path, help="where to write what was seen, while it is being seen")
    options = parser.parse_args()
    seen: list[tuple[float, float]] = []
    load = Load()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="greentic-soak-")))
        upstream = stack.enter_context(upstream_files(folder, BODIES))
        document = table(upstream, 10, access_log=str(folder / "access.jsonl"))
        router = Router(document)
        stack.callback(router.close)
        words = (router.port, options.rate, options.seconds, options.connections, requests, load)
        loading = threading.Thread(target=run, args=words, daemon=True)
        began = time.monotonic()
        loading.start()
        table_due = began
        for turn in itertools.count(1):
            loading.join(min(SAMPLE_SECONDS, options.seconds / 60))
            now = time.monotonic()
            seen.append((round(now - began, 1), resident_mb(router.pid)))
            if not loading.is_alive():
                break
            if now >= table_due:
                table_due = now + TABLE_SECONDS
                router.configure(_next(document, turn))
            if options.json is not None:
                _write(options.json, {**_result(options, seen, load), "router": _told(router)}, seen)
        told = _told(router)
    result = {**_result(options, seen, load), "router": told}
    print(json.dumps(result, indent=1))
    if options.json is not None:
        _write(options.json, result, seen)
    slope = result["slope_mb_per_hour"]
    assert isinstance(slope, float)
    return 1 if load.failures or (slope > options.limit and options.seconds >= JUDGED_SECONDS) else 0


def _result(options: argparse.Namespace, seen: list[tuple[float, float]], load: Load) -> dict[str, object]:
    half = [point for point in seen if point[0] > options.seconds / 2]
    slope = statistics.linear_regression(*zip(*half, strict=True)).slope * 3_600 if len(half) > 2 else 0.0
    quarters = [options.seconds * part / 4 for part in range(5)]
    return {
        "seconds": options.seconds,
        "rate": options.rate,
        "answered": load.answered,
        "connections": load.connections,
        "greatest_ms": round(load.greatest_ms, 1),
        "failures": [asdict(failure) for failure in load.failures],
        "mb_at": {
            round(due): round(size, 1) for due in quarters for at, size in [min(seen, key=lambda p: abs(p[0] - due))]
            if abs(at - due) <= 2 * SAMPLE_SECONDS
        },
        "most_mb": round(max(size for _, size in seen), 1),
        "slope_mb_per_hour": round(slope, 2),
    }  # fmt: skip


def _told(router: Router) -> dict[str, object]:
    """What the router counted, to hold beside what the clients saw."""
    report = router.report()
    revisions = report["revisions"].values()
    errors: collections.Counter[str] = collections.Counter(report["unrouted"])
    for revision in revisions:
        errors.update(revision["errors"])
    return {
        "requests": sum(revision["requests"] for revision in revisions),
        "errors": dict(errors),
        "connections": report["connections"],
        "to_workers": sum(revision.get("connections", 0) for revision in revisions),
        "session_pins": report["sessions"]["pins"],
        "access_log": report["access_log"],
    }


def _write(path: Path, result: dict[str, object], seen: list[tuple[float, float]]) -> None:
    path.write_text(json.dumps({**result, "resident": seen}))


def _next(document: dict[str, object], turn: int) -> dict[str, object]:
    """The same table with another share: a move of the dial."""
    (first, *others) = document["deployments"]  # type: ignore[misc]
    share = 100 * (1 + turn % 50)
    first = {**first, "generation": 1 + turn, "slots": [[10_000 - share, 0], [share, 1]]}
    return {**document, "version": 1 + turn, "deployments": [first, *others]}


if __name__ == "__main__":
    sys.exit(main())
