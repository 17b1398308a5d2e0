"""The life of a revision and its legal moves (reference 01, section 1.8)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Lifecycle(StrEnum):
    """The states of a revision."""

    INACTIVE = "inactive"
    STAGED = "staged"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"
    ARCHIVED = "archived"


EDGES: Mapping[Lifecycle, frozenset[Lifecycle]] = {
    Lifecycle.INACTIVE: frozenset({Lifecycle.STAGED, Lifecycle.FAILED, Lifecycle.ARCHIVED}),
    Lifecycle.STAGED: frozenset({Lifecycle.WARMING, Lifecycle.FAILED, Lifecycle.ARCHIVED}),
    Lifecycle.WARMING: frozenset({Lifecycle.READY, Lifecycle.FAILED, Lifecycle.ARCHIVED}),
    Lifecycle.READY: frozenset({Lifecycle.DRAINING, Lifecycle.FAILED, Lifecycle.ARCHIVED}),
    Lifecycle.DRAINING: frozenset({Lifecycle.INACTIVE}),
    Lifecycle.FAILED: frozenset({Lifecycle.STAGED, Lifecycle.ARCHIVED}),
    Lifecycle.ARCHIVED: frozenset(),
}
"""The fifteen legal moves; none leads from a state to itself and none leaves `archived`."""

PRESENT = frozenset({Lifecycle.WARMING, Lifecycle.READY, Lifecycle.DRAINING})
"""States in which a worker of the revision is meant to exist."""


def allows(current: Lifecycle, following: Lifecycle) -> bool:
    """Whether a revision may move from `current` to `following` in one step."""
    return following in EDGES[current]
