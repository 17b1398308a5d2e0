"""Backups in a database: what they hold, what they survive, and what they never bring back."""

from __future__ import annotations

import json

import pytest
from tests.integration.databases import spoil

from greentic.engine.command import Command
from greentic.spec.backup import BackupArtifact
from greentic.spec.errors import Conflict, CorruptDocument, InvalidArgument, NotFound
from greentic.spec.integrity import digest
from greentic.spec.parsing import Payload, parse
from greentic.store.conformance import WALK, Walk
from greentic.store.sql.limits import Limits
from greentic.store.verification import verify

ID = WALK.environment_id
POLICY = "billing-policies/helpdesk/acme/v1.json"


class Nothing(Payload):
    """Asks for nothing."""


@pytest.fixture
def store(database, opened):
    store = opened(database)
    for command in (*WALK.to_ready(), WALK.dial()):
        store.apply(command)
    return store


def effect(store, path, data, key=None):
    def writes(files):
        files.write(path, data)
        return {}

    return store.maintain(Command(ID, "secrets", "put", Nothing(), key or path, "me"), writes)


def taken(store, key="keep"):
    return store.backups().create(ID, idempotency_key=key, actor="me").result["backup"]


def restore(store, name=None, key="back", **expected):
    return store.backups().restore(ID, name, idempotency_key=key, actor="me", **expected)


def artifact(store, name):
    text = b"".join(store.backups().export(ID, name))
    return parse(BackupArtifact, json.loads(text), "the artifact")


class TestTaking:
    def test_it_is_listed_with_what_it_holds(self, store):
        before = store.load(ID)
        name = taken(store)
        (backup,) = store.backups().list(ID)
        assert (backup.name, backup.generation, backup.etag, backup.origin) == (
            name,
            before.generation,
            before.etag,
            "kept",
        )
        manifest = store.backups().manifest(ID, name)
        assert manifest["integrity"] == {"algorithm": "sha-256", "digest": before.etag}
        assert store.load(ID).generation == before.generation
        assert taken(store) == name, "the same key gives the same backup"
        assert len(store.backups().list(ID)) == 1

    def test_what_cannot_be_trusted_is_not_taken(self, store, database):
        spoil(database, "UPDATE elements SET data = ? WHERE section = 'revisions'", b"{}")
        with pytest.raises(CorruptDocument):
            taken(store)
        assert store.backups().list(ID) == ()

    def test_a_removed_one_is_gone(self, store):
        name = taken(store)
        store.backups().delete(ID, name, idempotency_key="gone", actor="me")
        assert store.backups().list(ID) == ()
        with pytest.raises(NotFound):
            restore(store, name)
        with pytest.raises(NotFound):
            store.backups().delete(ID, name, idempotency_key="again", actor="me")

    def test_of_nothing_there_is_none(self, opened, database):
        store = opened(database)
        with pytest.raises(NotFound):
            store.backups().list(ID)
        with pytest.raises(NotFound):
            taken(store)
        assert store.names() == ()


class TestRestoring:
    def test_content_goes_back_and_the_generation_on(self, store):
        name, before = taken(store), store.load(ID)
        store.apply(WALK.rename("other"))
        applied = restore(store, name, expected_generation=before.generation + 1)
        assert (applied.generation, applied.etag) == (before.generation + 2, before.etag)
        assert applied.result == {"backup": name, "restored_generation": before.generation}
        assert store.load(ID).environment == before.environment
        assert restore(store, name, expected_generation=before.generation + 1).replayed

    def test_a_stale_pin_is_a_conflict(self, store):
        name = taken(store)
        with pytest.raises(Conflict):
            restore(store, name, expected_generation=1)
        with pytest.raises(Conflict):
            restore(store, name, if_match="0" * 64)

    def test_a_dry_run_changes_nothing(self, store):
        name, before = taken(store), store.load(ID)
        store.apply(WALK.rename("other"))
        planned = restore(store, name, dry_run=True)
        assert (planned.environment, planned.generation) == (before.environment, before.generation + 2)
        assert store.load(ID).environment.name == "other"

    def test_without_a_name_the_generation_before(self, store):
        before = store.load(ID)
        store.apply(WALK.rename("other"))
        assert restore(store).result == {"backup": f"g{before.generation}", "restored_generation": before.generation}
        assert store.load(ID).etag == before.etag

    def test_any_generation_that_is_kept(self, store):
        assert restore(store, "g2").environment.revisions == ()
        with pytest.raises(NotFound):
            restore(store, "g99", key="none")

    def test_a_spoiled_backup_is_refused(self, store, database):
        name = taken(store)
        store.apply(WALK.rename("other"))
        spoil(database, "UPDATE backups SET data = ?", b"nothing")
        with pytest.raises(CorruptDocument):
            restore(store, name)
        with pytest.raises(CorruptDocument):
            store.backups().export(ID, name)
        assert store.load(ID).environment.name == "other"

    def test_lost_files_come_back_and_none_is_replaced(self, store, database):
        effect(store, POLICY, b"one")
        effect(store, "env-packs/a.json", b"{}", "a")
        name = taken(store)
        effect(store, "env-packs/a.json", b"[]", "b")
        spoil(database, "DELETE FROM files WHERE path LIKE 'billing%'")
        store.apply(WALK.rename("other"))
        restore(store, name)
        assert (store.files(ID).read(POLICY), store.files(ID).read("env-packs/a.json")) == (b"one", b"[]")


class TestDamage:
    """A row that somebody else changed: nothing of it is served, others live on, and there is a way back."""

    @pytest.fixture
    def damaged(self, store, database, opened):
        store.apply(Walk("other").create())
        self.before = store.load(ID)
        self.name = taken(store)
        place = database
        if database.endswith(".db"):
            store.close()
        spoil(place, "UPDATE elements SET data = ? WHERE env_id = 'conform' AND section = 'bundles'", b'{"a":1}')
        return opened(place)

    def test_it_is_found_and_harms_nobody_else(self, damaged):
        for attempt in (damaged.load, lambda name: damaged.apply(Walk(name).rename("x")), taken_of(damaged)):
            with pytest.raises(CorruptDocument):
                attempt(ID)
        assert damaged.load("other").generation == 1
        assert [found.error is None for found in damaged.list()] == [False, True]
        assert damaged.apply(Walk("other").rename("x")).generation == 2
        assert damaged.verify_audit(ID).ok

    def test_a_backup_brings_it_back(self, damaged):
        applied = restore(damaged, self.name)
        assert (applied.etag, applied.generation) == (self.before.etag, self.before.generation + 1)
        assert damaged.load(ID).environment == self.before.environment
        assert [found.origin for found in damaged.backups().list(ID)] == ["kept", "damaged"]
        aside = damaged.backups().list(ID)[1].name
        with pytest.raises(CorruptDocument):
            restore(damaged, aside, key="aside")
        assert damaged.apply(WALK.rename("on")).generation == applied.generation + 1
        assert damaged.at(ID, applied.generation).etag == applied.etag

    def test_without_a_name_the_newest_that_holds(self, damaged):
        assert restore(damaged).etag == self.before.etag

    def test_a_mended_document_is_accepted(self, damaged, opened):
        mended = self.before.environment.model_copy(update={"name": "mended"})
        applied = damaged.backups().accept(ID, mended, idempotency_key="mend", actor="me")
        assert (applied.environment.name, applied.generation) == ("mended", self.before.generation + 1)
        assert damaged.load(ID).environment == mended
        with pytest.raises(Conflict):
            damaged.backups().accept(ID, mended, idempotency_key="mend again", actor="me")

    def test_a_file_that_was_changed_is_not_served(self, store, database):
        effect(store, POLICY, b"one")
        spoil(database, "UPDATE files SET data = ?", b"two")
        with pytest.raises(CorruptDocument):
            store.files(ID).read(POLICY)

    def test_an_altered_audit_entry_is_found(self, store, database):
        assert store.verify_audit(ID).ok
        spoil(database, "UPDATE audit SET line = ? WHERE sequence = 3", b'{"sequence":3}\n')
        report = store.verify_audit(ID)
        assert not report.ok
        assert report.finding.line == 3

    def test_a_log_that_begins_later_is_found(self, store, database):
        spoil(database, "DELETE FROM audit WHERE sequence < 3")
        assert "does not begin with entry 1" in store.verify_audit(ID).finding.reason

    def test_a_log_that_was_cut_is_found(self, store, database):
        spoil(database, "DELETE FROM audit WHERE sequence = 6")
        assert "ends before" in store.verify_audit(ID).finding.reason


class TestCarrying:
    def test_into_an_empty_store_and_back(self, store, opened, tmp_path):
        effect(store, POLICY, b"one")
        name, before = taken(store), store.load(ID)
        carried = artifact(store, name)
        assert carried.intact()
        assert carried.snapshot["environment"] == before.environment.to_json()
        other = opened(str(tmp_path / "other.db"))
        applied = other.backups().import_(ID, carried, idempotency_key="in", actor="me")
        assert (applied.generation, applied.etag) == (1, before.etag)
        assert other.load(ID).environment == before.environment
        assert other.files(ID).read(POLICY) == b"one"
        assert other.verify_audit(ID).ok
        events = list(other.audit(ID).events())
        kept = [event["event_id"] for event in store.audit(ID).events()]
        assert [event["event_id"] for event in events[:-1]] == kept[: len(events) - 1]
        assert {event.get("imported") for event in events[:-1]} == {True}, "nobody vouched for them"
        assert (events[-1]["verb"], events[-1]["idempotency_key"]) == ("import", "in")
        assert other.apply(WALK.rename("on")).generation == 2

    def test_over_a_live_environment_it_is_refused(self, store):
        carried = artifact(store, taken(store))
        with pytest.raises(Conflict):
            store.backups().import_(ID, carried, idempotency_key="in", actor="me")

    def test_an_altered_one_is_refused(self, store, opened, tmp_path):
        carried = artifact(store, taken(store))
        other = opened(str(tmp_path / "other.db"))
        snapshot = json.loads(json.dumps(carried.snapshot))
        snapshot["environment"]["name"] = "forged"
        for forged in (
            carried.model_copy(update={"snapshot": snapshot}),
            carried.model_copy(update={"snapshot": snapshot, "snapshot_digest": digest(snapshot)}),
        ):
            with pytest.raises(CorruptDocument):
                other.backups().import_(ID, forged, idempotency_key="in", actor="me")
        with pytest.raises(InvalidArgument):
            other.backups().import_("elsewhere", carried, idempotency_key="in", actor="me")
        assert other.names() == ()

    @pytest.mark.parametrize("altered", [True, False])
    def test_a_log_below_a_signed_head_is_the_one_that_was_signed(self, store, opened, tmp_path, altered):
        """Its head is signed, so whoever rewrites an entry below it is found, however the digests were mended."""
        carried = artifact(store, taken(store))
        snapshot = json.loads(json.dumps(carried.snapshot))
        if altered:
            snapshot["audit_log"][0]["event"]["actor"] = {"kind": "local-user", "user": "mallory"}
        more = {"snapshot": snapshot, "snapshot_digest": digest(snapshot), "snapshot_signature": {"any": "signature"}}
        other = opened(str(tmp_path / "other.db"))
        forged = type(carried).model_validate({**carried.to_json(), **more})
        if altered:
            with pytest.raises(CorruptDocument, match="not the one that was signed"):
                other.backups().import_(ID, forged, idempotency_key="in", actor="me")
            assert other.names() == ()
        else:
            assert other.backups().import_(ID, forged, idempotency_key="in", actor="me").generation == 1

    def test_entries_of_the_reference_are_linked_anew_and_marked(self, store, opened, tmp_path):
        carried = artifact(store, taken(store))
        snapshot = json.loads(json.dumps(carried.snapshot))
        for row in snapshot["audit_log"]:
            for field in ("sequence", "previous_hash", "hash"):
                del row["event"][field]
        plain = carried.model_copy(update={"snapshot": snapshot, "snapshot_digest": digest(snapshot)})
        other = opened(str(tmp_path / "other.db"))
        other.backups().import_(ID, plain, idempotency_key="in", actor="me")
        events = list(other.audit(ID).events())
        assert [event.get("imported") for event in events] == [True] * (len(events) - 1) + [None]
        assert other.verify_audit(ID).ok


class TestLimits:
    def test_old_keys_rows_and_entries_are_forgotten(self, database, opened):
        store = opened(database, limits=Limits(keys=8, audit_rows=10, tidy_every=4))
        store.apply(WALK.create())
        for number in range(1, 41):
            store.apply(WALK.rename(f"n{number}"))
        assert store.load(ID).generation == 41
        assert store.at(ID, 40).environment.name == "n39"
        with pytest.raises(NotFound):
            store.at(ID, 2)
        assert store.apply(WALK.rename("n40")).replayed
        assert not store.apply(WALK.rename("n1")).replayed, "an evicted key is a new one"
        assert store.verify_audit(ID).ok
        assert len(list(store.audit(ID).events())) <= 14
        again = opened(database) if not database.endswith(".db") else store
        assert again.load(ID).environment.name == "n1"

    def test_a_flood_of_refusals_is_bounded_and_counted(self, database, opened):
        store = opened(database, limits=Limits(refusals=5, refusal_seconds=3_600))
        store.apply(WALK.create())
        for number in range(30):
            with pytest.raises(Conflict):
                store.apply(WALK.create(key=f"again-{number}"))
        assert len(list(store.audit(ID).events())) == 6

    def test_the_export_of_the_log_is_verified_by_anybody(self, store, tmp_path):
        with (tmp_path / "log.jsonl").open("wb") as file:
            assert store.audit(ID).export(file) == 6
        assert verify(tmp_path / "log.jsonl").ok


def taken_of(store):
    return lambda _name: taken(store)


def test_whatever_stands_in_the_rows_of_sqlite(opened, tmp_path):
    """A text where bytes belong, as an editor leaves it; nothing; a number: PostgreSQL would refuse them."""
    place = str(tmp_path / "store.db")
    store = opened(place)
    store.apply(WALK.create())
    before, name = store.load(ID), taken(store)
    for number, spoilt in enumerate(("{}", "", None, 7, b"\xff")):
        spoil(place, "UPDATE elements SET data = ?", spoilt)
        store._known.clear()
        with pytest.raises(CorruptDocument):
            store.load(ID)
        assert restore(store, name, key=f"back-{number}").etag == before.etag
        assert store.load(ID).environment == before.environment
    assert store.verify_audit(ID).ok
