"""What must hold of every document, whoever wrote it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from tests.property.samples import CLOSED
from tests.property.strategies import JSON, ROUGH, Scene, reference_documents, scenes, sprinkled

from greentic.spec import rules, schemas
from greentic.spec.environment import Environment
from greentic.spec.errors import AnswersParse, GreenticError
from greentic.spec.integrity import canonical_json
from greentic.spec.parsing import parse, parse_json, parse_payload
from greentic.spec.verbs import VERBS

MODELS = schemas.documents()
VALIDATORS = {name: Draft202012Validator(schemas.schema(name)) for name in MODELS}
SAMPLES = reference_documents()
OPEN = [document for document in SAMPLES if document["schema"] not in CLOSED]


def same(left: Any, right: Any) -> bool:
    """Equal as JSON: 1, 1.0 and true differ."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


@pytest.mark.parametrize("document", SAMPLES, ids=lambda document: document["schema"])
def test_a_reference_document_reads_back_key_for_key(document: dict[str, Any]) -> None:
    assert same(parse(MODELS[document["schema"]], document, "it").to_json(), document)


def test_there_is_a_sample_of_every_document() -> None:
    assert {document["schema"] for document in SAMPLES} == set(MODELS)


@given(st.sampled_from(OPEN).flatmap(sprinkled))
@settings(deadline=None, max_examples=60)
def test_unknown_fields_survive_at_every_level(document: dict[str, Any]) -> None:
    parsed = parse(MODELS[document["schema"]], document, "it")
    assert same(parsed.to_json(), document)
    assert same(parse_json(parsed.model_dump_json(), "it"), document)
    assert not list(VALIDATORS[document["schema"]].iter_errors(document))


@given(st.sampled_from(OPEN).flatmap(sprinkled))
@settings(deadline=None, max_examples=60)
def test_unknown_fields_survive_a_change(document: dict[str, Any]) -> None:
    if document["schema"] != "greentic.environment.v1":
        return
    scene = Scene()
    scene.current = parse(Environment, document, "it")
    deployment = document["bundles"][0]["deployment_id"]
    scene.do("bundles update", deployment_id=deployment, status="paused")
    scene.do("revisions drain", revision_id=scene.ready(deployment)[0])
    after = scene.environment.to_json()
    expected = copy.deepcopy(document)
    expected["bundles"][0]["status"] = "paused"
    expected["revisions"].append(after["revisions"][-1])
    assert same(after, expected)


@given(scenes())
@settings(max_examples=40, deadline=None)
def test_what_commands_make_reads_back_and_keeps_every_rule(scene: Scene) -> None:
    document = scene.environment.to_json()
    assert same(parse(Environment, document, "it").to_json(), document)
    assert parse(Environment, parse_json(canonical_json(document), "it"), "it") == scene.environment
    assert not list(rules.violations(scene.environment))
    assert not list(VALIDATORS["greentic.environment.v1"].iter_errors(document))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside."""
    yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from leaves(member, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.copy(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], new)
    return changed


SPOTS = [(document, path) for document in SAMPLES for path in leaves(document)]


@given(st.sampled_from(SPOTS), st.one_of(JSON, ROUGH))
@settings(max_examples=300, deadline=None)
def test_one_wrong_value_anywhere_is_refused_by_us_or_reads_back(
    spot: tuple[dict[str, Any], tuple[Any, ...]], value: Any
) -> None:
    document, path = spot
    broken = replaced(document, path, value)
    try:
        parsed = parse(MODELS[document["schema"]], broken, "it")
    except GreenticError as error:
        json.dumps(error.document(), allow_nan=False)
        return
    assert parse(type(parsed), parsed.to_json(), "it") == parsed
    canonical_json(parsed.to_json())
    if isinstance(parsed, Environment):
        list(rules.violations(parsed))


@given(st.sampled_from(sorted(MODELS)), ROUGH)
@settings(deadline=None)
def test_arbitrary_values_are_refused_by_us_alone(name: str, value: Any) -> None:
    with pytest.raises(GreenticError):
        parse(MODELS[name], value, "it")


@given(st.sampled_from(VERBS), ROUGH)
@settings(deadline=None)
def test_arbitrary_payloads_are_refused_by_us_or_accepted(verb: Any, value: Any) -> None:
    try:
        parse_payload(verb.payload(), value, "it")
    except AnswersParse:
        return


@given(st.one_of(st.text(max_size=60), st.binary(max_size=60), ROUGH.map(lambda value: json.dumps(value)[:4000])))
@settings(deadline=None)
def test_arbitrary_text_is_json_or_refused_by_us(text: str | bytes) -> None:
    try:
        value = parse_json(text, "it")
    except GreenticError:
        return
    json.dumps(value, allow_nan=False)


CANARY = "hunter2-s3cr3t"


@given(st.sampled_from(SPOTS), st.sampled_from([CANARY, f"http://u:{CANARY}@h", [CANARY], {"a": CANARY}]))
@settings(max_examples=300, deadline=None)
def test_a_refusal_names_the_place_and_never_repeats_the_value(
    spot: tuple[dict[str, Any], tuple[Any, ...]], value: Any
) -> None:
    document, path = spot
    try:
        parse(MODELS[document["schema"]], replaced(document, path, value), "it")
    except GreenticError as error:
        refusal = error.document()
    else:
        return
    assert CANARY not in json.dumps(refusal)
    place = ".".join(str(part) for part in path)
    assert any(problem["path"].startswith(place) or not place for problem in refusal["details"]["problems"])
