"""What `make proof` proves in a minute, in five seconds; and that it would see what it is to see."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from benchmarks.proof import Move, judge, run
from benchmarks.steady import Answer

A, B = "A", "B"


def test_nobody_notices_a_dial_that_moves_ten_times_a_second(tmp_path: Path) -> None:
    found = run(tmp_path, rate=400, seconds=5, every=0.1)
    assert found.holds, found
    assert found.requests == 2_000
    assert found.moves >= 5, "how many there are says how busy the machine is"
    assert found.generations > 5


def answer(sent: int, generation: int, revision: str, status: int = 200) -> Answer:
    payload = base64.urlsafe_b64encode(json.dumps({"g": generation}).encode()).decode().rstrip("=")
    return Answer(sent, sent + 1, status, revision, f"_gt_rev_D={payload}.signature")


MOVES = [Move(0, 0, 1, {A: 10_000, B: 0}), Move(100, 110, 2, {A: 5_000, B: 5_000})]
GOOD = [answer(1, 1, A), answer(50, 1, A), answer(105, 1, A), *(answer(111 + n, 2, (A, B)[n % 2]) for n in range(10))]


def test_what_holds() -> None:
    found = judge(GOOD, MOVES, [], 1)
    assert found.holds
    assert (found.requests, found.moves, found.generations) == (13, 1, 2)


@pytest.mark.parametrize(
    ("answers", "refused", "what"),
    [
        ([*GOOD, answer(200, 2, A, status=502)], [], "failed"),
        ([*GOOD, Answer(0, 0, 0, "no answer in time", "")], [], "failed"),
        ([*GOOD, Answer(200, 201, 200, A, "")], [], "failed"),
        ([*GOOD, answer(105, 1, B)], [], "unfair"),
        ([*GOOD, answer(200, 2, A), answer(200, 2, A)], [], "unfair"),
        ([*GOOD, answer(111, 1, A)], [], "stale"),
        ([*GOOD, answer(111, 3, A)], [], "unknown"),
        (GOOD, ["conflict: busy"], "refused_moves"),
    ],
)
def test_what_does_not_hold(answers: list[Answer], refused: list[str], what: str) -> None:
    found = judge(answers, MOVES, refused, 1)
    assert not found.holds
    assert [name for name in ("failed", "unfair", "stale", "unknown", "refused_moves") if getattr(found, name)] == [
        what
    ]
