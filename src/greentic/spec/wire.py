"""What travels between a store server and its clients (the contract A8; reference 01, section 1.18; reference 02, 3).

Messages, not documents: they carry no `schema`. Keys that we do not know are kept, except where the reference refuses
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from greentic.spec.audit import Actor, AuditEvent
from greentic.spec.backup import BackupArtifact, BackupId, StateIntegrity
from greentic.spec.identifiers import Counter, EnvironmentId, IdempotencyKey, RevisionId, Timestamp
from greentic.spec.parsing import Document, Json, Text
from greentic.spec.revision import OMITTED

Etag = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""Lower-case hex SHA-256 of a document's canonical JSON; in a header it stands in double quotes."""


class Precondition(Document):
    """What the caller saw. Both absent is no condition; where one is required that is `precondition-required`."""

    if_match: Etag | None = OMITTED
    expected_generation: Counter | None = OMITTED

    @property
    def conditional(self) -> bool:
        """Whether anything is expected at all."""
        return self.if_match is not None or self.expected_generation is not None

    def conflict(self, etag: str, generation: int) -> ConcurrencyConflict | None:
        """What is wrong when the state has this etag and generation; None when the condition is met."""
        if self.if_match in {None, etag} and self.expected_generation in {None, generation}:
            return None
        return ConcurrencyConflict(
            expected_etag=self.if_match,
            actual_etag=etag,
            expected_generation=self.expected_generation,
            actual_generation=generation,
        )


class ConcurrencyConflict(Document):
    """What was expected and what is. The actual etag is empty and the generation 0 when there is nothing."""

    expected_etag: Text | None = OMITTED
    actual_etag: Text
    expected_generation: Counter | None = OMITTED
    actual_generation: Counter


class IdempotencyRecord(Document):
    """What was answered under a key. `request_fingerprint` is the digest of the request."""

    key: IdempotencyKey
    request_fingerprint: Text
    response: Json
    stored_at: Timestamp


class IdempotencyOutcome(Document):
    """Whether the request had its effect now, or had it before."""

    idempotency: Literal["applied", "replayed"]


class RbacRequest(Document):
    """What is put before a policy."""

    actor: Actor
    env_id: EnvironmentId
    noun: Text
    verb: Text
    target: Json = None


class MutationResponse(Document):
    """The envelope of every change."""

    result: Json = None
    etag: Etag
    generation: Counter
    idempotency: IdempotencyOutcome
    audit: AuditEvent


class ImportRequest(Document):
    """An environment to begin from a backup."""

    artifact: BackupArtifact


class ImportOutcome(Document):
    """What came of an import."""

    imported_generation: Counter
    integrity: StateIntegrity


class RestoreRequest(Document):
    """A backup to go back to; the precondition must be conditional."""

    backup_id: BackupId
    precondition: Precondition


class RestoreOutcome(Document):
    """What came of a restore: the content is old, the generation new."""

    restored_generation: Counter
    integrity: StateIntegrity


class ReconcileSucceeded(Document):
    """Objects applied and pruned."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["succeeded"]
    applied: Annotated[int, Field(ge=0, le=2**32 - 1, strict=True)]
    pruned: Annotated[int, Field(ge=0, le=2**32 - 1, strict=True)]


class ReconcileFailed(Document):
    """What went wrong."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["failed"]
    error: Text


ReconcileCompletion = Annotated[ReconcileSucceeded | ReconcileFailed, Field(discriminator="status")]
"""How a reconciliation ended."""


class ReconcileCompletionRequest(Document):
    """The end of a reconciliation that was authorised for one state. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")

    authorized_generation: Counter
    authorized_etag: Etag
    completion: ReconcileCompletion


class ReportedError(Document):
    """How something failed, for the audit log."""

    kind: Annotated[str, Field(max_length=64)]
    message: Annotated[str, Field(max_length=2_000)]


class EvidenceRequest(Document):
    """What a caller does on its own machine: announced (`intent`) before, told (`outcome`) after. Ours.

    `target` says of what; neither it nor `result` holds anything confidential.
    """

    phase: Literal["intent", "outcome"]
    target: dict[Text, Json] = Field(default_factory=dict)
    result: dict[Text, Json] = Field(default_factory=dict)
    error: ReportedError | None = OMITTED


class PreconditionFailed(ConcurrencyConflict):
    """Somebody changed the environment in between."""

    kind: Literal["precondition-failed"]


class DetailedError(Document):
    """An error that is told by `detail`."""

    kind: Literal[
        "precondition-required",
        "dependent-not-found",
        "already-exists",
        "conflict",
        "invalid-request",
        "not-yet-implemented",
    ]
    detail: Text


class IdempotencyConflict(Document):
    """The key was used for another request."""

    kind: Literal["idempotency-conflict"]
    reason: Text


class Unauthorized(Document):
    """The caller may not."""

    kind: Literal["unauthorized"]
    policy: Text
    reason: Text


class EnvironmentNotFound(Document):
    """There is no such environment."""

    kind: Literal["not-found"]


class HealthGateFailed(Document):
    """The gate said no, and the revision was committed as failed."""

    kind: Literal["health-gate-failed"]
    revision_id: RevisionId
    failed_checks: tuple[Text, ...]
    message: Text


class IntegrityMismatch(Document):
    """What is stored does not have its digest."""

    kind: Literal["integrity-mismatch"]
    expected: Text
    actual: Text


class Internal(Document):
    """The server failed; why stands in its log."""

    kind: Literal["internal"]
    message: Text


RemoteStoreError = Annotated[
    PreconditionFailed
    | DetailedError
    | IdempotencyConflict
    | Unauthorized
    | EnvironmentNotFound
    | HealthGateFailed
    | IntegrityMismatch
    | Internal,
    Field(discriminator="kind"),
]
"""The body of every answer that is an error."""

STATUSES: Mapping[str, int] = {
    "invalid-request": 400,
    "unauthorized": 403,
    "not-found": 404,
    "dependent-not-found": 404,
    "already-exists": 409,
    "conflict": 409,
    "idempotency-conflict": 409,
    "precondition-failed": 412,
    "health-gate-failed": 422,
    "integrity-mismatch": 422,
    "precondition-required": 428,
    "internal": 500,
    "not-yet-implemented": 501,
}
"""HTTP status by kind; an answer whose status and kind disagree breaks the contract."""
