"""What a server asks of a store: its own answer recorded with the change, its caller and its denials in the log."""

from __future__ import annotations

import dataclasses

import pytest

from greentic.engine.command import Command
from greentic.spec.errors import Conflict, Denied, GateFailed
from greentic.spec.parsing import Payload
from greentic.store.conformance import WALK
from greentic.store.contract import Decision, Request, Settled
from greentic.store.files import FilesStore

ALLOW = Decision(True, "static-tokens", "role operator")
DENY = Decision(False, "static-tokens", "role read-only")


def envelope(settled: Settled):
    return {"told": settled.result, "etag": settled.etag, "generation": settled.generation, "audit": settled.event}


def request(fingerprint="f1", decision=ALLOW, **more):
    caller = {"kind": "bearer-token", "user": "ci"}
    return Request(fingerprint, caller, decision, envelope, **more)


@pytest.fixture
def store(tmp_path):
    return FilesStore(tmp_path)


def test_the_answer_is_recorded_with_the_change_and_repeated_verbatim(store):
    first = store.apply(WALK.create(), request=request())
    assert first.result["generation"] == first.generation == 1
    assert first.result["etag"] == first.etag
    assert first.result["audit"]["actor"] == {"kind": "bearer-token", "user": "ci"}
    assert first.result["audit"]["authorization"]["policy"] == "static-tokens"
    assert store.events(WALK.environment_id)[-1] == first.result["audit"]
    store.apply(WALK.rename("other"))
    again = FilesStore(store.root).apply(WALK.create(), request=request())
    assert again.replayed
    assert again.result == first.result
    assert again.generation == 2


def test_a_no_op_is_answered_and_repeated_too(store):
    store.apply(WALK.create())
    first = store.apply(WALK.rename("n0", "k"), request=request())
    assert first.result["generation"] == 1
    assert "new_generation" not in first.result["audit"]
    assert store.apply(WALK.rename("n0", "k"), request=request()).result == first.result


def test_the_fingerprint_tells_requests_apart_not_the_payload(store):
    store.apply(WALK.create(), request=request())
    other = dataclasses.replace(WALK.rename("x"), idempotency_key="create")
    assert store.apply(other, request=request()).replayed
    with pytest.raises(Conflict) as refused:
        store.apply(WALK.create(), request=request("f2"))
    assert refused.value.details["reason"] == "idempotency-conflict"


def test_a_failed_gate_is_raised_again_under_its_request(store):
    for command in WALK.to_warming():
        store.apply(command)
    for _ in range(2):
        with pytest.raises(GateFailed):
            store.apply(WALK.warm(ok=False), request=request())


def test_the_target_says_what_the_wire_says(store):
    told = []

    def target(result):
        told.append(result)
        return {"environment_id": WALK.environment_id, "known": result is not None}

    applied = store.apply(WALK.create(), request=request(target=target))
    assert applied.result["audit"]["target"] == {"environment_id": WALK.environment_id, "known": True}
    assert [event["target"]["known"] for event in store.events(WALK.environment_id)] == [False, True]


def test_a_denied_request_is_recorded_and_changes_nothing(store):
    store.apply(WALK.create())
    with pytest.raises(Denied):
        store.apply(WALK.rename("x"), request=request(decision=DENY))
    command = Command(WALK.environment_id, "trust-root", "remove", Payload(), "", "ci")
    store.deny(command, request(decision=DENY))
    event = store.events(WALK.environment_id)[-1]
    assert event["authorization"]["decision"] == "deny"
    assert event["result"]["kind"] == "unauthorized"
    assert "idempotency_key" not in event
    assert store.load(WALK.environment_id).generation == 1
    assert store.verify_audit(WALK.environment_id).ok


def test_a_denial_for_no_environment_leaves_nothing(store):
    store.deny(Command("ghost", "env", "update", Payload(), "k", "ci"), request(decision=DENY))
    assert list(store.root.iterdir()) == []


def test_events_come_in_pages(store):
    store.apply(WALK.create())
    for number in range(3):
        store.apply(WALK.rename(f"n{number + 1}"))
    first = store.events(WALK.environment_id, limit=3)
    rest = store.events(WALK.environment_id, after=first[-1]["sequence"])
    assert [event["sequence"] for event in (*first, *rest)] == list(range(1, 9))
