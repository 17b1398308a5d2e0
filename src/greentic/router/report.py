"""What a router tells its parent about itself: counters since its start, never a rate, so that nothing is
lost in between.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from greentic.router.lease import Readiness
from greentic.router.tally import BOUNDS_MS, Tally

if TYPE_CHECKING:
    from greentic.router.access_log import AccessLog
    from greentic.router.pool import UpstreamPool
    from greentic.router.spans import Spans

READY: Final = Readiness(True)


def build_report(
    *,
    version: int | None,
    generations: Mapping[str, int],
    uptime_seconds: float,
    connections: int,
    unrouted: Mapping[str, int],
    tallies: Mapping[str, Tally],
    pins: Mapping[str, Mapping[str, int]],
    sessions: Mapping[str, Any],
    pools: Mapping[str, UpstreamPool],
    access_log: AccessLog | None = None,
    spans: Spans | None = None,
    readiness: Readiness = READY,
    lease_seconds_left: float | None = None,
    lease_lapses: int = 0,
) -> dict[str, Any]:
    """The report as JSON values.

    `version` is that of the table served, None before the first. `unrouted`: requests answered by the router
    before a revision was chosen, by kind. `revisions`: revision id -> requests, responses by class
    (`2xx`..`5xx`), errors by kind, in_flight, upgraded (open tunnels), selections by reason, and
    latency_counts: how many response heads came within the bucket below each of `latency_bounds_ms` (one more
    bucket than bounds: the last has none), and latency_seconds, what they took together.
    `greentic.router.tally.quantile_ms` reads p50 and p99 from the counts. A revision in the table has `pins` too: how
    many live pins there are by `cookie` (`greentic.router.live_pins` says what counts) and by `session`; `connections`
    to its worker, idle ones too, and how many requests are `waiting` for one. `sessions`:
    the store of session pins, its `kind` and counters. `access_log`: lines written and lines dropped, where one is
    written; `spans`: exported and dropped, where they are wanted. Everything may be added up over routers: of a store
    that they share, one tells the counts. `ready` is the router's claim (`greentic.router.lease`), `reason` why not;
    `lease` when it ends unless renewed, and how often it has.
    """
    return {
        "pid": os.getpid(),
        "ready": readiness.ready,
        "reason": readiness.reason,
        "lease": {"seconds_left": _rounded(lease_seconds_left), "lapses": lease_lapses},
        "version": version,
        "generations": dict(generations),
        "uptime_seconds": round(uptime_seconds, 3),
        "connections": connections,
        "unrouted": dict(unrouted),
        "latency_bounds_ms": list(BOUNDS_MS),
        "sessions": dict(sessions),
        "revisions": {
            revision_id: tally.document() | _present(pins.get(revision_id), pools.get(revision_id))
            for revision_id, tally in tallies.items()
        },
        **({"access_log": access_log.document()} if access_log is not None else {}),
        **({"spans": spans.document()} if spans is not None else {}),
    }


def _present(pins: Mapping[str, int] | None, pool: UpstreamPool | None) -> dict[str, Any]:
    """What is told of a revision in the table only."""
    return {
        **({"pins": dict(pins)} if pins is not None else {}),
        **({"connections": pool.opened, "waiting": pool.waiting} if pool is not None else {}),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
