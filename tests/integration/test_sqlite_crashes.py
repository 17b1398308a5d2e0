"""Power is lost at each call that SQLite makes: what was acknowledged is there, what was not is all or nothing.

After each point several disks are tried: nothing, everything, or a random half of what was not synced is lost, and the
last write is torn between sectors. Each is opened by the store as a server would open it.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.integration.sqlite_disks import Call, image, recording

from greentic.engine.command import Command
from greentic.spec.errors import NotFound
from greentic.spec.parsing import Payload
from greentic.store.conformance import WALK, Walk
from greentic.store.sql.sqlite import SqliteDatabase
from greentic.store.sql.store import SqlStore

ID = WALK.environment_id
LOSSES = ("nothing", "everything", "some", "torn")
POINTS = {"tried": 0}


class Nothing(Payload):
    """Asks for nothing."""


@pytest.fixture
def place():
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK)
    with TemporaryDirectory(prefix="greentic-sqlite-", dir=memory if usable else None) as folder:
        yield Path(folder)


def opened(folder: Path, pages: int = 2_000) -> SqlStore:
    return SqlStore(SqliteDatabase(folder / "store.db", checkpoint_pages=pages))


def together(store: SqlStore) -> None:
    """Several changes that wait at once, so that they are committed by one transaction."""
    gate = threading.Event()
    store.enqueue(WALK.rename("gate"), lambda _view: gate.wait(10))
    waiting = [store.submit(WALK.rename(f"t{number}")) for number in range(5)]
    gate.set()
    for future in waiting:
        future.result()


def beside(store: SqlStore) -> None:
    def writes(files):
        files.write("env-packs/a.json", b"{}" * 1_000)
        return {}

    store.maintain(Command(ID, "secrets", "put", Nothing(), "effect", "me"), writes)


STEPS = (
    *(lambda store, command=command: store.apply(command) for command in (*WALK.to_ready(), WALK.dial())),
    together,
    lambda store: store.apply(Walk("other").create()),
    beside,
    lambda store: store.backups().create(ID, idempotency_key="keep", actor="me"),
    lambda store: store.apply(WALK.rename("later")),
    lambda store: store.backups().restore(ID, "g5", idempotency_key="back", actor="me"),
)


def coordinates(store: SqlStore) -> dict[str, tuple[int, str, int]]:
    """What can be seen of each environment: generation, etag, number of the newest audit entry."""
    found = {}
    for name in store.names():
        stored = store.load(name)
        found[name] = (stored.generation, stored.etag, store.audit(name).heads(1)[0].sequence)
    return found


def newest(store: SqlStore) -> tuple[int, ...]:
    return tuple(sorted(found[2] for found in coordinates(store).values()))


@pytest.mark.parametrize("pages", [2_000, 4], ids=["log-grows", "log-is-written-back"])
def test_power_lost_at_each_call(place, pages):
    live = place / "live"
    acknowledged: list[tuple[int, dict]] = [(0, {})]
    with recording(live) as calls:
        store = opened(live, pages)
        for step in STEPS:
            step(store)
            acknowledged.append((len(calls), coordinates(store)))
        whole = list(calls)
        store.close()
    history = {(name, generation): None for _, seen in acknowledged for name, (generation, _, _) in seen.items()}
    assert len(history) >= 10
    for point in range(1, len(whole) + 1):
        promised = max((seen for seen in acknowledged if seen[0] <= point), key=lambda seen: seen[0])[1]
        last = whole[point - 1]
        for number, loss in enumerate(LOSSES):
            if loss == "torn" and last.kind != "write":
                continue
            files = image({}, whole[:point], loss, point * 10 + number)
            check(place / "image", files, promised, f"after call {point} ({last.kind} {last.name}), lost: {loss}")
            POINTS["tried"] += 1


def check(folder: Path, files: dict[str, bytes], promised: dict, where: str) -> None:
    folder.mkdir()
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        store = opened(folder)
        try:
            present = coordinates(store)  # loads, and so verifies, every document
            for name, (generation, etag, sequence) in promised.items():
                assert name in present, "what was acknowledged is gone"
                assert present[name][0] >= generation, "what was acknowledged is gone"
                assert present[name][2] >= sequence, "an entry of the log is gone"
                if present[name][0] == generation:
                    assert present[name][1] == etag
            for name in present:
                report = store.verify_audit(name)
                assert report.ok, report.finding
                made = [event["new_generation"] for event in store.audit(name).events() if "new_generation" in event]
                assert made == list(range(1, present[name][0] + 1)), "a change without its entry, or half a change"
                with pytest.raises(NotFound):
                    store.at(name, present[name][0] + 1)
            if ID in present:
                before = store.load(ID).generation
                assert store.apply(WALK.rename("afterwards")).generation == before + 1
                assert store.apply(WALK.create()).replayed, "a key was forgotten"
        finally:
            store.close()
    except BaseException as error:
        error.add_note(where)
        raise
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_a_change_is_one_sync(place):
    """What a commit costs: the log is synced once, for one change as for many."""
    with recording(place) as calls:
        store = opened(place)
        for command in WALK.to_ready():
            store.apply(command)
        for change in (lambda: store.apply(WALK.rename("a")), lambda: together(store)):
            calls.clear()
            change()
            syncs = [call.name for call in calls if call.kind == "sync"]
            assert set(syncs) == {"store.db-wal"}
            assert len(syncs) <= 2  # the gate of `together` is a transaction of its own
        store.close()


def test_without_its_syncs_something_would_be_lost(place):
    """The check itself: a disk that takes a sync for nothing loses what was acknowledged."""
    live = place / "live"
    with recording(live) as calls:
        store = opened(live)
        for command in WALK.to_ready():
            store.apply(command)
        promised, whole = coordinates(store), list(calls)
        store.close()
    lazy: list[Call] = [call for call in whole if call.kind != "sync"]
    with pytest.raises(AssertionError, match="acknowledged is gone"):
        check(place / "image", image({}, lazy, "everything", 1), promised, "no sync at all")


def test_every_point_was_tried(capsys):
    with capsys.disabled():
        print(f"\ncrash points of the store in SQLite: {POINTS['tried']}")
    assert POINTS["tried"] == 0 or POINTS["tried"] > 300
