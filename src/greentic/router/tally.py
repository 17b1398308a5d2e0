"""What is counted per revision, and the latency histogram.

The histogram has fixed buckets: four per doubling, from 0.125 ms to about 17 minutes, so that a quantile read
from it is at most 19 % above the truth, in every process the same buckets, and histograms of several routers
can be added.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Final

from greentic.router.live_pins import LivePins
from greentic.router.selection import REASONS

_STEPS = 4
_LOWEST_EXPONENT = 7  # 2^7 µs = 0.128 ms
_OCTAVES = 23
BUCKETS: Final = 1 + _STEPS * _OCTAVES

BOUNDS_MS: Final[tuple[float, ...]] = tuple(
    (1 << _LOWEST_EXPONENT) * (1 << octave) * (_STEPS + step) / _STEPS / 1000
    for octave in range(_OCTAVES)
    for step in range(_STEPS)
)
"""Upper bounds in milliseconds, each bucket up to and excluding its bound; the last bucket has none."""


def bucket(seconds: float) -> int:
    """The index of the bucket of a duration."""
    return bisect_right(BOUNDS_MS, seconds * 1000)


def quantile_ms(counts: Sequence[int], share: float) -> float:
    """The bound in milliseconds below which `share` (0..1) of the counted durations lie; 0.0 when nothing was
    counted.
    """
    total = sum(counts)
    if not total:
        return 0.0
    wanted = share * total
    seen = 0
    for index, count in enumerate(counts):
        seen += count
        if seen >= wanted and count:
            return BOUNDS_MS[min(index, len(BOUNDS_MS) - 1)]
    return BOUNDS_MS[-1]


class Tally:
    """Counters of one revision, for as long as the router knows it."""

    __slots__ = (
        "cut",
        "errors",
        "in_flight",
        "latency",
        "latency_seconds",
        "on_idle",
        "pins",
        "requests",
        "responses",
        "revision_id",
        "selections",
        "upgraded",
    )

    def __init__(self, revision_id: str) -> None:
        self.revision_id = revision_id
        self.requests = 0
        self.responses = [0, 0, 0, 0, 0, 0]
        self.errors: dict[str, int] = {}
        self.cut = 0
        """Responses that began well and broke off, by no fault of the client's."""
        self.in_flight = 0
        self.upgraded = 0
        self.latency = [0] * BUCKETS
        self.latency_seconds = 0.0
        self.selections: dict[str, int] = dict.fromkeys(REASONS, 0)
        self.on_idle: list[Callable[[], None]] = []
        self.pins = LivePins()

    def began(self, reason: str) -> None:
        """A request was given to this revision."""
        self.requests += 1
        self.in_flight += 1
        self.selections[reason] += 1

    def answered(self, status: int, seconds: float) -> None:
        """A final response head came back after `seconds`."""
        self.responses[status // 100 if status < 600 else 0] += 1
        self.latency[bucket(seconds)] += 1
        self.latency_seconds += seconds

    def failed(self, kind: str) -> None:
        """A request failed in a way the router had to answer or cut: `kind` is that of the refusal."""
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def ended(self) -> None:
        """A request, stream or tunnel is over."""
        self.in_flight -= 1
        if not self.in_flight and self.on_idle:
            waiting, self.on_idle = self.on_idle, []
            for call in waiting:
                call()

    def document(self) -> dict[str, Any]:
        """The counters as JSON values."""
        return {
            "requests": self.requests,
            "responses": {f"{index}xx": self.responses[index] for index in range(2, 6)},
            "errors": dict(self.errors),
            "cut": self.cut,
            "in_flight": self.in_flight,
            "upgraded": self.upgraded,
            "selections": dict(self.selections),
            "latency_counts": list(self.latency),
            "latency_seconds": round(self.latency_seconds, 6),
        }
