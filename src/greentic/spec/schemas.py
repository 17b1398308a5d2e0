"""JSON Schemas (draft 2020-12), generated from the types, so that they cannot drift from what is accepted.

A schema states the shape; the rules that span documents are in `spec.rules`. Unknown keys are allowed in documents
(they are kept) and refused in payloads.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from greentic.spec import verbs
from greentic.spec.errors import NotFound
from greentic.spec.parsing import Document

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DOCUMENTS: Mapping[str, str] = {
    "greentic.environment.v1": "environment:Environment",
    "greentic.environment-runtime.v1": "runtime:EnvironmentRuntime",
    "greentic.bundle-deployment.v1": "deployment:BundleDeployment",
    "greentic.revision.v1": "revision:Revision",
    "greentic.traffic-split.v1": "traffic:TrafficSplit",
    "greentic.traffic-schedule.v1": "schedule:TrafficSchedule",
    "greentic.messaging-endpoint.v1": "environment:MessagingEndpoint",
    "greentic.pack-list-lock.v1": "revision:PackListLock",
    "greentic.pack-config.v1": "revision:PackConfig",
    "greentic.pack-config-input.v1": "pack_config_input:PackConfigInput",
    "greentic.runtime-config.v1": "revision:RuntimeConfig",
    "greentic.credentials.v1": "credentials:Credentials",
    "greentic.revenue-policy.v1": "revenue:RevenuePolicyDocument",
    "greentic.revenue-policy-predicate.v1": "revenue:RevenuePolicyPredicate",
    "greentic.trust-root.v1": "trust_root:TrustRootDocument",
    "greentic.update-channel.v1": "update_channel:UpdateChannelConfig",
    "greentic.audit.event.v1": "audit:AuditEvent",
    "greentic.backup-manifest.v1": "backup:BackupManifest",
    "greentic.backup-artifact.v1": "backup:BackupArtifact",
    "greentic.snapshot-manifest.v1": "backup:SnapshotManifest",
    "greentic.rules-pack.index.v1": "rules_pack:RulesPackIndex",
    "greentic.conformance-report.v1": "conformance_report:ConformanceReport",
    "greentic.store-rbac.v1": "store_access:StoreAccess",
}
"""By schema discriminator: the module of this room and the type in it, loaded when it is asked for."""
MANIFEST = "greentic.env-manifest.v1"
"""Asked for rather than kept: it refuses unknown keys, so it is a payload and not among `documents`."""


def names() -> tuple[str, ...]:
    """The schema discriminators of the documents and of the manifest; loads none of them."""
    return (*_DOCUMENTS, MANIFEST)


@cache
def document(name: str) -> type[Document] | None:
    """The document with the discriminator `name`, None when there is none."""
    if name not in _DOCUMENTS:
        return None
    module, _, member = _DOCUMENTS[name].partition(":")
    found: type[Document] = getattr(import_module(f"greentic.spec.{module}"), member)
    return found


def documents() -> Mapping[str, type[Document]]:
    """The documents by their schema discriminator, such as `greentic.environment.v1`; loads them all."""
    return {name: found for name in _DOCUMENTS if (found := document(name)) is not None}


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of the document with the discriminator `name`; NotFound otherwise.

    `$id` is the discriminator as a URN; a document of that kind must carry the discriminator itself.
    """
    if name == MANIFEST:
        from greentic.spec.manifest import Manifest

        return _generate(Manifest, name)
    model = document(name)
    if model is None:
        raise NotFound(
            f"there is no document '{name}'; known are {', '.join(names())}",
            details={"schemas": list(names())},
            next_step="gtc schema list",
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
