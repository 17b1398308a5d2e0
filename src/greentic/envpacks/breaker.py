"""A circuit breaker: leaves alone for a while what has failed again and again, so that nobody waits for it."""

from __future__ import annotations

from typing import Final

FAILURES: Final = 5
"""In a row; one slow answer is no outage."""
FIRST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 30.0


class Breaker:
    """Closed at first: everything is allowed. Times are seconds of any clock that does not go back."""

    __slots__ = ("_failures", "_pause", "_probing", "_until", "openings")

    def __init__(self) -> None:
        self._failures = 0
        self._pause = 0.0
        self._until = 0.0
        self._probing = False
        self.openings = 0

    def allows(self, now: float) -> bool:
        """Whether to try. After the pause one is let through, and decides for the others."""
        if not self._pause:
            return True
        if now < self._until or self._probing:
            return False
        self._probing = True
        return True

    def succeeded(self) -> bool:
        """It works: back to normal. True when it had been left alone."""
        opened = bool(self._pause)
        self._failures = 0
        self._pause = 0.0
        self._probing = False
        return opened

    def failed(self, now: float) -> bool:
        """It failed. True when it is left alone from now on, and was not before."""
        self._failures += 1
        self._probing = False
        if self._failures < FAILURES or now < self._until:
            return False
        first = not self._pause
        self._pause = FIRST_SECONDS if first else min(self._pause * 2, LONGEST_SECONDS)
        self._until = now + self._pause
        self.openings += first
        return first
