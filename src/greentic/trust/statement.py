"""in-toto Statements: what an envelope says about which bytes (in-toto Attestation Framework v1; reference 02, 9.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from greentic.spec.errors import SpecViolation
from greentic.spec.integrity import canonical_json
from greentic.spec.parsing import Document, Json, Text, parse, parse_json
from greentic.trust import dsse
from greentic.trust.dsse import Envelope
from greentic.trust.keys import OperatorKey
from greentic.trust.public import PublicKey

TYPE = "https://in-toto.io/Statement/v1"
SLSA_PROVENANCE = "https://slsa.dev/provenance/v1"
"""The predicate type of a signed bundle."""
MAX_SUBJECTS = 1_024
_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})", re.IGNORECASE | re.ASCII)


class Subject(Document):
    """Bytes that a statement is about: a name and their digests by algorithm."""

    name: Text
    digest: dict[Text, Text]


class Statement(Document):
    """A claim (`predicate`, of the kind `predicate_type`) about subjects."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[tuple[Subject, ...], Field(min_length=1, max_length=MAX_SUBJECTS)]
    predicate_type: Text = Field(alias="predicateType")
    predicate: dict[Text, Json] = Field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The statement as it is signed: compact JSON with sorted keys."""
        return canonical_json(self.to_json())


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement that trusted keys stand behind."""

    statement: Statement
    key_ids: tuple[str, ...]


def about(name: str, digest: str, predicate_type: str, predicate: Mapping[str, Any]) -> Statement:
    """The statement that `predicate` holds for the one subject `name` with the SHA-256 `digest`, `sha256:` or bare hex.

    SpecViolation when the digest is none or the predicate holds what JSON cannot.
    """
    bare = _bare(digest)
    if bare is None:
        raise SpecViolation("Malformed", "the digest of a subject is not a SHA-256 in hex")
    written = {
        "_type": TYPE,
        "subject": [{"name": name, "digest": {"sha256": bare}}],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }
    return parse(Statement, written, "the statement")


def sign(statement: Statement, key: OperatorKey) -> Envelope:
    """`statement` in an envelope signed by `key`."""
    return dsse.sign(statement.to_bytes(), key)


def verify(envelope: Envelope, trusted: Iterable[PublicKey], predicate_type: str) -> Signed:
    """The statement that at least one of the `trusted` keys signed, of exactly the kind `predicate_type`.

    The kind is asked for because keys have no roles: a signature under a bundle must not pass for one under a revenue
    policy. Errors as of `dsse.verify`; SpecViolation when the payload is no statement or of another kind.
    """
    verified = dsse.verify(envelope, trusted)
    statement = parse(Statement, parse_json(verified.payload, "the statement"), "the statement")
    if statement.predicate_type != predicate_type:
        raise SpecViolation(
            "PredicateType",
            f"the statement is a '{statement.predicate_type[:100]}', where '{predicate_type}' is expected",
        )
    return Signed(statement, verified.key_ids)


def subject_matches(statement: Statement, digest: str) -> bool:
    """Whether any subject has the SHA-256 `digest`: hex in either case, `sha256:` before it or not, on both sides."""
    wanted = _bare(digest)
    found = (_bare(subject.digest.get("sha256", "")) for subject in statement.subject)
    return wanted is not None and wanted in found


def _bare(digest: str) -> str | None:
    match = _SHA256.fullmatch(digest)
    return None if match is None else match[1].lower()
