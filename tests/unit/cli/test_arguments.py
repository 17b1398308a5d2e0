"""Words to typed values."""

from __future__ import annotations

from pathlib import Path

import pytest

from greentic.cli.arguments import overrides, route, seconds, shares
from greentic.spec.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "count"), [("30", 30), ("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86_400), (" 7 s ", 7)]
)
def test_a_duration_is_read(text: str, count: int) -> None:
    assert seconds(text) == count


@pytest.mark.parametrize("text", ["", "-1", "1.5s", "5 minutes", "m", "٣s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        seconds(text)


def test_shares_of_words_and_of_an_answers_file() -> None:
    assert shares(["v2=1%", "rest=v1"]) == [("v2", 100), ("v1", None)]
    assert shares([{"revision_id": "A", "weight_bps": 25}, {"revision_id": "B", "weight_percent": 10}]) == [
        ("A", 25),
        ("B", 1000),
    ]


@pytest.mark.parametrize(
    "word",
    [
        "v2",
        "=1%",
        "v2=",
        "v2=x",
        {"revision_id": "A"},
        {"revision_id": "A", "weight_bps": True},
        {"revision_id": "A", "weight_percent": 101},
        {"weight_bps": 1},
        {"revision_id": "A", "weight_bps": 1, "x": 1},
    ],
)
def test_what_is_no_share_is_refused(word: object) -> None:
    with pytest.raises(InvalidArgument):
        shares([word])  # type: ignore[list-item]


def test_parameters_of_words_and_a_file(tmp_path: Path) -> None:
    file = tmp_path / "parameters.yaml"
    file.write_text("helpdesk: {tone: calm, depth: 1}\n")
    assert overrides(["helpdesk:tone=warm=er"], ["helpdesk:depth=3"], file) == {
        "helpdesk": {"tone": "warm=er", "depth": 3}
    }
    assert overrides([], [], None) is None


@pytest.mark.parametrize("word", ["helpdesk", "helpdesk:tone", ":tone=x", "helpdesk:=x"])
def test_what_is_no_parameter_is_refused(word: str) -> None:
    with pytest.raises(InvalidArgument):
        overrides([word], [], None)


def test_a_route_of_options() -> None:
    assert route([], [], None, None) is None
    made = route(["a.example"], ["/x"], "acme", None)
    assert made is not None
    assert (made.hosts, made.path_prefixes, made.tenant_selector.tenant) == (("a.example",), ("/x",), "acme")
    with pytest.raises(InvalidArgument):
        route([], ["/x"], None, "team")
