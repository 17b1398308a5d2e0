"""Identifiers and small scalar types of the documents (reference 01, section 1.2).

Each is a plain string in JSON. The annotated types validate on parse; the functions validate a string that comes from
elsewhere (a command line, a folder name) and raise `InvalidArgument` with the reason.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from greentic.spec.errors import InvalidArgument

ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
ENVIRONMENT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?",
    re.ASCII,
)
TIMESTAMP = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})",
    re.ASCII,
)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
BASIS_POINTS = 10_000
"""The whole of a split or a revenue share."""


def _environment_id(value: str) -> str:
    if not ENVIRONMENT_ID.fullmatch(value):
        raise ValueError("an environment id is 1 to 128 ASCII letters, digits, '.', '_' or '-'")
    if value in {".", ".."}:
        raise ValueError("'.' and '..' cannot name an environment")
    return value


def _ulid(value: str) -> str:
    if not ULID.fullmatch(value):
        raise ValueError("must be a ULID: 26 upper-case Crockford base32 characters")
    return value


def _timestamp(value: str) -> str:
    if not TIMESTAMP.fullmatch(value):
        raise ValueError("must be an RFC 3339 timestamp such as 2026-07-24T10:00:00Z")
    return value


def _semver(value: str) -> str:
    if not SEMVER.fullmatch(value):
        raise ValueError("must be a semantic version such as 1.4.0")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


def _opaque(value: str) -> str:
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
        raise ValueError("must not hold control characters")
    return value


EnvironmentId = Annotated[str, AfterValidator(_environment_id)]
RevisionId = Annotated[str, AfterValidator(_ulid)]
DeploymentId = Annotated[str, AfterValidator(_ulid)]
EndpointId = Annotated[str, AfterValidator(_ulid)]
EventId = Annotated[str, AfterValidator(_ulid)]
BundleId = Annotated[str, AfterValidator(_opaque)]
CustomerId = Annotated[str, AfterValidator(_opaque)]
PackId = Annotated[str, AfterValidator(_opaque)]
PartyId = Annotated[str, AfterValidator(_opaque)]
SemVer = Annotated[str, AfterValidator(_semver)]
Timestamp = Annotated[str, AfterValidator(_timestamp)]
"""RFC 3339; kept as written, so that a document reads back equal to the last fractional digit."""
IdempotencyKey = Annotated[str, AfterValidator(_not_blank), AfterValidator(_opaque), Field(max_length=512)]
BasisPoints = Annotated[int, Field(ge=0, le=BASIS_POINTS, strict=True)]
"""Ten-thousandths: 100 is one percent, 10,000 is everything."""
Counter = Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)]


def environment_id(value: str) -> str:
    """`value` when it can name an environment; InvalidArgument otherwise."""
    try:
        return _environment_id(value)
    except ValueError as error:
        raise InvalidArgument(f"'{value}' cannot name an environment: {error}") from None


def name(value: str, what: str) -> str:
    """`value` when it can name a `what` (a deployment, a customer) that we create; InvalidArgument otherwise.

    Documents of others may hold any string; what we create stays safe in paths, hosts and shells.
    """
    if not NAME.fullmatch(value):
        raise InvalidArgument(
            f"'{value}' cannot name a {what}: use 1 to 63 letters, digits, '.', '_' or '-', first a letter or digit"
        )
    return value


def is_ulid(value: str) -> bool:
    """Whether `value` has the form of a ULID."""
    return ULID.fullmatch(value) is not None


def is_digest(value: str) -> bool:
    """Whether `value` is a real content digest (`sha256:` and 64 hex digits), not a placeholder."""
    return DIGEST.fullmatch(value) is not None
