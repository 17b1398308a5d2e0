"""How many cookie pins of one revision are out there: what drains wait for and rollbacks show.

Counted are the promises that this router process gave and whose end has not come, less those whose visitor came back
with one and got another instead. A visitor that keeps no cookies is counted with every request, one that threw its
cookie away until the promise ends, and what another router or an earlier process gave is not known here.

Ends are kept in buckets, at most BUCKETS of them: an end is rounded up to its bucket's, so a promise may count for a
little longer than it holds.
"""

from __future__ import annotations

from typing import Final

BUCKETS: Final = 128


class LivePins:
    """The cookie pins of one revision."""

    __slots__ = ("_ends", "_older", "_since", "_width")

    def __init__(self) -> None:
        self._width = 1
        self._since = 0
        self._ends: dict[int, int] = {}
        self._older: dict[int, int] = {}

    def given(self, expires: int) -> None:
        """A visitor got a pin that ends at `expires` (unix seconds)."""
        bucket = expires // self._width
        ends = self._ends
        if bucket in ends:
            ends[bucket] += 1
            return
        ends[bucket] = 1
        while len(ends) > BUCKETS:
            self._widen()
            ends = self._ends

    def returned(self, expires: int) -> None:
        """A visitor with a pin that ends at `expires` got another one for it."""
        bucket = expires // self._width
        for ends in (self._ends, self._older):
            if bucket in ends:
                ends[bucket] -= 1
                if not ends[bucket]:
                    del ends[bucket]
                return

    def entered(self, since: int, *, promised: bool) -> None:
        """The revision's pins count from generation `since` on: older ones hold only as far as they are `promised`, and
        never again once they are not.
        """
        if since > self._since:
            self._since = since
            for bucket, count in self._ends.items():
                self._older[bucket] = self._older.get(bucket, 0) + count
            self._ends = {}
        if not promised:
            self._older = {}

    def live(self, now: float, *, share: bool, honoured: bool) -> int:
        """How many hold at `now` (unix seconds) when the revision has a `share` and when its pins are `honoured`."""
        for ends in (self._ends, self._older):
            for bucket in [bucket for bucket in ends if (bucket + 1) * self._width <= now]:
                del ends[bucket]
        count = sum(self._ends.values()) if share or honoured else 0
        return count + sum(self._older.values()) if honoured else count

    def _widen(self) -> None:
        self._width *= 2
        for name in ("_ends", "_older"):
            wide: dict[int, int] = {}
            for bucket, count in getattr(self, name).items():
                wide[bucket // 2] = wide.get(bucket // 2, 0) + count
            setattr(self, name, wide)
