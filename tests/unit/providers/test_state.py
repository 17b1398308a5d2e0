"""Our stores of state keep the contract of the slot."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greentic.envpacks.state import ABSENT, MAX_KEY, MAX_VALUE, State, StateContext, StateScope
from greentic.providers.local import sqlite_state
from greentic.providers.local.sqlite_state import SqliteState
from greentic.providers.local.state import MemoryState
from greentic.spec.errors import Conflict, InvalidArgument, ProviderError

SCOPE = StateScope("local", "D1", "acme")
OTHER = StateScope("local", "D1", "other")
Make = Callable[[int], State]
"""Makes an empty store in which one scope may keep so many bytes."""
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


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    numbers = itertools.count()

    def made(limit: int) -> State:
        if request.param == "memory":
            return MemoryState(limit)
        store = SqliteState(StateContext("local", tmp_path / str(next(numbers))))
        store._limit = limit
        return store

    return made


def running(make: Make, scenario: Callable[[State], Coroutine[Any, Any, None]], limit: int = 1024 * 1024) -> None:
    async def whole() -> None:
        store = make(limit)
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(whole())


@given(taken=steps)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_it_is_a_mapping_whose_values_end(
    make: Make, taken: list[tuple[str, StateScope, str, bytes, int | None]]
) -> None:
    async def scenario(store: State) -> None:
        now = 0.0
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

    running(make, scenario)


def test_of_two_writers_that_saw_the_same_one_wins(make: Make) -> None:
    async def scenario(store: State) -> None:
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

    running(make, scenario)


def test_it_is_bounded_and_what_ended_makes_room(make: Make) -> None:
    async def scenario(store: State) -> None:
        await store.put(SCOPE, "a", b"x" * 60, 0, expires=10)
        await store.put(SCOPE, "a", b"y" * 90, 0, expires=10)
        with pytest.raises(Conflict, match="at most") as refused:
            await store.put(SCOPE, "b", b"x" * 20, 5)
        assert "version" not in refused.value.details
        held = await store.get(SCOPE, "a", 5)
        assert held is not None
        assert held.data == b"y" * 90
        await store.put(OTHER, "b", b"x" * 90, 5)  # who fills their room takes nobody else's
        await store.put(SCOPE, "b", b"x" * 20, 10)
        await store.delete(SCOPE, "b", 10)
        await store.put(SCOPE, "c", b"x" * 99, 10)
        for key, data in (("", b""), ("k" * (MAX_KEY + 1), b""), ("\ud800", b""), ("k", b"x" * (MAX_VALUE + 1))):
            with pytest.raises(InvalidArgument):
                await store.put(SCOPE, key, data, 0)

    running(make, scenario, limit=100)


def test_what_sqlite_keeps_outlives_it_and_is_its_owners_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = SqliteState(StateContext("local", tmp_path))
        version = await first.put(SCOPE, "k\0é", b"\0\xff", 0)
        await first.close()
        second, third = (SqliteState(StateContext("local", tmp_path)) for _ in range(2))
        held = await second.get(SCOPE, "k\0é", 0)
        assert held is not None
        assert (held.data, held.version) == (b"\0\xff", version)
        # Two processes may have it open for a moment, when one runtime follows another.
        assert await third.put(SCOPE, "k\0é", b"2", 0, expected=version) > version
        with pytest.raises(Conflict):
            await second.put(SCOPE, "k\0é", b"3", 0, expected=version)
        await second.close()
        await third.close()

    asyncio.run(scenario())
    path = tmp_path / sqlite_state.FILE
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    database = sqlite3.connect(path)
    assert database.execute("SELECT bytes FROM room").fetchone() == (len("k\0é".encode()) + 1,)
    database.close()


def test_a_damaged_file_is_an_error_of_the_call(tmp_path: Path) -> None:
    path = tmp_path / sqlite_state.FILE
    path.parent.mkdir()
    path.write_bytes(b"no database" * 500)

    async def scenario() -> None:
        store = SqliteState(StateContext("local", tmp_path))
        with pytest.raises(ProviderError, match="cannot be used"):
            await store.get(SCOPE, "k", 0)
        await store.close()

    asyncio.run(scenario())
    assert path.read_bytes().startswith(b"no database")
