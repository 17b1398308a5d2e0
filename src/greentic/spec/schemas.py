"""JSON Schemas (draft 2020-12), generated from the types, so that they cannot drift from what is accepted.

A schema states the shape; the rules that span documents are in `spec.rules`. Unknown keys are allowed in documents
(they are kept) and refused in payloads.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from greentic.spec import verbs
from greentic.spec.deployment import BundleDeployment
from greentic.spec.environment import Environment, MessagingEndpoint
from greentic.spec.errors import NotFound
from greentic.spec.parsing import Document
from greentic.spec.revision import PackConfig, PackListLock, Revision, RuntimeConfig
from greentic.spec.traffic import TrafficSplit

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DOCUMENTS: tuple[type[Document], ...] = (
    Environment,
    BundleDeployment,
    Revision,
    TrafficSplit,
    MessagingEndpoint,
    PackListLock,
    PackConfig,
    RuntimeConfig,
)


@cache
def documents() -> Mapping[str, type[Document]]:
    """The documents by their schema discriminator, such as `greentic.environment.v1`."""
    return {model.model_fields["schema_"].default: model for model in _DOCUMENTS}


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of the document with the discriminator `name`; NotFound otherwise.

    `$id` is the discriminator as a URN; a document of that kind must carry the discriminator itself.
    """
    model = documents().get(name)
    if model is None:
        raise NotFound(
            f"there is no document '{name}'; known are {', '.join(documents())}", details={"schemas": list(documents())}
        )
    generated = _generate(model, name)
    required = generated.setdefault("required", [])
    if "schema" not in required:
        required.insert(0, "schema")
    return generated


def request_schema(noun: str, verb: str) -> dict[str, Any]:
    """The JSON Schema of what `noun verb` is asked; NotFound for an unknown verb."""
    found = verbs.find(noun, verb)
    generated = _generate(found.payload(), f"greentic.request.{found.noun}.{found.verb}.v1")
    # Parts of documents keep unknown keys, but a request that holds any is refused (payloads.Asked).
    for part in generated.get("$defs", {}).values():
        if "properties" in part:
            part["additionalProperties"] = False
    return generated


def _generate(model: type[Any], name: str) -> dict[str, Any]:
    body = model.model_json_schema(by_alias=True, mode="validation", schema_generator=_Generator)
    return {"$schema": DIALECT, "$id": f"urn:greentic:schema:{name}", **body}


class _Generator(GenerateJsonSchema):
    """Leaves out the titles that pydantic derives from field names: they repeat the key and say nothing."""

    schema_dialect = DIALECT

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 (the signature is pydantic's)
        return False
