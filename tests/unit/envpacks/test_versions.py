"""Caret ranges, against the table of the rule's own documentation and as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greentic.envpacks.versions import VersionRange


@pytest.mark.parametrize(
    ("range_", "held", "outside"),
    [
        ("^1.2.3", ["1.2.3", "1.2.4", "1.9.0", "1.2.3+build"], ["1.2.2", "2.0.0", "1.3.0-rc.1", "1.2.3-rc.1"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.3.0", "0.2.2", "1.0.0"]),
        ("^0.0.3", ["0.0.3"], ["0.0.4", "0.0.2", "0.1.0"]),
        ("^0.0.0", ["0.0.0"], ["0.0.1"]),
        ("^1.0.0-beta.2", ["1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc", "1.0.0", "1.4.0"], ["1.0.0-beta.1", "1.0.0-2"]),
        ("^10.0.0", ["10.0.0", "10.11.0"], ["9.0.0", "1.0.0", "latest", "10.0", "10.0.0 ", "v10.0.0", ""]),
    ],
)
def test_what_a_range_holds(range_: str, held: list[str], outside: list[str]) -> None:
    parsed = VersionRange.parse(range_)
    assert [version for version in held if not parsed.holds(version)] == []
    assert [version for version in outside if parsed.holds(version)] == []


@pytest.mark.parametrize("text", ["1.0.0", ">=1.0.0", "^1.0", "^", "", "^^1.0.0", "^01.0.0", "^1.0.0 "])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match="not a range"):
        VersionRange.parse(text)


numbers = st.tuples(*[st.integers(0, 30)] * 3)


@given(numbers, numbers)
def test_a_range_is_an_interval_that_begins_with_its_first(first: tuple[int, ...], found: tuple[int, ...]) -> None:
    held = VersionRange.parse("^" + ".".join(map(str, first))).holds(".".join(map(str, found)))
    major, minor, patch = first
    above = (major + 1, 0, 0) if major else (0, minor + 1, 0) if minor else (0, 0, patch + 1)
    assert held == (first <= found < above)
