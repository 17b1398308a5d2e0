"""The store passes the checks of every store of session pins; the answers are checked before they are bound."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from greentic.envpacks.sessions import SessionsContext
from greentic.router.pin_conformance import CHECKS, Check
from greentic.router.pins import Pin, PinScope
from greentic.spec.errors import InvalidArgument

from acme_example import pack, pin_store


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_pins(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The checks ask for what holds, not for how fast: fifty at once on a busy machine may wait for each other.
    monkeypatch.setattr("acme_example.pins.QUESTION_SECONDS", 30.0)
    asyncio.run(check(lambda: pin_store({"file": str(tmp_path / "pins.db")})))


def test_a_store_that_fails_has_no_pins_and_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "pins.db").write_bytes(b"this is no database" * 100)
        store = pin_store({"file": str(tmp_path / "pins.db")})
        scope = PinScope("local", "D1", "acme")
        assert await store.try_pin(scope, b"h", Pin("R1", 1, 1 << 40), {"R1": 0}, 0) is None
        assert await store.lookup(scope, b"h", {"R1": 0}, 0) is None
        assert await store.counts(scope, 0) == {}
        assert sum(store.document()["failures"].values()) == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("answers", [{}, {"file": 7}, {"file": "relative.db"}, {"file": "/x", "other": 1}])
def test_answers_that_could_never_work(answers: dict[str, object]) -> None:
    make = pack().sessions
    assert make is not None
    with pytest.raises(InvalidArgument):
        make().check("local", answers)
    with pytest.raises(InvalidArgument):
        make().settings(SessionsContext("local", answers))


def test_settings(tmp_path: Path) -> None:
    make = pack().sessions
    assert make is not None
    assert make().settings(SessionsContext("local", {"file": "/x"})) == {"file": "/x"}
