"""Session pins in memory, and the count of cookie pins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greentic.router.live_pins import BUCKETS, LivePins
from greentic.router.memory_pins import MemoryPins
from greentic.router.pin_conformance import ALL, CHECKS, SCOPE
from greentic.router.pins import Pin, PinScope, PinSettings
from greentic.router.session_pins import SessionPins
from greentic.spec.errors import SpecViolation


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_pins_in_memory_conform(check: Any) -> None:
    pins = MemoryPins()
    asyncio.run(check(lambda: pins))


def test_the_pin_that_ends_soonest_gives_way() -> None:
    pins = MemoryPins(limit=10)
    for number in range(10):
        pins.put(SCOPE, b"%d" % number, Pin("R1", 1, 1000 - number), ALL, 0)
    pins.put(SCOPE, b"new", Pin("R1", 1, 2000), ALL, 0)
    assert pins.look(SCOPE, b"9", ALL, 0) is None
    assert all(pins.look(SCOPE, b"%d" % number, ALL, 0) for number in range(9))
    assert pins.document()["evicted"] == 1
    assert pins.document()["pins"] == 10


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(0, 8), st.sampled_from(["R1", "R2"]), st.integers(0, 3), st.integers(0, 40)
        ),
        max_size=200,
    )
)
def test_memory_is_a_bounded_map_of_live_pins(steps: list[tuple[int, int, str, int, int]]) -> None:
    """Against a model that keeps everything; `limit` 12, cap 5 per scope."""
    pins = MemoryPins(limit=12, cap=5)
    model: dict[tuple[PinScope, bytes], Pin] = {}
    now = 0
    for tenant, session, revision_id, generation, lasts in steps:
        now += 1
        scope, hint = SCOPE._replace(tenant=str(tenant)), b"%d" % session
        admissible = {"R1": 0, "R2": generation}
        pin = Pin(revision_id, generation, now + lasts)
        kept = pins.put(scope, hint, pin, admissible, now)
        model = {key: held for key, held in model.items() if held.expires > now}
        held = model.get((scope, hint))
        if held is not None and held.generation >= admissible[held.revision_id]:
            assert kept == held
            continue
        model.pop((scope, hint), None)
        mine = sum(key[0] == scope for key in model)
        if lasts == 0 or mine >= 5:
            assert kept is None
            continue
        assert kept == pin
        if len(model) >= 12:
            soonest = min(held.expires for held in model.values())
            gone = [key for key, held in model.items() if pins.look(*key, ALL, now) is None]
            assert [model[key].expires for key in gone] == [soonest]
            model.pop(gone[0])
        model[(scope, hint)] = pin
        for key, held in model.items():
            assert pins.look(*key, ALL, now) == held
        for one in ("0", "1", "2"):
            counts = pins.live(SCOPE._replace(tenant=one), now)
            expected = [held.revision_id for key, held in model.items() if key[0].tenant == one]
            assert counts == {name: expected.count(name) for name in set(expected)}
        assert pins.document()["pins"] == len(model) <= 12
        assert len(pins._ends) <= 2 * len(model) + 65


def test_a_store_that_nobody_offers_is_refused() -> None:
    with pytest.raises(SpecViolation, match=r"greentic\.sessions\.nowhere"):
        SessionPins(PinSettings("greentic.sessions.nowhere", {"password": "x"}))


def test_settings_do_not_show_themselves() -> None:
    assert "hunter2" not in repr(PinSettings("k", {"password": "hunter2"}))


# Cookie pins


def test_cookie_pins_count_until_they_end() -> None:
    live = LivePins()
    for expires in (10, 20, 20, 30):
        live.given(expires)
    count = {now: live.live(now, share=True, honoured=False) for now in (0, 9.9, 11, 21, 31)}
    assert count == {0: 4, 9.9: 4, 11: 3, 21: 1, 31: 0}


def test_a_pin_that_was_given_back_counts_no_more() -> None:
    live = LivePins()
    live.given(10)
    live.returned(10)
    live.returned(10)
    live.returned(99)
    assert live.live(0, share=True, honoured=True) == 0


def test_pins_of_before_a_return_count_as_far_as_they_are_honoured() -> None:
    live = LivePins()
    live.entered(3, promised=True)
    live.given(100)
    live.entered(3, promised=True)
    live.entered(7, promised=True)
    live.given(200)
    assert live.live(0, share=True, honoured=False) == 1
    assert live.live(0, share=True, honoured=True) == 2
    assert live.live(0, share=False, honoured=True) == 2
    assert live.live(0, share=False, honoured=False) == 0
    live.entered(7, promised=False)
    live.entered(7, promised=True)
    assert live.live(0, share=True, honoured=True) == 1, "what has ended is not counted again"


@given(st.lists(st.integers(0, 100_000), max_size=400), st.integers(0, 110_000))
def test_the_count_is_close_and_its_memory_bounded(ends: list[int], now: int) -> None:
    live = LivePins()
    for expires in ends:
        live.given(expires)
    assert len(live._ends) <= BUCKETS
    counted = live.live(now, share=True, honoured=False)
    assert sum(expires > now for expires in ends) <= counted <= sum(expires > now - live._width for expires in ends)
