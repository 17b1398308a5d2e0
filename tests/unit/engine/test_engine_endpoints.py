"""Messaging endpoints: named cases of every verb."""

from __future__ import annotations

from typing import Any

import pytest
from tests.property.strategies import Scene

from greentic.engine.command import Outcome
from greentic.engine.endpoints import has_webhook_secret
from greentic.spec.environment import MessagingEndpoint
from greentic.spec.errors import (
    AnswersParse,
    Conflict,
    InvalidArgument,
    NotFound,
    NotImplementedYet,
    SpecViolation,
)
from greentic.spec.parsing import parse_payload
from greentic.spec.verbs import find

HOOK = "secret://local/acme/_/messaging-x/webhook_secret"


@pytest.fixture
def scene() -> Scene:
    return Scene().create()


def add(scene: Scene, **fields: Any) -> str:
    endpoint_id = fields.pop("endpoint_id", None) or scene.mint()
    wanted = {"provider_id": "team", "provider_type": "slack", "display_name": "Team", "updated_by": "ops", **fields}
    scene.do("messaging.endpoint add", endpoint_id=endpoint_id, **wanted)
    return endpoint_id


def do(scene: Scene, verb: str, endpoint_id: str, **fields: Any) -> Outcome:
    return scene.do(f"messaging.endpoint {verb}", endpoint_id=endpoint_id, updated_by="ops", **fields)


def only(scene: Scene) -> MessagingEndpoint:
    (found,) = scene.environment.messaging_endpoints
    return found


def test_add_begins_at_generation_0_and_reaches_nobody(scene: Scene) -> None:
    endpoint_id = add(scene, secret_refs=["secret://local/acme/_/slack/token"])
    found = only(scene)
    assert (found.endpoint_id, found.generation, found.linked_bundles) == (endpoint_id, 0, ())
    assert (found.updated_by, found.created_at) == ("ops", found.updated_at)
    assert "#idem" not in found.updated_by


def test_a_provider_instance_has_one_endpoint(scene: Scene) -> None:
    endpoint_id = add(scene)
    with pytest.raises(Conflict, match="has an endpoint"):
        add(scene)
    with pytest.raises(Conflict, match="is taken"):
        add(scene, provider_id="other", endpoint_id=endpoint_id)
    add(scene, provider_type="teams")


@pytest.mark.parametrize(
    ("kind", "hooked"),
    [
        ("telegram", True),
        ("telegram.bot", True),
        ("messaging.telegram", True),
        ("messaging.telegram.v2", True),
        ("telegraph", False),
        ("slack", False),
        ("messaging.slack.telegram", False),
        ("Telegram", False),
    ],
)
def test_only_telegram_has_a_webhook_secret(scene: Scene, kind: str, hooked: bool) -> None:
    assert has_webhook_secret(kind) == hooked
    if hooked:
        with pytest.raises(NotImplementedYet):
            add(scene, provider_type=kind)
        endpoint_id = add(scene, provider_type=kind, webhook_secret_ref=HOOK)
        do(scene, "rotate-webhook-secret", endpoint_id, webhook_secret_ref=HOOK)
        assert only(scene).generation == 1, "the same address with a new value is a change"
        with pytest.raises(NotImplementedYet):
            do(scene, "rotate-webhook-secret", endpoint_id)
    else:
        with pytest.raises(InvalidArgument):
            add(scene, provider_type=kind, webhook_secret_ref=HOOK)
        endpoint_id = add(scene, provider_type=kind)
        with pytest.raises(InvalidArgument):
            do(scene, "rotate-webhook-secret", endpoint_id, webhook_secret_ref=HOOK)


@pytest.mark.parametrize("field", ["provider_id", "provider_type"])
@pytest.mark.parametrize("value", ["", " ", "\t"])
def test_names_are_not_blank(field: str, value: str) -> None:
    request = {
        "endpoint_id": "0" * 26,
        "provider_id": "a",
        "provider_type": "b",
        "display_name": "",
        "updated_by": "",
        field: value,
    }
    with pytest.raises(AnswersParse):
        parse_payload(find("messaging.endpoint", "add").payload(), request, "it")


def test_secrets_belong_to_the_environment(scene: Scene) -> None:
    with pytest.raises(SpecViolation) as caught:
        add(scene, secret_refs=["secret://prod/acme/_/slack/token"])
    assert caught.value.rule == "CrossEnvRef"
    with pytest.raises(SpecViolation):
        add(scene, provider_type="telegram", webhook_secret_ref="secret://prod/x")


def test_only_what_is_deployed_can_be_linked(scene: Scene) -> None:
    endpoint_id = add(scene)
    with pytest.raises(NotFound, match="not deployed"):
        do(scene, "link-bundle", endpoint_id, bundle_id="web")
    scene.deploy("web")
    assert do(scene, "link-bundle", endpoint_id, bundle_id="web").changed
    assert not do(scene, "link-bundle", endpoint_id, bundle_id="web").changed
    assert (only(scene).linked_bundles, only(scene).generation) == (("web",), 1)
    assert do(scene, "unlink-bundle", endpoint_id, bundle_id="web").changed
    assert not do(scene, "unlink-bundle", endpoint_id, bundle_id="web").changed
    assert (only(scene).linked_bundles, only(scene).generation) == ((), 2)


def welcome(scene: Scene, endpoint_id: str, **fields: Any) -> Outcome:
    return do(
        scene, "set-welcome-flow", endpoint_id, **{"bundle_id": "web", "pack_id": "hello", "flow_id": "hi"} | fields
    )


def test_a_welcome_needs_a_linked_bundle(scene: Scene) -> None:
    endpoint_id = add(scene)
    scene.deploy("web")
    with pytest.raises(InvalidArgument, match="not linked"):
        welcome(scene, endpoint_id)
    do(scene, "link-bundle", endpoint_id, bundle_id="web")
    assert welcome(scene, endpoint_id, pack_id="anything").changed, "no live revision says which packs there are"
    assert not welcome(scene, endpoint_id, pack_id="anything").changed
    with pytest.raises(Conflict, match="greets"):
        do(scene, "unlink-bundle", endpoint_id, bundle_id="web")
    assert do(scene, "clear-welcome-flow", endpoint_id).changed
    assert not do(scene, "clear-welcome-flow", endpoint_id).changed
    do(scene, "unlink-bundle", endpoint_id, bundle_id="web")
    assert only(scene).generation == 4


def test_a_welcome_needs_a_pack_of_a_live_revision(scene: Scene) -> None:
    endpoint_id, deployment = add(scene), scene.deploy("web")
    (revision,) = scene.ready(deployment)
    scene.dial(deployment, {revision: 10_000})
    do(scene, "link-bundle", endpoint_id, bundle_id="web")
    with pytest.raises(InvalidArgument) as caught:
        welcome(scene, endpoint_id, pack_id="other")
    assert caught.value.details["known"] == ["hello"]
    assert welcome(scene, endpoint_id).changed


def test_remove_is_idempotent(scene: Scene) -> None:
    endpoint_id = add(scene)
    assert scene.do("messaging.endpoint remove", endpoint_id=endpoint_id).result["removed"]
    again = scene.do("messaging.endpoint remove", endpoint_id=endpoint_id)
    assert (again.changed, again.result) == (False, {"endpoint_id": endpoint_id, "removed": False})


@pytest.mark.parametrize("verb", ["link-bundle", "unlink-bundle", "set-welcome-flow", "clear-welcome-flow"])
def test_an_unknown_endpoint_is_not_found(scene: Scene, verb: str) -> None:
    fields = {} if verb == "clear-welcome-flow" else {"bundle_id": "web"}
    fields |= {"pack_id": "p", "flow_id": "f"} if verb == "set-welcome-flow" else {}
    with pytest.raises(NotFound):
        do(scene, verb, scene.mint(), **fields)


def test_a_deployment_that_is_reached_cannot_be_removed(scene: Scene) -> None:
    endpoint_id = add(scene)
    one, other = scene.deploy("web", "acme"), scene.deploy("web", "globex")
    do(scene, "link-bundle", endpoint_id, bundle_id="web")
    scene.do("bundles remove", deployment_id=one)
    with pytest.raises(Conflict, match="would reach"):
        scene.do("bundles remove", deployment_id=other)
    do(scene, "unlink-bundle", endpoint_id, bundle_id="web")
    scene.do("bundles remove", deployment_id=other)


def test_a_generation_saturates(scene: Scene) -> None:
    endpoint_id = add(scene)
    scene.deploy("web")
    full = only(scene).model_copy(update={"generation": 2**63 - 1})
    scene.current = scene.environment.model_copy(update={"messaging_endpoints": (full,)})
    do(scene, "link-bundle", endpoint_id, bundle_id="web")
    assert only(scene).generation == 2**63 - 1
