"""The reports of several routers, added."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greentic.router.merging import KEPT_REVISIONS, merge, past
from greentic.router.pool import UpstreamPool
from greentic.router.report import build_report
from greentic.router.tally import BUCKETS, Tally, bucket, quantile_ms

REASONS = ("dial", "cookie")


def pool(opened: int) -> UpstreamPool:
    made = UpstreamPool("192.0.2.1", 80)
    made.opened = opened
    return made


@st.composite
def reports(draw: st.DrawFn) -> dict[str, Any]:
    """What a router could report: real tallies, with requests of its own."""
    tallies: dict[str, Tally] = {}
    for revision_id in draw(st.sets(st.sampled_from("ABC"))):
        tally = tallies[revision_id] = Tally(revision_id)
        for seconds in draw(st.lists(st.floats(0, 2000), max_size=5)):
            tally.began(draw(st.sampled_from(tuple(tally.selections))))
            tally.answered(draw(st.sampled_from((101, 200, 304, 404, 503))), seconds)
            if draw(st.booleans()):
                tally.failed(draw(st.sampled_from(("client-closed", "response-timeout"))))
            if draw(st.booleans()):
                tally.ended()
    version = draw(st.none() | st.integers(0, 5))
    return build_report(
        version=version,
        generations={} if version is None else draw(st.dictionaries(st.sampled_from("XYZ"), st.integers(0, 9))),
        uptime_seconds=1.0,
        connections=draw(st.integers(0, 9)),
        unrouted=draw(st.dictionaries(st.sampled_from(("no-route", "bad-request")), st.integers(0, 9))),
        tallies=tallies,
        pins={name: {"cookie": draw(st.integers(0, 9)), "session": draw(st.integers(0, 9))} for name in tallies},
        pools={name: pool(draw(st.integers(0, 9))) for name in tallies},
        sessions={"kind": "memory", "held": draw(st.integers(0, 9))},
    )


def total(found: list[dict[str, Any]], revision_id: str, key: str) -> Any:
    return sum(report["revisions"].get(revision_id, {}).get(key, 0) for report in found)


@given(st.lists(reports(), max_size=4), st.randoms())
def test_every_counter_is_the_sum_in_whatever_order(found: list[dict[str, Any]], chance: random.Random) -> None:
    merged = merge(found)
    shuffled = list(found)
    chance.shuffle(shuffled)
    assert merge(shuffled) == merged
    assert merged["connections"] == sum(report["connections"] for report in found)
    for kind in ("no-route", "bad-request"):
        assert merged["unrouted"].get(kind, 0) == sum(report["unrouted"].get(kind, 0) for report in found)
    assert set(merged["revisions"]) == {name for report in found for name in report["revisions"]}
    for revision_id, row in merged["revisions"].items():
        for key in ("requests", "in_flight", "upgraded", "connections"):
            assert row[key] == total(found, revision_id, key)
        rows = [report["revisions"][revision_id] for report in found if revision_id in report["revisions"]]
        for place in range(BUCKETS):
            assert row["latency_counts"][place] == sum(part["latency_counts"][place] for part in rows)
        for part in rows:
            assert set(part["errors"]) <= set(row["errors"])


@given(st.lists(reports(), max_size=4))
def test_what_all_serve_is_what_the_slowest_serves(found: list[dict[str, Any]]) -> None:
    merged = merge(found)
    versions = [report["version"] for report in found]
    assert merged["version"] == (min(versions) if versions and None not in versions else None)
    for name, generation in merged["generations"].items():
        assert generation == min(report["generations"][name] for report in found)
    assert set(merged["generations"]) == (
        set.intersection(*(set(report["generations"]) for report in found)) if found else set()
    )


@given(st.lists(reports(), min_size=1, max_size=5), st.lists(reports(), max_size=2))
def test_no_counter_goes_back_when_processes_end(ended: list[dict[str, Any]], living: list[dict[str, Any]]) -> None:
    """Whatever has ended, the counters are those of everybody who ever reported; gauges are of the living."""
    kept: dict[str, Any] | None = None
    for report in ended:
        kept = past(kept, report)
    assert kept is not None
    merged = merge([kept, *living])
    everybody = merge([*ended, *living])
    assert merged["unrouted"] == everybody["unrouted"]
    for revision_id, row in everybody["revisions"].items():
        if row["requests"]:
            for key in ("requests", "responses", "errors", "selections", "latency_counts"):
                assert merged["revisions"][revision_id][key] == row[key]
    alive = merge(living)
    assert (merged["connections"], merged["version"]) == (alive["connections"], alive["version"])
    assert merged["generations"] == alive["generations"]
    for revision_id, row in merged["revisions"].items():
        for key in ("in_flight", "connections"):
            assert row.get(key, 0) == alive["revisions"].get(revision_id, {}).get(key, 0)


@given(st.lists(st.lists(st.floats(0.0002, 500), min_size=1, max_size=30), min_size=1, max_size=4))
def test_quantiles_of_the_sum_are_those_of_all_requests(parts: list[list[float]]) -> None:
    found = []
    for seconds in parts:
        tally = Tally("A")
        for value in seconds:
            tally.answered(200, value)
        found.append(
            build_report(
                version=1,
                generations={},
                uptime_seconds=0,
                connections=0,
                unrouted={},
                tallies={"A": tally},
                pins={},
                pools={},
                sessions={},
            )
        )
    whole = [0] * BUCKETS
    for value in (value for seconds in parts for value in seconds):
        whole[bucket(value)] += 1
    counts = merge(found)["revisions"]["A"]["latency_counts"]
    for share in (0.5, 0.99, 1.0):
        assert quantile_ms(counts, share) == quantile_ms(whole, share)


def test_a_counter_that_nobody_here_knows_is_added_too() -> None:
    one = {"version": 1, "generations": {}, "revisions": {"A": {"new": {"x": 1}, "pins": {"cookie": 2}}}, "dropped": 3}
    other = {"version": 1, "generations": {}, "revisions": {"A": {"new": {"x": 2, "y": 5}, "pins": {"cookie": 1}}}}
    merged = merge([one, other])
    assert merged["revisions"]["A"] == {"new": {"x": 3, "y": 5}, "pins": {"cookie": 3}}
    assert merged["dropped"] == 3
    assert past(None, one)["revisions"] == {}, "a revision without a request has counted nothing"


def test_what_is_kept_of_ended_processes_is_bounded() -> None:
    def report(names: range) -> dict[str, Any]:
        rows = {f"R{number}": {"requests": 1, "in_flight": 1} for number in names}
        return {"version": 1, "generations": {}, "connections": 1, "unrouted": {}, "revisions": rows}

    kept = past(None, report(range(KEPT_REVISIONS)))
    kept = past(kept, report(range(100, KEPT_REVISIONS + 10)))
    assert len(kept["revisions"]) == KEPT_REVISIONS
    assert "R0" not in kept["revisions"]
    assert kept["revisions"]["R200"] == {"requests": 2, "in_flight": 0}
    assert kept["revisions"][f"R{KEPT_REVISIONS + 9}"] == {"requests": 1, "in_flight": 0}


@pytest.mark.parametrize("found", [[], [{"version": None, "generations": {}, "connections": 0, "revisions": {}}]])
def test_nobody_serves_anything(found: list[dict[str, Any]]) -> None:
    merged = merge(found)
    assert (merged["version"], merged["generations"], merged["revisions"]) == (None, {}, {})
