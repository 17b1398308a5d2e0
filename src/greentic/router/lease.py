"""A router's claim to be ready, and the lease that ends it.

A router that cannot hear of a change must not go on claiming that it serves the newest state. Its parent renews the
lease every few seconds and names the newest table with it; a router that has not been told in time, or that does not
serve what it was told of, is not ready until it has caught up. It serves on all the same: what it may do without its
parent is for others to judge, who see the claim in its reports.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether it claims to be ready, and in a person's words why not."""

    ready: bool
    reason: str | None = None


class Lease:
    """What the parent last said, and when; `now` is always seconds of one monotonic clock.

    Without a first renewal there is no lease to lapse: a parent that grants none is not waited for.
    """

    __slots__ = ("_heard_at", "_newest", "_seconds", "_told_lapsed", "lapses")

    def __init__(self) -> None:
        self._heard_at = 0.0
        self._seconds: float | None = None
        self._newest = -1
        self._told_lapsed = False
        self.lapses = 0
        """How often it lapsed since the start, counted when it is looked at or renewed."""

    def renew(self, now: float, seconds: float, newest: int) -> None:
        """The parent is there, grants `seconds` from now on, and has a table of version `newest`."""
        self.lapsed(now)
        self._heard_at = now
        self._seconds = seconds
        self._newest = max(self._newest, newest)
        self._told_lapsed = False

    def lapsed(self, now: float) -> bool:
        """Whether the parent has not been heard in time."""
        over = self._seconds is not None and now - self._heard_at > self._seconds
        if over and not self._told_lapsed:
            self._told_lapsed = True
            self.lapses += 1
        return over

    def seconds_left(self, now: float) -> float | None:
        """Until it lapses, 0 once it has; None where there is none."""
        return None if self._seconds is None else max(0.0, self._heard_at + self._seconds - now)

    def readiness(self, now: float, served: int | None) -> Readiness:
        """The claim of a router that serves table `served` (None: none)."""
        if served is None:
            return Readiness(False, "it has no table yet")
        if self.lapsed(now):
            silence = now - self._heard_at
            return Readiness(
                False, f"it has not heard from its runtime for {silence:.1f} s (lease: {self._seconds:g} s)"
            )
        if served < self._newest:
            return Readiness(False, f"it serves table {served}, the newest is {self._newest}")
        return Readiness(True)
