"""The audit log: what stands in it, that it is one chain, and that every alteration is found."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest

from greentic.spec.errors import Conflict, Denied, NotFound
from greentic.spec.identifiers import is_ulid
from greentic.spec.integrity import canonical_json
from greentic.store.audit import AuditTrail, Head, verify
from greentic.store.chain import GENESIS, link
from greentic.store.conformance import WALK
from greentic.store.contract import Decision
from greentic.store.files import FilesStore
from greentic.store.transaction import Settings

ID = WALK.environment_id


@pytest.fixture
def store(place):
    store = FilesStore(place)
    for command in WALK.to_ready():
        store.apply(command)
    return store


@pytest.fixture
def log(store):
    return store.artifacts(ID) / "audit" / "events.jsonl"


def _events(store):
    return list(store.audit(ID).events())


def test_each_attempt_is_an_intent_and_an_outcome(store):
    intent, outcome = _events(store)[2:4]
    for event in (intent, outcome):
        assert event["schema"] == "greentic.audit.event.v1"
        assert is_ulid(event["event_id"])
        assert event["actor"]["kind"] == "local-user"
        assert (event["actor"]["user"], event["env_id"]) == (WALK.actor, ID)
        assert (event["noun"], event["verb"], event["idempotency_key"]) == ("bundles", "add", "add")
        assert event["authorization"]["decision"] == "allow"
        assert event["authorization"]["policy"] == "local-only"
        assert event["previous_generation"] == 1
    assert (intent["phase"], intent["result"]) == ("intent", {"outcome": "pending"})
    assert (outcome["phase"], outcome["result"], outcome["new_generation"]) == ("outcome", {"outcome": "ok"}, 2)


def test_the_chain_is_checked_without_our_code(store, log):
    previous = GENESIS
    for number, line in enumerate(log.read_text().splitlines(), start=1):
        entry = json.loads(line)
        recorded = entry.pop("hash")
        assert (entry["sequence"], entry["previous_hash"]) == (number, previous)
        assert hashlib.sha256(canonical_json(entry)).hexdigest() == recorded
        previous = recorded


def test_no_value_of_a_configuration_and_no_password_is_recorded(store, log):
    text = log.read_text()
    assert "CONFIDENTIAL-VALUE" not in text
    assert _events(store)[2]["target"]["config_overrides"] == {"chat": ["greeting"]}
    assert "https://…@example.test/x.gtbundle" in text


def test_refusals_and_denials_are_recorded_and_repetitions_are_not(store):
    count = len(_events(store))
    store.apply(WALK.add())
    assert len(_events(store)) == count
    with pytest.raises(Conflict):
        store.apply(WALK.add(key="again"))
    with pytest.raises(Conflict):
        store.apply(WALK.rename("x"), expected_generation=1)
    strict = FilesStore(store.root, authorize=lambda command, actor: Decision(False, "nobody", f"{actor} is nobody"))
    with pytest.raises(Denied, match="conformance may not env update in 'conform': conformance is nobody"):
        strict.apply(WALK.rename("x"))
    with pytest.raises(Denied):
        strict.apply(WALK.add())  # denied before it is repeated
    with pytest.raises(Denied):
        strict.plan(WALK.rename("x"))
    outcomes = [event for event in _events(store)[count:] if event["phase"] == "outcome"]
    assert [event["result"]["kind"] for event in outcomes] == ["conflict", "conflict", "unauthorized", "unauthorized"]
    assert [event["authorization"]["decision"] for event in outcomes] == ["allow", "allow", "deny", "deny"]
    assert store.load(ID).generation == 5


def test_a_denied_creation_is_recorded_and_a_misspelt_name_leaves_nothing(place):
    strict = FilesStore(place, authorize=lambda command, actor: Decision(False, "nobody", "no"))
    with pytest.raises(NotFound):
        strict.apply(WALK.rename("x"))
    assert not place.exists()
    with pytest.raises(Denied):
        strict.apply(WALK.create())
    assert [event["authorization"]["decision"] for event in strict.audit(ID).events()] == ["deny", "deny"]
    assert strict.list() == ()
    with pytest.raises(NotFound):
        strict.load(ID)


def test_every_flipped_byte_is_found(store, log):
    raw = log.read_bytes()
    for place in range(len(raw)):
        flipped = bytearray(raw)
        flipped[place] ^= 1 if place % 2 else 0x80
        log.write_bytes(bytes(flipped))
        report = verify(log.parent)
        assert not report.ok, f"byte {place} of {raw[max(0, place - 30) : place + 10]!r}"
        assert report.finding.line == 1 + raw.count(b"\n", 0, place)
    log.write_bytes(raw)
    assert verify(log.parent).ok


def test_the_first_bad_entry_is_named(store, log):
    lines = log.read_bytes().splitlines(keepends=True)
    head = verify(log.parent).head
    assert (head.sequence, verify(log.parent).entries, verify(log).entries) == (10, 10, 10)
    cases = {
        "altered": ([*lines[:4], lines[4].replace(b"stage", b"stagE"), *lines[5:]], 5, "altered"),
        "removed": ([*lines[:4], *lines[5:]], 5, "entry 6, not 5"),
        "swapped": ([*lines[:4], lines[5], lines[4], *lines[6:]], 5, "entry 6, not 5"),
        "twice": ([*lines[:4], lines[3], *lines[4:]], 5, "entry 4, not 5"),
        "beginning gone": (lines[2:], 1, "entry 3, not 1"),
        "not JSON": ([*lines[:4], b"garbage\n", *lines[4:]], 5, "not a JSON object"),
        "two in one": ([*lines[:4], lines[4][:-1] + b"," + lines[5], *lines[6:]], 5, "not a JSON object"),
        "unfinished": ([*lines[:-1], lines[-1][:-9]], 10, "not finished"),
    }
    for name, (content, line, reason) in cases.items():
        log.write_bytes(b"".join(content))
        finding = verify(log.parent).finding
        assert finding is not None, name
        assert (finding.file, finding.line) == ("events.jsonl", line), name
        assert reason in finding.reason, name
    forged = link({key: value for key, value in json.loads(lines[9]).items() if key != "hash"}, None)
    log.write_bytes(b"".join(lines[:9]) + forged.line())
    assert not verify(log.parent).ok


def test_a_cut_end_shows_against_the_document(store, log):
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-2]))
    assert verify(log.parent).ok  # nothing in the log itself tells
    report = verify(log.parent, anchor=Head(10, json.loads(lines[-1])["hash"]))
    assert "ends before entry 10" in report.finding.reason
    assert not store.verify_audit(ID).ok  # the document knows its outcome, and that the one before is missing
    log.write_bytes(b"".join(lines))
    assert "written anew" in verify(log.parent, anchor=Head(9, GENESIS)).finding.reason


def test_a_torn_end_is_cut_and_noted(store, log):
    raw = log.read_bytes()
    for torn in (b'{"half', b"\0\0\0", b"no json\n"):
        log.write_bytes(raw + torn)
        assert not verify(log.parent).ok
        store.recover(ID)
        assert verify(log.parent).ok
        (note,) = store.audit(ID).tail(1)
        assert (note["noun"], note["verb"]) == ("audit", "recover")
        assert note["target"] == {"cut_bytes": len(torn), "cut_sha256": hashlib.sha256(torn).hexdigest()}


def test_reading(store, log):
    trail = store.audit(ID)
    everything = _events(store)
    assert [event["sequence"] for event in everything] == list(range(1, 11))
    assert list(trail.tail(3)) == everything[-3:]
    assert list(trail.tail(99)) == everything
    assert trail.tail(0) == ()
    assert list(trail.events(since_sequence=7)) == everything[7:]
    assert AuditTrail(Path("/nowhere")).tail(5) == ()


def test_segments_are_one_chain(tmp_path):
    store = FilesStore(tmp_path, settings=Settings(segment_bytes=2_000))
    store.apply(WALK.create())
    for number in range(12):
        store.apply(WALK.rename(f"title {number}"))
    folder = tmp_path / ID / "audit"
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) > 4
    report = store.verify_audit(ID)
    assert report.ok, report.finding
    assert (report.entries, report.segments) == (26, len(names))
    trail = store.audit(ID)
    assert [event["sequence"] for event in trail.events()] == list(range(1, 27))
    assert [event["sequence"] for event in trail.events(since_sequence=20)] == list(range(21, 27))
    assert [event["sequence"] for event in trail.tail(9)] == list(range(18, 27))
    exported = io.BytesIO()
    assert trail.export(exported) == 26
    (tmp_path / "export.jsonl").write_bytes(exported.getvalue())
    assert verify(tmp_path / "export.jsonl").head == report.head
    closed = sorted(folder.glob("events-*.jsonl"))
    first = json.loads(closed[0].read_bytes().splitlines()[0])
    assert closed[0].name == f"events-{first['sequence']}.jsonl"
    closed[1].unlink()
    assert "missing" in store.verify_audit(ID).finding.reason
