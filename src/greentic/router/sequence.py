"""Which revision the next keyless visitor gets: an exact low-discrepancy sequence.

For weights w_i that sum to 1, the count of revision i among the first n visitors is floor(n·w_i) or
ceil(n·w_i), for every n. Unit j (from 1) of revision i is released at floor((j-1)/w_i) and due by
ceil(j/w_i); serving the earliest deadline among the released meets every window when the weights fill one
processor exactly (Tijdeman 1980, "The chairman assignment problem"; Baruah et al. 1996, "Proportionate
progress"). The arithmetic is in whole numbers.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from math import gcd
from typing import Protocol


def fair_sequence(weights: Sequence[int]) -> Iterator[int]:
    """The indices of one period: sum(weights)/gcd(weights) of them, each index as often as its reduced weight.

    `weights` are whole numbers of at least 0, not all 0.
    """
    divisor = gcd(*weights)
    reduced = [weight // divisor for weight in weights]
    period = sum(reduced)
    served = [0] * len(reduced)
    waiting = [(0, index) for index, weight in enumerate(reduced) if weight]
    released: list[tuple[int, int]] = []
    for moment in range(period):
        while waiting and waiting[0][0] <= moment:
            _, index = heapq.heappop(waiting)
            # deadline of unit served+1: ceil((served+1)·period/weight)
            heapq.heappush(released, (-(-(served[index] + 1) * period // reduced[index]), index))
        _, index = heapq.heappop(released)
        served[index] += 1
        if served[index] < reduced[index]:
            heapq.heappush(waiting, (served[index] * period // reduced[index], index))
        yield index


class Draws(Protocol):
    """Where the next keyless visitor goes."""

    def draw(self) -> tuple[int, int] | None:
        """(revision index, slot); None when no revision takes visitors."""


class VisitorSequence:
    """The draws for keyless visitors of one deployment: a revision by the fair sequence, then its next slot.

    `runs` is the slot table as (count, revision index); `open_to_visitors[i]` is False for a draining
    revision, whose slots take no part. One period is computed as it is walked for the first time and kept;
    each draw is O(log revisions) at first, O(1) after.
    """

    __slots__ = ("_computed", "_period", "_position", "_runs", "_walk")

    def __init__(self, runs: Sequence[tuple[int, int]], open_to_visitors: Sequence[bool]) -> None:
        weights = [0] * len(open_to_visitors)
        self._runs: list[list[tuple[int, int]]] = [[] for _ in open_to_visitors]
        start = 0
        for count, index in runs:
            if open_to_visitors[index]:
                weights[index] += count
                self._runs[index].append((start, start + count))
            start += count
        self._walk = [[0, spans[0][0]] if spans else [0, 0] for spans in self._runs]
        self._period = bytearray()
        self._computed = fair_sequence(weights) if any(weights) else iter(())
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
        return index, self._next_slot(index)

    def _next_slot(self, index: int) -> int:
        walk = self._walk[index]
        run, slot = walk
        spans = self._runs[index]
        if slot + 1 < spans[run][1]:
            walk[1] = slot + 1
        else:
            walk[0] = run = (run + 1) % len(spans)
            walk[1] = spans[run][0]
        return slot
