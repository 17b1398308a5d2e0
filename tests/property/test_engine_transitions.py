"""What must hold of every transition, whatever it is asked."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.strategies import JSON, ROUGH, Scene, scenes, ulid

from greentic.engine.command import Command
from greentic.engine.transition import TRANSITIONS, transition
from greentic.spec import rules
from greentic.spec.environment import Environment
from greentic.spec.errors import AnswersParse, Conflict, GreenticError
from greentic.spec.integrity import canonical_json
from greentic.spec.lifecycle import Lifecycle, allows
from greentic.spec.parsing import parse_payload
from greentic.spec.verbs import VERBS, Verb, find

NOW = "2026-07-25T00:00:00Z"
IDS = st.integers(1, 12).map(ulid)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "environment_id": st.sampled_from(["local", "other", "..", "a\n"]),
    "name": st.text(max_size=5),
    "deployment_id": IDS,
    "revision_id": IDS,
    "bundle_id": st.sampled_from(["bundle-0", "bundle-1", "web", "../x", ""]),
    "customer_id": st.sampled_from(["acme", "globex"]),
    "status": st.sampled_from(["active", "paused", "archived"]),
    "route_binding": st.fixed_dictionaries(
        {},
        optional={
            "hosts": st.lists(st.sampled_from(["a.example", "A.example:80", "*", "", "[::1]"]), max_size=2),
            "path_prefixes": st.lists(st.sampled_from(["/", "/a", "/a/", "", "//", "a"]), max_size=2),
        },
    ),
    "revenue_share": st.lists(
        st.fixed_dictionaries({"party_id": st.sampled_from("ab"), "basis_points": st.sampled_from([0, 5_000, 10_000])}),
        max_size=3,
    ),
    "config_overrides": st.dictionaries(
        st.sampled_from(["hello", "other", ""]), st.dictionaries(st.text(max_size=2), JSON)
    ),
    "bundle_digest": st.just("sha256:00"),
    "config_digest": st.just("sha256:00"),
    "pack_list": st.just([{"pack_id": "hello", "version": "1.0.0", "digest": "sha256:00"}]),
    "pack_list_lock_ref": st.sampled_from(["", "revisions/x/pack-list.lock", "../x", "/etc/passwd"]),
    "pack_config_refs": st.lists(st.sampled_from(["a/b.json", "../x", "C:/x"]), max_size=2),
    "drain_seconds": st.integers(0, 60),
    "health_gate": st.sampled_from(
        [{"ok": True}, {"ok": False, "failure": {"failed_checks": ["route-table"], "message": "x" * 3_000}}]
    ),
    "entries": st.lists(
        st.fixed_dictionaries(
            {"revision_id": IDS, "weight_bps": st.sampled_from([0, 1, 2_500, 5_000, 7_500, 9_999, 10_000])}
        ),
        max_size=4,
    ),
    "updated_by": st.text(max_size=5),
    "to_generation": st.integers(0, 5),
    "note": st.text(max_size=5),
    "listen_addr": st.sampled_from(["127.0.0.1:1", {"value": "127.0.0.1:1"}, {"clear": True}, {"value": "x"}]),
    "public_base_url": st.sampled_from(["https://a", {"value": "https://a/"}, {"clear": True}]),
    "region": st.sampled_from(["eu", {"value": "eu"}, {"clear": True}, {"clear": False}]),
}


@st.composite
def requests(draw: st.DrawFn, verb: Verb) -> dict[str, Any]:
    """A request with mostly plausible fields, some of them missing or wild."""
    request = {}
    for field, info in verb.payload().model_fields.items():
        if info.is_required() or draw(st.booleans()):
            request[field] = draw(FIELDS.get(field, JSON) if draw(st.integers(0, 19)) else ROUGH)
    return request


@st.composite
def commands(draw: st.DrawFn) -> tuple[Verb, dict[str, Any], str]:
    verb = draw(st.sampled_from(VERBS))
    return verb, draw(requests(verb)), draw(st.sampled_from(["k", "key-00000000000000000000000005", " "]))


@given(scenes(), st.lists(commands(), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_a_transition_is_pure_and_refuses_with_our_errors_only(
    scene: Scene, asked: list[tuple[Verb, dict[str, Any], str]]
) -> None:
    environment = scene.environment
    frozen = canonical_json(environment.to_json())
    for verb, request, key in asked:
        try:
            payload = parse_payload(verb.payload(), request, "it")
        except AnswersParse:
            continue
        command = Command("local", verb.noun, verb.verb, payload, key, "tester")
        before = canonical_json(payload.to_json())
        try:
            outcome = transition(environment, command, NOW)
        except GreenticError as error:
            refusal = error.document()
            canonical_json(refusal)
            assert refusal["kind"] in {*verb.errors, "invalid-argument"}, f"{verb.name}: {refusal}"
            assert refusal["message"]
        else:
            again = transition(Environment.model_validate(environment.to_json()), command, NOW)
            assert again.environment == outcome.environment
            assert again.result == outcome.result
            assert again.changed == outcome.changed
            if not outcome.changed:
                assert outcome.environment is environment
            canonical_json(dict(outcome.result))
            assert not list(rules.violations(outcome.environment))
            assert canonical_json(
                Environment.model_validate(outcome.environment.to_json()).to_json()
            ) == canonical_json(outcome.environment.to_json())
        assert canonical_json(environment.to_json()) == frozen, "the environment that came in never changes"
        assert canonical_json(payload.to_json()) == before


REVISION_VERBS = [verb for noun, verb in TRANSITIONS if noun == "revisions" and verb != "stage"]


@given(
    st.sampled_from(list(Lifecycle)),
    st.sampled_from(REVISION_VERBS),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_every_verb_walks_legal_edges_only(start: Lifecycle, verb: str, healthy: bool) -> None:
    scene = Scene().create()
    revision_id = scene.stage(scene.deploy())
    before = scene.environment.revisions[0].model_copy(update={"lifecycle": start})
    scene.current = scene.environment.model_copy(update={"revisions": (before,)})
    request: dict[str, Any] = {"revision_id": revision_id}
    if verb == "warm":
        request["health_gate"] = (
            {"ok": True} if healthy else {"ok": False, "failure": {"failed_checks": ["route-table"], "message": "no"}}
        )
    try:
        outcome = scene.do(f"revisions {verb}", **request)
    except Conflict:
        return
    after = outcome.environment.revisions[0]
    assert outcome.result["starting_lifecycle"] == start.value
    if after.lifecycle is start:
        assert not outcome.changed
        assert after == before
        return
    through = {
        (Lifecycle.DRAINING, Lifecycle.ARCHIVED): Lifecycle.INACTIVE,
        (Lifecycle.STAGED, Lifecycle.READY): Lifecycle.WARMING,
    }.get((start, after.lifecycle))
    walk = [start, after.lifecycle] if through is None else [start, through, after.lifecycle]
    assert all(allows(one, other) for one, other in pairwise(walk))
    changing = {"lifecycle", "staged_at", "warmed_at", "failure"}
    assert before.model_dump(exclude=changing) == after.model_dump(exclude=changing)


def test_every_verb_of_the_registry_is_a_transition() -> None:
    assert {(verb.noun, verb.verb): verb.payload() for verb in VERBS} == {
        name: payload for name, (payload, _) in TRANSITIONS.items()
    }
    assert find("traffic", "set").mutates
