"""Sixteen processes write to one environment at once and are killed at random: no acknowledged change is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import traceback
import warnings
from pathlib import Path

import pytest
from tests.integration.store_disks import Killing

from greentic.engine.command import Command, Outcome
from greentic.spec.errors import TimedOut
from greentic.store.conformance import WALK
from greentic.store.files import FilesStore
from greentic.store.lock import Patience

WRITERS = 16
ROUNDS = 8
DEATHS = 30


def counting(environment, command: Command, now: str) -> Outcome:
    """Add one to the number in the environment's name: a change that needs the state it is made from."""
    number = int(environment.name[1:]) + 1
    return Outcome(environment.model_copy(update={"name": f"n{number}"}), {"count": number})


def write(root: Path, journal: Path, who: int, fatal: int) -> None:
    """Add one ROUNDS times in all, from where the journal of an earlier life ends, each under a key of its own."""
    store = FilesStore(root, io=Killing(fatal), transition=counting, patience=Patience(60.0))
    done = len(journal.read_text().splitlines()) if journal.exists() else 0
    with journal.open("a") as acknowledged:
        for number in range(done, ROUNDS):
            applied = store.apply(WALK.rename("+1", key=f"{who}-{number}"))
            acknowledged.write(f"{who}-{number} {applied.result['count']}\n")
            acknowledged.flush()


def test_no_update_is_lost_or_made_twice(tmp_path):
    root, chance = tmp_path / "place", random.Random(2026)
    FilesStore(root).apply(WALK.create())
    deaths, killed = [chance.randrange(1, 100) for _ in range(DEATHS)], 0
    running: dict[int, int] = {}

    def start(who: int) -> None:
        fatal = deaths.pop() if deaths else 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests do not matter to the child
            pid = os.fork()
        if pid == 0:
            try:
                write(root, tmp_path / f"journal-{who}", who, fatal)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        running[pid] = who

    for who in range(WRITERS):
        start(who)
    while running:
        pid = next(iter(running))
        _, status = os.waitpid(pid, 0)
        who = running.pop(pid)
        if os.WIFSIGNALED(status):
            killed += 1
            start(who)  # and repeat what was not acknowledged, under the same key
        else:
            assert os.WEXITSTATUS(status) == 0
    total = WRITERS * ROUNDS
    lines = [line.split() for path in tmp_path.glob("journal-*") for line in path.read_text().splitlines()]
    assert len(lines) == total
    assert sorted(int(count) for _, count in lines) == list(range(1, total + 1)), "two writers were told the same count"
    store = FilesStore(root)
    final = store.recover(WALK.environment_id)
    assert (final.environment.name, final.generation) == (f"n{total}", total + 1)
    assert store.verify_audit(WALK.environment_id).ok
    made = [event for event in store.audit(WALK.environment_id).events() if "new_generation" in event]
    assert [event["new_generation"] for event in made] == list(range(1, total + 2))
    assert len({event["idempotency_key"] for event in made}) == total + 1
    assert killed > DEATHS // 2


def test_who_waits_too_long_is_told_who_is_busy(tmp_path):
    store = FilesStore(tmp_path)
    store.apply(WALK.create())
    reader, writer = os.pipe()
    code = (
        "import fcntl, os, sys\n"
        "lock = open(sys.argv[1], 'r+'); fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "lock.truncate(0); lock.write(f'{os.getpid()} traffic set\\n'); lock.flush()\n"
        "os.write(int(sys.argv[2]), b'held'); sys.stdin.read()\n"
    )
    path = tmp_path / WALK.environment_id / ".lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path), str(writer)], stdin=subprocess.PIPE, pass_fds=[writer]
    )
    try:
        assert os.read(reader, 4) == b"held"
        ticks = iter(range(100))
        patience = Patience(seconds=10, monotonic=lambda: float(next(ticks)), sleep=lambda seconds: None)
        with pytest.raises(
            TimedOut, match=rf"process {holder.pid} \(traffic set\) did not release its lock within 10 s"
        ):
            FilesStore(tmp_path, patience=patience).apply(WALK.rename("n1"))
        assert store.load(WALK.environment_id).environment.name == "n0"  # reading does not wait
        assert [found.error for found in store.list()] == [None]
        holder.kill()  # the kernel releases the lock of a dead process
        holder.wait()
        assert store.apply(WALK.rename("n1")).generation == 2
    finally:
        holder.kill()
        holder.communicate()
        os.close(reader)
        os.close(writer)


def test_a_lock_file_that_is_replaced_excludes_nobody(tmp_path):
    """The lock is the file of that name, not one that had it once."""
    store = FilesStore(tmp_path)
    store.apply(WALK.create())
    path: Path = tmp_path / WALK.environment_id / ".lock"
    path.unlink()
    assert store.apply(WALK.rename("n1")).generation == 2
    assert path.exists()
