"""What each verb does in the cases that people meet, and what it says when it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from tests.property.strategies import Scene, ulid

from greentic.engine.command import Command
from greentic.engine.slots import relayout, table
from greentic.engine.traffic import HISTORY_DEPTH
from greentic.engine.transition import transition
from greentic.spec.errors import (
    AlreadyExists,
    Conflict,
    GateFailed,
    GreenticError,
    InvalidArgument,
    NotFound,
    SpecViolation,
)
from greentic.spec.lifecycle import EDGES, Lifecycle, allows
from greentic.spec.payloads import RevisionPayload


@pytest.fixture
def scene() -> Scene:
    return Scene().create()


def refused(expected: type[GreenticError], match: str, action: Any, *arguments: Any, **named: Any) -> GreenticError:
    with pytest.raises(expected, match=match) as refusal:
        action(*arguments, **named)
    assert type(refusal.value) is expected
    return refusal.value


def test_the_fifteen_edges() -> None:
    assert {(one.value, other.value) for one in Lifecycle for other in Lifecycle if allows(one, other)} == {
        ("inactive", "staged"),
        ("inactive", "failed"),
        ("inactive", "archived"),
        ("staged", "warming"),
        ("staged", "failed"),
        ("staged", "archived"),
        ("warming", "ready"),
        ("warming", "failed"),
        ("warming", "archived"),
        ("ready", "draining"),
        ("ready", "failed"),
        ("ready", "archived"),
        ("draining", "inactive"),
        ("failed", "staged"),
        ("failed", "archived"),
    }
    assert set(EDGES) == set(Lifecycle)


# --- addressing


def test_a_command_for_another_environment_changes_nothing(scene: Scene) -> None:
    command = Command("other", "revisions", "archive", RevisionPayload(revision_id=ulid(1)), "k", "me")
    refused(InvalidArgument, "cannot change 'local'", transition, scene.environment, command, "2026-07-24T10:00:00Z")


def test_creation_under_another_name_than_it_is_addressed_to() -> None:
    scene = Scene("other")
    refused(InvalidArgument, "cannot change 'local'", scene.do, "env create", environment_id="local", name="x")


@pytest.mark.parametrize("key", [" ", "\t\n"])
def test_a_blank_key_would_make_every_request_the_same(scene: Scene, key: str) -> None:
    refused(InvalidArgument, "must not be blank", scene.do, "env update", key, name="x")


def test_a_missing_environment_names_the_command_that_makes_it() -> None:
    error = refused(NotFound, "no environment 'local'", Scene().deploy)
    assert error.next_step == "gtc op env create local"


def test_a_verb_takes_its_own_payload(scene: Scene) -> None:
    command = Command("local", "traffic", "set", RevisionPayload(revision_id=ulid(1)), "k", "me")
    refused(InvalidArgument, "takes a SetTrafficSplitPayload", transition, scene.environment, command, "now")
    command = Command("local", "traffic", "teleport", RevisionPayload(revision_id=ulid(1)), "k", "me")
    refused(InvalidArgument, "no verb 'traffic teleport'", transition, scene.environment, command, "now")


def test_a_clock_that_is_no_timestamp_is_refused_by_our_error(scene: Scene) -> None:
    command = scene.command("bundles add", deployment_id=ulid(1), bundle_id="a", customer_id="b")
    refused(SpecViolation, "created_at", transition, scene.environment, command, "yesterday")


# --- environments


def test_creating_twice(scene: Scene) -> None:
    error = refused(AlreadyExists, "exists already", scene.create)
    assert error.next_step == "gtc op env show local"


def test_an_update_sets_clears_and_keeps(scene: Scene) -> None:
    scene.do(
        "env update", region={"value": "eu"}, public_base_url={"value": "https://a/"}, gui_enabled={"value": False}
    )
    host = scene.environment.host_config
    assert (host.region, host.public_base_url, host.gui_enabled) == ("eu", "https://a", False)
    scene.do("env update", region={"clear": True}, gui_enabled={"clear": False}, listen_addr={"value": "[::1]:1"})
    host = scene.environment.host_config
    assert (host.region, host.public_base_url, host.gui_enabled, host.listen_address) == (
        None,
        "https://a",
        False,
        "[::1]:1",
    )
    assert not scene.do("env update", region={"clear": True}, name="local").changed


# --- deployments


def test_two_customers_of_one_bundle_need_different_routes(scene: Scene) -> None:
    scene.deploy("web", "acme", route_binding={"path_prefixes": ["/web"]})
    error = refused(
        SpecViolation,
        r"bundles\.1\.route_binding: any host /web is already routed to 'web' \(acme\)",
        scene.deploy,
        "web",
        "globex",
        route_binding={"path_prefixes": ["/web/"]},
    )
    assert error.document()["details"]["rule"] == "OverlappingRoute"
    assert "--path-prefix" in error.next_step
    scene.deploy("web", "globex", route_binding={"path_prefixes": ["/globex"]})


def test_an_update_may_not_make_routes_overlap(scene: Scene) -> None:
    scene.deploy("one", route_binding={"path_prefixes": ["/one"]})
    second = scene.deploy("two", route_binding={"path_prefixes": ["/two"]})
    binding = {"path_prefixes": ["/two", "/one"]}
    refused(
        SpecViolation,
        "already routed to 'one'",
        scene.do,
        "bundles update",
        deployment_id=second,
        route_binding=binding,
    )


def test_a_paused_deployment_keeps_its_routes_and_an_archived_one_must_win_them_back(scene: Scene) -> None:
    first = scene.deploy("one", route_binding={"path_prefixes": ["/one"]})
    scene.do("bundles update", deployment_id=first, status="paused")
    refused(SpecViolation, "already routed", scene.deploy, "two", route_binding={"path_prefixes": ["/one"]})
    scene.do("bundles update", deployment_id=first, status="archived")
    scene.deploy("two", route_binding={"path_prefixes": ["/one"]})
    refused(
        SpecViolation, "already routed to 'two'|'one'", scene.do, "bundles update", deployment_id=first, status="active"
    )


def test_the_same_customer_twice_and_the_same_id_twice(scene: Scene) -> None:
    first = scene.deploy("web", "acme")
    error = refused(AlreadyExists, "already deployed for 'acme'", scene.deploy, "web", "acme")
    assert error.details == {"deployment_id": first}
    named = {"deployment_id": first, "bundle_id": "other", "customer_id": "acme"}
    refused(AlreadyExists, "is taken", scene.do, "bundles add", **named)


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"revenue_share": [{"party_id": "a", "basis_points": 9_999}]}, "BasisPointsSum"),
        ({"revenue_share": []}, "BasisPointsSum"),
        ({"config_overrides": {"p": {"k": "x" * 20_000}}}, "ConfigOverridesTooLarge"),
        ({"route_binding": {"hosts": ["*"]}}, "InvalidHost"),
    ],
)
def test_a_deployment_of_its_own_must_be_sound(scene: Scene, wrong: dict[str, Any], rule: str) -> None:
    error = refused(SpecViolation, ".", scene.deploy, **wrong)
    assert error.details["rule"] == rule
    deployment = scene.deploy()
    error = refused(SpecViolation, ".", scene.do, "bundles update", deployment_id=deployment, **wrong)
    assert error.details["rule"] == rule


def test_parameters_name_a_pack_that_some_revision_has(scene: Scene) -> None:
    deployment = scene.deploy(config_overrides={"helo": {"a": 1}})
    error = refused(SpecViolation, "no revision of the deployment has a pack 'helo'", scene.stage, deployment)
    assert "bundles update" in error.next_step


def test_removal_says_what_is_in_the_way_and_takes_everything(scene: Scene) -> None:
    deployment, other = scene.deploy("web"), scene.deploy("other")
    [revision] = scene.ready(deployment)
    [kept] = scene.ready(other)
    scene.dial(deployment, {revision: 10_000})
    scene.dial(other, {kept: 10_000})
    error = refused(
        Conflict, "traffic split and 1 of its revisions", scene.do, "bundles remove", deployment_id=deployment
    )
    assert error.next_step == "gtc op traffic clear web"
    scene.clear(deployment)
    error = refused(
        Conflict, "1 of its revisions are not archived", scene.do, "bundles remove", deployment_id=deployment
    )
    assert error.next_step.startswith("gtc op revisions archive web v1")
    scene.do("revisions archive", revision_id=revision)
    outcome = scene.do("bundles remove", deployment_id=deployment)
    assert outcome.result["pruned_revision_ids"] == [revision]
    left = scene.environment
    assert [one.deployment_id for one in (*left.bundles, *left.revisions, *left.traffic_splits)] == [other] * 3
    assert left.split_history == ()


# --- revisions


def test_staging_counts_up_and_freezes(scene: Scene) -> None:
    deployment = scene.deploy()
    scene.do("revisions archive", revision_id=scene.stage(deployment))
    scene.stage(deployment, drain_seconds=0, display_version="2.0")
    last = scene.environment.revisions[-1]
    assert (last.sequence, last.lifecycle, last.drain_seconds, last.display_version) == (2, "staged", 0, "2.0")
    error = refused(AlreadyExists, "exists already", scene.stage, deployment, revision_id=last.revision_id)
    assert error.next_step
    scene.do("bundles update", deployment_id=deployment, status="archived")
    refused(Conflict, "is archived and takes no new revision", scene.stage, deployment)
    refused(NotFound, "no deployment", scene.stage, ulid(999))


@pytest.mark.parametrize("wrong", ["../../etc/passwd", "/etc/passwd", "a/../../b", "C:\\x"])
def test_a_staged_revision_points_into_its_environment_only(scene: Scene, wrong: str) -> None:
    deployment = scene.deploy()
    for field in ("pack_list_lock_ref", "signature_sidecar_ref"):
        with pytest.raises(ValueError, match=field):
            scene.stage(deployment, **{field: wrong})
    with pytest.raises(ValueError, match="pack_config_refs"):
        scene.stage(deployment, pack_config_refs=[wrong])


def test_a_gate_that_says_no_is_committed_and_told(scene: Scene) -> None:
    revision = scene.stage(scene.deploy())
    scene.do("revisions begin-warm", revision_id=revision)
    outcome = scene.warm(revision, ok=False)
    assert type(outcome.failure) is GateFailed
    assert outcome.failure.next_step == "gtc op revisions retry web v1, once the cause is mended"
    assert outcome.changed
    failed = scene.environment.revisions[0]
    assert (failed.lifecycle, failed.failure, failed.warmed_at) == ("failed", "no answer", None)
    scene.do("revisions retry", revision_id=revision)
    assert scene.environment.revisions[0].failure is None
    scene.warm(revision)
    assert scene.environment.revisions[0].warmed_at is not None
    assert not scene.warm(revision, ok=False).changed, "a late verdict does not fail what is ready"


@pytest.mark.parametrize(
    ("state", "verb", "next_step"),
    [
        ("failed", "begin-warm", "gtc op revisions retry web v1"),
        ("inactive", "begin-warm", "gtc op revisions retry web v1"),
        ("archived", "begin-warm", None),
        ("staged", "drain", "gtc op revisions archive web v1"),
        ("failed", "drain", "gtc op revisions archive web v1"),
        ("archived", "drain", None),
        ("ready", "complete-drain", "gtc op revisions drain web v1"),
        ("warming", "retry", "gtc op revisions warm web v1"),
        ("ready", "retry", None),
    ],
)
def test_a_refused_move_names_the_one_that_leads_on(scene: Scene, state: str, verb: str, next_step: str | None) -> None:
    revision = scene.stage(scene.deploy())
    put = scene.environment.revisions[0].model_copy(update={"lifecycle": Lifecycle(state)})
    scene.current = scene.environment.model_copy(update={"revisions": (put,)})
    error = refused(Conflict, f"web v1 is {state} and cannot be", scene.do, f"revisions {verb}", revision_id=revision)
    assert error.next_step == next_step
    assert error.details["actual"] == state


def test_what_has_traffic_is_neither_drained_nor_archived(scene: Scene) -> None:
    deployment = scene.deploy()
    old, new = scene.ready(deployment, 2)
    scene.dial(deployment, {old: 9_975, new: 25})
    for verb in ("drain", "archive"):
        error = refused(Conflict, r"web v2 gets 0\.25% of the traffic", scene.do, f"revisions {verb}", revision_id=new)
        assert "gtc op traffic set web" in error.next_step


def test_an_entry_with_nothing_leaves_the_split_with_its_revision(scene: Scene) -> None:
    deployment = scene.deploy()
    old, none, new = scene.ready(deployment, 3)
    shares = {old: 4_000, none: 0, new: 6_000}
    scene.dial(deployment, shares, "k")
    before = table(scene.environment.split(deployment))
    scene.do("revisions drain", revision_id=none)
    split = scene.environment.split(deployment)
    assert [(entry.revision_id, entry.weight_bps) for entry in split.entries] == [(old, 4_000), (new, 6_000)]
    assert table(split) == before
    assert not scene.dial(deployment, shares, "k").changed, "the replay is still known as one"
    assert not scene.do("revisions drain", revision_id=none).changed
    scene.do("revisions complete-drain", revision_id=none)
    assert not scene.do("revisions drain", revision_id=none).changed, "drained is drained"


# --- traffic


def test_the_first_split_and_a_move(scene: Scene) -> None:
    deployment = scene.deploy()
    old, new = scene.ready(deployment, 2)
    first = scene.dial(deployment, {old: 10_000}, note="go")
    assert (first.result["previous_generation"], first.result["new_generation"], first.result["moved_slots"]) == (
        None,
        0,
        10_000,
    )
    second = scene.dial(deployment, {old: 9_900, new: 100})
    assert (second.result["previous_generation"], second.result["new_generation"], second.result["moved_slots"]) == (
        0,
        1,
        100,
    )
    split = scene.environment.split(deployment)
    assert split.previous_split_ref.startswith("inline://")
    assert scene.environment.deployment(deployment).current_revisions == (old, new)
    assert [(entry.revision_id, entry.since) for entry in split.entries] == [(old, 0), (new, 1)]
    scene.dial(deployment, {old: 10_000, new: 0})
    scene.dial(deployment, {old: 5_000, new: 5_000})
    assert [entry.since for entry in scene.environment.split(deployment).entries] == [0, 3]


@pytest.mark.parametrize(
    ("shares", "rule", "said"),
    [
        ([5_000, 4_999], "BasisPointsSum", "99.99%"),
        ([], "BasisPointsSum", "0%"),
        ([10_000, 10_000], "BasisPointsSum", "200%"),
    ],
)
def test_shares_that_are_not_everything(scene: Scene, shares: list[int], rule: str, said: str) -> None:
    deployment = scene.deploy()
    ready = scene.ready(deployment, 2)
    error = refused(SpecViolation, said, scene.dial, deployment, dict(zip(ready, shares, strict=False)))
    assert error.details["rule"] == rule


def test_a_revision_named_twice_of_another_deployment_or_unknown(scene: Scene) -> None:
    deployment, other = scene.deploy("web"), scene.deploy("other")
    [one], [foreign] = scene.ready(deployment), scene.ready(other)
    entries = [{"revision_id": one, "weight_bps": 5_000}] * 2
    request = {"deployment_id": deployment, "updated_by": "ops"}
    refused(SpecViolation, "named twice", scene.do, "traffic set", entries=entries, **request)
    refused(InvalidArgument, "belongs to another deployment", scene.dial, deployment, {foreign: 10_000})
    refused(NotFound, "no revision", scene.dial, deployment, {ulid(999): 10_000})


@pytest.mark.parametrize(
    ("state", "step"), [("staged", "warm"), ("failed", "retry"), ("inactive", "retry"), ("archived", None)]
)
def test_only_ready_revisions_get_traffic_not_even_nothing(scene: Scene, state: str, step: str | None) -> None:
    deployment = scene.deploy()
    old, new = scene.ready(deployment, 2)
    put = scene.environment.revision(new).model_copy(update={"lifecycle": Lifecycle(state)})
    scene.current = scene.environment.model_copy(update={"revisions": (scene.environment.revisions[0], put)})
    for weight in (0, 1):
        error = refused(
            Conflict, f"web v2 is {state}, not ready", scene.dial, deployment, {old: 10_000 - weight, new: weight}
        )
        assert error.next_step == (None if step is None else f"gtc op revisions {step} web v2")


def test_a_key_is_a_replay_or_a_conflict(scene: Scene) -> None:
    deployment = scene.deploy()
    old, new = scene.ready(deployment, 2)
    scene.dial(deployment, {old: 9_000, new: 1_000}, "k")
    again = scene.dial(deployment, {new: 1_000, old: 9_000}, "k")
    assert (again.changed, again.result["new_generation"], again.result["moved_slots"]) == (False, None, 0)
    error = refused(Conflict, "already moved this dial", scene.dial, deployment, {old: 10_000}, "k")
    assert error.details["reason"] == "idempotency-key-reused"
    refused(Conflict, "already moved this dial", scene.rollback, deployment, None, "k")


def test_a_rollback_undone_and_repeated_under_its_key(scene: Scene) -> None:
    deployment = scene.deploy()
    old, new = scene.ready(deployment, 2)
    for weight in (0, 100, 3_000, 700):
        scene.dial(deployment, {old: 10_000 - weight, new: weight} if weight else {old: 10_000})
    tables = {split.generation: table(split) for split in scene.environment.split_history}
    back = scene.rollback(deployment, to=1, key="back")
    assert (back.result["restored_generation"], back.result["new_generation"]) == (1, 4)
    assert table(scene.environment.split(deployment)) == tables[1]
    assert scene.environment.split(deployment).note == "rollback to generation 1"
    assert not scene.rollback(deployment, to=1, key="back").changed
    refused(Conflict, "already moved this dial", scene.rollback, deployment, 2, "back")
    assert scene.rollback(deployment).result["restored_generation"] == 3
    error = refused(
        NotFound, "generation 99 of 'web' is not kept; kept are 0, 1, 2, 3, 4", scene.rollback, deployment, 99
    )
    assert error.next_step == "gtc op traffic history web"
    refused(Conflict, "generation 5 of 'web' is live already", scene.rollback, deployment, 5)


def test_a_rollback_needs_its_revisions_ready(scene: Scene) -> None:
    deployment = scene.deploy()
    old, new = scene.ready(deployment, 2)
    scene.dial(deployment, {old: 10_000})
    scene.dial(deployment, {new: 10_000})
    scene.do("revisions archive", revision_id=old)
    refused(Conflict, "web v1 is archived, not ready", scene.rollback, deployment)


def test_clear_then_roll_back(scene: Scene) -> None:
    deployment = scene.deploy()
    [only] = scene.ready(deployment)
    error = refused(Conflict, "no earlier split", scene.rollback, deployment)
    assert error.next_step == "gtc op traffic set web REVISION=100%"
    assert not scene.clear(deployment).changed
    scene.dial(deployment, {only: 10_000})
    assert scene.clear(deployment).result == {
        "deployment_id": deployment,
        "cleared": True,
        "previous_generation": 0,
        "new_generation": 1,
    }
    assert scene.environment.deployment(deployment).current_revisions == ()
    back = scene.rollback(deployment)
    assert (back.result["restored_generation"], back.result["new_generation"]) == (0, 2)
    assert scene.environment.split(deployment).entries[0].since == 2


def test_a_paused_deployment_keeps_its_dial_and_an_archived_one_does_not_move(scene: Scene) -> None:
    deployment = scene.deploy()
    old, new = scene.ready(deployment, 2)
    scene.do("bundles update", deployment_id=deployment, status="paused")
    scene.dial(deployment, {old: 10_000})
    scene.dial(deployment, {new: 10_000})
    scene.do("bundles update", deployment_id=deployment, status="archived")
    for action in (lambda: scene.dial(deployment, {old: 10_000}), lambda: scene.rollback(deployment)):
        error = refused(Conflict, "'web' is archived and gets no traffic", action)
        assert error.next_step == "gtc op bundles update web --status active"
    scene.clear(deployment)


def test_the_history_is_bounded_and_generations_never_come_again(scene: Scene) -> None:
    deployment = scene.deploy()
    old, new = scene.ready(deployment, 2)
    for number in range(HISTORY_DEPTH + 5):
        scene.dial(deployment, {old: 10_000 - number - 1, new: number + 1})
    assert [one.generation for one in scene.environment.history(deployment)] == list(range(4, HISTORY_DEPTH + 4))
    refused(NotFound, "generation 3 of 'web' is not kept", scene.rollback, deployment, 3)
    scene.clear(deployment)
    assert scene.dial(deployment, {old: 10_000}).result["new_generation"] == HISTORY_DEPTH + 6


def test_a_counter_at_its_end_is_refused_by_our_error(scene: Scene) -> None:
    deployment = scene.deploy()
    [only] = scene.ready(deployment)
    stamped = scene.environment.bundles[0].model_copy(update={"traffic_generation": 2**63 - 1})
    last = scene.environment.revisions[0].model_copy(update={"sequence": 2**63 - 1})
    scene.current = scene.environment.model_copy(update={"bundles": (stamped,), "revisions": (last,)})
    refused(SpecViolation, "since: Input should be less", scene.dial, deployment, {only: 10_000})
    refused(SpecViolation, "sequence", scene.stage, deployment)


def test_a_split_that_covers_too_few_slots_can_only_be_cleared(scene: Scene) -> None:
    deployment = scene.deploy()
    [only] = scene.ready(deployment)
    scene.dial(deployment, {only: 10_000})
    broken = scene.environment.traffic_splits[0].model_copy(update={"slots": ((10_000, 3),)})
    scene.current = scene.environment.model_copy(update={"traffic_splits": (broken,)})
    error = refused(SpecViolation, "does not lay out 10000 slots", scene.dial, deployment, {only: 10_000})
    assert error.next_step.startswith("gtc op traffic clear web")
    scene.clear(deployment)
    scene.dial(deployment, {only: 10_000})


def test_a_table_of_anything_but_everything_is_refused() -> None:
    refused(SpecViolation, "10000 slots", relayout, (), [("a", 9_999)])


def test_routes_are_recorded_as_the_router_takes_them(scene: Scene) -> None:
    hosts = ["EXAMPLE.com:8080", "b.example.", "[::1]:80"]
    deployment = scene.deploy(
        route_binding={"hosts": hosts, "path_prefixes": ["/a/", "/"], "tenant_selector": {"team": "x"}}
    )
    recorded = scene.environment.deployment(deployment).route_binding
    assert recorded.hosts == ("example.com", "b.example", "[::1]")
    assert recorded.path_prefixes == ("/a", "/")
    assert recorded.tenant_selector.team == "x"
    again = {"hosts": hosts, "path_prefixes": ["/a", "/"], "tenant_selector": {"team": "x"}}
    assert not scene.do("bundles update", deployment_id=deployment, route_binding=again).changed
