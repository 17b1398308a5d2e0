"""What the store in a database does: `python -m benchmarks.store_sql [--seconds N] [--sizes N …] [--database …]`.

1. Serial: one change of an environment of ordinary size (10 deployments, 100 revisions), by turns with one plain write
   and fdatasync of 4 KB on the same disk, and for PostgreSQL with one commit of a row through the driver.
2. 64 clients (threads) at once: durable changes per second, each another environment name in a change of its own, and
   the processor time of one; beside what 64 connections commit of plain rows in PostgreSQL.
3. Reads: loads per second, one client, nothing else going on, and while 16 clients write.
4. The growth curve: one change of the name (early in the text), one of the traffic and one new revision, in
   environments of 100, 1,000 and 10,000 revisions: time, processor time, and bytes of rows that it inserted.

Files and servers are in a temporary folder beside this one, on its real disk.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.engine import build
from benchmarks.store import Figure, milliseconds, row
from greentic.engine.command import Command, Outcome
from greentic.spec.environment import Environment
from greentic.spec.payloads import (
    SetTrafficSplitPayload,
    StageRevisionPayload,
    UpdateEnvironmentPayload,
    WeightedRevision,
)
from greentic.store.conformance import Walk
from greentic.store.sql.store import SqlStore, open_store

NAME = "bench"
CLIENTS = 64
NUMBERS = count()
FILL = b"x" * 4_096


def renaming() -> Command:
    """Another display name."""
    number = next(NUMBERS)
    return Command(NAME, "env", "update", UpdateEnvironmentPayload(name=f"n{number}"), f"k{number}", "bench")


def filled(place: str, deployments: int) -> SqlStore:
    """A store with one environment of that many deployments of ten revisions each."""
    store = open_store(place)
    large = Environment.model_validate(build(deployments))
    store.submit(Walk(NAME).create(), transition=lambda _e, _c, _n: Outcome(large, {})).result()
    return store


def serial(store: SqlStore, folder: Path, url: str | None, runs: int) -> None:
    """One change beside one sync, by turns."""
    descriptor = os.open(folder / "plain", os.O_RDWR | os.O_CREAT, 0o600)
    changes: list[Figure] = []
    plains: list[Figure] = []
    commits: list[Figure] = []
    place = count()

    def plain() -> None:
        os.pwrite(descriptor, FILL, next(place) * len(FILL))
        os.fdatasync(descriptor)

    with _rows(url) as commit:
        for _ in range(runs):
            plains.append(milliseconds(plain))
            changes.append(milliseconds(store.apply, renaming()))
            if url is not None:
                commits.append(milliseconds(commit))
    os.close(descriptor)
    row("write + fdatasync", plains)
    if commits:
        row("commit of a row through the driver", commits)
    row("store.apply", changes)
    floor = statistics.median(one for one, _ in plains)
    print(f"  ratio to the sync: {statistics.median(one for one, _ in changes) / floor:.2f}")


def crowd(work: Callable[[], object], clients: int, seconds: float) -> tuple[float, float]:
    """(done per second, microseconds of processor time for each) of threads that do `work` over and over."""
    done = [0] * clients
    end = time.perf_counter() + seconds

    def run(number: int) -> None:
        while time.perf_counter() < end:
            work()
            done[number] += 1

    begin, busy = time.perf_counter(), time.process_time()
    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = max(sum(done), 1)
    return total / (time.perf_counter() - begin), (time.process_time() - busy) / total * 1e6


def together(store: SqlStore, url: str | None, seconds: float) -> None:
    """Many clients at once."""
    rate, busy = crowd(lambda: store.apply(renaming()), CLIENTS, seconds)
    print(f"  {CLIENTS} clients: {rate:8.0f} durable changes/s, {busy:5.0f} µs of processor time each")
    if url is not None:
        local = threading.local()
        opened: list[Any] = []

        def commit() -> None:
            if not hasattr(local, "commit"):
                manager = _rows(url, create=False)
                local.commit = manager.__enter__()
                opened.append(manager)
            local.commit()

        rate, busy = crowd(commit, CLIENTS, seconds)
        print(f"  {CLIENTS} connections: {rate:4.0f} plain rows committed/s, {busy:5.0f} µs each")
        for manager in opened:
            manager.__exit__(None, None, None)


def reads(store: SqlStore, seconds: float) -> None:
    """Loads, alone and beside writers."""
    rate, busy = crowd(lambda: store.load(NAME), 1, seconds)
    print(f"  reads, alone: {rate:8.0f}/s, {busy:4.0f} µs of processor time each")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            store.apply(renaming())

    writers = [threading.Thread(target=write) for _ in range(16)]
    for thread in writers:
        thread.start()
    rate, _ = crowd(lambda: store.load(NAME), 1, seconds)
    stop.set()
    for thread in writers:
        thread.join()
    print(f"  reads, while 16 clients write: {rate:8.0f}/s")


def growth(make: Callable[[], str], sizes: list[int], runs: int) -> None:
    """What a change costs as the environment grows."""
    for revisions in sizes:
        store = filled(make(), max(revisions // 10, 1))
        stored = store.load(NAME)
        size = len(stored.environment.model_dump_json())
        print(f"\n  {revisions} revisions, {size / 1e6:.2f} MB")
        deployment = stored.environment.bundles[-1]
        one, two = stored.environment.revisions_of(deployment.deployment_id)[:2]
        staged = one.to_json()
        fields = StageRevisionPayload.model_fields
        numbers = count(1)

        def dial(deployment=deployment, one=one, two=two) -> Command:
            number = next(NUMBERS)
            share = 1 + number % 9_998
            entries = (
                WeightedRevision(revision_id=one.revision_id, weight_bps=share),
                WeightedRevision(revision_id=two.revision_id, weight_bps=10_000 - share),
            )
            payload = SetTrafficSplitPayload(
                deployment_id=deployment.deployment_id, entries=entries, updated_by="bench"
            )
            return Command(NAME, "traffic", "set", payload, f"k{number}", "bench")

        def stage(staged=staged, fields=fields, numbers=numbers) -> Command:
            number = next(NUMBERS)
            kept = {name: value for name, value in staged.items() if name in fields}
            kept["revision_id"] = f"01J0000000000000000STA{next(numbers):04d}"
            return Command(NAME, "revisions", "stage", StageRevisionPayload.model_validate(kept), f"k{number}", "bench")

        for what, command in (("another name", renaming), ("another split", dial), ("a new revision", stage)):
            store.apply(command())
            inserted = _inserted(store)
            row(what, [milliseconds(store.apply, command()) for _ in range(runs)])
            print(f"    {(_inserted(store) - inserted) / runs:,.0f} bytes of rows each")
        row("load, warm", [milliseconds(store.load, NAME) for _ in range(runs)])
        store._known.clear()
        row("load, from the rows", [milliseconds(store.load, NAME)])
        store.close()


def _inserted(store: SqlStore) -> int:
    statement = (
        "SELECT (SELECT COALESCE(SUM(LENGTH(data)), 0) FROM elements) + "
        "(SELECT COALESCE(SUM(LENGTH(record)), 0) FROM ledger) + (SELECT COALESCE(SUM(LENGTH(line)), 0) FROM audit)"
    )
    with store.database.reading() as connection:
        return int(connection.query(statement)[0][0])


@contextmanager
def _rows(url: str | None, *, create: bool = True) -> Iterator[Callable[[], None]]:
    if url is None:
        yield lambda: None
        return
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        if create:
            connection.execute("CREATE TABLE IF NOT EXISTS plain (number SERIAL PRIMARY KEY, data BYTEA)")

        def commit() -> None:
            connection.execute("INSERT INTO plain (data) VALUES (%s)", (FILL,))

        yield commit


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1_000, 10_000])
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    asked = parser.parse_args()
    for kind in ("sqlite", "postgresql") if asked.database == "both" else (asked.database,):
        with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
            print(f"\n{kind}")
            server = None
            if kind == "postgresql":
                from tests.integration.databases import start

                os.chmod(folder, 0o755)  # noqa: PTH101 - the server is another user
                server = start(Path(folder))
            numbers = count()

            def make(folder=folder, numbers=numbers, server=server) -> str:
                return str(Path(folder) / f"{next(numbers)}.db") if server is None else server.fresh()

            place = make()
            url = None if server is None else place
            store = filled(place, 10)
            serial(store, Path(folder), url, asked.runs)
            together(store, url, asked.seconds)
            reads(store, asked.seconds)
            store.close()
            growth(make, asked.sizes, 15)
            if server is not None:
                server.remove()


if __name__ == "__main__":
    main()
