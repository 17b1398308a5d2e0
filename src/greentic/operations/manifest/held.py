"""What deployments have on record, found in one pass. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from greentic.spec.environment import Environment
from greentic.spec.revision import Revision
from greentic.spec.traffic import TrafficSplit


@dataclass(frozen=True, slots=True)
class Held:
    """What a deployment has on record: its revisions by sequence, and its live split."""

    revisions: tuple[Revision, ...] = ()
    split: TrafficSplit | None = None


def held_by(environment: Environment | None) -> Mapping[str, Held]:
    """What each deployment has, by its id, in one pass."""
    if environment is None:
        return {}
    revisions: dict[str, list[Revision]] = {}
    for revision in environment.revisions:
        revisions.setdefault(revision.deployment_id, []).append(revision)
    splits = {split.deployment_id: split for split in environment.traffic_splits}
    return {
        one.deployment_id: Held(
            tuple(sorted(revisions.get(one.deployment_id, ()), key=lambda revision: revision.sequence)),
            splits.get(one.deployment_id),
        )
        for one in environment.bundles
    }
