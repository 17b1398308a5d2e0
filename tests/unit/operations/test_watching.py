"""Rates from two readings: shares, errors, quantiles, and counters that begin anew."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from greentic.envpacks.deployer import Observation, RevisionObservation, RouterObservation
from greentic.operations.watching import Reading, paint
from greentic.router.tally import BUCKETS, bucket


def observed(generation: int = 2, **requests: int) -> Observation:
    def revision(name: str, count: int) -> RevisionObservation:
        counts = [0] * BUCKETS
        counts[bucket(0.004)] = count
        return RevisionObservation(name, "healthy", requests=count, errors=count // 10, latency_counts=tuple(counts))

    routers = (
        RouterObservation("router-0", True, generations={"D": 2}),
        RouterObservation("router-1", True, generations={"D": generation}),
    )
    return Observation(True, revisions={name: revision(name, n) for name, n in requests.items()}, router_states=routers)


def described(*names: str) -> dict[str, Any]:
    revisions = [{"revision_id": name, "weight_bps": 5_000} for name in names]
    return {"deployments": [{"deployment_id": "D", "generation": 2, "revisions": revisions}]}


def painted(first: Observation, last: Observation, seconds: float = 2.0) -> dict[str, Any]:
    picture = paint(described("R1", "R2"), Reading(10.0, first), Reading(10.0 + seconds, last))
    return picture["deployments"][0]


def test_rates_shares_and_quantiles_are_of_the_window() -> None:
    told = painted(observed(R1=1_000, R2=0), observed(R1=1_060, R2=20))
    one, two = told["revisions"]
    assert told["requests_per_second"] == 40
    assert (one["requests_per_second"], one["seen_bps"], one["errors_per_second"]) == (30, 7_500, 3)
    assert (two["requests_per_second"], two["seen_bps"]) == (10, 2_500)
    assert 4 <= one["p50_ms"] <= 4 * 1.2


def test_one_reading_has_no_rates() -> None:
    reading = Reading(1.0, observed(R1=5))
    told = paint(described("R1"), reading, reading)["deployments"][0]
    assert told["requests_per_second"] is None
    assert told["revisions"][0]["requests_per_second"] is None
    assert told["revisions"][0]["seen_bps"] is None


def test_counters_that_began_anew_count_from_there() -> None:
    told = painted(observed(R1=1_000, R2=10), observed(R1=40, R2=30))
    assert [revision["requests_in_window"] for revision in told["revisions"]] == [40, 20]


def test_a_revision_that_came_or_went_is_told_too() -> None:
    assert [r["requests_in_window"] for r in painted(observed(R1=10), observed(R2=4))["revisions"]] == [0, 4]


def test_routers_that_serve_an_older_generation_are_named() -> None:
    assert painted(observed(), observed(generation=1))["lagging"] == ["router-1"]
    assert painted(observed(), observed())["lagging"] == []


@given(st.lists(st.integers(0, 10_000), min_size=4, max_size=4), st.floats(0.1, 100))
def test_shares_add_up_and_nothing_is_negative(counts: list[int], seconds: float) -> None:
    a, b, c, d = counts
    revisions = painted(observed(R1=a, R2=b), observed(R1=c, R2=d), seconds)["revisions"]
    shares = [revision["seen_bps"] for revision in revisions]
    assert shares == [None, None] or abs(sum(shares) - 10_000) <= 1
    assert all(revision["requests_per_second"] >= 0 for revision in revisions)
