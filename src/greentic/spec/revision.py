"""Revision, its packs and its frozen parameters (reference 01, sections 1.8 and 1.14)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from greentic.spec.identifiers import (
    BundleId,
    Counter,
    DeploymentId,
    EnvironmentId,
    PackId,
    RevisionId,
    SemVer,
    Sequence,
    Timestamp,
)
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.parsing import Document, Json, Text, unset
from greentic.spec.references import RelativePath, RuntimeUri, SecretUri

OMITTED = Field(default=None, exclude_if=unset)
Drain = Annotated[int, Field(ge=0, le=2**32 - 1, strict=True)]
"""Seconds that a drain may take."""


class PackListEntry(Document):
    """One pack of a revision; entries taken from a lock carry version 0.0.0."""

    pack_id: PackId
    version: SemVer
    digest: Text
    source_uri: Text | None = OMITTED


class Revision(Document):
    """A frozen snapshot of one deployed version. Only `lifecycle` and its timestamps ever change.

    `display_version` is the version the bundle's author gave it, for people; the identity is the digest.
    `failure` tells a person why a failed revision failed.
    """

    schema_: Literal["greentic.revision.v1"] = Field("greentic.revision.v1", alias="schema")
    revision_id: RevisionId
    env_id: EnvironmentId
    bundle_id: BundleId
    deployment_id: DeploymentId
    sequence: Sequence
    created_at: Timestamp
    bundle_digest: Text
    bundle_source_uri: Text | None = OMITTED
    pack_list: tuple[PackListEntry, ...]
    pack_list_lock_ref: RelativePath
    pack_config_refs: tuple[RelativePath, ...] = ()
    config_digest: Text
    signature_sidecar_ref: Text
    lifecycle: Lifecycle
    staged_at: Timestamp | None = OMITTED
    warmed_at: Timestamp | None = OMITTED
    drain_seconds: Drain = 0
    abort_metrics: tuple[Text, ...] = ()
    display_version: Text | None = OMITTED
    failure: Text | None = OMITTED


class LockedPack(Document):
    """One pack in a lock: its file (relative to the environment's folder) and digest."""

    pack_id: PackId
    path: RelativePath
    digest: Text


class PackListLock(Document):
    """`pack-list.lock`: the packs of a revision, sorted by path."""

    schema_: Literal["greentic.pack-list-lock.v1"] = Field("greentic.pack-list-lock.v1", alias="schema")
    revision_id: RevisionId
    packs: tuple[LockedPack, ...]


class PackConfig(Document):
    """The frozen parameters of one pack in one revision."""

    schema_: Literal["greentic.pack-config.v1"] = Field("greentic.pack-config.v1", alias="schema")
    pack_id: PackId
    revision_id: RevisionId
    non_secret: dict[Text, Json] = Field(default_factory=dict)
    secret_refs: dict[Text, SecretUri] = Field(default_factory=dict)
    runtime_refs: dict[Text, RuntimeUri] = Field(default_factory=dict)


class RuntimeRevision(Document):
    """One block of the runtime configuration: a revision that a split names, with its weight in basis points."""

    deployment_id: DeploymentId
    revision_id: RevisionId
    bundle_id: BundleId
    pack_list_refs: tuple[RelativePath, ...] = ()
    pack_config_refs: tuple[RelativePath, ...] = ()
    weight_bps: Counter


class RuntimeConfig(Document):
    """`runtime-config.json`: what the splits ask of the data plane, one block per split entry."""

    schema_: Literal["greentic.runtime-config.v1"] = Field("greentic.runtime-config.v1", alias="schema")
    env_id: EnvironmentId
    revisions: tuple[RuntimeRevision, ...]
