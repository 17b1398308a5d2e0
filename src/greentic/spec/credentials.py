"""Credentials: what a deployer was given and whether it suffices (reference 01, section 1.10)."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Literal

from pydantic import Field

from greentic.spec.element_rules import Violation
from greentic.spec.identifiers import EnvironmentId, Timestamp
from greentic.spec.parsing import Document, Text
from greentic.spec.references import Descriptor, RelativePath, SecretRef, SecretUri
from greentic.spec.revision import OMITTED


class Mode(StrEnum):
    """How the credentials came: given and checked, or made once with an administrator's key."""

    REQUIREMENTS = "requirements"
    BOOTSTRAP = "bootstrap"


class Verdict(StrEnum):
    """Whether everything that is needed was there."""

    PASS = "pass"  # noqa: S105 - the verdict of a check
    FAIL = "fail"


class Validation(Document):
    """The last check: `missing_capabilities` names all that did not pass, skipped ones included."""

    last_run_at: Timestamp
    result: Verdict
    missing_capabilities: tuple[Text, ...] = ()


class Bootstrap(Document):
    """How an administrator's key was used, once."""

    admin_credential_consumed_at: Timestamp
    rules_pack_ref: RelativePath
    generated_credentials_ref: SecretUri


class Expiry(Document):
    """When the credentials end, and when they should be rotated."""

    expires_at: Timestamp
    rotate_at: Timestamp | None = OMITTED


class Credentials(Document):
    """The credentials of an environment's deployer; never the material itself, only its address."""

    schema_: Literal["greentic.credentials.v1"] = Field("greentic.credentials.v1", alias="schema")
    env_id: EnvironmentId
    deployer_kind: Descriptor
    mode: Mode
    provided_credentials_ref: SecretUri
    validation: Validation
    bootstrap: Bootstrap | None = OMITTED
    expiry: Expiry | None = OMITTED


def violations(credentials: Credentials) -> Iterator[Violation]:
    """CrossEnvRef for an address in another environment."""
    refs = {"credentials.provided_credentials_ref": credentials.provided_credentials_ref}
    if credentials.bootstrap is not None:
        refs["credentials.bootstrap.generated_credentials_ref"] = credentials.bootstrap.generated_credentials_ref
    for path, uri in refs.items():
        named = SecretRef.parse(uri).environment_id
        if named != credentials.env_id:
            yield Violation(
                "CrossEnvRef", path, f"'{uri}' belongs to the environment '{named}', not '{credentials.env_id}'"
            )
