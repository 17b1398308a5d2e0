"""Identifiers and small scalar types of the documents (reference 01, section 1.2).

Each is a plain string in JSON. The annotated types validate on parse; the functions validate a string that comes from
elsewhere (a command line, a folder name) and raise `InvalidArgument` with the reason.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from greentic.spec.errors import InvalidArgument
from greentic.spec.patterns import Matches, whole

ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
ENVIRONMENT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
SEMVER = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)
_YEAR = r"(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
TIMESTAMP = re.compile(
    _YEAR + r"-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
"""No leap second and no year 0: whoever computes with a stored timestamp could not hold them."""
_LEAP_YEAR = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_REAL_DAY = (
    r"^[0-9]{4}-(?:(?:0[13578]|1[02])-|(?:0[469]|11)-(?:[0-2]|30)|02-(?:[01]|2[0-8]))"
    rf"|^{_LEAP_YEAR}-02-29"
)
"""Of a text that has the form of a timestamp: its day stands in the calendar (proleptic Gregorian)."""
_NOT_AN_ENVIRONMENT = "an environment id is 1 to 128 ASCII letters, digits, '.', '_' or '-'"
_DOTS = "'.' and '..' cannot name an environment"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MAX_OPAQUE = 4_096
"""Characters of an identifier that others chose freely."""
BASIS_POINTS = 10_000
"""The whole of a split or a revenue share."""


def _environment_id(value: str) -> str:
    if not ENVIRONMENT_ID.fullmatch(value):
        raise ValueError(_NOT_AN_ENVIRONMENT)
    if value in {".", ".."}:
        raise ValueError(_DOTS)
    return value


def unix_seconds(timestamp: str) -> float:
    """The moment that a Timestamp names, as seconds since 1970 (UTC)."""
    return datetime.fromisoformat(timestamp).timestamp()


def seconds_after(timestamp: str, seconds: float) -> str:
    """The Timestamp that lies `seconds` after another."""
    later = datetime.fromisoformat(timestamp).astimezone(UTC) + timedelta(seconds=seconds)
    return later.isoformat().replace("+00:00", "Z")


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("use 1 to 63 letters, digits, '.', '_' or '-', first a letter or digit")
    return value


def _new_environment_id(value: str) -> str:
    if _environment_id(value)[0] in ".-":
        raise ValueError("a new environment id begins with a letter, a digit or '_'")
    return value


def _pattern(expression: re.Pattern[str]) -> Any:
    """What a JSON Schema says of a text that `expression` matches as a whole."""
    return Field(json_schema_extra={"pattern": whole(expression.pattern)})


def _form(expression: re.Pattern[str], why: str) -> Matches:
    """The texts that `expression` matches as a whole."""
    return Matches(whole(expression.pattern), why)


_Ulid = Annotated[str, _form(ULID, "must be a ULID: 26 upper-case Crockford base32 characters"), _pattern(ULID)]
_NoControl = Matches(r"^[^\x00-\x1f\x7f]*$", "must not hold control characters")
_Opaque = Annotated[str, Field(max_length=MAX_OPAQUE), _NoControl]

EnvironmentId = Annotated[
    str,
    _form(ENVIRONMENT_ID, _NOT_AN_ENVIRONMENT),
    Matches(r"[^.]|\.{3}", _DOTS),
    _pattern(ENVIRONMENT_ID),
]
RevisionId = _Ulid
DeploymentId = _Ulid
EndpointId = _Ulid
EventId = _Ulid
BundleId = _Opaque
CustomerId = _Opaque
PackId = _Opaque
PartyId = _Opaque
SemVer = Annotated[
    str,
    Field(max_length=MAX_OPAQUE),
    _form(SEMVER, "must be a semantic version such as 1.4.0"),
    _pattern(SEMVER),
]
Timestamp = Annotated[
    str,
    _form(TIMESTAMP, "must be an RFC 3339 timestamp such as 2026-07-24T10:00:00Z"),
    Matches(_REAL_DAY, "names a day that its month does not have"),
    _pattern(TIMESTAMP),
]
"""RFC 3339 with an upper-case T and Z or an offset; kept as written, so that a document reads back equal."""
IdempotencyKey = Annotated[str, Field(max_length=512), AfterValidator(_not_blank), _NoControl]
NewName = Annotated[str, AfterValidator(_name), _pattern(NAME)]
"""A name that we create: safe in paths, hosts and shells. Documents of others may hold any."""
NewEnvironmentId = Annotated[str, AfterValidator(_new_environment_id), _pattern(ENVIRONMENT_ID)]
"""As EnvironmentId, and never a hidden folder or an option of a command."""
BasisPoints = Annotated[int, Field(ge=0, le=BASIS_POINTS, strict=True)]
"""Ten-thousandths: 100 is one percent, 10,000 is everything."""
Counter = Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)]


Sequence = Annotated[int, Field(ge=1, le=2**63 - 1, strict=True)]


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
    try:
        return _name(value)
    except ValueError as error:
        raise InvalidArgument(f"'{value}' cannot name a {what}: {error}") from None


def is_ulid(value: str) -> bool:
    """Whether `value` has the form of a ULID."""
    return ULID.fullmatch(value) is not None


def is_digest(value: str) -> bool:
    """Whether `value` is a real content digest (`sha256:` and 64 hex digits), not a placeholder."""
    return DIGEST.fullmatch(value) is not None
