"""PackConfigInput: the parameters of a pack as a bundle carries them (reference 01, sections 1.1 and 6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import ConfigDict, Field

from greentic.spec.element_rules import Violation
from greentic.spec.identifiers import BundleId, EnvironmentId, PackId
from greentic.spec.parsing import Document, Json, Text
from greentic.spec.references import SecretUri


class PackConfigInput(Document):
    """`state/pack-configs/<pack>.json` of a bundle, written for one environment. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")

    schema_: Literal["greentic.pack-config-input.v1"] = Field("greentic.pack-config-input.v1", alias="schema")
    pack_id: PackId
    env_id: EnvironmentId
    bundle_id: BundleId
    non_secret: dict[Text, Json] = Field(default_factory=dict)
    secret_refs: dict[Text, SecretUri] = Field(default_factory=dict)


def violations(document: PackConfigInput, environment_id: str, bundle_id: str) -> Iterator[Violation]:
    """What forbids `document` to be taken for `bundle_id` in `environment_id`."""
    if document.env_id != environment_id:
        yield Violation(
            "EnvIdMismatch", "env_id", f"is for the environment '{document.env_id}', not '{environment_id}'"
        )
    if document.bundle_id != bundle_id:
        yield Violation("BundleMismatch", "bundle_id", f"is for the bundle '{document.bundle_id}', not '{bundle_id}'")
    for key, uri in document.secret_refs.items():
        expected = f"secret://{document.env_id}/{document.bundle_id}/{document.pack_id}/{key}"
        if uri != expected:
            yield Violation("InvalidSecretRef", f"secret_refs.{key}", f"must be {expected}")
