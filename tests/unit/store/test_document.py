"""`environment.json`: what is written reads back, what is not ours is accepted or named."""

from __future__ import annotations

import gc
import json
import weakref

import pytest

from greentic.engine.command import Outcome
from greentic.spec.environment import fresh
from greentic.spec.errors import Conflict, CorruptDocument, InvalidArgument, SpecViolation
from greentic.spec.integrity import digest
from greentic.store import document
from greentic.store.conformance import WALK
from greentic.store.files import FilesStore
from greentic.store.restoring import FolderBackups

ID = WALK.environment_id


@pytest.fixture
def store(place):
    return FilesStore(place)


@pytest.fixture
def path(store):
    store.apply(WALK.create())
    store.apply(WALK.add())
    return store.artifacts(ID) / "environment.json"


def test_the_file_is_the_document_and_one_key(store, path):
    values = json.loads(path.read_text())
    header = values.pop("x-greentic-store")
    stored = store.load(ID)
    assert values == stored.environment.to_json()
    assert digest(values) == header["digest"] == stored.etag
    assert header["generation"] == stored.generation == 2
    assert path.read_text().startswith('{\n"bundles":[\n{"')
    assert path.read_text().endswith("}\n")


def test_every_flipped_bit_is_found_or_means_nothing(store, path):
    """One bit of each byte, the highest and the lowest by turns: never another environment, generation or etag."""
    raw, good = path.read_bytes(), store.load(ID)
    found = []
    for place in range(len(raw)):
        flipped = bytearray(raw)
        flipped[place] ^= 1 if place % 2 else 0x80
        path.write_bytes(bytes(flipped))
        try:
            assert FilesStore(store.root).load(ID) == good, f"byte {place}: {raw[place - 20 : place + 20]!r}"
        except CorruptDocument as error:
            found.append((error.details["path"], error.next_step))
    assert set(found) == {(str(path), f"gtc op backup restore {ID}")}
    assert len(found) > len(raw) * 0.7  # the rest is white space


def test_a_reformatted_file_is_the_same(store, path):
    before = store.load(ID)
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert FilesStore(store.root).load(ID) == before
    assert FilesStore(store.root).apply(WALK.rename("n1")).generation == 3


def test_what_the_reference_wrote_is_generation_zero_and_keeps_unknown_keys(store):
    document = {**fresh(ID, "theirs").to_json(), "x-newer": {"é": [1.5, None]}}
    document["host_config"]["x-nested"] = True
    folder = store.artifacts(ID)
    folder.mkdir(parents=True)
    (folder / "environment.json").write_text(json.dumps(document))
    stored = store.load(ID)
    assert (stored.generation, stored.etag) == (0, digest(document))
    applied = store.apply(WALK.rename("ours"), expected_generation=0, if_match=stored.etag)
    written = json.loads((folder / "environment.json").read_text())
    assert applied.generation == written.pop("x-greentic-store")["generation"] == 1
    assert written == {**document, "name": "ours"}


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "is not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"schema":"greentic.environment.v1","schema":"greentic.environment.v1"}', "stands twice"),
        (b'{"environment_id": NaN}', "not a JSON number"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"schema":"greentic.environment.v1"}', "environment_id: is required"),
        (json.dumps(fresh("other", "x").to_json()).encode(), "environment 'other'"),
        (json.dumps({**fresh(ID, "x").to_json(), "x-greentic-store": 1}).encode(), "is not a JSON object"),
        (json.dumps({**fresh(ID, "x").to_json(), "x-greentic-store": {}}).encode(), "seal"),
        (b"\xff\xfe", "is not JSON"),
    ],
)
def test_what_cannot_be_trusted_is_named(store, path, raw, why):
    path.write_bytes(raw)
    for call in (lambda: store.load(ID), lambda: store.apply(WALK.rename("x")), lambda: store.plan(WALK.rename("x"))):
        with pytest.raises(CorruptDocument, match="cannot be trusted") as caught:
            call()
        assert why in caught.value.message
    (listed,) = store.list()
    assert isinstance(listed.error, CorruptDocument)
    assert path.read_bytes() == raw
    restored = FolderBackups(store).restore(ID, idempotency_key="restore", actor="me")
    assert (restored.generation, restored.result["restored_generation"]) == (3, 1)


def test_a_document_that_is_gone_is_shown_and_restorable(store, path):
    path.unlink()
    (listed,) = store.list()
    assert "it is gone" in listed.error.message
    assert FolderBackups(store).restore(ID, idempotency_key="restore", actor="me").generation == 3
    assert store.verify_audit(ID).ok


def test_a_file_put_back_by_hand_does_not_use_a_generation_twice(store, path):
    old = path.read_bytes()
    store.apply(WALK.rename("n1"))
    store.apply(WALK.rename("n2"))
    path.write_bytes(old)
    assert store.load(ID).generation == 2
    assert store.apply(WALK.rename("n3")).generation == 5


def _answering(**changes):
    def transition(environment, command, now):
        return Outcome((environment or fresh(ID, "x")).model_copy(update=changes), {"ok": 1})

    return transition


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 5},
        {"name": "lone \ud800"},
        {"host_config": None},
        {"packs": ("not a pack",)},
        {"revisions": ({"revision_id": "x"},)},
        {"credentials_ref": "not a secret"},
        {"host_config": fresh("other", "x").host_config},
    ],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.filterwarnings("ignore:Pydantic serializer")
def test_what_would_not_read_back_is_not_written(store, path, changes):
    before = path.read_bytes()
    with pytest.raises(SpecViolation):
        FilesStore(store.root, transition=_answering(**changes)).apply(WALK.rename("x", key="bad"))
    assert path.read_bytes() == before
    assert store.apply(WALK.rename("x", key="bad")).generation == 3  # the refusal did not use up the key


def test_what_json_cannot_hold_is_refused(store, path):
    for key in ("", "  ", "x" * 513, "lone \ud800"):
        with pytest.raises(InvalidArgument):
            store.apply(WALK.rename("x", key=key))
    assert store.load(ID).generation == 2


def test_another_environment_is_not_written_into_this_folder(store):
    with pytest.raises(InvalidArgument, match="its environment is 'other'"):
        FilesStore(store.root, transition=lambda *_: Outcome(fresh("other", "x"))).apply(WALK.create())
    assert not store.root.exists()


def test_an_answer_does_not_share_state_with_the_engine(store, path):
    answer = {"list": [1]}

    def transition(environment, command, now):
        return Outcome(environment.model_copy(update={"name": "new"}), answer)

    applied = FilesStore(store.root, transition=transition).apply(WALK.rename("x"))
    answer["list"].append(2)
    assert applied.result == {"list": [1]}
    with pytest.raises(Conflict):
        store.apply(WALK.create(key="other"))


class TestTheCollector:
    """Reading a large document puts the collector off, and never for ever."""

    class Ring:
        def __init__(self) -> None:
            self.own = self

    def test_is_not_disturbed_by_a_small_document(self) -> None:
        with document.unhurried_collector(1_000):
            assert gc.isenabled()

    def test_rests_while_a_large_one_is_read_and_finds_garbage_all_the_same(self) -> None:
        rings = []
        for _ in range(document._PUT_OFF + 1):
            with document.unhurried_collector(document._LARGE):
                assert not gc.isenabled()
                rings.append(weakref.ref(self.Ring()))
            assert gc.isenabled()
            assert not gc.get_freeze_count()
        assert sum(ring() is not None for ring in rings) <= document._PUT_OFF, "made old unseen, and collected since"

    def test_stays_off_for_those_who_turned_it_off(self) -> None:
        gc.disable()
        try:
            with document.unhurried_collector(document._LARGE):
                pass
            assert not gc.isenabled()
        finally:
            gc.enable()
