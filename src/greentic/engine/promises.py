"""What a move of the dial promises to those who were there before: the pins that hold on, and until when.

A pin is a visitor's promise to stay on a revision, made at a generation. It holds while its own end has not come and
either its revision has a share and the pin is not older than `since` of the revision's entry, or `honour_until` of
that entry lies ahead and the pin is not older than its `honour_since`. So an eviction is nothing but a newer `since`,
no router has to be told of single visitors, and what has ended never holds again.
"""

from __future__ import annotations

from collections.abc import Sequence

from greentic.spec.environment import Environment
from greentic.spec.identifiers import seconds_after, unix_seconds
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.traffic import PinMode, PinPolicy, SplitEntry, TrafficSplit

_REACHABLE = frozenset({Lifecycle.READY, Lifecycle.DRAINING})


def entries(
    environment: Environment,
    live: TrafficSplit | None,
    weights: Sequence[tuple[str, int]],
    policy: PinPolicy | None,
    generation: int,
    now: str,
) -> tuple[SplitEntry, ...]:
    """The entries of the split that follows `live` as `generation`: `weights` in their order, then those revisions
    that stay without a share because a promise to them runs on.

    What was promised before is kept by every policy but grace, which may shorten it, and evict, which ends it.
    """
    before = {} if live is None else {entry.revision_id: entry for entry in live.entries}
    pin_seconds = environment.host_config.pin_seconds
    asked = dict(weights)
    staying = [name for name in before if name not in asked and _reachable(environment, name)]
    found = []
    for name, weight in (*weights, *((name, 0) for name in staying)):
        old = before.get(name)
        until = None if old is None else _until(old, weight, policy, now, pin_seconds)
        if name in asked or until is not None:
            since = _since(old, policy, generation) if weight else None
            lowest = None if old is None or until is None else _lowest(old, weight, policy, now)
            found.append(
                SplitEntry(
                    revision_id=name, weight_bps=weight, since=since, honour_until=until, honour_since=lowest or None
                )
            )
    return tuple(found)


def _reachable(environment: Environment, revision_id: str) -> bool:
    revision = environment.revision(revision_id)
    return revision is not None and revision.lifecycle in _REACHABLE


def runs(entry: SplitEntry, now: str) -> bool:
    """Whether a promise to honour the entry's pins lies ahead of `now`."""
    return entry.honour_until is not None and unix_seconds(entry.honour_until) > unix_seconds(now)


def _since(old: SplitEntry | None, policy: PinPolicy | None, generation: int) -> int:
    """A share that goes on keeps its beginning; one of the reference, which records none, counts as from the start."""
    if old is None or not old.weight_bps or (policy is not None and policy.mode is not PinMode.HONOUR):
        return generation
    return old.since or 0


def _until(old: SplitEntry, weight: int, policy: PinPolicy | None, now: str, pin_seconds: int) -> str | None:
    kept = old.honour_until if runs(old, now) else None
    if policy is None:
        return kept
    if policy.mode is PinMode.EVICT:
        return None
    if policy.grace_seconds is not None:
        end = seconds_after(now, policy.grace_seconds)
        return end if old.weight_bps else _earlier(kept, end)
    if not old.weight_bps or weight:
        return kept
    return _later(kept, seconds_after(now, pin_seconds))


def _lowest(old: SplitEntry, weight: int, policy: PinPolicy | None, now: str) -> int:
    """From which generation on pins are promised: those that hold now, so that none that has ended comes back."""
    promised = [old.honour_since or 0] if runs(old, now) else []
    leaving = policy is not None and (policy.mode is PinMode.GRACE or not weight)
    if old.weight_bps and leaving:
        promised.append(old.since or 0)
    return min(promised, default=0)


def _earlier(kept: str | None, end: str) -> str | None:
    return None if kept is None else min(kept, end, key=unix_seconds)


def _later(kept: str | None, end: str) -> str:
    return end if kept is None else max(kept, end, key=unix_seconds)
