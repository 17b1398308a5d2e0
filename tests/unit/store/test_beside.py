"""The files beside an environment's document: which paths there are, and what an effect may do with them."""

from __future__ import annotations

import pytest

from greentic.engine.command import Command
from greentic.spec.errors import Conflict, InvalidArgument, NotFound
from greentic.spec.parsing import Payload
from greentic.store import conformance
from greentic.store.contract import ServedStore
from greentic.store.files import FilesStore

ID = conformance.WALK.environment_id
POLICY = "billing-policies/helpdesk/acme/v1.json"


class Nothing(Payload):
    """Asks for nothing."""


@pytest.fixture
def store(tmp_path):
    store = FilesStore(tmp_path)
    store.apply(conformance.WALK.create())
    return store


def effect(key="effect"):
    return Command(ID, "secrets", "put", Nothing(), key, "me")


def write(path, data):
    def writes(files):
        files.write(path, data)
        return {"wrote": path}

    return writes


def test_what_an_effect_writes_is_read_and_named(store):
    applied = store.maintain(effect(), write("env-packs/deployer/answers.json", b"{}"))
    assert applied.result == {"wrote": "env-packs/deployer/answers.json"}
    assert applied.generation == 1
    files = store.files(ID)
    assert files.read("env-packs/deployer/answers.json") == b"{}"
    assert files.names("env-packs") == ("env-packs/deployer/answers.json",)
    assert files.names("none") == ()
    assert store.maintain(effect(), write("other.json", b"{}")).replayed
    assert files.read("other.json") is None


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".", "a\\b", "a\0b", "x" * 2000])
def test_a_path_stays_beside_the_document(store, path):
    with pytest.raises(InvalidArgument):
        store.files(ID).read(path)
    with pytest.raises(InvalidArgument):
        store.maintain(effect(), write(path, b""))


@pytest.mark.parametrize("path", ["environment.json", "audit/events.jsonl", "ledger/00.jsonl", "backups/x", ".lock"])
def test_what_the_store_keeps_is_not_for_effects(store, path):
    with pytest.raises(InvalidArgument):
        store.maintain(effect(), write(path, b""))


def test_a_signed_policy_is_only_ever_added(store):
    store.maintain(effect("one"), write(POLICY, b"one"))
    store.maintain(effect("same"), write(POLICY, b"one"))
    with pytest.raises(Conflict):
        store.maintain(effect("two"), write(POLICY, b"two"))
    assert store.files(ID).read(POLICY) == b"one"


def test_a_server_is_told_what_it_needs(store):
    assert isinstance(store, ServedStore)
    heard = []
    silence = store.subscribe(lambda name, generation: heard.append((name, generation)))
    store.apply(conformance.WALK.rename("n1"))
    silence()
    store.apply(conformance.WALK.rename("n2"))
    assert heard == [(ID, 2)]
    assert store.at(ID, 3).environment.name == "n2"
    assert store.at(ID, 2).environment.name == "n1"
    with pytest.raises(NotFound):
        store.at(ID, 9)
    assert store.names() == (ID,)
    store.probe()
