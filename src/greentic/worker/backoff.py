"""How long to wait before a process that ended is started again."""

from __future__ import annotations

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 30.0


def delay(attempt: int, chance: float, first: float = FIRST_SECONDS, longest: float = LONGEST_SECONDS) -> float:
    """Seconds before restart number `attempt` (0 is the first): doubling from `first` to `longest`, and of that between
    one half and the whole, by `chance` in [0, 1), so that what failed together is not started together."""
    whole = min(longest, first * 2.0 ** min(attempt, 32))
    return whole * (0.5 + 0.5 * chance)
