"""The registry of verbs and the schemas that follow from the types."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.property.samples import CLOSED

from greentic.engine.transition import TRANSITIONS
from greentic.spec import errors, schemas, verbs
from greentic.spec.errors import GreenticError, NotFound
from greentic.spec.verbs import VERBS


def test_the_registry_and_the_engine_agree() -> None:
    assert {(verb.noun, verb.verb): verb.payload() for verb in VERBS} == {
        name: payload for name, (payload, _) in TRANSITIONS.items()
    }
    assert len({verb.name for verb in VERBS}) == len(VERBS)


def test_parts_of_a_longer_verb_need_its_permission() -> None:
    assert {verb.name: verb.permission for verb in VERBS if verb.permission != f"{verb.noun}:{verb.verb}"} == {
        "env seed": "env:create",
        "revisions begin-warm": "revisions:warm",
        "revisions complete-drain": "revisions:drain",
        "traffic begin-schedule": "traffic:set",
        "traffic advance": "traffic:set",
        "traffic finish": "traffic:set",
        "traffic pause": "traffic:set",
        "traffic resume": "traffic:set",
        "traffic abort": "traffic:set",
    }
    assert verbs.permission("traffic", "advance") == ("traffic", "set")
    assert verbs.permission("secrets", "put") == ("secrets", "put")


def test_only_creation_has_no_precondition() -> None:
    assert [verb.name for verb in VERBS if not verb.precondition] == ["env create"]
    assert all(verb.mutates for verb in VERBS)


def kinds(family: type[GreenticError]) -> set[str]:
    return {family.kind}.union(*(kinds(child) for child in family.__subclasses__()))


def test_every_error_kind_of_a_verb_exists() -> None:
    assert {kind for verb in VERBS for kind in verb.errors} <= kinds(GreenticError)
    assert set(errors.EXIT_CODES) <= kinds(GreenticError)


def test_an_unknown_verb_is_not_found() -> None:
    with pytest.raises(NotFound, match="traffic teleport") as refusal:
        verbs.find("traffic", "teleport")
    assert "revisions begin-warm" not in refusal.value.details["verbs"]
    assert verbs.find("traffic", "set").name == "traffic set"


def test_listing_verbs_loads_no_documents() -> None:
    code = "import sys, greentic.spec.verbs; assert not {'pydantic', 'greentic.spec.parsing'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", list(schemas.documents()))
def test_document_schemas(name: str) -> None:
    schema = schemas.schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == schemas.DIALECT
    assert schema["$id"] == f"urn:greentic:schema:{name}"
    assert schema["properties"]["schema"]["const"] == name
    assert "schema" in schema["required"]
    assert (schema["additionalProperties"] is False) == (name in CLOSED)


def test_an_unknown_document_is_not_found() -> None:
    with pytest.raises(NotFound, match=r"greentic\.nothing\.v1"):
        schemas.schema("greentic.nothing.v1")


def objects(schema: Any) -> list[dict[str, Any]]:
    found = [schema] if isinstance(schema, dict) and "properties" in schema else []
    members = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    return found + [one for member in members for one in objects(member)]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_request_schemas_refuse_unknown_keys_at_every_level(verb: verbs.Verb) -> None:
    schema = schemas.request_schema(verb.noun, verb.verb)
    Draft202012Validator.check_schema(schema)
    assert all(part["additionalProperties"] is False for part in objects(schema))


@pytest.mark.parametrize(
    ("request_", "valid"),
    [
        ({"deployment_id": "01J0000000000000000000000Z", "bundle_id": "a", "customer_id": "b"}, True),
        ({"deployment_id": "short", "bundle_id": "a", "customer_id": "b"}, False),
        ({"deployment_id": "01J0000000000000000000000Z", "bundle_id": "a/b", "customer_id": "b"}, False),
        ({"deployment_id": "01J0000000000000000000000Z", "bundle_id": "a", "customer_id": "b", "x": 1}, False),
        ({"deployment_id": "01J0000000000000000000000Z", "bundle_id": "a"}, False),
    ],
)
def test_a_schema_says_what_the_type_accepts(request_: dict[str, Any], valid: bool) -> None:
    assert Draft202012Validator(schemas.request_schema("bundles", "add")).is_valid(request_) is valid
