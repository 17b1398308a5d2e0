"""Folders, modes, links, backups, derived files and the ledger of the store of one machine."""

from __future__ import annotations

import errno
import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from greentic.spec.deployment import DeploymentStatus
from greentic.spec.errors import Conflict, CorruptDocument, NotFound, StoreError
from greentic.spec.payloads import UpdateDeploymentPayload
from greentic.store import backup
from greentic.store.backup import Rule
from greentic.store.clock import timestamp
from greentic.store.conformance import DEPLOYMENT, WALK, Walk
from greentic.store.files import FilesStore
from greentic.store.io import LocalFileSystem
from greentic.store.ledger import Ledger
from greentic.store.restoring import FolderBackups
from greentic.store.transaction import Settings

ID = WALK.environment_id
START = datetime(2026, 7, 24, 10, 0, 0, tzinfo=UTC)


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(place, clock):
    return FilesStore(place, clock=clock)


def _mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


def test_only_the_owner_reads_what_is_kept(store):
    for command in (*WALK.to_ready(), WALK.dial()):
        store.apply(command)
    folder = store.artifacts(ID)
    modes = {path.relative_to(folder.parent): _mode(path) for path in [folder, *folder.rglob("*")]}
    assert set(modes.values()) == {0o700, 0o600}
    assert all((mode == 0o700) == (folder.parent / path).is_dir() for path, mode in modes.items())


def test_reading_makes_nothing(store):
    assert store.list() == ()
    with pytest.raises(NotFound):
        store.load(ID)
    with pytest.raises(NotFound):
        store.recover(ID)
    with pytest.raises(NotFound):
        FolderBackups(store).list(ID)
    store.plan(WALK.create())
    with pytest.raises(NotFound):
        store.plan(WALK.rename("x"))
    assert store.artifacts(ID) == store.root / ID
    assert not store.root.exists()


def test_what_may_not_be_read_is_listed_and_hides_nothing(store, monkeypatch):
    store.apply(WALK.create())
    (store.root / "theirs").mkdir()
    exists = Path.exists

    def refusing(path):
        if path.parent.name == "theirs":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", refusing)  # root, as whom tests may run, would be let in
    mine, theirs = store.list()
    assert (mine.environment_id, mine.error) == (ID, None)
    assert theirs.environment_id == "theirs"
    assert "Permission denied" in theirs.error.message


@pytest.mark.parametrize("name", ["", "audit", "ledger", "backups", "environment.json", ".lock", "audit/events.jsonl"])
def test_a_symbolic_link_is_refused(store, name):
    store.apply(WALK.create())
    store.apply(WALK.rename("n1"))
    path = store.artifacts(ID) / name
    elsewhere = store.root.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(StoreError, match="symbolic link"):
        store.apply(WALK.rename("n2"))
    (listed,) = store.list()
    assert (listed.error is None) == (name not in {"", "environment.json"})


def test_other_things_under_the_root_are_not_environments(store):
    store.apply(WALK.create())
    (store.root / "notes.txt").write_text("x")
    (store.root / "folder").mkdir()
    (store.root / "wrong name").mkdir()
    (store.root / "wrong name" / "environment.json").write_text("{}")
    listed = store.list()
    assert [(found.environment_id, found.error is None) for found in listed] == [(ID, True), ("wrong name", False)]


def test_each_change_is_preceded_by_a_backup(store, clock):
    backups = FolderBackups(store)
    for number, command in enumerate((WALK.create(), WALK.rename("n1"), WALK.rename("n2"))):
        clock.now = START + timedelta(hours=number)
        store.apply(command)
    assert [kept.name for kept in backups.list(ID)] == [
        "environment.json.20260724T110000.000000Z.g1.bak",
        "environment.json.20260724T120000.000000Z.g2.bak",
    ]
    first = backups.list(ID)[0]
    applied = backups.restore(ID, first.name, idempotency_key="back", actor="me", expected_generation=3)
    assert (applied.generation, applied.environment.name) == (4, "n0")
    assert applied.result == {"backup": first.name, "restored_generation": 1}
    assert backups.restore(ID, first.name, idempotency_key="back", actor="me").replayed
    assert backups.restore(ID, idempotency_key="undo", actor="me").environment.name == "n2"
    with pytest.raises(Conflict):
        backups.restore(ID, first.name, idempotency_key="stale", actor="me", expected_generation=1)
    with pytest.raises(NotFound):
        backups.restore(ID, "../environment.json", idempotency_key="escape", actor="me")
    (store.artifacts(ID) / "backups" / first.name).write_text("{}")
    with pytest.raises(CorruptDocument):
        backups.restore(ID, first.name, idempotency_key="broken", actor="me")
    assert store.verify_audit(ID).ok


def test_a_damaged_document_is_put_aside(store):
    for command in (WALK.create(), WALK.rename("n1")):
        store.apply(command)
    path = store.artifacts(ID) / "environment.json"
    path.write_bytes(b"damaged")
    FolderBackups(store).restore(ID, idempotency_key="back", actor="me")
    (aside,) = (kept for kept in FolderBackups(store).list(ID) if kept.origin == "damaged")
    assert (store.artifacts(ID) / "backups" / aside.name).read_bytes() == b"damaged"
    assert store.load(ID).generation == 3


def test_the_rule_keeps_the_newest_and_one_a_day(clock):
    made = tuple(
        backup.Backup(f"{day}-{hour}", START - timedelta(days=day, hours=hour), 1, "change", 1)
        for day in range(30, -1, -1)
        for hour in (3, 2, 1)
    )
    gone = {found.name for found in backup.superfluous(made, Rule(last=4, days=3), START)}
    assert [found.name for found in made if found.name not in gone] == ["2-1", "1-1", "0-3", "0-2", "0-1"]
    assert backup.superfluous(made, Rule(last=0, days=0), START) == made


def test_backups_are_pruned_and_those_asked_for_stay(store, clock):
    rule = Rule(last=3, days=0)
    store = FilesStore(store.root, clock=clock, settings=Settings(backups=rule))
    store.apply(WALK.create())
    name = FolderBackups(store).create(ID, idempotency_key="keep", actor="me").result["backup"]
    assert FolderBackups(store).create(ID, idempotency_key="keep", actor="me").result["backup"] == name
    for number in range(6):
        clock.now += timedelta(seconds=1)
        store.apply(WALK.rename(f"title {number}"))
    kept = FolderBackups(store).list(ID)
    assert [found.generation for found in kept] == [1, 4, 5, 6]
    assert kept[0].name == name
    removed = FolderBackups(store).prune(ID, Rule(last=1, days=0), idempotency_key="prune", actor="me")
    assert len(removed) == 2
    assert [found.generation for found in FolderBackups(store).list(ID)] == [1, 6]
    assert [event["verb"] for event in store.audit(ID).tail(2)] == ["prune", "prune"]


def test_a_disk_without_hard_links_gets_copies(store):
    class Unlinkable(LocalFileSystem):
        def link(self, source, target):
            raise PermissionError(1, "Operation not permitted")

    store = FilesStore(store.root, io=Unlinkable())
    store.apply(WALK.create())
    store.apply(WALK.rename("n1"))
    assert FolderBackups(store).restore(ID, idempotency_key="back", actor="me").environment.name == "n0"


def test_the_runtime_configuration_follows_the_splits(store):
    path = store.artifacts(ID) / "runtime-config.json"
    for command in WALK.to_ready():
        store.apply(command)
    assert not path.exists()
    store.apply(WALK.dial())
    document = json.loads(path.read_text())
    (block,) = document["revisions"]
    assert (document["schema"], document["env_id"]) == ("greentic.runtime-config.v1", ID)
    assert block["weight_bps"] == 10_000
    assert block["pack_list_refs"] == [f"revisions/{block['revision_id']}/pack-list.lock"]
    inode = path.stat().st_ino
    store.apply(WALK.rename("n1"))
    assert path.stat().st_ino == inode  # unchanged, so not written
    path.write_text("spoilt")
    store.recover(ID)
    assert json.loads(path.read_text()) == document
    paused = UpdateDeploymentPayload(deployment_id=DEPLOYMENT, status=DeploymentStatus.PAUSED)
    store.apply(WALK.create().__class__(ID, "bundles", "update", paused, "pause", "me"))
    assert not path.exists()


def test_a_key_is_honoured_for_seven_days(store, clock):
    store.apply(WALK.create())
    store.apply(WALK.rename("n1", key="key"))
    clock.now += timedelta(days=7)
    assert store.apply(WALK.rename("n1", key="key")).replayed
    with pytest.raises(Conflict):
        store.apply(WALK.rename("n2", key="key"))
    clock.now += timedelta(seconds=1)
    assert store.apply(WALK.rename("n2", key="key")).generation == 3
    assert store.apply(WALK.rename("n2", key="key")).replayed


@pytest.mark.parametrize("key", ["plain", 'a"b\\c', "ü\u2028", "{", '","key":"', "x" * 512])
def test_any_key_is_found(store, key):
    store.apply(WALK.create())
    store.apply(WALK.rename("n1", key=key))
    store.apply(WALK.rename("n2"))
    assert FilesStore(store.root, clock=store.clock).apply(WALK.rename("n1", key=key)).replayed


def test_the_ledger_stays_small(tmp_path, clock):
    ledger = Ledger(LocalFileSystem(), tmp_path / "ledger", compact_bytes=4_000)

    def record(key):
        return {"key": key, "fingerprint": "f", "generation": 1, "stored_at": timestamp(clock.now), "result": {}}

    same = [key for key in map(str, range(60_000)) if ledger._path(key).stem == "00"][:200]
    for key in same:
        ledger.append(record(key), clock.now, sync=False)
        clock.now += timedelta(hours=4)
    (path,) = (tmp_path / "ledger").iterdir()
    assert path.stat().st_size < 10_000  # 200 records are 24,000 bytes, those of a week 5,000
    assert [key for key in same if ledger.find(key, clock.now)] == same[-42:]
    with path.open("ab") as file:
        file.write(b'{"key":"' + same[-1].encode() + b'","finger')
    assert ledger.find(same[-1], clock.now) is not None
    ledger.append(record("torn"), clock.now, sync=False) if ledger._path("torn") == path else None
    ledger.append(record(same[0]), clock.now, sync=True)
    assert ledger.find(same[0], clock.now) is not None
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_importing_the_store_is_cheap():
    """No engine verbs, no terminal, no event loop."""
    code = (
        "import sys, greentic.store.files\n"
        "heavy = ('asyncio', 'click', 'rich', 'ulid', 'greentic.engine.transition')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_environments_do_not_share_keys(store):
    for name in ("a", "b"):
        assert store.apply(Walk(name).create(key="same")).generation == 1
