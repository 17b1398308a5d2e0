"""Kill -9 at random under 16 writers: what was acknowledged is there, nothing is half, the chain verifies.

Writers are threads of a server process of their own (two of them on PostgreSQL, which is killed too). Each adds one to
a number in an environment's name, in an environment of its own choice, under a key of its own, and writes down what was
acknowledged before it goes on. Who comes after a death repeats what has no acknowledgement under the same key.

`python -m tests.integration.store_kills [--seconds N] [--database sqlite|postgresql|both]`
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from greentic.engine.command import Command, Outcome
from greentic.spec.errors import GreenticError
from greentic.store.conformance import Walk
from greentic.store.sql.limits import Limits
from greentic.store.sql.store import open_store

WRITERS = 16
_LEAST = 4
"""Kills, however slow the machine is."""
ENVIRONMENTS = ("e0", "e1", "e2")


def counting(environment, command: Command, now: str) -> Outcome:
    """Add one to the number in the environment's name."""
    number = int(environment.name[1:]) + 1
    return Outcome(environment.model_copy(update={"name": f"n{number}"}), {"count": number})


def serve(place: str, journals: Path, who: int) -> None:
    """A server process: WRITERS threads that write until the process is killed, or until there is a file `stop`."""
    store = open_store(place, transition=counting, limits=Limits(keys=10**6), patience=30.0)
    print("ready", flush=True)

    def write(writer: int) -> None:
        journal = journals / f"{who}-{writer}"
        done = len(journal.read_text().splitlines()) if journal.exists() else 0
        with journal.open("a") as acknowledged:
            while not (journals / "stop").exists():
                environment_id = ENVIRONMENTS[(writer + done) % len(ENVIRONMENTS)]
                command = Walk(environment_id).rename("+1", key=f"{who}-{writer}-{done}")
                try:
                    count = store.apply(command).result["count"]
                except GreenticError:
                    continue  # the database was killed: the same key again
                acknowledged.write(f"{environment_id} {command.idempotency_key} {count}\n")
                acknowledged.flush()
                done += 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()


def run(place: str, folder: Path, seconds: float, seed: int, database=None) -> Counter:
    """Kill servers (and `database`, a `databases.Server`) at random for a time; what was counted. AssertionError."""
    chance, counted = random.Random(seed), Counter()
    journals = folder / "journals"
    journals.mkdir()
    store = open_store(place)
    for environment_id in ENVIRONMENTS:
        store.apply(Walk(environment_id).create())
    store.close()
    servers = range(1 if database is None else 2)
    running: dict[int, subprocess.Popen[bytes]] = {}
    try:
        _kill(place, journals, servers, running, counted, chance, time.monotonic() + seconds, database)
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    counted.update(check(place, journals))
    return counted


def _kill(place, journals, servers, running, counted, chance, end, database) -> None:
    running.update({who: _start(place, journals, who) for who in servers})
    while time.monotonic() < end or counted.total() < _LEAST:
        time.sleep(chance.uniform(0.05, 0.6))
        if database is not None and chance.random() < 0.15:
            database.crash()
            database.start()
            counted["databases killed"] += 1
            continue
        who = chance.choice(list(servers))
        running[who].send_signal(signal.SIGKILL)
        assert running[who].wait() == -signal.SIGKILL, "a server ended by itself"
        counted["servers killed"] += 1
        running[who] = _start(place, journals, who)
    (journals / "stop").touch()
    for process in running.values():
        assert process.wait(60) == 0


def check(place: str, journals: Path) -> Counter:
    """Everything acknowledged is there once, and the environments are whole."""
    told = defaultdict(dict)
    for journal in journals.iterdir():
        for line in journal.read_text().splitlines():
            environment_id, key, count = line.split()
            assert key not in told[environment_id], "one key was acknowledged twice"
            told[environment_id][key] = int(count)
    counted: Counter = Counter()
    store = open_store(place)
    try:
        for environment_id in ENVIRONMENTS:
            stored = store.load(environment_id)
            acknowledged = told[environment_id]
            assert stored.environment.name == f"n{stored.generation - 1}", "a generation is no change, or two are one"
            assert len(set(acknowledged.values())) == len(acknowledged), "two writers were told the same count"
            assert max(acknowledged.values(), default=0) <= stored.generation - 1, "what was acknowledged is gone"
            report = store.verify_audit(environment_id)
            assert report.ok, report.finding
            made = {
                event["idempotency_key"]: event["new_generation"] - 1
                for event in store.audit(environment_id).events()
                if event["verb"] == "update" and "new_generation" in event
            }
            assert sorted(made.values()) == list(range(1, stored.generation)), "a change has no audit entry, or two"
            assert acknowledged.items() <= made.items(), "a change is not the one that was acknowledged"
            counted["changes"] += len(made)
            counted["acknowledged"] += len(acknowledged)
            store.apply(Walk(environment_id).rename("afterwards"))
    finally:
        store.close()
    return counted


def _start(place: str, journals: Path, who: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.integration.store_kills", "--serve", place, str(journals), str(who)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
    return process


def main() -> None:
    """The long form."""
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
        return
    from tests.integration import databases

    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    asked = parser.parse_args()
    for kind in ("sqlite", "postgresql") if asked.database == "both" else (asked.database,):
        with TemporaryDirectory() as folder:
            server = databases.server() if kind == "postgresql" else None
            place = str(Path(folder) / "store.db") if server is None else server.fresh()
            try:
                counted = run(place, Path(folder), asked.seconds, asked.seed, server)
            finally:
                if server is not None:
                    server.remove()
            print(f"{kind}: {asked.seconds:g} s, {dict(counted)}", flush=True)


if __name__ == "__main__":
    main()
