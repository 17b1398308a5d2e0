"""The slot table: exact, least movement, deterministic, and few runs."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.strategies import ulid, weights

from greentic.engine.slots import Run, moved, relayout, table
from greentic.spec.traffic import TrafficSplit


def expanded(runs: tuple[Run, ...]) -> list[str]:
    """The owner of each of the 10,000 slots."""
    return [owner for count, owner in runs for _ in range(count)]


@st.composite
def histories(draw: st.DrawFn) -> list[list[tuple[str, int]]]:
    """Successive splits over a pool of 2 to 16 revisions; any may come and go."""
    pool = draw(st.integers(2, 16))
    names = [f"r{number}" for number in range(pool)]
    steps = []
    for _ in range(draw(st.integers(2, 8))):
        named = draw(st.permutations(names))[: draw(st.integers(1, pool))]
        steps.append(list(zip(named, draw(weights(len(named), zeros=draw(st.booleans()))), strict=True)))
    return steps


@given(histories())
@settings(max_examples=200, deadline=None)
def test_a_relayout_is_exact_and_moves_the_least_possible(history: list[list[tuple[str, int]]]) -> None:
    runs: tuple[Run, ...] = ()
    before: dict[str, int] = {}
    for step in history:
        after = relayout(runs, step)
        shares = {name: weight for name, weight in step if weight}
        slots = expanded(after)
        assert len(slots) == 10_000
        assert Counter(slots) == shares
        assert all(one[1] != other[1] for one, other in pairwise(after)), "neighbours of one owner are one run"
        assert relayout(runs, step) == after
        if runs:
            old = expanded(runs)
            moves = Counter(zip(old, slots, strict=True))
            changed = {move: count for move, count in moves.items() if move[0] != move[1]}
            distance = sum(abs(before.get(name, 0) - shares.get(name, 0)) for name in before.keys() | shares.keys())
            assert sum(changed.values()) * 2 == distance
            assert moved(runs, after) == moved(after, runs) == sum(changed.values())
            losers = {name for name in before if before[name] > shares.get(name, 0)}
            gainers = {name for name in shares if shares[name] > before.get(name, 0)}
            assert all(was in losers and now in gainers for was, now in changed), "who gains keeps every slot it had"
        runs, before = after, shares


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=60))
def test_two_revisions_never_need_more_than_two_runs(positions: list[int]) -> None:
    runs: tuple[Run, ...] = ()
    for position in positions:
        runs = relayout(runs, [("old", 10_000 - position), ("new", position)])
        assert len(runs) <= 2


def test_runs_stay_few_over_long_histories() -> None:
    """Bounds over 3,000 moves with a fixed seed; without care they grow to over 1,000."""
    for revisions, bound in ((3, 12), (4, 40), (8, 160), (16, 380)):
        chance = random.Random(revisions)
        names = [f"r{number}" for number in range(revisions)]
        shares = dict.fromkeys(names, 10000 // revisions)
        shares[names[0]] += 10_000 - sum(shares.values())
        runs: tuple[Run, ...] = ()
        most = 0
        for _ in range(3_000):
            giver, taker = chance.sample(names, 2)
            amount = min(shares[giver], chance.randint(1, 20))
            shares[giver] -= amount
            shares[taker] += amount
            runs = relayout(runs, list(shares.items()))
            most = max(most, len(runs))
        assert most <= bound, f"{revisions} revisions"


@given(weights(5, zeros=True), st.permutations(range(5)))
def test_an_empty_table_is_laid_out_in_entry_order(shares: list[int], order: list[int]) -> None:
    entries = [(f"r{number}", shares[number]) for number in order]
    assert relayout((), entries) == tuple((weight, name) for name, weight in entries if weight)


@given(weights(4))
def test_a_split_of_the_reference_has_the_table_of_its_entries(shares: list[int]) -> None:
    split = TrafficSplit.model_validate(
        {
            "schema": "greentic.traffic-split.v1",
            "env_id": "local",
            "deployment_id": ulid(1),
            "bundle_id": "web",
            "generation": 0,
            "entries": [
                {"revision_id": ulid(10 + number), "weight_bps": weight} for number, weight in enumerate([*shares, 0])
            ],
            "updated_at": "2026-07-24T10:00:00Z",
            "updated_by": "ops",
            "idempotency_key": "k",
            "authorization_ref": "auth.json",
        }
    )
    assert table(split) == tuple((weight, ulid(10 + number)) for number, weight in enumerate(shares))


def test_what_is_set_free_extends_the_neighbour_that_gains() -> None:
    before = ((3_000, "b"), (4_000, "a"), (3_000, "c"))
    after = relayout(before, [("a", 2_000), ("b", 3_500), ("c", 4_500)])
    assert after == ((3_000, "b"), (2_000, "a"), (500, "b"), (4_500, "c"))
