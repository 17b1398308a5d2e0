"""What is particular to a store in a database: groups, servers side by side, broken connections, full disks."""

from __future__ import annotations

import stat
import threading
from concurrent.futures import wait

import pytest
from pydantic_core import from_json, to_json
from tests.integration.databases import spoil

from greentic.engine.command import Command
from greentic.spec.errors import Conflict, Denied, GateFailed, InvalidArgument, NotFound, NotImplementedYet, StoreError
from greentic.spec.parsing import Payload
from greentic.store.conformance import WALK, Walk
from greentic.store.contract import Batching, Completed, Decision, Request, ServedStore, Step
from greentic.store.sql import schema
from greentic.store.sql.sqlite import SqliteDatabase
from greentic.store.sql.store import SqlStore, open_store

ID = WALK.environment_id
POLICY = "billing-policies/helpdesk/acme/v1.json"


class Nothing(Payload):
    """Asks for nothing."""


def effect(key="effect"):
    return Command(ID, "secrets", "put", Nothing(), key, "me")


@pytest.fixture
def store(database, opened):
    store = opened(database)
    store.apply(WALK.create())
    return store


def grouped(store, work):
    """Let `work` put what it wants to wait; it is carried out together. Its futures."""
    gate = threading.Event()
    held = store.enqueue(WALK.rename("gate"), lambda _view: gate.wait(10))
    futures = work()
    gate.set()
    held.result()
    wait(futures)
    return futures


class TestGroups:
    def test_one_that_is_refused_harms_no_other(self, store):
        before = store.load(ID).generation

        def work():
            good = [store.submit(WALK.rename(f"n{number}")) for number in range(1, 4)]
            bad = [store.submit(WALK.create("again")), store.submit(WALK.stage("stage"))]
            stale = store.submit(WALK.rename("stale"), expected_generation=before)
            return [*good[:2], *bad, stale, *good[2:], store.submit(WALK.rename("n9"))]

        futures = grouped(store, work)
        told = [future.exception() or future.result().generation for future in futures]
        assert [told[0], told[1], told[5], told[6]] == [before + 1, before + 2, before + 3, before + 4]
        assert [one.kind for one in told[2:5]] == ["conflict", "not-found", "conflict"]
        assert store.load(ID).generation == before + 4
        assert [store.at(ID, before + step).environment.name for step in (1, 2, 3)] == ["n1", "n2", "n3"]
        assert store.verify_audit(ID).ok

    def test_the_same_key_twice_has_one_effect(self, store):
        futures = grouped(store, lambda: [store.submit(WALK.rename("n1", "key")) for _ in range(5)])
        assert sorted(future.result().replayed for future in futures) == [False, True, True, True, True]
        assert store.load(ID).generation == 2

    def test_what_breaks_breaks_alone(self, store):
        def broken(_view):
            raise ZeroDivisionError("not like this")

        def work():
            return [store.submit(WALK.rename("n1")), store.enqueue(effect(), broken), store.submit(WALK.rename("n2"))]

        one, other, third = grouped(store, work)
        assert isinstance(other.exception(), ZeroDivisionError)
        assert (one.result().generation, third.result().generation) == (2, 3)

    def test_a_fault_in_the_middle_leaves_nothing_of_it(self, store, monkeypatch):
        """Not even what it had noted before it failed."""
        from greentic.store.sql.view import View

        def fails(view, before, environment):
            if environment.name == "bad":
                raise ZeroDivisionError("a fault of ours")

        monkeypatch.setattr(View, "_derive", fails)
        names = ("n1", "bad", "n2")
        one, bad, two = grouped(store, lambda: [store.submit(WALK.rename(name)) for name in names])
        assert isinstance(bad.exception(), ZeroDivisionError)
        assert (one.result().generation, two.result().generation) == (2, 3)
        with pytest.raises(ZeroDivisionError):
            store.apply(WALK.rename("bad", "alone"))
        monkeypatch.undo()
        assert store.apply(WALK.rename("n3")).generation == 4
        assert store.at(ID, 3).environment.name == "n2"
        assert [event["target"].get("name") for event in store.audit(ID).events()] == ["n0", "n1", "n2", "n3"]
        assert store.verify_audit(ID).ok

    def test_values_that_cannot_be_kept_stop_nobody_else(self, store):
        def impossible(view):
            view.later("UPDATE environments SET generation = ? WHERE env_id = ?", 2**70, ID)
            return view.carry_out(store.attempt(WALK.rename("bad"), None))

        one, bad, two = grouped(
            store,
            lambda: [
                store.submit(WALK.rename("n1")),
                store.enqueue(WALK.rename("bad"), impossible),
                store.submit(WALK.rename("n2")),
            ],
        )
        assert bad.exception() is not None
        assert (one.result().generation, two.result().generation) == (2, 3)

    def test_a_database_that_was_taken_back_is_believed(self, store, database, opened):
        """Somebody restored the whole database from a copy, and others went on from there."""
        store.apply(WALK.rename("n1"))
        store.apply(WALK.rename("n2"))
        known = store._known[ID]
        for table, column in (("elements", "generation"), ("ledger", "generation"), ("audit", "sequence")):
            spoil(database, f"DELETE FROM {table} WHERE {column} > 1")
        etag = store.audit(ID).tail(1)[0]["new_etag"]
        spoil(database, "UPDATE environments SET generation = 1, sequence = 1, etag = ?", etag)
        spoil(database, "UPDATE environments SET head = ?", store.audit(ID).tail(1)[0]["hash"])
        assert store.load(ID).environment.name == "n0"
        for number in (3, 4, 5):
            store._known[ID] = known
            store.apply(WALK.rename(f"n{number}"))
        store._known[ID] = known
        assert store.load(ID).environment.name == "n5"
        assert store.load(ID).generation == 4

    def test_who_goes_away_before_his_turn_changes_nothing(self, store):
        gate = threading.Event()
        begun = threading.Event()
        held = store.enqueue(WALK.rename("gate"), lambda _view: (begun.set(), gate.wait(10)))
        begun.wait(10)
        waiting = store.submit(WALK.rename("n1"))
        assert waiting.cancel()
        assert not held.cancel(), "its turn has begun"
        gate.set()
        assert store.apply(WALK.rename("n2")).generation == 2

    def test_a_fault_of_ours_leaves_nobody_waiting(self, store, monkeypatch):
        def fails(lane, group):
            raise ZeroDivisionError("a fault")

        monkeypatch.setattr(store._lanes, "_serve", fails)
        assert isinstance(store.submit(WALK.rename("n1")).exception(10), ZeroDivisionError)
        monkeypatch.undo()
        assert store.apply(WALK.rename("n1")).generation == 2

    def test_a_later_one_sees_the_files_of_an_earlier(self, store):
        seen = []

        def looking(_environment, command, _now, files):
            seen.append((files.read("env-packs/a"), files.names("env-packs")))
            return Completed(command.payload, (("env-packs/b", b"two"),))

        def write(files):
            files.write("env-packs/a", b"one")
            return {}

        attempt = store.attempt(effect(), None)
        grouped(
            store,
            lambda: [
                store.enqueue(effect(), lambda view: view.perform(attempt, write, view_free())),
                store.submit(WALK.rename("n1"), complete=looking),
            ],
        )
        assert seen == [(b"one", ("env-packs/a",))]
        assert store.files(ID).names("env-packs") == ("env-packs/a", "env-packs/b")

    def test_environments_are_committed_together_and_apart(self, store):
        futures = grouped(store, lambda: [store.submit(Walk(f"e{number}").create()) for number in range(5)])
        assert [future.result().generation for future in futures] == [1] * 5
        assert store.names() == (ID, "e0", "e1", "e2", "e3", "e4")


def view_free():
    from greentic.store.preconditions import Precondition

    return Precondition(None, None)


class TestBatches:
    def test_all_of_it_is_one_after_another_and_seen_at_once(self, opened, database):
        store = opened(database)
        assert isinstance(store, Batching)
        heard = []
        store.subscribe(lambda name, generation: heard.append(generation))
        told = store.apply_all([Step(command) for command in (*WALK.to_ready(), WALK.dial())])
        assert [one.generation for one in told] == [1, 2, 3, 4, 5, 6]
        assert heard == [6]
        assert len(list(store.audit(ID).events())) == 6
        again = store.apply_all([Step(command) for command in (*WALK.to_ready(), WALK.dial())])
        assert [one.replayed for one in again] == [True] * 6
        assert [one.result for one in again] == [one.result for one in told]

    @pytest.mark.parametrize("last", [WALK.stage("again"), WALK.create("again")])
    def test_one_that_is_refused_takes_the_others_with_it(self, store, last):
        before = store.load(ID)
        with pytest.raises((Conflict, NotFound)) as refused:
            store.apply_all([Step(WALK.rename("n1", "one")), Step(WALK.rename("n2", "two")), Step(last)])
        assert refused.value.details["step"] == 2
        assert store.load(ID) == before
        assert [event["verb"] for event in store.audit(ID).events()] == ["create", last.verb]
        assert store.verify_audit(ID).ok
        assert not store.apply(WALK.rename("n1", "one")).replayed, "the key is free"

    def test_a_gate_that_fails_takes_the_others_with_it(self, opened, database):
        store = opened(database)
        with pytest.raises(GateFailed):
            store.apply_all([Step(command) for command in (*WALK.to_warming(), WALK.warm(ok=False))])
        assert store.names() == ()

    def test_the_precondition_is_for_the_first_new_one(self, store):
        store.apply(WALK.rename("n1", "one"))
        steps = [Step(WALK.rename("n1", "one")), Step(WALK.rename("n2", "two")), Step(WALK.rename("n3", "three"))]
        with pytest.raises(Conflict):
            store.apply_all(steps, expected_generation=1)
        assert [one.generation for one in store.apply_all(steps, expected_generation=2)] == [2, 3, 4]

    def test_a_repetition_in_it_does_not_keep_what_is_taken_back(self, store):
        """The answer of the second step is read from rows, for which what the first one left is written early."""

        def answer(settled):
            return {"result": settled.environment}

        asked = Request("f", {"kind": "bearer-token"}, Decision(True, "p", "r"), answer)
        store.apply(WALK.rename("n1", "one"), request=asked)
        store.apply(WALK.rename("n2", "two"))
        steps = [
            Step(WALK.rename("n3", "three")),
            Step(WALK.rename("n1", "one"), request=asked),
            Step(WALK.create("again")),
        ]
        with pytest.raises(Conflict):
            store.apply_all(steps)
        assert store.load(ID).generation == 3
        assert [one.generation for one in store.apply_all(steps[:2])] == [4, 4]
        assert store.backups().create(ID, idempotency_key="keep", actor="me").generation == 4

    def test_none_or_of_several_environments_is_refused(self, store):
        for steps in ([], [Step(WALK.rename("n1")), Step(Walk("other").create())]):
            with pytest.raises(InvalidArgument):
                store.apply_all(steps)


class TestEvidence:
    def test_a_server_gets_what_it_needs(self, store):
        assert isinstance(store, ServedStore)
        heard = []
        silence = store.subscribe(lambda name, generation: heard.append((name, generation)))
        store.apply(WALK.rename("n1"))
        silence()
        store.apply(WALK.rename("n2"))
        assert heard == [(ID, 2)]
        store.probe()
        with pytest.raises(NotImplementedYet):
            store.artifacts(ID)
        assert store.head(ID) is None
        with pytest.raises(NotFound):
            store.head("none")

    def test_a_change_is_one_entry_that_vouches_for_the_document(self, store):
        applied = store.apply(WALK.rename("n1"))
        event = store.audit(ID).tail(1)[0]
        assert (event["phase"], event["new_generation"], event["new_etag"]) == ("outcome", 2, applied.etag)
        assert event["sequence"] == 2
        assert store.events(ID, after=1) == (event,)

    def test_an_effect_is_announced_before_it_is_tried(self, store):
        def effect_sees(_files):
            with pytest.raises(AssertionError, match="never"):
                raise AssertionError("never")
            seen.extend(event["phase"] for event in store.audit(ID).events())
            return {"done": True}

        seen = []
        assert store.maintain(effect(), effect_sees).result == {"done": True}
        assert seen == ["outcome", "intent"]
        assert [event["phase"] for event in store.audit(ID).events()] == ["outcome", "intent", "outcome"]
        assert store.maintain(effect(), effect_sees).replayed

    def test_an_effect_that_fails_leaves_no_file(self, store):
        def fails(files):
            files.write("env-packs/a", b"one")
            raise Conflict("not like this")

        with pytest.raises(Conflict):
            store.maintain(effect(), fails)
        assert store.files(ID).read("env-packs/a") is None
        assert store.audit(ID).tail(1)[0]["result"]["kind"] == "conflict"

    def test_a_signed_policy_is_only_ever_added(self, store):
        def writes(data):
            def write(files):
                files.write(POLICY, data)
                return {}

            return write

        def remove(files):
            files.remove(POLICY)
            return {}

        store.maintain(effect("one"), writes(b"one"))
        for key, change in (("two", writes(b"two")), ("none", remove)):
            with pytest.raises(Conflict):
                store.maintain(effect(key), change)
        with pytest.raises(InvalidArgument):
            store.maintain(effect("doc"), lambda files: files.write("environment.json", b"{}"))
        assert store.files(ID).read(POLICY) == b"one"

    def test_a_denial_is_recorded_where_there_is_a_log(self, store):
        decision = Decision(False, "static-tokens", "role read-only")
        request = Request("f", {"kind": "bearer-token", "user": "ci"}, decision, lambda settled: settled.result)
        store.deny(effect(""), request)
        event = store.audit(ID).tail(1)[0]
        assert (event["authorization"]["decision"], event["actor"]["user"]) == ("deny", "ci")
        store.deny(Command("none", "env", "update", Nothing(), "", "ci"), request)
        assert store.names() == (ID,)
        with pytest.raises(Denied):
            store.apply(WALK.rename("n1"), request=request)
        assert store.load(ID).generation == 1


class TestAnswers:
    """An answer that holds the environment is repeated verbatim, and does not keep the environment once more."""

    def asked(self, inside):
        def answer(settled):
            told = {"environment": settled.environment, "x": 1} if inside else settled.environment
            return {"result": told, "etag": settled.etag}

        return Request("f", {"kind": "bearer-token"}, Decision(True, "p", "r"), answer)

    @pytest.mark.parametrize("inside", [True, False])
    def test_it_is_that_of_its_time(self, store, inside):
        first = store.apply(WALK.rename("n1"), request=self.asked(inside))
        told = to_json(first.result)
        assert b'"name":"n1"' in told
        store.apply(WALK.rename("n2"))
        again = store.apply(WALK.rename("n1"), request=self.asked(inside))
        assert again.replayed
        assert from_json(to_json(again.result)) == from_json(told)
        kept = store.database.ask("SELECT record FROM ledger WHERE generation = 2")
        assert b'"packs"' not in bytes(kept[0][0])

    def test_repeated_within_one_group(self, store):
        asked = self.asked(True)
        one, _, three = grouped(
            store,
            lambda: [
                store.submit(WALK.rename("n1"), request=asked),
                store.submit(WALK.rename("n2")),
                store.submit(WALK.rename("n1"), request=asked),
            ],
        )
        assert three.result().replayed
        assert from_json(to_json(three.result().result)) == from_json(to_json(one.result().result))

    def test_when_it_is_no_longer_kept_that_is_said(self, store):
        store.apply(WALK.rename("n1"), request=self.asked(True))
        store.apply(WALK.rename("n2"))
        with store.database.writing(ID) as connection:
            connection.query("UPDATE environments SET history_from = 3")
        with pytest.raises(Conflict) as gone:
            store.apply(WALK.rename("n1"), request=self.asked(True))
        assert gone.value.details["reason"] == "answer-gone"
        assert gone.value.details["generation"] == 2


class TestSqlite:
    def test_a_second_process_is_refused_by_name(self, tmp_path, opened):
        opened(str(tmp_path / "store.db"))
        with pytest.raises(Conflict, match="another process"):
            SqliteDatabase(tmp_path / "store.db")

    def test_it_is_one_file_of_its_owner(self, tmp_path):
        store = open_store(str(tmp_path / "new" / "store.db"))
        store.apply(WALK.create())
        store.close()
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["store.db", "store.db.lock"]
        assert stat.S_IMODE((tmp_path / "new" / "store.db").stat().st_mode) == 0o600

    def test_what_is_no_database_is_left_alone(self, tmp_path):
        path = tmp_path / "notes.txt"
        path.write_text("these are my notes, and they are no database at all, however long " * 20)
        before = path.read_bytes()
        with pytest.raises(StoreError):
            open_store(str(path))
        assert path.read_bytes() == before

    def test_a_full_disk_is_an_error_and_nothing_happened(self, tmp_path, opened):
        store = opened(str(tmp_path / "store.db"))
        store.apply(WALK.create())
        pages = store.database._writer.query("PRAGMA page_count")[0][0]
        store.database._writer.query(f"PRAGMA max_page_count={pages}")
        told = [store.submit(WALK.rename(f"n{number}")).exception() for number in range(1, 60)]
        assert isinstance(told[-1], StoreError)
        assert "full" in told[-1].message
        before = store.load(ID)
        assert before.environment.name == f"n{before.generation - 1}" if before.generation > 1 else "n0"
        store.database._writer.query("PRAGMA max_page_count=1000000")
        assert store.apply(WALK.rename("room")).generation == before.generation + 1
        assert store.verify_audit(ID).ok

    def test_a_closed_store_says_so(self, tmp_path):
        store = open_store(str(tmp_path / "store.db"))
        store.close()
        store.close()
        with pytest.raises(StoreError, match="closed"):
            store.load(ID)
        with pytest.raises(StoreError, match="closed"):
            store.apply(WALK.create())

    def test_a_place_that_is_none(self, tmp_path):
        with pytest.raises(InvalidArgument, match="mysql"):
            open_store("mysql://localhost/x")
        (tmp_path / "file").touch()
        with pytest.raises(StoreError):
            open_store(str(tmp_path / "file" / "store.db"))


class TestVersions:
    def test_a_newer_database_is_refused(self, database, opened):
        store = opened(database)
        store.close()
        spoil(database, "INSERT INTO migrations VALUES (99, 'x', 'now')")
        with pytest.raises(StoreError, match="version 99"):
            open_store(database)

    def test_a_migration_that_was_edited_is_refused(self, database, opened):
        opened(database).close()
        spoil(database, "UPDATE migrations SET checksum = 'x'")
        with pytest.raises(StoreError, match="not the one of this program"):
            open_store(database)

    def test_a_new_migration_is_carried_out_once(self, database, opened, monkeypatch):
        first = opened(database)
        first.apply(WALK.create())
        first.close()
        more = (*schema.MIGRATIONS, ("CREATE TABLE another (name TEXT)",))
        monkeypatch.setattr(schema, "MIGRATIONS", more)
        for _ in range(2):
            store = opened(database)
            assert store.load(ID).generation == 1
            store.close()


class TestPostgresql:
    @pytest.fixture
    def url(self, postgresql):
        return postgresql.fresh()

    def test_servers_that_start_at_once_migrate_once(self, url, opened):
        stores = []
        threads = [threading.Thread(target=lambda: stores.append(opened(url))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(stores) == 4
        stores[0].apply(WALK.create())
        assert stores[3].load(ID).generation == 1

    def test_one_hears_what_another_did(self, url, opened):
        one, other = opened(url), opened(url)
        heard = threading.Event()
        seen = []
        other.subscribe(lambda name, generation: (seen.append((name, generation)), heard.set()))
        for number in range(100):  # until it listens
            one.apply(Walk(f"e{number}").create())
            if heard.wait(0.2):
                break
        assert seen[0][1] == 1

    def test_a_connection_that_breaks_is_made_anew(self, url, opened):
        store = opened(url)
        store.apply(WALK.create())
        for number in range(1, 4):
            store.load(ID)
            terminate(url)
            assert store.load(ID).generation == number
            terminate(url)
            assert store.apply(WALK.rename(f"n{number}")).generation == number + 1

    def test_a_connection_that_breaks_in_the_middle_changes_nothing_twice(self, url, opened):
        store = opened(url)
        store.apply(WALK.create())
        broken = []

        def breaking(_environment, command, _now, _files):
            if not broken:
                broken.append(True)
                terminate(url)
            return Completed(command.payload)

        assert store.apply(WALK.rename("n1"), complete=breaking).generation == 2
        assert [event["verb"] for event in store.audit(ID).events()] == ["create", "update"]

    def test_an_answer_to_a_commit_that_is_lost_is_found_out(self, url, opened, monkeypatch):
        from greentic.store.sql.database import Interrupted
        from greentic.store.sql.postgresql import PostgresqlConnection

        store = opened(url)
        store.apply(WALK.create())
        real, lost = PostgresqlConnection.commit, []

        def commit(connection):
            real(connection)
            if not lost:
                lost.append(True)
                raise Interrupted("the answer was lost", certain=False)

        monkeypatch.setattr(PostgresqlConnection, "commit", commit)
        applied = store.apply(WALK.rename("n1"))
        assert (applied.generation, applied.replayed, store.load(ID).generation) == (2, True, 2)

    def test_a_server_that_is_away_is_an_error_without_its_password(self, url):
        away = url.replace("greentic@127.0.0.1", "greentic:hunter2@127.0.0.1")
        away = away.replace(away.rsplit(":", 1)[1].split("/")[0], "1")
        with pytest.raises(StoreError) as failed:
            open_store(away)
        assert "hunter2" not in f"{failed.value.document()}"

    def test_without_its_driver_the_next_step_is_named(self, url, monkeypatch):
        monkeypatch.setattr("greentic.store.sql.store.find_spec", lambda _name: None)
        with pytest.raises(NotImplementedYet) as missing:
            open_store(url)
        assert "greentic[postgresql]" in missing.value.next_step

    def test_two_servers_change_one_environment_after_one_another(self, url, opened):
        stores = [opened(url), opened(url)]
        stores[0].apply(WALK.create())
        errors = []

        def write(who):
            try:
                for number in range(20):
                    stores[who].apply(WALK.rename(f"{who}-{number}"))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=write, args=(who,)) for who in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert stores[0].load(ID) == stores[1].load(ID)
        assert stores[0].load(ID).generation == 41
        assert stores[1].verify_audit(ID).ok


def terminate(url):
    """Break every other connection to the database, as a failover would."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_store_of_memory_is_bounded(tmp_path, monkeypatch):
    from greentic.store.sql import store as module

    monkeypatch.setattr(module, "_REMEMBERED", 3)
    kept = SqlStore(SqliteDatabase(tmp_path / "store.db"))
    for number in range(6):
        kept.apply(Walk(f"e{number}").create())
    assert len(kept._known) == 3
    assert [found.stored.generation for found in kept.list()] == [1] * 6
    kept.close()
