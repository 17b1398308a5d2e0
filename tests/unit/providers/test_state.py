"""State in memory keeps the contract of the slot."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greentic.envpacks.state import ABSENT, MAX_KEY, MAX_VALUE, StateScope
from greentic.providers.local.state import MemoryState
from greentic.spec.errors import Conflict, InvalidArgument

SCOPE = StateScope("local", "D1", "acme")
OTHER = StateScope("local", "D1", "other")
steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "delete", "get", "keys", "later"]),
        st.sampled_from([SCOPE, OTHER]),
        st.sampled_from(["a", "ab", "b"]),
        st.binary(max_size=3),
        st.one_of(st.none(), st.integers(1, 4)),
    ),
    max_size=30,
)


@given(steps)
def test_it_is_a_mapping_whose_values_end(taken: list[tuple[str, StateScope, str, bytes, int | None]]) -> None:
    async def scenario() -> None:
        store, now = MemoryState(), 0.0
        model: dict[tuple[StateScope, str], tuple[bytes, float]] = {}
        highest = 0
        for verb, scope, key, data, life in taken:
            model = {place: value for place, value in model.items() if value[1] > now}
            if verb == "put":
                end = None if life is None else now + life
                version = await store.put(scope, key, data, now, expires=end)
                assert version > highest
                highest = version
                model[scope, key] = data, float("inf") if end is None else end
            elif verb == "delete":
                assert await store.delete(scope, key, now) == (model.pop((scope, key), None) is not None)
            elif verb == "get":
                found = await store.get(scope, key, now)
                wanted = model.get((scope, key))
                assert (None if found is None else found.data) == (None if wanted is None else wanted[0])
            elif verb == "keys":
                wanted_keys = sorted(name for owner, name in model if owner == scope and name.startswith(key))
                assert list(await store.keys(scope, key, now)) == wanted_keys
            else:
                now += life or 1

    asyncio.run(scenario())


def test_of_two_writers_that_saw_the_same_one_wins() -> None:
    async def scenario() -> None:
        store = MemoryState()
        seen = await store.put(SCOPE, "k", b"1", 0, expected=ABSENT)
        with pytest.raises(Conflict, match="somebody else"):
            await store.put(SCOPE, "k", b"2", 0, expected=ABSENT)
        told = await asyncio.gather(
            *(store.put(SCOPE, "k", b"%d" % number, 0, expected=seen) for number in range(20)), return_exceptions=True
        )
        assert sum(not isinstance(one, Conflict) for one in told) == 1
        with pytest.raises(Conflict):
            await store.delete(SCOPE, "k", 0, expected=seen)
        assert await store.delete(SCOPE, "k", 0)
        assert not await store.delete(SCOPE, "k", 0)

    asyncio.run(scenario())


def test_it_is_bounded_and_what_ended_makes_room() -> None:
    async def scenario() -> None:
        store = MemoryState(cap_bytes=100)
        await store.put(SCOPE, "a", b"x" * 60, 0, expires=10)
        await store.put(SCOPE, "a", b"y" * 90, 0, expires=10)
        with pytest.raises(Conflict, match="full"):
            await store.put(SCOPE, "b", b"x" * 20, 5)
        held = await store.get(SCOPE, "a", 5)
        assert held is not None
        assert held.data == b"y" * 90
        await store.put(SCOPE, "b", b"x" * 20, 10)
        for key, data in (("", b""), ("k" * (MAX_KEY + 1), b""), ("\ud800", b""), ("k", b"x" * (MAX_VALUE + 1))):
            with pytest.raises(InvalidArgument):
                await store.put(SCOPE, key, data, 0)

    asyncio.run(scenario())
