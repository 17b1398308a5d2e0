"""What a move of the dial would do, told before it is done: slots that change hands, and what becomes of pins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, repeat

from greentic.engine import promises
from greentic.engine.slots import Run
from greentic.spec.identifiers import unix_seconds
from greentic.spec.traffic import SplitEntry, TrafficSplit


@dataclass(frozen=True, slots=True)
class Flow:
    """Slots (basis points) that go from one revision to another; `giver` is None where nobody had them."""

    giver: str | None
    taker: str
    slots: int


class Fate(StrEnum):
    """What becomes of the pins to a revision: they stay as they are, hold until a time, or end at once."""

    STAY = "stay"
    UNTIL = "until"
    END = "end"


@dataclass(frozen=True, slots=True)
class PinFate:
    """The fate of the live pins to one revision; `until` (RFC 3339) for Fate.UNTIL."""

    revision_id: str
    fate: Fate
    until: str | None = None


def flows(before: Sequence[Run], after: Sequence[Run]) -> tuple[Flow, ...]:
    """Who gives how many slots to whom, the largest flow first."""
    owners = _owners(before) or [None] * sum(count for count, _ in after)
    counted = Counter(zip(owners, _owners(after), strict=True))
    found = [
        Flow(giver, taker, count) for (giver, taker), count in counted.items() if taker is not None and giver != taker
    ]
    return tuple(sorted(found, key=lambda flow: (-flow.slots, flow.giver or "", flow.taker)))


def fates(before: TrafficSplit | None, after: TrafficSplit, now: str) -> tuple[PinFate, ...]:
    """What becomes of the pins that hold under `before` when `after` follows it at `now`, in the order of entries."""
    if before is None:
        return ()
    following = {entry.revision_id: entry for entry in after.entries}
    held = [entry for entry in before.entries if entry.weight_bps or promises.runs(entry, now)]
    return tuple(_fate(entry, following.get(entry.revision_id), now) for entry in held)


def _fate(old: SplitEntry, new: SplitEntry | None, now: str) -> PinFate:
    if new is not None and new.weight_bps and old.weight_bps and (new.since or 0) == (old.since or 0):
        return PinFate(old.revision_id, Fate.STAY)
    if new is None or new.honour_until is None or unix_seconds(new.honour_until) <= unix_seconds(now):
        return PinFate(old.revision_id, Fate.END)
    return PinFate(old.revision_id, Fate.UNTIL, new.honour_until)


def _owners(runs: Sequence[Run]) -> list[str | None]:
    return list(chain.from_iterable(repeat(owner, count) for count, owner in runs))
