"""Signed heads of an environment's audit chain.

A hash chain shows every change to an entry but not that its end is gone, or that whoever holds the disk wrote all of it
anew. A head signed with the operator key (`sequence` and `hash` of an entry) fixes the chain up to there: kept apart
from the log, in a ticket or a mailbox, it is the anchor against which a shortened or rewritten log is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from greentic.spec.errors import SpecViolation
from greentic.spec.identifiers import EnvironmentId, Sequence, Timestamp
from greentic.spec.parsing import Document, parse
from greentic.trust import dsse, statement
from greentic.trust.dsse import Envelope
from greentic.trust.keys import OperatorKey
from greentic.trust.public import PublicKey

PREDICATE: Final = "greentic.audit-head-predicate.v1"
Signer = Callable[[str, int, str, str], bytes]
"""(environment id, sequence, hash, time in RFC 3339) -> the bytes of the signed head, to be kept as they are."""


class AuditHeadPredicate(Document):
    """The head of the audit chain of `env_id`, as its signer saw it at `signed_at`."""

    schema_: Literal["greentic.audit-head-predicate.v1"] = Field(PREDICATE, alias="schema")
    env_id: EnvironmentId
    sequence: Sequence
    hash: Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]
    signed_at: Timestamp


@dataclass(frozen=True, slots=True)
class SignedHead:
    """An entry that is known to exist: its number and hash, when and by which trusted keys it was signed."""

    environment_id: str
    sequence: int
    hash: str
    signed_at: str
    key_ids: tuple[str, ...]


def sign_head(key: OperatorKey, env_id: str, sequence: int, hash: str, now: str) -> Envelope:
    """The head (number of the entry, its hash in 64 hex digits) signed at `now` (RFC 3339); SpecViolation."""
    predicate = parse(
        AuditHeadPredicate,
        {"schema": PREDICATE, "env_id": env_id, "sequence": sequence, "hash": hash, "signed_at": now},
        "the audit head",
    )
    return statement.sign(statement.about(_subject(env_id, sequence), hash, PREDICATE, predicate.to_json()), key)


def verify_head(envelope: Envelope, trusted: Iterable[PublicKey], env_id: str) -> SignedHead:
    """The head of `env_id` that a `trusted` key signed.

    Errors as of `statement.verify`; SpecViolation when it is the head of another environment or contradicts itself.
    """
    signed = statement.verify(envelope, trusted, PREDICATE)
    predicate = parse(AuditHeadPredicate, signed.statement.predicate, "the audit head")
    if predicate.env_id != env_id:
        raise SpecViolation("EnvIdMismatch", f"the audit head is that of '{predicate.env_id}', not of '{env_id}'")
    if not statement.subject_matches(signed.statement, predicate.hash):
        raise SpecViolation("Malformed", "the audit head names two hashes")
    return SignedHead(predicate.env_id, predicate.sequence, predicate.hash, predicate.signed_at, signed.key_ids)


def read_head(data: bytes, trusted: Iterable[PublicKey], env_id: str) -> SignedHead:
    """As `verify_head`, from the bytes of a `Signer`."""
    return verify_head(dsse.read(data, "the audit head"), trusted, env_id)


def signer(key: OperatorKey) -> Signer:
    """What signs heads with `key`, for a store that knows nothing of keys."""
    return lambda env_id, sequence, hash, now: sign_head(key, env_id, sequence, hash, now).to_bytes()


def _subject(env_id: str, sequence: int) -> str:
    return f"audit/{env_id}/{sequence}"
