"""Shares as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greentic.spec.errors import InvalidArgument
from greentic.spec.weights import format_share, parse_share, scale


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("1%", 100),
        ("0.25%", 25),
        ("25bps", 25),
        ("10", 1000),
        ("100%", 10_000),
        ("0", 0),
        ("0%", 0),
        (" 5 % ", 500),
        ("0.01%", 1),
        ("10000bps", 10_000),
        ("7.10%", 710),
    ],
)
def test_a_share_is_read(text: str, points: int) -> None:
    assert parse_share(text) == points


BAD = [
    *("", "%", "-1%", "101%", "10001bps", "0.001%", "0.5bps", "1e1%"),
    *("1,5%", "٣%", "1%%", "v1", "nan", "1 0%", "+1%", "1%\n2%"),
]


@pytest.mark.parametrize("text", BAD)
def test_what_is_not_a_share_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_share(text)


@given(st.integers(0, 10_000))
def test_a_share_reads_back(points: int) -> None:
    assert parse_share(format_share(points)) == points


@given(st.dictionaries(st.text(min_size=1), st.integers(1, 10_000), min_size=1, max_size=16), st.integers(0, 10_000))
def test_scaling_is_exact_and_within_one(weights: dict[str, int], total: int) -> None:
    scaled = scale(weights, total)
    whole = sum(weights.values())
    assert sum(scaled.values()) == total
    assert all(abs(scaled[name] - weight * total / whole) < 1 for name, weight in weights.items())
