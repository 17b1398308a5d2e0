"""Signed evidence of health: what a data plane saw of one revision's worker, for a store that cannot look itself.

The subject is the revision's record as it stands while the revision warms, by its SHA-256. So evidence is of one
environment, of one bundle with one configuration, and of one attempt to warm it: a revision that is staged again has
another record, and what was seen before says nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from greentic.spec.errors import SpecViolation
from greentic.spec.identifiers import EnvironmentId, RevisionId, Timestamp
from greentic.spec.integrity import digest
from greentic.spec.parsing import Document, Text, parse
from greentic.spec.revision import Revision
from greentic.trust import dsse, statement
from greentic.trust.keys import OperatorKey
from greentic.trust.public import PublicKey

PREDICATE: Final = "greentic.health-evidence-predicate.v1"
HEADER: Final = "greentic-health-evidence"
"""The HTTP header in which evidence travels."""
HEALTHY: Final = "healthy"
MAX_BYTES = 16 * 1024
"""Bytes of signed evidence; it travels in a header."""


class HealthEvidence(Document):
    """What was seen at `observed_at`: `state` and `worker` of the revision, as the deployer names them."""

    schema_: Literal["greentic.health-evidence-predicate.v1"] = Field(PREDICATE, alias="schema")
    env_id: EnvironmentId
    revision_id: RevisionId
    state: Annotated[Text, Field(max_length=64)]
    worker: Annotated[Text, Field(max_length=200)] = ""
    observed_at: Timestamp


@dataclass(frozen=True, slots=True)
class SignedEvidence:
    """What a data plane saw, which record it was about (its SHA-256 in hex), and whose keys stand behind it."""

    seen: HealthEvidence
    record: str
    key_ids: tuple[str, ...]


def record(revision: Revision) -> str:
    """The SHA-256 of a revision's record, in hex."""
    return digest(revision.to_json())


def sign(key: OperatorKey, revision: Revision, state: str, worker: str, now: str) -> str:
    """Evidence of `revision`, whose worker was seen in `state` at `now` (RFC 3339), as one line of JSON in ASCII."""
    predicate = parse(
        HealthEvidence,
        {
            "schema": PREDICATE,
            "env_id": revision.env_id,
            "revision_id": revision.revision_id,
            "state": state,
            "worker": worker,
            "observed_at": now,
        },
        "the evidence of health",
    )
    subject = f"{revision.env_id}/revisions/{revision.revision_id}"
    about = statement.about(subject, record(revision), PREDICATE, predicate.to_json())
    return statement.sign(about, key).model_dump_json(by_alias=True)


def verify(text: str, trusted: Iterable[PublicKey]) -> SignedEvidence:
    """The evidence in `text` that a `trusted` key signed; SpecViolation, NotTrusted, SignatureInvalid."""
    if len(text) > MAX_BYTES:
        raise SpecViolation("TooLarge", f"evidence of health is larger than {MAX_BYTES:,} bytes")
    signed = statement.verify(dsse.read(text.encode(), "the evidence of health"), trusted, PREDICATE)
    seen = parse(HealthEvidence, signed.statement.predicate, "the evidence of health")
    if len(signed.statement.subject) != 1:
        raise SpecViolation("Malformed", "evidence of health is about one record")
    return SignedEvidence(seen, signed.statement.subject[0].digest.get("sha256", ""), signed.key_ids)
