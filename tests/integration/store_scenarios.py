"""Changes to crash, and what must hold when the place is opened again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.integration.store_disks import Unsynced

from greentic.engine.command import Command
from greentic.spec.errors import GreenticError, StoreError
from greentic.store import folders, runtime
from greentic.store.backup import Rule
from greentic.store.conformance import WALK
from greentic.store.files import FilesStore
from greentic.store.io import FileSystem
from greentic.store.restoring import FolderBackups
from greentic.store.transaction import Settings

ID = WALK.environment_id
PLACE = "environments"
TIME = datetime(2026, 7, 24, 10, 0, 0, tzinfo=UTC)
RENAME = WALK.rename("n1")

Act = Callable[[FilesStore], Any]


def applying(command: Command) -> Act:
    """Apply `command`."""
    return lambda store: store.apply(command).result


def restoring(store: FilesStore) -> Any:
    """Restore the newest backup."""
    return FolderBackups(store).restore(ID, idempotency_key="restore", actor="me").result


def keeping(store: FilesStore) -> Any:
    """Make a backup that no rule removes."""
    return FolderBackups(store).create(ID, idempotency_key="keep", actor="me").result["backup"]


def changing_twice(store: FilesStore) -> Any:
    """Two changes in one go; the record of the first must outlive the rename of the second."""
    return [store.apply(RENAME).result, store.apply(WALK.rename("n2")).result]


def changing_after_a_no_op(store: FilesStore) -> Any:
    """A no-op that would be one no longer after the change that follows it."""
    return [store.apply(WALK.rename("n0")).result, store.apply(RENAME).result]


def damage(root: Path) -> None:
    """Flip a digit of the document."""
    path = root / ID / folders.DOCUMENT
    path.write_bytes(path.read_bytes().replace(b'"name": "n2"', b'"name": "n7"'))


def forget_appends(root: Path) -> None:
    """As after a crash between the rename and the appends: the outcome and the ledger record are missing."""
    log = root / ID / folders.AUDIT / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    for path in (root / ID / folders.LEDGER).iterdir():
        if b'{"key":"rename-n1"' in (data := path.read_bytes()):
            path.write_bytes(data[:25])
    (root / ID / ".greentic-environment.json.0.tmp").write_bytes(b"{")


def announce_only(root: Path) -> None:
    """As after a crash before the rename: an intent without outcome."""
    log = root / ID / folders.AUDIT / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]))
    backup = max((root / ID / folders.BACKUPS).iterdir())
    backup.replace(root / ID / folders.DOCUMENT)
    for path in (root / ID / folders.LEDGER).iterdir():
        if b'{"key":"rename-n1"' in path.read_bytes():
            path.unlink()


@dataclass(frozen=True)
class Scenario:
    """`before` is applied in peace, then `spoil` may damage the place, then `act` is interrupted."""

    name: str
    before: Sequence[Command]
    act: Act
    key: str
    spoil: Callable[[Path], None] | None = None
    settings: Settings = field(default_factory=Settings)
    changes: int = 1

    def store(self, root: Path, io: FileSystem | None = None) -> FilesStore:
        """A store that was first opened when the folder of environments did not exist."""
        return FilesStore(root / PLACE, clock=lambda: TIME, io=io or Unsynced(), settings=self.settings)

    def prepare(self, root: Path) -> None:
        """Make the place as it is before the interrupted change."""
        root.mkdir(parents=True)
        store = self.store(root)
        for command in self.before:
            store.apply(command)
        if self.spoil is not None:
            self.spoil(root / PLACE)


SCENARIOS = (
    Scenario("create", (), applying(WALK.create()), "create"),
    Scenario("rename", (WALK.create(),), applying(RENAME), RENAME.idempotency_key),
    Scenario("add", (WALK.create(), RENAME), applying(WALK.add()), "add"),
    Scenario("stage", (WALK.create(), WALK.add()), applying(WALK.stage()), "stage"),
    Scenario("dial", WALK.to_ready(), applying(WALK.dial()), "dial"),
    Scenario("clear", (*WALK.to_ready(), WALK.dial()), applying(WALK.clear()), "clear"),
    Scenario("failed-gate", WALK.to_warming(), applying(WALK.warm(ok=False)), "warm"),
    Scenario("no-op", (WALK.create(),), applying(WALK.rename("n0")), "rename-n0"),
    Scenario("refused", (WALK.create(), WALK.add()), applying(WALK.add(key="again")), "again"),
    Scenario("refused-without-environment", (), applying(RENAME), RENAME.idempotency_key),
    Scenario("repetition", (WALK.create(), WALK.add()), applying(WALK.create()), "create"),
    Scenario("after-unfinished-appends", (WALK.create(), RENAME), applying(WALK.add()), "add", forget_appends),
    Scenario("repetition-of-unfinished", (WALK.create(), RENAME), applying(RENAME), "rename-n1", forget_appends),
    Scenario("after-unfinished-intent", (WALK.create(), RENAME), applying(WALK.add()), "add", announce_only),
    Scenario("rotate", (WALK.create(), RENAME), applying(WALK.add()), "add", settings=Settings(segment_bytes=10)),
    Scenario("prune", (*WALK.to_ready(),), applying(WALK.dial()), "dial", settings=Settings(backups=Rule(1, 0))),
    Scenario("restore", (WALK.create(), RENAME), restoring, "restore"),
    Scenario("restore-over-damage", (WALK.create(), RENAME, WALK.rename("n2")), restoring, "restore", damage),
    Scenario("two-changes", (WALK.create(),), changing_twice, "rename-n2", changes=2),
    Scenario("no-op-and-change", (WALK.create(),), changing_after_a_no_op, "rename-n1", changes=2),
    Scenario("keep", (WALK.create(), RENAME), keeping, "keep"),
)


@dataclass(frozen=True)
class Truth:
    """What the place holds before and after the change when nothing interrupts it, and what the caller is told."""

    before: tuple[int, str] | None
    after: tuple[int, str] | None
    answer: Any


def state(store: FilesStore) -> tuple[int, str] | None:
    """(generation, etag) of the environment; None when there is none or it is corrupt."""
    try:
        stored = store.load(ID)
    except GreenticError:
        return None
    return stored.generation, stored.etag


def answer(store: FilesStore, act: Act) -> Any:
    """What the caller is told: a result, or a refusal. StoreError passes: the store itself failed."""
    try:
        return json.loads(json.dumps(act(store)))
    except StoreError:
        raise
    except GreenticError as error:
        return error.document()


def truth(scenario: Scenario, root: Path) -> Truth:
    """Run it in peace on a place of its own."""
    scenario.prepare(root)
    before = state(scenario.store(root))
    told = answer(scenario.store(root), scenario.act)
    return Truth(before, state(scenario.store(root)), told)


def check(scenario: Scenario, expected: Truth, root: Path, *, acknowledged: bool) -> None:
    """The promises of the contract about a place that was interrupted and is opened again."""
    found = state(scenario.store(root))
    if scenario.changes == 1:
        assert found in {expected.before, expected.after}, "half of a change"
    else:
        assert expected.before <= found <= expected.after
    if acknowledged:
        assert found == expected.after, "an acknowledged change is gone"
    store = scenario.store(root)
    assert answer(store, scenario.act) == expected.answer, "a retry is answered otherwise"
    assert state(scenario.store(root)) == expected.after, "the change happened twice, or not at all"
    assert answer(scenario.store(root), scenario.act) == expected.answer, "a second retry is answered otherwise"
    assert state(scenario.store(root)) == expected.after
    folder = root / PLACE / ID
    if expected.after is None:
        assert store.list() == ()
        return
    configuration = runtime.derive(store.load(ID).environment)
    path = folder / folders.RUNTIME
    assert path.exists() == (configuration is not None)
    if configuration is not None:
        assert json.loads(path.read_text()) == configuration.to_json()
    store.apply(WALK.rename("later"))  # takes the record of the change out of the document
    assert answer(scenario.store(root), scenario.act) == expected.answer, "a late retry is answered otherwise"
    assert state(store)[0] == expected.after[0] + 1, "the change happened again"
    report = scenario.store(root).verify_audit(ID)
    assert report.ok, report.finding
    events = list(store.audit(ID).events())
    for intent, outcome in zip(events, [*events[1:], None], strict=True):
        if intent["phase"] == "intent":
            assert outcome is not None, "an intent without outcome"
            assert (outcome["phase"], outcome["idempotency_key"]) == ("outcome", intent["idempotency_key"])
    changes = [event["new_generation"] for event in events if "new_generation" in event]
    assert changes == sorted(set(changes)), "a generation was used twice"
    assert changes[-1] == expected.after[0] + 1, "audit and state disagree"
    effects = [event for event in events if event.get("idempotency_key") == scenario.key and "new_generation" in event]
    once = scenario.key in {"create"} or expected.after != expected.before or scenario.key == "rename-n1"
    assert len(effects) == (1 if once else 0), "not exactly one effect"
    assert not [path for path in folder.rglob("*") if path.name.startswith(".greentic-")], "a temporary file is left"
    assert [listing.error for listing in store.list()] == [None]
