"""Backups and snapshots as they are handed over (reference 01, sections 1.17, 1.18 and 4.3; reference 02, 4.8)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from greentic.spec.errors import SpecViolation
from greentic.spec.identifiers import Counter, EnvironmentId, EventId, Timestamp
from greentic.spec.integrity import digest
from greentic.spec.parsing import Document, Flag, Json, Text
from greentic.spec.references import RelativePath

BackupId = EventId
"""A ULID."""


class StateIntegrity(Document):
    """The digest of a document's canonical JSON."""

    algorithm: Text = "sha-256"
    digest: Text

    @classmethod
    def of(cls, value: Any) -> StateIntegrity:
        """The digest of `value` (JSON values)."""
        return cls(algorithm="sha-256", digest=digest(value))

    def matches(self, value: Any) -> bool:
        """Whether this is the digest of `value`. SpecViolation for an algorithm that we cannot check."""
        if self.algorithm != "sha-256":
            raise SpecViolation("UnknownAlgorithm", f"digests by '{self.algorithm}' cannot be checked")
        return digest(value) == self.digest


class BackupManifest(Document):
    """What a backup holds. `integrity` covers the environment's document; `size_bytes` the whole snapshot."""

    schema_: Literal["greentic.backup-manifest.v1"] = Field("greentic.backup-manifest.v1", alias="schema")
    backup_id: BackupId
    env_id: EnvironmentId
    created_at: Timestamp
    generation: Counter
    integrity: StateIntegrity
    size_bytes: Counter


class BackupArtifact(Document):
    """A backup to carry elsewhere. `snapshot_digest` is the hex SHA-256 of the snapshot's canonical JSON."""

    schema_: Literal["greentic.backup-artifact.v1"] = Field("greentic.backup-artifact.v1", alias="schema")
    manifest: BackupManifest
    snapshot: Json
    snapshot_digest: Text

    def intact(self) -> bool:
        """Whether the snapshot is the one that the digest was taken of."""
        return digest(self.snapshot) == self.snapshot_digest


class SnapshotManifest(Document):
    """The files of a local snapshot: path in the environment's folder, and whether there was such a file."""

    schema_: Literal["greentic.snapshot-manifest.v1"] = Field("greentic.snapshot-manifest.v1", alias="schema")
    env_id: EnvironmentId
    files: dict[RelativePath, Flag] = Field(default_factory=dict)
