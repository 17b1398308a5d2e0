"""What a change of the local store costs: `python -m benchmarks.store [--changes N] [--entries N]`.

1. One change (a new display name) of a small environment, p50 and p99, beside what the same disk needs for one plain
   write + fsync of a file of the same size, measured by turns in one run; and the calls that a change makes.
2. The growth curve: 10, 100 and 1,000 deployments with 10 revisions each: read, change and save in a fresh client (as
   a command line does) and in a warm one (as a server does), a plan, a repetition.
3. Verification of an audit log, in entries per second.
4. Look-up of an idempotency key as the ledger grows.

Everything is measured in a temporary folder beside this one, on its real disk.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.engine import build
from greentic.engine.command import Command, Outcome
from greentic.spec.environment import Environment
from greentic.spec.payloads import UpdateEnvironmentPayload
from greentic.store.audit import verify
from greentic.store.chain import Entry, link
from greentic.store.clock import timestamp
from greentic.store.conformance import Walk
from greentic.store.files import FilesStore
from greentic.store.io import LocalFileSystem
from greentic.store.ledger import Ledger

RUNS = 7


class Counted(LocalFileSystem):
    """Counts the calls."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name != "calls":
            self.calls[name] += 1
        return super().__getattribute__(name)


Figure = tuple[float, float]
"""Milliseconds that passed, and those in which the processor worked for us: on a busy machine they differ."""


def milliseconds(call: Callable[..., object], *arguments: Any) -> Figure:
    """What one call takes."""
    begin, busy = time.perf_counter(), time.process_time()
    call(*arguments)
    return (time.perf_counter() - begin) * 1_000, (time.process_time() - busy) * 1_000


def row(name: str, figures: list[Figure]) -> None:
    """One line of figures."""
    passed, busy = sorted(figure[0] for figure in figures), sorted(figure[1] for figure in figures)
    p99 = passed[min(len(passed) - 1, len(passed) * 99 // 100)]
    middle, worked = statistics.median(passed), statistics.median(busy)
    print(f"  {name:<38} p50 {middle:8.2f} ms (processor {worked:7.2f})  p99 {p99:8.2f}  n {len(passed)}")


def small_changes(folder: Path, count: int) -> None:
    """One change beside plain writes, by turns."""
    files = Counted()
    store = FilesStore(folder / "small", io=files)
    walk = Walk("bench")
    store.apply(walk.create())
    data = (store.artifacts("bench") / "environment.json").read_bytes()

    def plain() -> None:
        descriptor = os.open(folder / "plain", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(descriptor, data)
        os.fsync(descriptor)
        os.close(descriptor)

    changes, plains = [], []
    for number in range(count):
        files.calls.clear()
        command = walk.rename(f"title {number}")
        changes.append(milliseconds(store.apply, command))
        plains.append(milliseconds(plain))
    print(f"\none change of a small environment ({len(data)} bytes), beside one plain write + fsync")
    row("store.apply", changes)
    row("write + fsync", plains)
    ratio = statistics.median(one for one, _ in changes) / statistics.median(one for one, _ in plains)
    print(f"  ratio of the medians: {ratio:.1f}")
    syncs = files.calls["sync"] + files.calls["sync_folder"]
    print(f"  calls of the last change: {dict(sorted(files.calls.items()))}; syncs: {syncs}")


def renaming(environment_id: str, name: str) -> Command:
    """Another display name: the least that can change, so what is measured is the store."""
    return Command(environment_id, "env", "update", UpdateEnvironmentPayload(name=name), name, "bench")


def growth(folder: Path, sizes: list[int]) -> None:
    """The growth curve."""
    for size in sizes:
        place = folder / f"growth-{size}"
        large = Environment.model_validate(build(size))
        name = large.environment_id
        create = FilesStore(place, transition=lambda _e, _c, _n, found=large: Outcome(found, {}))
        create.apply(Walk(name).create())
        raw = (create.artifacts(name) / "environment.json").stat().st_size
        cold_load, cold_change, warm_load, warm_change, planned, repeated = [], [], [], [], [], []
        for number in range(RUNS):
            change = renaming(name, f"cold {number}")
            cold_load.append(milliseconds(FilesStore(place).load, name))
            cold_change.append(milliseconds(FilesStore(place).apply, change))
            repeated.append(milliseconds(FilesStore(place).apply, change))
            warm = FilesStore(place)
            warm.load(name)
            change = renaming(name, f"warm {number}")
            warm_load.append(milliseconds(warm.load, name))
            planned.append(milliseconds(warm.plan, change))
            warm_change.append(milliseconds(warm.apply, change))
        print(f"\n{size} deployments, {size * 10} revisions, {raw / 1e6:.1f} MB")
        row("load, fresh client", cold_load)
        row("load + change + save, fresh client", cold_change)
        row("repetition, fresh client", repeated)
        row("load, warm client", warm_load)
        row("plan, warm client", planned)
        row("load + change + save, warm client", warm_change)


def verification(folder: Path, count: int) -> None:
    """Entries per second of the offline verification."""
    store = FilesStore(folder / "audit")
    store.apply(Walk("bench").create())
    store.apply(Walk("bench").rename("x"))
    template = {key: value for key, value in store.audit("bench").tail(1)[0].items() if key not in {"hash", "sequence"}}
    path, entry = folder / "events.jsonl", None
    with path.open("wb") as file:
        for _ in range(count):
            entry = link(template, entry)
            file.write(entry.line())
    assert isinstance(entry, Entry)
    begin, busy = time.perf_counter(), time.process_time()
    report = verify(path)
    seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    assert report.ok
    assert report.entries == count
    size = path.stat().st_size / 1e6
    print(f"\nverification of {count} entries ({size:.0f} MB): {seconds:.2f} s, {count / seconds:,.0f} entries/s")
    print(f"  of which the processor was busy for {busy:.2f} s: {count / busy:,.0f} entries/s")


def ledger(folder: Path) -> None:
    """Look-up of a key."""
    print("\nlook-up of an idempotency key")
    now = datetime.now(UTC)
    for size in (1_000, 10_000, 100_000):
        book = Ledger(LocalFileSystem(), folder / f"ledger-{size}", compact_bytes=1 << 40)
        result = {"deployment_id": "0" * 26, "revision_id": "1" * 26, "note": "x" * 300}
        record = {"fingerprint": "f" * 64, "generation": 1, "stored_at": timestamp(now), "result": result}
        for number in range(size):
            book.append({"key": f"key-{number}", **record}, now, sync=False)
        keys = [f"key-{number}" for number in range(0, size, size // 500)]
        row(f"{size} keys kept", [milliseconds(book.find, key, now) for key in keys])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=300, help="changes of the small environment")
    parser.add_argument("--entries", type=int, default=300_000, help="entries of the audit log that is verified")
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[10, 100, 1_000], help="deployments of the growth curve"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix=".bench-store-", dir=Path(__file__).parent) as folder:
        small_changes(Path(folder), asked.changes)
        growth(Path(folder), asked.sizes)
        verification(Path(folder), asked.entries)
        ledger(Path(folder))


if __name__ == "__main__":
    main()
