"""Environments move with all that is recorded of them, into databases and back, and what may go wrong on the way."""

from __future__ import annotations

import pytest

from greentic.engine.command import Command
from greentic.operations.moving import Wish, move
from greentic.spec.errors import Conflict, CorruptDocument, GateFailed, GreenticError, InvalidArgument, NotFound
from greentic.store import moving
from greentic.store.conformance import WALK, Walk
from greentic.store.files import FilesStore
from greentic.store.restoring import FolderBackups
from greentic.store.sql import moving as sql_moving
from greentic.store.sql.store import open_store
from greentic.store.sql.view import View

ID = WALK.environment_id
OTHER = Walk("prod")


def wish(*names: str, dry_run: bool = False) -> Wish:
    return Wish(names, "mover", dry_run, lambda _line: None)


@pytest.fixture
def operator_key(tmp_path, monkeypatch):
    monkeypatch.setenv("GTC_OPERATOR_KEY_PATH", str(tmp_path / "operator" / "key.pem"))


@pytest.fixture
def source(tmp_path, operator_key):
    """A folder with two environments: history, a failed change, files beside, a kept backup, a machine's own part."""
    store = FilesStore(tmp_path / "source")
    for command in WALK.to_warming():
        store.apply(command)
    with pytest.raises(GateFailed):
        store.apply(WALK.warm(ok=False))
    FolderBackups(store).create(ID, idempotency_key="keep", actor="me")
    nothing = type(WALK.rename("x").payload)()

    def write(files):
        files.write("env-packs/secrets.json", b'{"a":1}')
        files.write("billing-policies/helpdesk/acme/v1.json", b"{}")
        return {}

    store.maintain(Command(ID, "env-packs", "answer", nothing, "answers", "me"), write)
    store.apply(WALK.rename("n9"))
    with pytest.raises(NotFound):
        store.apply(Command(ID, "bundles", "remove", _gone(), "refused", "me"))
    store.apply(OTHER.create())
    (store.artifacts(ID) / "router-keys.json").write_text("KEY-OF-THE-ROUTERS")
    (store.artifacts(ID) / "revisions").mkdir(exist_ok=True)
    return store


def _gone():
    from greentic.spec.payloads import RemoveDeploymentPayload

    return RemoveDeploymentPayload(deployment_id="01J0000000000000000000000Z")


def recorded(store, name=ID):
    """What must be the same at both ends."""
    stored = store.load(name)
    files = store.files(name)
    beside = {path: files.read(path) for place in moving.BESIDE for path in files.names(place)}
    return stored.environment, stored.generation, stored.etag, beside


def log(store, name=ID):
    return [event["hash"] for event in store.audit(name).events()]


def in_a_database(place):
    store = open_store(place)
    try:
        yield store
    finally:
        store.close()


def test_there_and_back_again(source, tmp_path, database):
    back = tmp_path / "back"
    before, entries = recorded(source), log(source)
    told = move(str(source.root), database, wish())
    assert [one["environment_id"] for one in told["moved"]] == [ID, OTHER.environment_id]
    assert told["stays"] == {ID: ["revisions", "router-keys.json"]}
    store = open_store(database)
    assert recorded(store) == before
    assert log(store)[:-1] == entries
    assert store.audit(ID).tail(1)[0]["verb"] == "import"
    assert store.verify_audit(ID).ok
    # A key is answered as it was, a failure too; the same key for something else is refused.
    assert store.apply(WALK.add()).replayed
    with pytest.raises(GateFailed):
        store.apply(WALK.warm(ok=False))
    with pytest.raises(Conflict):
        store.apply(WALK.rename("x", key="add"))
    kept = [one for one in store.backups().list(ID) if one.origin == "kept"]
    assert len(kept) == 1
    applied = store.apply(WALK.rename("n10"))
    assert applied.generation == before[1] + 1
    changed = recorded(store)
    store.close()

    told = move(database, f"{back}/", wish())
    folder = FilesStore(back)
    assert recorded(folder) == changed
    assert folder.verify_audit(ID).ok
    assert folder.apply(WALK.add()).replayed
    assert [one.origin for one in FolderBackups(folder).list(ID)].count("kept") == 1
    assert folder.apply(WALK.rename("n11")).generation == changed[1] + 1
    assert folder.verify_audit(ID).ok
    name = next(one.name for one in FolderBackups(folder).list(ID) if one.origin == "kept")
    FolderBackups(folder).restore(ID, name, idempotency_key="back", actor="me")
    assert not list(back.glob(".greentic-*"))


def test_nothing_secret_moves(source, tmp_path):
    move(str(source.root), str(tmp_path / "store.db"), wish())
    assert all(b"KEY-OF-THE-ROUTERS" not in path.read_bytes() for path in tmp_path.glob("store.db*"))


def test_a_dry_run_makes_nothing(source, tmp_path):
    before = sorted(path for path in source.root.rglob("*"))
    told = move(str(source.root), str(tmp_path / "store.db"), wish(dry_run=True))
    assert [one["environment_id"] for one in told["moved"]] == [ID, OTHER.environment_id]
    assert not (tmp_path / "store.db").exists()
    assert sorted(path for path in source.root.rglob("*")) == before


def test_a_target_with_others_is_refused(source, tmp_path):
    database = str(tmp_path / "store.db")
    for store in in_a_database(database):
        store.apply(Walk("theirs").create())
    with pytest.raises(Conflict, match="theirs"):
        move(str(source.root), database, wish())
    for store in in_a_database(database):
        assert store.names() == ("theirs",)


def test_one_of_the_same_name_is_refused(source, tmp_path):
    database = str(tmp_path / "store.db")
    for store in in_a_database(database):
        store.apply(WALK.create())
    with pytest.raises(Conflict, match="not the one of the source"):
        move(str(source.root), database, wish())
    for store in in_a_database(database):
        assert store.names() == (ID,)


def test_what_was_interrupted_is_finished(source, tmp_path, monkeypatch):
    database = str(tmp_path / "store.db")
    bring, done = sql_moving.bring, []

    def dying(*given):
        if done:
            raise KeyboardInterrupt
        done.append(bring(*given))
        return done[0]

    monkeypatch.setattr("greentic.operations.moving.bring", dying)
    with pytest.raises(KeyboardInterrupt):
        move(str(source.root), database, wish())
    monkeypatch.setattr("greentic.operations.moving.bring", bring)
    told = move(str(source.root), database, wish())
    assert (told["present"], [one["environment_id"] for one in told["moved"]]) == ([ID], [OTHER.environment_id])
    told = move(str(source.root), database, wish())
    assert (told["present"], told["moved"]) == ([ID, OTHER.environment_id], [])
    source.apply(WALK.rename("meanwhile"))
    with pytest.raises(Conflict):
        move(str(source.root), database, wish())


def test_half_an_environment_is_none(source, database, monkeypatch):

    def broken(*_given, **_named):
        raise Conflict("not like this")

    with monkeypatch.context() as patched:
        patched.setattr(View, "perform", broken)
        with pytest.raises(Conflict):
            move(str(source.root), database, wish())
    for store in in_a_database(database):
        assert store.names() == ()
    assert len(move(str(source.root), database, wish())["moved"]) == 2


def test_what_cannot_be_trusted_stays_and_nothing_moves(source, tmp_path):
    database = str(tmp_path / "store.db")
    path = source.artifacts(OTHER.environment_id) / "environment.json"
    path.write_text(path.read_text().replace('"n0"', '"n5"'))
    with pytest.raises(CorruptDocument):
        move(str(source.root), database, wish())
    for store in in_a_database(database):
        assert store.names() == ()
    assert len(move(str(source.root), database, wish(ID))["moved"]) == 1


def test_a_log_that_was_changed_stays(source, tmp_path):
    path = source.artifacts(ID) / "audit" / "events.jsonl"
    path.write_text(path.read_text().replace("begin-warm", "begin-warn", 1))
    with pytest.raises(GreenticError, match="audit log"):
        move(str(source.root), str(tmp_path / "store.db"), wish())


def test_places_that_are_none(source, tmp_path):
    with pytest.raises(NotFound):
        move(f"{tmp_path}/nowhere/", str(tmp_path / "store.db"), wish())
    with pytest.raises(NotFound):
        move(str(tmp_path / "nowhere.db"), str(tmp_path / "store.db"), wish())
    with pytest.raises(InvalidArgument):
        move(str(source.root), str(source.root), wish())
    with pytest.raises(NotFound):
        move(str(source.root), str(tmp_path / "store.db"), wish("ghost"))
