"""What a long load does to the router's memory: `python -m benchmarks.soak [--seconds 3600]`, or `make soak`.

Load from wrk (or our own generator) without a pause, in turns of equal and of varied requests and of sessions, with the
access log on and a new table every turn. The resident memory of the router is read all the time; the slope over the
second half, when caches and rings are full, is what counts. The exit status is 1 when a request failed or, in a run of
ten minutes or more, the slope is above --limit.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.peers import Peer, Router, table, tool, upstream_files
from benchmarks.router import BODIES, SESSIONS, VARIED, measure

TURN_SECONDS = 5
JUDGED_SECONDS = 600
"""In less, memory is still being filled that is bounded."""


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3_600, help="how long [3600]")
    parser.add_argument("--connections", type=int, default=64, help="[64]")
    parser.add_argument("--limit", type=float, default=20.0, help="MB per hour of the second half [20]")
    parser.add_argument("--json", type=Path, help="where to write what was seen")
    options = parser.parse_args()
    kinds = ["1k", "100k"] if tool("wrk") is None else ["1k", VARIED, SESSIONS, "100k"]
    seen: list[tuple[float, float]] = []
    requests = errors = 0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="greentic-soak-")))
        upstream = stack.enter_context(upstream_files(folder, BODIES))
        document = table(upstream, 10, access_log=str(folder / "access.jsonl"))
        router = Router(document)
        stack.callback(router.close)
        ended = threading.Event()
        began = time.monotonic()

        def watch() -> None:
            while not ended.wait(min(1.0, options.seconds / 60)):
                seen.append((time.monotonic() - began, resident_mb(router.pid)))

        watching = threading.Thread(target=watch)
        watching.start()
        stack.callback(watching.join)
        stack.callback(ended.set)
        for turn in itertools.count(1):
            left = options.seconds - (time.monotonic() - began)
            if left < 1:
                break
            router.configure(_next(document, turn))
            peer = Peer("router", router.port, router.pid)
            sample = measure(peer, kinds[turn % len(kinds)], options.connections, min(TURN_SECONDS, left), turn)
            errors += sample.errors
            requests += round(sample.rate * min(TURN_SECONDS, left))
        ended.set()
    half = [point for point in seen if point[0] > options.seconds / 2]
    slope = statistics.linear_regression(*zip(*half, strict=True)).slope * 3_600
    result = {
        "seconds": options.seconds,
        "requests": requests,
        "errors": errors,
        "first_mb": round(seen[0][1], 1),
        "half_mb": round(half[0][1], 1),
        "last_mb": round(seen[-1][1], 1),
        "most_mb": round(max(size for _, size in seen), 1),
        "slope_mb_per_hour": round(slope, 1),
    }
    print(json.dumps(result, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps({**result, "resident": seen}))
    return 1 if errors or (slope > options.limit and options.seconds >= JUDGED_SECONDS) else 0


def _next(document: dict[str, object], turn: int) -> dict[str, object]:
    """The same table with another share: a move of the dial."""
    (first, *others) = document["deployments"]  # type: ignore[misc]
    share = 100 * (1 + turn % 50)
    first = {**first, "generation": 1 + turn, "slots": [[10_000 - share, 0], [share, 1]]}
    return {**document, "version": 1 + turn, "deployments": [first, *others]}


if __name__ == "__main__":
    sys.exit(main())
