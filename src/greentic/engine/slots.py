"""The slot table: 10,000 slots per deployment, one owner each, kept as run lengths in slot order.

A table follows from the table before it: `relayout` moves exactly half the L1 distance of the weights, which is the
least possible, and is deterministic, so the same history of splits gives the same table everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from greentic.spec.identifiers import BASIS_POINTS
from greentic.spec.traffic import TrafficSplit

Run = tuple[int, str]
"""(how many slots, revision id)."""


def table(split: TrafficSplit) -> tuple[Run, ...]:
    """The runs of a split; a split without a table (written by the reference) is laid out in entry order."""
    if split.slots:
        return tuple((count, split.entries[index].revision_id) for count, index in split.slots)
    return tuple((entry.weight_bps, entry.revision_id) for entry in split.entries if entry.weight_bps)


def relayout(previous: Sequence[Run], weights: Sequence[tuple[str, int]]) -> tuple[Run, ...]:
    """The table with the shares of `weights` (revision id, basis points; sum 10,000) nearest to `previous`.

    Each revision keeps its first slots up to its new share; the slots set free go, in slot order, to the revisions
    that lack some, in the order of `weights`. An empty `previous` gives runs in that order.
    """
    lacking = dict(weights)
    pieces: list[tuple[int, str | None]] = []
    for count, owner in previous or [(BASIS_POINTS, "")]:
        kept = min(count, lacking.get(owner, 0))
        if kept:
            lacking[owner] -= kept
            pieces.append((kept, owner))
        if count > kept:
            pieces.append((count - kept, None))
    takers = [(count, owner) for owner, count in lacking.items() if count]
    takers.reverse()
    filled: list[Run] = []
    for count, keeper in pieces:
        if keeper is not None:
            filled.append((count, keeper))
            continue
        free = count
        while free:
            wanted, taker = takers.pop()
            taken = min(free, wanted)
            filled.append((taken, taker))
            free -= taken
            if wanted > taken:
                takers.append((wanted - taken, taker))
    return tuple(_merged(filled))


def moved(before: Sequence[Run], after: Sequence[Run]) -> int:
    """How many of the 10,000 slots have another owner."""
    if not before or not after:
        return 0 if not before and not after else BASIS_POINTS
    same = 0
    left, right = _bounds(before), _bounds(after)
    one, other = next(left), next(right)
    position = 0
    while position < BASIS_POINTS:
        end = min(one[0], other[0])
        if one[1] == other[1]:
            same += end - position
        position = end
        if position < BASIS_POINTS:
            if one[0] == end:
                one = next(left)
            if other[0] == end:
                other = next(right)
    return BASIS_POINTS - same


def _bounds(runs: Sequence[Run]) -> Iterator[tuple[int, str]]:
    """(end, owner) of each run."""
    end = 0
    for count, owner in runs:
        end += count
        yield end, owner


def _merged(runs: Iterable[Run]) -> Iterable[Run]:
    pending: Run | None = None
    for count, owner in runs:
        if pending is not None and pending[1] == owner:
            pending = (pending[0] + count, owner)
        else:
            if pending is not None:
                yield pending
            pending = (count, owner)
    if pending is not None:
        yield pending
