"""The demo's judgement: what counts as kept and what as broken."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from demo.figures import MS, Flips, Seen, Switch, percentile
from demo.load import Answer


def answer(revision: str, *, sent: float = 0, took: float = 1, generation: int = 0, status: int = 200) -> Answer:
    """An answer; times in milliseconds."""
    payload = base64.urlsafe_b64encode(json.dumps({"g": generation, "r": revision}).encode()).rstrip(b"=")
    cookie = b"_gt_rev_x=" + payload + b".signature"
    return Answer(round(sent * MS), round((sent + took) * MS), status, revision, "1.0.0", cookie)


def seen(**counts: int) -> Seen:
    answers = [answer(revision) for revision, count in counts.items() for _ in range(count)]
    return Seen.of("v2 1 %", 0, {"v1": 9900, "v2": 100}, answers)


class TestSeen:
    @pytest.mark.parametrize(
        ("v1", "v2", "kept"),
        [
            (99, 1, True),
            (198, 2, True),
            (149, 1, True),
            (148, 2, True),
            (97, 3, False),
            (300, 0, False),
            (100, 0, False),
        ],
    )
    def test_a_count_is_less_than_one_request_from_its_share(self, v1: int, v2: int, kept: bool) -> None:
        assert (seen(v1=v1, v2=v2).broken() == []) is kept

    def test_a_stranger_breaks_the_promise(self) -> None:
        assert seen(v1=99, v2=1, v3=1).broken()

    def test_a_failed_request_breaks_the_promise_and_says_why(self) -> None:
        failed = Answer(0, 1, 502, problem="worker-closed")
        told = Seen.of("v1 100 %", 0, {"v1": 10_000}, [answer("v1"), failed]).broken()
        assert told == ["v1 100 %: 1 requests failed (1 x 502 worker-closed)"]

    def test_silence_breaks_the_promise(self) -> None:
        assert Seen.of("v1 100 %", 0, {"v1": 10_000}, []).broken() == ["v1 100 %: no request was answered"]


class TestSwitch:
    def of(self, *answers: Answer) -> Switch:
        """A move to generation 1: began at 0, recorded at 100, committed at 110, told at 130, ended at 140 ms."""
        began, recorded, committed, told, ended = (round(value * MS) for value in (0, 100, 110, 130, 140))
        return Switch.of(
            answers,
            1,
            began=began,
            recorded=recorded,
            committed=committed,
            told=told,
            ended=ended,
            receipt=2.0,
        )

    def test_the_first_new_answer_and_the_last_old_request_are_timed_from_the_commit(self) -> None:
        switch = self.of(answer("v1", sent=90), answer("v1", sent=112), answer("v2", sent=114, took=3, generation=1))
        assert (switch.commit, switch.last_old, switch.seen) == (10, 2, 7)
        assert (switch.command, switch.stale) == (140, 0)
        assert switch.broken("v2 1 %") == []

    def test_an_old_answer_to_a_request_after_the_receipt_is_stale(self) -> None:
        switch = self.of(answer("v2", sent=114, generation=1), answer("v1", sent=131))
        assert switch.stale == 1
        assert "after the receipt" in switch.broken("v2 100 %")[0]

    def test_an_old_answer_that_was_on_its_way_is_none(self) -> None:
        assert self.of(answer("v1", sent=129, took=20), answer("v2", sent=131, generation=1)).stale == 0

    def test_a_move_that_nobody_saw_is_broken(self) -> None:
        assert "no client ever saw" in self.of(answer("v1", sent=90)).broken("rollback")[0]

    def test_the_promise_on_time_is_judged_at_the_99th_percentile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        load = 0.0
        monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))

        def flips(*times: float) -> Flips:
            return Flips([Switch(300, 2, 10, time, 0, 0) for time in times])

        assert flips(*[20.0] * 99, 500.0).broken() == []
        assert flips(*[20.0] * 98, 500.0, 500.0).broken()
        assert flips(20.0, 101.0).broken()
        load = 1_000.0
        assert flips(20.0, 101.0).broken() == [], "a machine that others keep busy is held to no delay"


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([], 99, 0.0), ([5.0], 50, 5.0), ([1.0, 2.0, 3.0, 4.0], 50, 2.0), (list(range(1, 101)), 99, 99)],
)
def test_percentiles_are_of_the_nearest_rank(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected
