"""What was seen, and whether it is as promised. Pure: no clock, no network."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil

from demo.load import Answer

MS = 1_000_000
EVERYTHING = 10_000
SEEN_WITHIN_MS = 100.0
"""From its commit, a move is seen by clients within this time at the 99th percentile."""


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile; 0.0 of nothing."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What clients saw of one split: every request that the router decided by `generation`, up to a quiet moment.

    `shares` are basis points by revision, `counts` requests by revision.
    """

    title: str
    generation: int
    shares: Mapping[str, int]
    counts: Mapping[str, int]
    failures: Mapping[str, int]
    latencies: Sequence[float]

    @classmethod
    def of(cls, title: str, generation: int, shares: Mapping[str, int], answers: Iterable[Answer]) -> Seen:
        """The figures of `answers`, which were all decided by `generation` or failed."""
        told = list(answers)
        good = [answer for answer in told if not answer.failed]
        return cls(
            title,
            generation,
            dict(shares),
            Counter(answer.revision for answer in good),
            Counter(f"{answer.status} {answer.problem}".strip() for answer in told if answer.failed),
            [(answer.received - answer.sent) / MS for answer in good],
        )

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def expected(self, revision: str) -> Fraction:
        """How many requests the share of `revision` is of all that were answered."""
        return Fraction(self.total * self.shares.get(revision, 0), EVERYTHING)

    def broken(self) -> list[str]:
        """The promises that do not hold: nothing failed, and each count is less than one request from its share."""
        said = []
        if self.failures:
            listed = "; ".join(f"{count} x {what}" for what, count in self.failures.items())
            said.append(f"{self.title}: {self.failed} requests failed ({listed})")
        if not self.total:
            said.append(f"{self.title}: no request was answered")
        for revision in {*self.shares, *self.counts}:
            count, expected = self.counts.get(revision, 0), self.expected(revision)
            if abs(count - expected) >= 1:
                said.append(
                    f"{self.title}: {revision} served {count} of {self.total} requests, "
                    f"and its share is {float(expected):.2f}"
                )
        return said


@dataclass(frozen=True, slots=True)
class Switch:
    """How long one move of the dial took; milliseconds.

    - `command`: from starting `gtc` to its end, interpreter and all.
    - `receipt`: what the command says: from telling the router to its acknowledgement.
    - `commit`: from the moment that is recorded for the move to the rename that commits it: the disk's part.
    - `seen`: from the commit to the first answer by the new split that a client held.
    - `last_old`: from the commit to the last request that was sent and still decided by the old split; 0 when none.
    - `stale`: requests that were sent after the command had said it was done, and decided by the old split.
    """

    command: float
    receipt: float
    commit: float
    seen: float | None
    last_old: float
    stale: int

    @classmethod
    def of(
        cls,
        answers: Iterable[Answer],
        generation: int,
        *,
        began: int,
        recorded: int,
        committed: int,
        told: int,
        ended: int,
        receipt: float,
    ) -> Switch:
        """Of `answers` around the move to `generation`; the times are on the clock of the answers."""
        new, old = [], []
        for answer in answers:
            decided = None if answer.failed else answer.generation
            if decided is not None:
                (new if decided >= generation else old).append(answer)
        first = min((answer.received for answer in new), default=None)
        last = max((answer.sent for answer in old), default=committed)
        return cls(
            command=(ended - began) / MS,
            receipt=receipt,
            commit=max(0.0, (committed - recorded) / MS),
            seen=None if first is None else max(0.0, (first - committed) / MS),
            last_old=max(0.0, (last - committed) / MS),
            stale=sum(answer.sent > told for answer in old),
        )

    def broken(self, title: str) -> list[str]:
        """The promise that when the command returns, it is live."""
        said = []
        if self.stale:
            said.append(f"{title}: {self.stale} requests sent after the receipt were decided by the old split")
        if self.seen is None:
            said.append(f"{title}: no client ever saw the new split")
        return said


@dataclass(frozen=True, slots=True)
class Flips:
    """Many moves in a row."""

    switches: Sequence[Switch] = field(default_factory=tuple)

    def values(self, name: str) -> list[float]:
        """One figure of every move."""
        return [value for switch in self.switches if (value := getattr(switch, name)) is not None]

    def broken(self) -> list[str]:
        """The promise on how soon clients see a move."""
        seen = percentile(self.values("seen"), 99)
        # Where others keep every core busy, a delay says nothing of the product; the figure stands in the table anyway.
        if seen > SEEN_WITHIN_MS and os.getloadavg()[0] <= 2 * (os.cpu_count() or 1):
            return [f"clients saw a move within {seen:.1f} ms at p99, and {SEEN_WITHIN_MS:.0f} ms are promised"]
        return []
