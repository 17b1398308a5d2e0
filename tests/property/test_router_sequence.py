"""The sequence of keyless visitors: every prefix exact, on each replica, at every phase; near the share together."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from math import gcd

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.test_router_properties import good_table

from greentic.router.compiled import compile_table
from greentic.router.sequence import VisitorSequence, even_stride, fair_sequence
from greentic.router.table import SLOTS, RoutingTable
from greentic.spec.errors import SpecViolation

PHASES = st.floats(0, 1, exclude_max=True)


@st.composite
def weights(draw: st.DrawFn, total: int = SLOTS) -> list[int]:
    """2 to 16 weights of `total`, down to 1 and to nothing; small and awkward ones are as likely as even ones."""
    count = draw(st.integers(2, 16))
    # Round shares meet their deadlines exactly, where a sequence that is off by one would miss.
    unit = draw(st.sampled_from([1, 1, *(one for one in (5, 100, 250, 500, 625) if total % one == 0)]))
    cut = st.one_of(st.integers(0, total), st.integers(0, min(total, 50)))
    cuts = sorted(draw(st.lists(cut, min_size=count - 1, max_size=count - 1)))
    edges = [0, *(one // unit * unit for one in cuts), total]
    return [after - before for before, after in itertools.pairwise(edges)]


def check_exact(shares: Sequence[int], indices: Iterator[int]) -> None:
    """floor(n·w) <= count <= ceil(n·w) after every n: unit j of each is at floor((j-1)/w) to ceil(j/w)-1, and all are
    there.
    """
    divisor = gcd(*shares)
    reduced = [share // divisor for share in shares]
    period = sum(reduced)
    counts = [0] * len(shares)
    for moment, index in enumerate(indices):
        share = reduced[index]
        assert counts[index] * period // share <= moment, (shares, moment, index)
        counts[index] += 1
        assert moment < -(-counts[index] * period // share), (shares, moment, index)
    assert counts == reduced


@settings(max_examples=150, deadline=None)
@given(weights(), PHASES)
def test_every_prefix_is_within_one_of_its_share(shares: list[int], phase: float) -> None:
    check_exact(shares, fair_sequence(shares, phase))


@settings(max_examples=2_500, deadline=None)
@given(st.sampled_from([16, 60, 97, 120, 400]).flatmap(weights), PHASES)
def test_every_prefix_is_within_one_of_its_share_over_thousands_of_splits(shares: list[int], phase: float) -> None:
    check_exact(shares, fair_sequence(shares, phase))


def compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    for cuts in itertools.combinations(range(1, total), parts - 1):
        yield tuple(after - before for before, after in itertools.pairwise((0, *cuts, total)))


def test_every_small_split_is_exact_at_every_phase() -> None:
    """All splits of up to 11 units over 2 to 6 revisions, and all of up to 8 over up to 8, at eight phases."""
    for total, parts in [(t, p) for t in range(2, 12) for p in range(2, 9) if p <= t and (t <= 8 or p <= 6)]:
        for shares in compositions(total, parts):
            for phase in range(8):
                check_exact(shares, fair_sequence(shares, phase / 8))


def test_the_windows_of_the_proof_are_the_bound_itself() -> None:
    """`check_exact` looks at windows; here the counts themselves are looked at, after every visitor."""
    for shares in [(9, 4, 2, 1), (5, 5), (1, 1, 1, 1, 12), (97, 3)]:
        counts = [0] * len(shares)
        for number, index in enumerate(fair_sequence(shares, 0.3), 1):
            counts[index] += 1
            for count, share in zip(counts, shares, strict=True):
                assert number * share // sum(shares) <= count <= -(-number * share // sum(shares))
    with pytest.raises(AssertionError):
        check_exact((3, 1), iter([1, 0, 0, 1]))
    with pytest.raises(AssertionError):
        check_exact((2, 2), iter([0, 0, 1, 1]))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, SLOTS - 1), st.integers(1, 16), st.integers(0, 1_000))
def test_replicas_of_a_split_in_two_are_together_within_one_of_their_share(share: int, count: int, turn: int) -> None:
    shares = [SLOTS - share, share]
    runs = [(shares[0], 0), (shares[1], 1)]
    replicas = [VisitorSequence(runs, [True, True], index=index, count=count, turn=turn) for index in range(count)]
    seen = 0
    for number in range(1, 400):
        seen += sum(draw[0] for one in replicas if (draw := one.draw()) is not None)
        assert abs(seen * SLOTS - count * number * share) <= SLOTS


@pytest.mark.parametrize("turn", range(20))
@pytest.mark.parametrize("canaries", [1, 2, 4])
def test_ten_young_replicas_give_each_canary_about_its_share(canaries: int, turn: int) -> None:
    """50 visitors each: 5 of the 500, where one phase for all would give 0 or 10."""
    shares = [SLOTS - 100 * canaries, *[100] * canaries]
    runs = [(share, index) for index, share in enumerate(shares)]
    counts: Counter[int] = Counter()
    for index in range(10):
        one = VisitorSequence(runs, [True] * len(runs), index=index, count=10, turn=turn)
        counts.update(draw[0] for _ in range(50) if (draw := one.draw()) is not None)
    assert all(4 <= counts[index] <= 6 for index in range(1, canaries + 1)), counts


def test_a_dial_that_moves_often_is_near_the_share_although_each_table_is_young() -> None:
    """Every generation begins anew; 20 visitors each, 100 generations, one replica: 20 of 2,000 at 1 %."""
    seen = 0
    for turn in range(100):
        one = VisitorSequence([(9_900, 0), (100, 1)], [True, True], turn=turn)
        seen += sum(draw[0] for _ in range(20) if (draw := one.draw()) is not None)
    assert 18 <= seen <= 22


@settings(max_examples=60, deadline=None)
@given(weights(), st.lists(st.booleans(), min_size=16, max_size=16), st.integers(0, 4), st.integers(5, 9), st.data())
def test_draws_are_slots_of_open_revisions_and_each_slot_comes_once_a_round(
    shares: list[int], open_: list[bool], index: int, count: int, data: st.DataObject
) -> None:
    runs = [(share, owner) for owner, share in enumerate(shares) if share]
    cut = data.draw(st.integers(0, len(runs)))
    runs = [piece for size, owner in runs for piece in ((size - size // 2, owner), (size // 2, owner)) if piece[0]]
    runs = runs[cut:] + runs[:cut]
    owners = [owner for size, owner in runs for _ in range(size)]
    taking = open_[: len(shares)]
    visitors = VisitorSequence(runs, taking, index=index, count=count)
    routable = sum(share for share, taken in zip(shares, taking, strict=True) if taken)
    if not routable:
        assert visitors.draw() is None
        return
    drawn: list[int] = []

    def indices() -> Iterator[int]:
        for _ in range(routable):
            draw = visitors.draw()
            assert draw is not None
            revision, slot = draw
            assert owners[slot] == revision
            assert taking[revision]
            drawn.append(slot)
            yield revision

    open_shares = [share if taken else 0 for share, taken in zip(shares, taking, strict=True)]
    period = routable // gcd(*open_shares)
    rounds = indices()
    # Draining revisions take no part, and what is left is exact in every round.
    for _ in range(routable // period):
        check_exact(open_shares, itertools.islice(rounds, period))
    assert len(set(drawn)) == routable


@settings(max_examples=300, deadline=None)
@given(st.integers(1, SLOTS), st.data())
def test_the_slots_of_a_revision_are_walked_evenly(count: int, data: st.DataObject) -> None:
    """Whatever range of slots goes to another revision, it takes that share of the visitors, give or take a few."""
    stride = even_stride(count)
    assert gcd(stride, count) == 1
    begin = data.draw(st.integers(0, count - 1))
    size = data.draw(st.integers(1, count))
    visitors = data.draw(st.integers(1, count))
    first = data.draw(st.integers(0, count - 1))
    inside = sum((first + number * stride - begin) % count < size for number in range(visitors))
    assert abs(inside - visitors * size / count) <= 6


def test_the_table_says_which_replica_it_is_for() -> None:
    def document(**replica: object) -> dict[str, object]:
        table = good_table()
        table["deployments"][0]["revisions"].append({**table["deployments"][0]["revisions"][0], "revision_id": "s"})
        table["deployments"][0]["slots"] = [[9_900, 0], [100, 1]]
        table["options"]["replica"] = replica
        return table

    def first_canary(table: dict[str, object]) -> int:
        visitors = compile_table(RoutingTable.parse(table)).deployments["d"].visitors
        return next(number for number in range(100) if (draw := visitors.draw()) is not None and draw[0] == 1)

    places = sorted(first_canary(document(index=index, count=4)) for index in range(4))
    assert [after - before for before, after in itertools.pairwise(places)] == [25, 25, 25]
    assert first_canary(document()) == first_canary(document(index=0, count=1))
    for wrong in ({"index": 1}, {"index": 2, "count": 2}, {"index": -1, "count": 2}, {"count": 0}, {"count": "2"}):
        with pytest.raises(SpecViolation, match="replica"):
            RoutingTable.parse(document(**wrong))
