"""JSON text, values and requests: what is refused and how it is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.property.samples import traffic_schedule

from greentic.spec.deployment import TenantSelector
from greentic.spec.environment import Environment, fresh
from greentic.spec.errors import AnswersParse, GreenticError, SpecViolation
from greentic.spec.integrity import canonical_json
from greentic.spec.parsing import MAX_DEPTH, MAX_LISTED, parse, parse_json, parse_payload
from greentic.spec.payloads import AddDeploymentPayload, UpdateEnvironmentPayload, WarmRevisionPayload
from greentic.spec.revision import PackListLock
from greentic.spec.schedule import TrafficSchedule

ULID = "01J0000000000000000000000Z"


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property"),
        ('{"a": 1} x', "Extra data"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ('{"b": {"a": 1, "\\u0061": 2}}', "stands twice"),
        ("NaN", "not a JSON number"),
        ("-Infinity", "not a JSON number"),
        ("1e400", "too large"),
        ("9" * 5_000, "digits"),
        ("[" * 200_000, "too deeply"),
        (b"\xff", "decode"),
    ],
)
def test_text_that_is_not_json(text: str | bytes, reason: str) -> None:
    with pytest.raises(SpecViolation, match=reason):
        parse_json(text, "the document")


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        "\ud800",
        {"\ud800": 1},
        nested(MAX_DEPTH + 1),
        10**4_250,
        {5: 1},
        (1,),
        {1},
        b"x",
        object(),
    ],
)
def test_an_unknown_field_holds_only_what_can_be_written_back(value: Any) -> None:
    with pytest.raises(SpecViolation, match=r"x-new: holds a|x-new: is nested"):
        parse(TenantSelector, {"tenant": "a", "team": "b", "x-new": value}, "it")


def test_an_unknown_field_may_hold_anything_else() -> None:
    document = {
        "tenant": "a",
        "team": "b",
        "x-new": nested(MAX_DEPTH),
        "": None,
        "schema_": 5,
        "to_json": 1,
        "é": 10**4_000,
    }
    found = parse(TenantSelector, document, "it")
    assert found.to_json() == document
    assert json.loads(canonical_json(found.to_json())) == document


def test_a_document_of_another_kind_is_never_taken_for_this_one() -> None:
    document = fresh("local", "local").to_json()
    parse(Environment, document, "it")
    for schema in ({}, {"schema": "greentic.environment.v2"}, {"schema": None}, {"schema": " greentic.environment.v1"}):
        without = {key: value for key, value in document.items() if key != "schema"}
        with pytest.raises(SpecViolation, match="schema: ") as refusal:
            parse(Environment, without | schema, "it")
        assert refusal.value.rule == "SchemaMismatch"


def test_a_refusal_lists_each_problem_with_its_place() -> None:
    with pytest.raises(SpecViolation) as refusal:
        parse(
            PackListLock,
            {"schema": "greentic.pack-list-lock.v1", "packs": [{"pack_id": 5, "path": "../x"}]},
            "the lock",
        )
    assert refusal.value.rule == "Malformed"
    assert refusal.value.details["problems"] == [
        {"path": "revision_id", "message": "is required"},
        {"path": "packs.0.pack_id", "message": "must be a text; in YAML, put it in quotes"},
        {"path": "packs.0.path", "message": "must stay inside the environment's folder"},
        {"path": "packs.0.digest", "message": "is required"},
    ]
    assert refusal.value.message.startswith("the lock: revision_id: is required; packs.0.pack_id: must be a text")


def test_a_refusal_counts_what_it_does_not_list() -> None:
    packs = [{"pack_id": "a", "path": "a", "digest": 5}] * 100
    with pytest.raises(SpecViolation, match="and 80 more") as refusal:
        parse(PackListLock, {"schema": "greentic.pack-list-lock.v1", "revision_id": ULID, "packs": packs}, "it")
    assert len(refusal.value.details["problems"]) == MAX_LISTED


@pytest.mark.parametrize(
    ("change", "means"),
    [
        ({"value": "eu"}, "set"),
        ({"clear": True}, "clear"),
        ({"clear": False}, "keep"),
        (None, "keep"),
        ({}, "refused"),
        ({"value": None}, "refused"),
        ({"value": "eu", "clear": True}, "refused"),
        ({"value": "eu", "clear": False}, "refused"),
        ({"clear": 1}, "refused"),
        ({"clear": 0}, "refused"),
        ({"clear": None}, "refused"),
        ({"value": 5}, "refused"),
        ({"value": "eu", "other": 1}, "refused"),
        ("eu", "refused"),
        ([], "refused"),
    ],
)
def test_a_field_update_sets_clears_or_keeps(change: Any, means: str) -> None:
    if means == "refused":
        with pytest.raises(AnswersParse, match="region"):
            parse_payload(UpdateEnvironmentPayload, {"region": change}, "it")
        return
    payload = parse_payload(UpdateEnvironmentPayload, {"region": change}, "it")
    assert parse_payload(UpdateEnvironmentPayload, payload.to_json(), "it") == payload
    if means == "keep":
        assert payload.region is None
    else:
        assert payload.region is not None
        assert payload.region.applied() == ("eu" if means == "set" else None)


@pytest.mark.parametrize(
    ("gate", "valid"),
    [
        ({"ok": True}, True),
        ({"ok": True, "failure": None}, True),
        ({"ok": False, "failure": {"failed_checks": ["route-table"], "message": ""}}, True),
        ({"ok": False}, False),
        ({"ok": True, "failure": {"failed_checks": ["route-table"], "message": ""}}, False),
        ({"ok": False, "failure": {"failed_checks": [], "message": ""}}, False),
        ({"ok": 1}, False),
        ({"ok": "true"}, False),
        ({"ok": True, "note": ""}, False),
        ({}, False),
    ],
)
def test_a_health_gate_is_consistent(gate: dict[str, Any], valid: bool) -> None:
    request = {"revision_id": ULID, "health_gate": gate}
    if valid:
        parse_payload(WarmRevisionPayload, request, "it")
    else:
        with pytest.raises(AnswersParse, match="health_gate"):
            parse_payload(WarmRevisionPayload, request, "it")


NEW = {"deployment_id": ULID, "bundle_id": "web", "customer_id": "acme"}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"bundle": "x"}, "bundle: is not a known key"),
        ({"route_binding": {"path_prefix": ["/"]}}, "not known: path_prefix"),
        ({"route_binding": {"tenant_selector": {"teams": "x"}}}, "not known: tenant_selector.teams"),
        ({"revenue_share": [{"party_id": "a", "basis_points": 10_000, "x": 1}]}, "not known: x"),
        ({"bundle_id": "a/b"}, "bundle_id"),
        ({"bundle_id": "../../x"}, "bundle_id"),
        ({"bundle_id": "a\n"}, "bundle_id"),
        ({"customer_id": ""}, "customer_id"),
        ({"config_overrides": {"p": {"k": float("inf")}}}, "config_overrides.p.k"),
        ({"config_overrides": {"p": {"k": nested(MAX_DEPTH + 1)}}}, "config_overrides.p.k"),
        ({"config_overrides": {"p": "x"}}, "config_overrides.p: must be an object"),
    ],
)
def test_what_a_caller_misspells_is_refused_at_every_level(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(AnswersParse) as refusal:
        parse_payload(AddDeploymentPayload, NEW | wrong, "it")
    assert named in refusal.value.message


def test_a_part_taken_from_an_environment_keeps_what_a_newer_version_wrote() -> None:
    binding = parse(AddDeploymentPayload.model_fields["route_binding"].annotation, {"x-new": 1}, "it")
    payload = AddDeploymentPayload(**NEW, route_binding=binding)
    assert payload.to_json()["route_binding"]["x-new"] == 1


def test_every_error_is_json() -> None:
    with pytest.raises(GreenticError) as refusal:
        parse(Environment, {"environment_id": 5}, "it")
    assert json.loads(json.dumps(refusal.value.document()))["kind"] == "spec"


@pytest.mark.parametrize(
    ("gate", "place"),
    [
        ({"kind": "error-rate", "limit_bps": "much"}, "gates.0.limit_bps"),
        ({"kind": "luck"}, "gates.0.kind"),
        ({}, "gates.0.kind"),
    ],
)
def test_the_place_of_a_problem_is_one_of_the_document(gate: dict[str, Any], place: str) -> None:
    with pytest.raises(SpecViolation) as refused:
        parse(TrafficSchedule, {**traffic_schedule(), "gates": [gate]}, "it")
    assert [problem["path"] for problem in refused.value.details["problems"]] == [place]
