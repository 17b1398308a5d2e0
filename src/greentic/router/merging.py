"""The reports of several routers as one: what was counted is added, what all of them serve is what the slowest serves.

Every counter of a report is added, whatever its name: a number, a list of numbers place by place, an object member by
member. A counter that a router learns to report needs no change here. Latency buckets are the same in every process
(`greentic.router.tally`), so their counts can be added and quantiles be read from the sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any, Final

GAUGES: Final = frozenset({"connections", "in_flight", "pins", "upgraded", "waiting"})
"""What is, not what was: gone with the process that reported it."""
_IDENTITY: Final = frozenset({"lease", "pid", "uptime_seconds"})
"""Of one process, and without a meaning for several."""
_SERVED: Final = frozenset({"version", "generations", "ready", "reason"})
"""What a living process claims and does."""
_BOUNDS: Final = "latency_bounds_ms"
KEPT_REVISIONS: Final = 4096
_DECIMALS: Final = 6


def merge(reports: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One report (`greentic.router.report.build_report`) for all of `reports`, in whatever order they come.

    `version` is the oldest one served, None when a router serves none or there is no router. `generations` are those
    that every router serves at least: a deployment that one of them does not know is left out. It is `ready` when all
    are; `reason` is that of one that is not. What `past` has kept of
    ended processes may be among the reports; it serves nothing. The merged report has no pid, lease or uptime.
    """
    reports = tuple(reports)
    serving = [report for report in reports if "version" in report]
    versions = [report["version"] for report in serving]
    unready = [report for report in serving if not report.get("ready", True)]
    merged: dict[str, Any] = {
        "ready": bool(serving) and not unready,
        "reason": next((report.get("reason") for report in unready), None if serving else "no router runs"),
        "version": min(versions) if versions and None not in versions else None,
        "generations": _generations([report["generations"] for report in serving]),
        "connections": 0,
        "unrouted": {},
        "revisions": {},
    }
    for report in reports:
        for key, value in report.items():
            if key == _BOUNDS:
                merged[key] = value
            elif key not in _SERVED and key not in _IDENTITY:
                merged[key] = _add(merged.get(key), value)
    return merged


def past(before: Mapping[str, Any] | None, report: Mapping[str, Any]) -> dict[str, Any]:
    """What stays of a process that has ended, added to what is left of those `before` it: its counters.

    Of more than KEPT_REVISIONS revisions, those that were longest without a request are let go.
    """
    told = {key: value for key, value in report.items() if key not in _SERVED}
    merged = merge([before, told] if before is not None else [told])
    counters: dict[str, Any] = _counters({key: value for key, value in merged.items() if key not in _SERVED})
    # Those that the newest report tells of are the newest.
    kept = counters["revisions"]
    order = [name for name in kept if name not in report["revisions"]] + [
        name for name in report["revisions"] if kept[name].get("requests", 0)
    ]
    counters["revisions"] = {name: kept[name] for name in order[-KEPT_REVISIONS:]}
    return counters


def _generations(served: list[Mapping[str, int]]) -> dict[str, int]:
    if not served:
        return {}
    common = set(served[0]).intersection(*served[1:])
    return {name: min(generations[name] for generations in served) for name in served[0] if name in common}


def _add(one: Any, other: Any) -> Any:
    """The sum of two values of one shape; where only one is there, or where they cannot be added, that one."""
    if one is None:
        return other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {key: _add(one.get(key), other.get(key)) for key in (one | other)}  # type: ignore[operator]
    if isinstance(one, list) and isinstance(other, list):
        return [a + b for a, b in zip_longest(one, other, fillvalue=0)]
    if isinstance(one, bool) or isinstance(other, bool):
        return bool(one and other)
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        total = one + other
        # Told in millionths (`Tally.document`): rounded to them, a sum does not depend on the order of its parts.
        return round(total, _DECIMALS) if isinstance(total, float) else total
    return one


def _counters(value: Any) -> Any:
    """`value` without what belonged to its process alone, its gauges at zero."""
    if not isinstance(value, Mapping):
        return value
    kept = {key: member for key, member in value.items() if key not in _IDENTITY}
    return {key: _zero(member) if key in GAUGES else _counters(member) for key, member in kept.items()}


def _zero(value: Any) -> Any:
    return {key: _zero(member) for key, member in value.items()} if isinstance(value, Mapping) else 0
