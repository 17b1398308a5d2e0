"""A whole manifest's worth of changes in one transaction, over the wire."""

from __future__ import annotations

import pytest
from scene import ok, refused
from test_access import guarded, keys  # noqa: F401 - fixtures

from greentic.engine.command import Command
from greentic.spec.changes import ApplyChangesPayload
from greentic.spec.errors import Conflict
from greentic.store.conformance import WALK

PATH = "/environments/conform/verbs/changes/apply"


def steps(*commands):
    return {"steps": [{"noun": one.noun, "verb": one.verb, "payload": one.payload.to_json()} for one in commands]}


def test_an_environment_from_nothing_to_live_in_one_generation(server):
    told = ok(server.ask("POST", PATH, steps(*WALK.to_ready(), WALK.dial()), key="all"))
    assert told["generation"] == 1
    found = ok(server.ask("GET", "/environments/conform"))
    assert (found["generation"], found["etag"]) == (1, told["etag"])
    environment = found["environment"]
    assert environment["traffic_splits"][0]["entries"][0]["weight_bps"] == 10_000
    assert len(environment["trust_root"]["keys"]) == 1
    assert environment["bundles"][0]["revenue_policy_ref"].endswith("/v1.json.sig")
    assert server.desk.store.files("conform").names("billing-policies")
    again = ok(server.ask("POST", PATH, steps(*WALK.to_ready(), WALK.dial()), key="all"))
    assert again["idempotency"] == {"idempotency": "replayed"}
    assert again["result"] == told["result"]
    [event] = [one for one in server.desk.store.events("conform") if one.get("phase") == "outcome"]
    assert "CONFIDENTIAL" not in str(event)


def test_policies_signed_in_one_change_are_chained(server):
    update = {"noun": "bundles", "verb": "update", "payload": {}}
    body = steps(WALK.create(), WALK.add())
    share = [{"party_id": "a", "basis_points": 10_000}]
    update["payload"] = {"deployment_id": WALK.add().payload.deployment_id, "revenue_share": share}
    body["steps"].append(update)
    ok(server.ask("POST", PATH, body))
    names = server.desk.store.files("conform").names("billing-policies")
    assert [name.rpartition("/")[2] for name in names] == ["v1.json", "v1.json.sig", "v2.json", "v2.json.sig"]


def test_nothing_is_left_of_what_was_refused(server):
    body = refused(server.ask("POST", PATH, steps(*WALK.to_warming(), WALK.dial())), 409, "conflict")
    assert body["error"]["details"]["step"] == 4
    refused(server.ask("GET", "/environments/conform"), 404, "not-found")
    assert ok(server.ask("GET", "/environments")) == {"environments": []}


def test_as_a_command_of_the_client(server):
    client = server.client()
    payload = ApplyChangesPayload.model_validate(steps(*WALK.to_ready()))
    command = Command("conform", "changes", "apply", payload, "k", "x")
    assert client.plan(command).environment.revisions[0].lifecycle.value == "ready"
    assert client.apply(command).generation == 1
    with pytest.raises(Conflict):
        client.apply(Command("conform", "changes", "apply", payload, "other", "x"))


def test_every_step_needs_its_own_permission(guarded):  # noqa: F811
    path = "/environments/local/verbs/changes/apply"
    value = guarded.keys_of("dialer", "operator")
    rename = {"noun": "env", "verb": "update", "payload": {"name": "x"}}
    trust = {"noun": "trust-root", "verb": "bootstrap", "payload": {"key_id": "", "public_key_pem": ""}}
    ok(guarded.ask("POST", path, {"steps": [rename]}, token=value))
    refused(guarded.ask("POST", path, {"steps": [rename, trust]}, token=value), 403, "unauthorized")
    narrowed = guarded.keys_of("narrow", "operator", verbs=["changes.apply", "traffic.*"])
    refused(guarded.ask("POST", path, {"steps": [rename]}, token=narrowed), 403, "unauthorized")
    partner = guarded.keys_of("partner", "operator", customer_ids=["acme"])
    refused(guarded.ask("POST", path, {"steps": [rename]}, token=partner), 403, "unauthorized")
    unknown = {"noun": "no", "verb": "verb"}
    refused(guarded.ask("POST", path, {"steps": [unknown]}, token=value), 404, "dependent-not-found")
