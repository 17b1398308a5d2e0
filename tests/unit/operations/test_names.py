"""What people call deployments and revisions."""

from __future__ import annotations

import pytest

from greentic.engine.command import Command
from greentic.engine.transition import transition
from greentic.operations import names
from greentic.spec.deployment import RouteBinding
from greentic.spec.environment import Environment
from greentic.spec.errors import InvalidArgument, NotFound
from greentic.spec.parsing import Payload
from greentic.spec.payloads import (
    AddDeploymentPayload,
    CreateEnvironmentPayload,
    HealthGate,
    RevisionPayload,
    SetTrafficSplitPayload,
    StageRevisionPayload,
    WarmRevisionPayload,
    WeightedRevision,
)

NOW = "2026-01-01T00:00:00Z"
WEB, SHOP, OTHER = (f"01J000000000000000000000D{index}" for index in "123")
REVISIONS = tuple(f"01J00000000000000{index}00000000" for index in "1234")


def change(environment: Environment | None, noun: str, verb: str, payload: Payload, key: str = "k") -> Environment:
    return transition(environment, Command("local", noun, verb, payload, key, "me"), NOW).environment


def staged(
    environment: Environment, deployment: str, revision: str, version: str, *, ready: bool = True
) -> Environment:
    payload = StageRevisionPayload(
        revision_id=revision,
        deployment_id=deployment,
        bundle_digest="sha256:00",
        pack_list=(),
        pack_list_lock_ref="",
        config_digest="sha256:00",
        display_version=version,
    )
    environment = change(environment, "revisions", "stage", payload)
    if ready:
        gate = WarmRevisionPayload(revision_id=revision, health_gate=HealthGate(ok=True))
        environment = change(environment, "revisions", "warm", gate)
    return environment


def split(environment: Environment, key: str, *weights: tuple[str, int]) -> Environment:
    entries = tuple(WeightedRevision(revision_id=name, weight_bps=weight) for name, weight in weights)
    payload = SetTrafficSplitPayload(deployment_id=WEB, entries=entries, updated_by="me")
    return change(environment, "traffic", "set", payload, key)


@pytest.fixture
def environment() -> Environment:
    """web (3 revisions) and shop (one for each of two customers)."""
    made = change(None, "env", "create", CreateEnvironmentPayload(environment_id="local", name="local"))
    for deployment, bundle, customer, prefix in (
        (WEB, "web", "acme", "/"),
        (SHOP, "shop", "acme", "/a"),
        (OTHER, "shop", "globex", "/b"),
    ):
        payload = AddDeploymentPayload(
            deployment_id=deployment,
            bundle_id=bundle,
            customer_id=customer,
            route_binding=RouteBinding(path_prefixes=(prefix,)),
        )
        made = change(made, "bundles", "add", payload)
    made = staged(made, WEB, REVISIONS[0], "1.0.0")
    made = staged(made, WEB, REVISIONS[1], "1.1.0")
    return staged(made, WEB, REVISIONS[2], "1.1.0", ready=False)


def test_a_deployment_is_called_by_its_bundle(environment: Environment) -> None:
    assert names.deployment(environment, "web").deployment_id == WEB


@pytest.mark.parametrize(
    ("word", "found"), [("shop@acme", SHOP), ("shop@globex", OTHER), (SHOP, SHOP), (SHOP.lower(), SHOP)]
)
def test_customer_or_id_tells_two_copies_apart(environment: Environment, word: str, found: str) -> None:
    assert names.deployment(environment, word).deployment_id == found


def test_two_copies_are_not_guessed_between(environment: Environment) -> None:
    with pytest.raises(InvalidArgument, match="shop@acme, shop@globex"):
        names.deployment(environment, "shop")


@pytest.mark.parametrize("word", ["nope", "web@nobody", "", "@", "01J", "01J0000"])
def test_an_unknown_or_ambiguous_deployment_names_what_there_is(environment: Environment, word: str) -> None:
    with pytest.raises((NotFound, InvalidArgument)) as refused:
        names.deployment(environment, word)
    assert refused.value.next_step


@pytest.mark.parametrize(
    ("word", "sequence"),
    [
        ("v1", 1),
        ("v3", 3),
        ("@latest", 3),
        ("1.0.0", 1),
        (REVISIONS[1], 2),
        (REVISIONS[1][:18], 2),
        (REVISIONS[1][:18].lower(), 2),
    ],
)
def test_a_revision_by_name(environment: Environment, word: str, sequence: int) -> None:
    owner = names.deployment(environment, "web")
    assert names.revision(environment, owner, word).sequence == sequence


@pytest.mark.parametrize("word", ["v0", "v4", "v", "V1", "v1 ", "1.1.0", "@live", "@oldest", "2.0.0", "", "v٣"])
def test_a_revision_that_is_not_there_or_not_one(environment: Environment, word: str) -> None:
    owner = names.deployment(environment, "web")
    with pytest.raises((NotFound, InvalidArgument)):
        names.revision(environment, owner, word)


def test_previous_is_the_one_before_the_latest_until_there_is_traffic(environment: Environment) -> None:
    owner = names.deployment(environment, "web")
    assert names.revision(environment, owner, "@previous").sequence == 2


def test_live_and_previous_follow_the_dial(environment: Environment) -> None:
    owner = names.deployment(environment, "web")
    environment = split(environment, "a", (REVISIONS[0], 10_000))
    assert names.revision(environment, owner, "@live").sequence == 1
    with pytest.raises(NotFound):
        names.revision(environment, owner, "@previous")
    environment = split(environment, "b", (REVISIONS[0], 9_900), (REVISIONS[1], 100))
    assert names.revision(environment, owner, "@live").sequence == 1
    environment = split(environment, "c", (REVISIONS[1], 10_000))
    assert names.revision(environment, owner, "@live").sequence == 2
    assert names.revision(environment, owner, "@previous").sequence == 1


def test_latest_passes_over_what_is_archived(environment: Environment) -> None:
    environment = change(environment, "revisions", "archive", RevisionPayload(revision_id=REVISIONS[2]))
    owner = names.deployment(environment, "web")
    assert names.revision(environment, owner, "@latest").sequence == 2


def test_a_revision_alone_by_id_prefix(environment: Environment) -> None:
    assert names.find(environment, (REVISIONS[0][:18],)).sequence == 1
    with pytest.raises(InvalidArgument, match="of which deployment"):
        names.find(environment, ("v1",))
    with pytest.raises(NotFound):
        names.find(environment, ("01J0",))
