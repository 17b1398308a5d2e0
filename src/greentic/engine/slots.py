"""The slot table: 10,000 slots per deployment, one owner each, kept as run lengths in slot order.

A table follows from the table before it: `relayout` moves exactly half the L1 distance of the weights, which is the
least possible, and is deterministic, so the same history of splits gives the same table everywhere. Which slots move is
free to choose; they are chosen so that runs stay few, because runs are what is stored and published.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify, heappop, heapreplace

from greentic.spec.errors import SpecViolation
from greentic.spec.identifiers import BASIS_POINTS
from greentic.spec.traffic import TrafficSplit

Run = tuple[int, str]
"""(how many slots, revision id)."""
_Piece = tuple[int, str | None]
"""As Run; None: slots set free."""


def table(split: TrafficSplit) -> tuple[Run, ...]:
    """The runs of a split; a split without a table (written by the reference) is laid out in entry order.

    SpecViolation when they are not 10,000 slots of the split's own revisions (`spec.rules` finds that, too).
    """
    if split.slots and all(index < len(split.entries) for _, index in split.slots):
        runs = tuple((count, split.entries[index].revision_id) for count, index in split.slots)
    else:
        runs = (
            () if split.slots else tuple((one.weight_bps, one.revision_id) for one in split.entries if one.weight_bps)
        )
    if sum(count for count, _ in runs) != BASIS_POINTS:
        raise SpecViolation(
            "SlotTable",
            f"the split of generation {split.generation} does not lay out {BASIS_POINTS} slots",
            details={"deployment_id": split.deployment_id, "generation": split.generation},
            next_step=f"gtc op traffic clear {split.bundle_id}, then set it anew",
        )
    return runs


def relayout(previous: Sequence[Run], weights: Sequence[tuple[str, int]]) -> tuple[Run, ...]:
    """The table with the shares of `weights` (revision id, basis points; sum 10,000) nearest to `previous`.

    A revision that loses slots gives up its shortest runs whole and cuts at most one, where it touches a revision that
    gains; what is set free extends a neighbour that gains, and otherwise the widest gap goes to whom most is lacking.
    No other slot changes its owner. An empty `previous` gives one run each in the order of `weights`.
    """
    shares = {owner: weight for owner, weight in weights if weight}
    if sum(shares.values()) != BASIS_POINTS:
        raise SpecViolation("BasisPointsSum", f"a slot table has {BASIS_POINTS} slots")
    if not previous:
        return tuple((weight, owner) for owner, weight in shares.items())
    held: dict[str, int] = {}
    for count, owner in previous:
        held[owner] = held.get(owner, 0) + count
    lacking = {owner: weight - held.get(owner, 0) for owner, weight in shares.items() if weight > held.get(owner, 0)}
    excess = {owner: count - shares.get(owner, 0) for owner, count in held.items() if count > shares.get(owner, 0)}
    return tuple(_merged(_filled(_freed(previous, excess, lacking), lacking)))


def _freed(runs: Sequence[Run], excess: dict[str, int], lacking: dict[str, int]) -> list[_Piece]:
    """`runs` with the slots that owners have in excess set free; no two free pieces side by side."""
    own: dict[str, list[int]] = {}
    for place, (_, owner) in enumerate(runs):
        if owner in excess:
            own.setdefault(owner, []).append(place)
    before: dict[int, int] = {}
    after: dict[int, int] = {}
    for owner, places in own.items():
        free = excess[owner]
        places.sort(key=lambda place: (-runs[place][0], place))
        while places and runs[places[-1]][0] <= free:
            place = places.pop()
            after[place] = runs[place][0]
            free -= runs[place][0]
        if free:
            touching = ((place, side) for place in places for side in (1, -1) if _owner(runs, place + side) in lacking)
            place, side = next(touching, (places[0], 1))
            (after if side > 0 else before)[place] = free
    pieces: list[_Piece] = []
    for place, (count, owner) in enumerate(runs):
        lead, tail = before.get(place, 0), after.get(place, 0)
        for size, keeper in ((lead, None), (count - lead - tail, owner), (tail, None)):
            if size and keeper is None and pieces and pieces[-1][1] is None:
                pieces[-1] = (pieces[-1][0] + size, None)
            elif size:
                pieces.append((size, keeper))
    return pieces


def _filled(pieces: Sequence[_Piece], lacking: dict[str, int]) -> Iterator[Run]:
    """`pieces` with each free one given to those who lack slots."""
    lacking = dict(lacking)
    gaps = sorted(
        (place for place, (_, owner) in enumerate(pieces) if owner is None), key=lambda at: (pieces[at][0], at)
    )
    left = {place: pieces[place][0] for place in gaps}
    first: dict[int, list[Run]] = {place: [] for place in gaps}
    last: dict[int, list[Run]] = {place: [] for place in gaps}
    for place in gaps:
        for side, given in ((-1, first[place]), (1, last[place])):
            neighbour = _owner(pieces, place + side)
            taken = 0 if neighbour is None else min(left[place], lacking.get(neighbour, 0))
            if taken and neighbour is not None:
                given.append((taken, neighbour))
                left[place] -= taken
                lacking[neighbour] -= taken
    takers = [(-count, order, owner) for order, (owner, count) in enumerate(lacking.items()) if count]
    heapify(takers)
    for place in sorted((place for place in gaps if left[place]), key=lambda at: (-left[at], at)):
        while left[place]:
            wanted, order, owner = takers[0]
            taken = min(left[place], -wanted)
            first[place].append((taken, owner))
            left[place] -= taken
            if taken == -wanted:
                heappop(takers)
            else:
                heapreplace(takers, (wanted + taken, order, owner))
    for place, (count, keeper) in enumerate(pieces):
        if keeper is None:
            yield from first[place]
            yield from last[place]
        else:
            yield (count, keeper)


def _owner(runs: Sequence[_Piece] | Sequence[Run], place: int) -> str | None:
    return runs[place][1] if 0 <= place < len(runs) else None


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
