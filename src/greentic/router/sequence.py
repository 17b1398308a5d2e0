"""Which revision the next keyless visitor gets: an exact low-discrepancy sequence, at another phase on each replica.

For weights w_i that sum to 1, the count of revision i among the first n visitors is floor(n·w_i) or ceil(n·w_i), for
every n: unit j (from 1) of revision i is released at floor((j-1)/w_i) and due by ceil(j/w_i), and each is served within
that window. Serving the earliest deadline among the released always meets all windows (Baruah et al. 1996,
"Proportionate progress"; Tijdeman 1980, "The chairman assignment problem"), but it would have every replica serve a 1 %
revision as its last visitor of a hundred. So the phase says where in its window a unit would like to be, the released
unit with the earliest wish is served, and the deadlines only say which wishes must wait: serving a unit leaves the rest
possible unless all visitors up to some moment before its deadline are needed for units that are due by then (Hall's
condition). The deadlines are in whole numbers; the wishes need not be.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from math import gcd
from typing import Final, Protocol

_GOLDEN: Final = (5**0.5 - 1) / 2
_EVEN_QUOTIENT: Final = 5
"""No partial quotient of stride/count is above it: Zaremba (1972) expects such a stride for every count."""
_FIRST_MOMENTS: Final = 64


class Draws(Protocol):
    """Where the next keyless visitor goes."""

    def draw(self) -> tuple[int, int] | None:
        """(revision index, slot); None when no revision takes visitors."""


def fair_sequence(weights: Sequence[int], phase: float = 0.0) -> Iterator[int]:
    """The indices of one period: sum(weights)/gcd(weights) of them, each index as often as its reduced weight.

    `weights` are whole numbers of at least 0, not all 0. With any `phase` (0 to 1) every prefix is exact. Sequences
    whose phases are evenly spread are also near the share together: for two weights, the counts that n of them give
    after as many visitors each are within one visitor of n times the share.
    """
    divisor = gcd(*weights)
    reduced = [weight // divisor for weight in weights]
    period = sum(reduced)
    taking = [index for index, weight in enumerate(reduced) if weight]
    # Wishes are spread over the revisions, since not everybody can be first; that of the largest balances the others,
    # so that with the phase the counts of all change evenly.
    largest = max(taking, key=reduced.__getitem__)
    others = [index for index in taking if index != largest]
    wish = {index: (phase + (place + 0.5) / len(others)) % 1.0 for place, index in enumerate(others)}
    wish[largest] = (0.5 + sum(0.5 - value for value in wish.values())) % 1.0
    spare = _Spare(reduced, period)
    served = [0] * len(reduced)
    waiting = [(0, index) for index in taking]
    released: list[tuple[float, int]] = []
    early: list[int] = []
    """In order, the deadlines of served units that are still to come: at most one for each revision."""
    for moment in range(period):
        while waiting and waiting[0][0] <= moment:
            _, index = heapq.heappop(waiting)
            heapq.heappush(released, ((served[index] + wish[index]) / reduced[index], index))
        while True:
            _, index = heapq.heappop(released)
            # of unit served+1: ceil((served+1)·period/weight)
            due = -(-(served[index] + 1) * period // reduced[index])
            full = spare.exhausted(early, moment + 1, due)
            if not full:
                break
            heapq.heappush(waiting, (full, index))
        served[index] += 1
        if served[index] < reduced[index]:
            heapq.heappush(waiting, (served[index] * period // reduced[index], index))
        insort(early, due)
        while early and early[0] <= moment + 2:
            del early[0]
        yield index


class _Spare:
    """How many of the first t visitors are not needed for units that are due by t, for t of one period.

    Computed as far as it is asked for, since most of it never is.
    """

    __slots__ = ("_counts", "_period", "_weights")

    def __init__(self, weights: Sequence[int], period: int) -> None:
        self._weights = weights
        self._period = period
        self._counts = b"\0"

    def exhausted(self, early: Sequence[int], start: int, end: int) -> int:
        """The first moment from `start` to before `end` at which every spare visitor is spent, 0 for none.

        A spare visitor of moment t is spent for each served unit whose deadline, in `early`, is after t. (When nobody
        was served early there are spare ones at every moment but the period's end, before which no deadline is.)
        """
        spent = len(early)
        for deadline in early:
            if deadline > start:
                upto = deadline if deadline < end else end
                if upto > len(self._counts):
                    self._extend(upto)
                found = self._counts.find(spent, start, upto)
                if found >= 0:
                    return found
                start = upto
                if start >= end:
                    break
            spent -= 1
        return 0

    def _extend(self, upto: int) -> None:
        known = len(self._counts)
        end = min(max(upto, 2 * known, _FIRST_MOMENTS), self._period + 1)
        changes = [1] * (end - known)
        for weight in self._weights:
            for unit in range((known - 1) * weight // self._period + 1, (end - 1) * weight // self._period + 1):
                changes[-(-unit * self._period // weight) - known] -= 1
        counts = accumulate(changes, initial=self._counts[-1])
        next(counts)
        self._counts += bytes(counts)


class VisitorSequence:
    """The draws for keyless visitors of one deployment: a revision by the fair sequence, then its next slot.

    `runs` is the slot table as (count, revision index); `open_to_visitors[i]` is False for a draining revision, whose
    slots take no part. Replica `index` of `count` has a phase of its own; `turn` (a generation) moves the phases of
    all, so that a dial that moves often does not begin at the same place again and again. One period is computed as it
    is walked for the first time and kept; each draw is O(log revisions) at first, O(1) after.

    Visitors of one revision get its slots by a stride that is even at every scale and comes to each slot once before
    it comes to any twice: when some of the slots are given to another revision, so is that share of the visitors.
    """

    __slots__ = ("_computed", "_period", "_phase", "_position", "_slots")

    def __init__(
        self,
        runs: Sequence[tuple[int, int]],
        open_to_visitors: Sequence[bool],
        *,
        index: int = 0,
        count: int = 1,
        turn: int = 0,
    ) -> None:
        self._phase = (index / count + turn * _GOLDEN) % 1.0
        spans: list[list[tuple[int, int]]] = [[] for _ in open_to_visitors]
        start = 0
        for length, owner in runs:
            if open_to_visitors[owner]:
                spans[owner].append((start, length))
            start += length
        self._slots = [_Slots(own, self._phase) for own in spans]
        weights = [slots.count for slots in self._slots]
        self._period = bytearray()
        self._computed = fair_sequence(weights, self._phase) if any(weights) else iter(())
        self._position = 0

    def draw(self) -> tuple[int, int] | None:
        """The next visitor's (revision index, slot); None when no revision takes visitors."""
        position = self._position
        if position < len(self._period):
            index = self._period[position]
        else:
            following = next(self._computed, None)
            if following is None:
                if not self._period:
                    return None
                position = 0
                index = self._period[0]
            else:
                index = following
                self._period.append(index)
        self._position = position + 1
        return index, self._slots[index].draw()


class _Slots:
    """The slots of one revision, walked by a stride that leads from one visitor's to the next one's."""

    __slots__ = ("_begins", "_place", "_shifts", "_stride", "count")

    def __init__(self, spans: Sequence[tuple[int, int]], phase: float) -> None:
        self._begins: list[int] = []
        self._shifts: list[int] = []
        self.count = 0
        for start, length in spans:
            self._begins.append(self.count)
            self._shifts.append(start - self.count)
            self.count += length
        self._place = int(self.count * phase)
        self._stride = 0

    def draw(self) -> int:
        """The next visitor's slot."""
        place = self._place
        stride = self._stride
        if not stride:
            self._stride = stride = even_stride(self.count)
        self._place = (place + stride) % self.count
        shifts = self._shifts
        return place + shifts[0 if len(shifts) == 1 else bisect_right(self._begins, place) - 1]


@lru_cache(maxsize=4096)
def even_stride(count: int) -> int:
    """A step that visits each of `count` places once, evenly at every scale: coprime, with small partial quotients.

    Of those it is the one nearest the golden section, whose quotients are all 1.
    """
    middle = round(count * _GOLDEN)
    best, least = 1, count
    for distance in range(count):
        for stride in {middle + distance, middle - distance}:
            if 0 < stride < count and gcd(stride, count) == 1:
                largest = _largest_quotient(stride, count)
                if largest < least:
                    best, least = stride, largest
        if least <= _EVEN_QUOTIENT:
            break
    return best


def _largest_quotient(part: int, whole: int) -> int:
    """The largest partial quotient of the continued fraction of part/whole."""
    largest = 0
    while part:
        largest = max(largest, whole // part)
        whole, part = part, whole % part
    return largest
