"""What `greentic.envpacks.state` asks, guarantee by guarantee."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from greentic.envpacks.state import ABSENT, MAX_KEY, MAX_VALUE, State, StateContext, StateScope
from greentic.spec.errors import Conflict, InvalidArgument

from acme_example import pack

SCOPE = StateScope("local", "D1", "acme")


def store(folder: Path) -> State:
    make = pack().state
    assert make is not None
    return make(StateContext("local", folder))


def test_a_value_outlives_who_wrote_it_and_stays_in_its_scope(tmp_path: Path) -> None:
    async def scenario() -> None:
        version = await store(tmp_path).put(SCOPE, "k", b"1", 0)
        held = await store(tmp_path).get(SCOPE, "k", 0)
        assert held is not None
        assert (held.data, held.version) == (b"1", version)
        for other in (SCOPE._replace(tenant="b"), SCOPE._replace(deployment_id="D2"), StateScope("x", "D1", "acme")):
            assert await store(tmp_path).get(other, "k", 0) is None
            assert await store(tmp_path).keys(other, "", 0) == ()
        assert await store(tmp_path).keys(SCOPE, "", 0) == ("k",)

    asyncio.run(scenario())


def test_of_many_writers_that_saw_the_same_one_wins(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = await store(tmp_path).put(SCOPE, "k", b"0", 0, expected=ABSENT)
        clients = [store(tmp_path) for _ in range(8)]
        told = await asyncio.gather(
            *(one.put(SCOPE, "k", b"%d" % number, 0, expected=first) for number, one in enumerate(clients)),
            return_exceptions=True,
        )
        assert sum(isinstance(one, int) for one in told) == 1
        assert sum(isinstance(one, Conflict) for one in told) == 7
        assert await clients[0].delete(SCOPE, "k", 0)
        assert await clients[1].put(SCOPE, "k", b"again", 0, expected=ABSENT) > first + 1

    asyncio.run(scenario())


def test_a_value_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        client = store(tmp_path)
        await client.put(SCOPE, "k", b"1", 0, expires=10)
        assert await client.get(SCOPE, "k", 9.9) is not None
        assert await client.get(SCOPE, "k", 10) is None
        assert await client.keys(SCOPE, "", 10) == ()

    asyncio.run(scenario())


@pytest.mark.parametrize(("key", "data"), [("", b""), ("k" * (MAX_KEY + 1), b""), ("k", b"x" * (MAX_VALUE + 1))])
def test_bounds(tmp_path: Path, key: str, data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        asyncio.run(store(tmp_path).put(SCOPE, key, data, 0))
