"""What a plan is made from, as values: the record, the artifacts' digests, what earlier runs declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from greentic.operations.manifest.ownership import Claims
from greentic.operations.manifest.plan import Missing
from greentic.spec.deployment import BundleDeployment, Overrides
from greentic.spec.environment import Environment
from greentic.spec.manifest import BundleEntry, Manifest
from greentic.spec.update_channel import UpdateChannelConfig


@dataclass(frozen=True, slots=True)
class Artifact:
    """A bundle on disk: its digest, and the digest of the parameters that staging it now would freeze."""

    path: Path
    digest: str
    config_digest: str


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers of an env-pack's wizard, and the SHA-256 of their canonical JSON in hex."""

    values: Mapping[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class Target:
    """A bundle entry and the deployment it is about (None: a new one) with the parameters it is to have."""

    index: int
    entry: BundleEntry
    customer_id: str
    deployment: BundleDeployment | None
    overrides: Overrides

    @property
    def called(self) -> str:
        """The deployment as people call it."""
        return f"{self.entry.bundle_id}@{self.customer_id}"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is recorded of the environment: None, 0 and "" when it does not exist.

    - `answers`: digests of the answers files that bindings name, by reference.
    - `secrets`: the paths whose value is as the manifest wants it.
    - `trusted`: the operator's key is in the trust root.
    - `lawless`: the environment was just made and has no policy yet. `governed`: the store itself says who may do what,
      as a server does, and an environment there has no policy.
    - `unfinished`: an earlier run stopped before its end, so routers may not know all that is recorded; None when not.
      These are the revisions that the run was to remove, whose files may still be there.
    - `channel`: the update channel, None when there is none; `dids`: those whose keys were trusted by a manifest.
    - `mine`, `others`: the claims of this manifest, and those of every other one.
    """

    environment: Environment | None
    generation: int
    etag: str
    answers: Mapping[str, str] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()
    trusted: bool = False
    lawless: bool = False
    governed: bool = False
    unfinished: frozenset[str] | None = None
    channel: UpdateChannelConfig | None = None
    dids: frozenset[str] = frozenset()
    mine: Claims = field(default_factory=Claims)
    others: Claims = field(default_factory=Claims)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A manifest and what its files hold: `artifacts` by (bundle, revision) position, `answers` by the part's place."""

    manifest: Manifest
    digest: str
    targets: tuple[Target, ...]
    artifacts: Mapping[tuple[int, int], Artifact]
    answers: Mapping[str, Answers] = field(default_factory=dict)
    missing: tuple[Missing, ...] = ()
