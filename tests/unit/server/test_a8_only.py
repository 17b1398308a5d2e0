"""Our client and a server that has no words but those of A8 (the reference's, or ours with the rest taken away)."""

from __future__ import annotations

import dataclasses

import pytest
from running import served
from starlette.responses import Response

from greentic.engine.command import Command
from greentic.server.app import StoreServer
from greentic.spec.bindings import AddPackBindingPayload, RollbackPackBindingPayload, UpdatePackBindingPayload
from greentic.spec.errors import Conflict, GateFailed, NotFound, NotImplementedYet
from greentic.spec.parsing import Payload
from greentic.spec.payloads import RemoveDeploymentPayload, RevisionPayload, RollbackTrafficSplitPayload
from greentic.spec.trust_root import RemoveTrustedKeyPayload, TrustOperatorKeyPayload
from greentic.spec.verbs import OPERATIONS, VERBS
from greentic.store.conformance import REVISION, WALK
from greentic.store.remote import reference

A8 = {one.route.path for one in VERBS if one.route} | {one.route.path for one in OPERATIONS if one.of_a8}


class A8Only:
    """The server without what is ours; an unknown path is answered as the reference answers it."""

    def __init__(self, app: StoreServer) -> None:
        app.router.routes = [route for route in app.router.routes if route.path in A8]
        app.add_exception_handler(404, self._nothing)
        self.app = app

    async def _nothing(self, _request, _error):
        return Response(b"", 404)

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


@pytest.fixture
def client(server):
    with served(server.root / "a8", store=server.desk.store, wrap=A8Only) as found:
        yield found.client()


def do(client, noun, verb, payload: Payload, key=None):
    return client.apply(Command(WALK.environment_id, noun, verb, payload, key or f"{noun}-{verb}", "x"))


@pytest.fixture
def deployed(client):
    client.apply(WALK.create())
    do(client, "trust-root", "bootstrap", TrustOperatorKeyPayload(key_id="", public_key_pem=""))
    added = client.apply(WALK.add()).result["deployment"]["deployment_id"]

    def staged(command):
        return dataclasses.replace(command, payload=command.payload.model_copy(update={"deployment_id": added}))

    client.apply(staged(WALK.stage()))
    client.there = staged
    return client


def test_a_life(deployed):
    client = deployed
    before = client.load(WALK.environment_id)
    begun = client.apply(WALK.begin_warm())
    assert (begun.generation, begun.result["revision"]["lifecycle"]) == (before.generation, "staged")
    warmed = client.apply(WALK.warm())
    assert warmed.result["revision"]["lifecycle"] == "ready"
    dialled = client.apply(client.there(WALK.dial()))
    assert (dialled.result["new_generation"], dialled.result["moved_slots"]) == (0, 10_000)
    assert dialled.environment.traffic_splits[0].deployment_id == dialled.result["split"]["deployment_id"]
    assert client.apply(client.there(WALK.dial())).replayed
    again = client.apply(client.there(WALK.dial("other")))
    assert again.result["new_generation"] == 1
    payload = RollbackTrafficSplitPayload(deployment_id=again.result["split"]["deployment_id"], updated_by="x")
    back = do(client, "traffic", "rollback", payload)
    assert back.result["restored_generation"] == 0
    with pytest.raises(Conflict):
        do(client, "bundles", "remove", RemoveDeploymentPayload(deployment_id=payload.deployment_id))


def test_a_failed_gate(deployed):
    with pytest.raises(GateFailed):
        deployed.apply(WALK.warm(ok=False))
    assert deployed.load(WALK.environment_id).environment.revision(REVISION).lifecycle.value == "failed"


def test_preconditions(deployed):
    present = deployed.load(WALK.environment_id)
    with pytest.raises(Conflict) as refused:
        deployed.apply(WALK.rename("a"), expected_generation=present.generation - 1)
    assert refused.value.details["actual_generation"] == present.generation
    with pytest.raises(Conflict):
        deployed.apply(WALK.rename("b"), if_match="0" * 64)
    assert deployed.apply(WALK.rename("c"), expected_generation=present.generation).generation == present.generation + 1


def test_bindings_and_trust(deployed):
    asked = {"slot": "secrets", "kind": "acme.secrets@1.0.0"}
    assert do(deployed, "env-packs", "add", AddPackBindingPayload(**asked)).result["generation"] == 0
    newer = {**asked, "kind": "acme.secrets@1.1.0"}
    assert do(deployed, "env-packs", "update", UpdatePackBindingPayload(**newer)).result["generation"] == 1
    back = do(deployed, "env-packs", "rollback", RollbackPackBindingPayload(slot="secrets"))
    assert back.result["binding"]["kind"] == asked["kind"]
    key = deployed.load(WALK.environment_id).environment.trust_root.keys[0]
    gone = do(deployed, "trust-root", "remove", RemoveTrustedKeyPayload(key_id=key.key_id))
    assert gone.result["removed_public_key_pem"] == key.public_key_pem


@pytest.mark.parametrize(
    ("noun", "verb", "payload"),
    [
        ("revisions", "retry", RevisionPayload(revision_id=REVISION)),
        ("env-packs", "rollback", RollbackPackBindingPayload(slot="secrets", to_generation=0)),
    ],
)
def test_what_a8_cannot_say_is_not_sent(deployed, noun, verb, payload):
    before = deployed.load(WALK.environment_id)
    with pytest.raises(NotImplementedYet, match="speaks A8 only"):
        do(deployed, noun, verb, payload)
    assert deployed.load(WALK.environment_id).generation == before.generation


def test_nothing_there(client):
    with pytest.raises(NotFound):
        client.apply(WALK.rename("x"))
    with pytest.raises(NotImplementedYet):
        client.plan(WALK.create())


def test_every_verb_is_said_or_refused_by_name():
    known = set(reference._WORDS) | reference.SILENT
    routed = {(one.noun, one.verb) for one in VERBS if one.route is not None}
    assert routed <= known
