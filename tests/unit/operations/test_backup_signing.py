"""Backups in a database are signed by the operator key, and nothing else passes for that signature."""

from __future__ import annotations

import json

import pytest

from greentic.engine.command import Command
from greentic.operations.backup_signing import OperatorNotary
from greentic.operations.heads import sealing
from greentic.operations.trust_root import adopting, operator_key, seeding
from greentic.spec.backup import BackupArtifact
from greentic.spec.errors import CorruptDocument
from greentic.spec.parsing import parse
from greentic.spec.trust_root import RemoveTrustedKeyPayload
from greentic.store.conformance import WALK
from greentic.trust import root
from greentic.trust.chain import read_head

ID = WALK.environment_id


@pytest.fixture
def store(opened, tmp_path):
    store = opened(str(tmp_path / "store.db"), seal=sealing(), notary=OperatorNotary())
    store.apply(WALK.create(), complete=seeding(create=True))
    return store


def taken(store):
    return store.backups().create(ID, idempotency_key="keep", actor="me").result["backup"]


def artifact(store, name):
    return parse(BackupArtifact, json.loads(b"".join(store.backups().export(ID, name))), "the artifact")


def test_a_signed_backup_is_restored_and_imported(store, opened, tmp_path):
    name = taken(store)
    store.apply(WALK.rename("other"))
    carried = artifact(store, name)
    assert carried.model_extra["snapshot_signature"]["payloadType"] == "application/vnd.in-toto+json"
    assert store.backups().restore(ID, name, idempotency_key="back", actor="me").environment.name == "n0"
    other = opened(str(tmp_path / "other.db"), notary=OperatorNotary())
    assert other.backups().import_(ID, carried, idempotency_key="in", actor="me").generation == 1
    events, kept = list(other.audit(ID).events()), list(store.audit(ID).events())
    assert events[:-1] == kept[: len(events) - 1], "the log goes on where it ended"
    assert other.verify_audit(ID).ok


def test_what_others_signed_is_marked(store, opened, tmp_path, monkeypatch):
    """Whoever makes an artifact makes the trust root in it too, and signs it with a key of his own."""
    carried = artifact(store, taken(store))
    monkeypatch.setenv("GTC_OPERATOR_KEY_PATH", str(tmp_path / "another" / "key.pem"))
    other = opened(str(tmp_path / "other.db"), notary=OperatorNotary())
    other.backups().import_(ID, carried, idempotency_key="in", actor="me")
    assert [event.get("imported") for event in other.audit(ID).events()] == [True, None]
    assert other.verify_audit(ID).ok


def test_a_signature_of_another_backup_does_not_pass(store, opened, tmp_path):
    one = artifact(store, taken(store))
    store.apply(WALK.rename("other"))
    second = store.backups().create(ID, idempotency_key="keep 2", actor="me").result["backup"]
    two = artifact(store, second)
    forged = parse(BackupArtifact, {**two.to_json(), "snapshot_signature": one.to_json()["snapshot_signature"]}, "it")
    other = opened(str(tmp_path / "other.db"), notary=OperatorNotary())
    with pytest.raises(CorruptDocument, match="cannot be trusted"):
        other.backups().import_(ID, forged, idempotency_key="in", actor="me")
    assert other.names() == ()


def test_a_key_that_was_removed_still_vouches_for_what_it_signed(store):
    name = taken(store)
    key = operator_key(create=False)
    command = Command(ID, "trust-root", "remove", RemoveTrustedKeyPayload(key_id=key.key_id), "remove", "me")
    store.apply(command, complete=adopting)
    restored = store.backups().restore(ID, name, idempotency_key="back", actor="me")
    assert restored.environment.trust_root.keys == (), "a removed key does not come back with a backup"


def test_the_head_is_signed_with_each_change(store):
    store.apply(WALK.rename("other"))
    trusted = root.of(store.load(ID).environment.trust_root)
    head = read_head(store.head(ID), trusted.trusted(), ID)
    assert (head.sequence, head.hash) == (store.audit(ID).heads(1)[0].sequence, store.audit(ID).heads(1)[0].hash)
