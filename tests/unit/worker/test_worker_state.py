"""The door to a worker's state: real HTTP, on a real port, with a store that can be made to fail."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from greentic.envpacks.state import MAX_VALUE, StateScope, StateValue
from greentic.providers.local.state import MemoryState
from greentic.spec.errors import ProviderError
from greentic.worker import state as door_of
from greentic.worker.state import CALLS, TOKEN_VARIABLE, URL_VARIABLE, StateDoor

MINE = StateScope("local", "D1", "acme")
THEIRS = StateScope("local", "D1", "other")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> str:
        return str(json.loads(self.body)["error"]["message"])


def ask(given: dict[str, str], method: str, query: str, body: bytes | None = None, **headers: str) -> Answer:
    """One request, as a worker would make it."""
    address = urlsplit(given[URL_VARIABLE])
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(
            method, f"{address.path}?{query}", body, {"Authorization": f"Bearer {given[TOKEN_VARIABLE]}", **named}
        )
        told = connection.getresponse()
        return Answer(told.status, {name.lower(): value for name, value in told.getheaders()}, told.read())
    finally:
        connection.close()


class Faulty(MemoryState):
    """A store that does as it is told: `before` is awaited ahead of each reading."""

    before: Callable[[], Awaitable[None]] | None = None

    async def get(self, scope: StateScope, key: str, now: float) -> StateValue | None:
        if self.before is not None:
            await self.before()
        return await super().get(scope, key, now)


@dataclass
class Open:
    door: StateDoor
    store: Faulty
    now: float = 1000.0
    told: list[str | None] = field(default_factory=list)


def through_the_door(test: Callable[[Open, Any], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def scenario() -> None:
            place = Open(StateDoor(MemoryState()), Faulty())
            place.door = StateDoor(place.store, lambda: place.now, place.told.append)
            await place.door.open()

            async def asked(*words: Any, **headers: str) -> Answer:
                return await asyncio.to_thread(ask, *words, **headers)

            try:
                await test(place, asked)
            finally:
                await place.door.close()

        asyncio.run(scenario())

    run.__name__ = test.__name__
    return run


async def _a_value_is_kept_and_forgotten(place: Open, asked: Any) -> None:
    mine = place.door.admit("R1", MINE)
    key = f"key={quote('a/../b é&=')}"
    assert (await asked(mine, "GET", key)).status == 404
    kept = await asked(mine, "PUT", key, b"\0\xff")
    assert (kept.status, kept.headers["etag"]) == (204, '"1"')
    found = await asked(mine, "GET", key)
    assert (found.status, found.body, found.headers["etag"]) == (200, b"\0\xff", '"1"')
    assert found.headers["cache-control"] == "no-store"
    assert json.loads((await asked(mine, "GET", "prefix=a/")).body) == {"keys": ["a/../b é&="]}
    assert json.loads((await asked(mine, "GET", "")).body) == {"keys": ["a/../b é&="]}
    assert json.loads((await asked(mine, "GET", "prefix=b")).body) == {"keys": []}
    assert (await asked(mine, "DELETE", key)).status == 204
    assert (await asked(mine, "DELETE", key)).status == 404


async def _of_those_who_saw_the_same_one_wins(place: Open, asked: Any) -> None:
    mine = place.door.admit("R1", MINE)
    first = await asked(mine, "PUT", "key=k", b"1", If_None_Match="*")
    assert first.status == 204
    late = await asked(mine, "PUT", "key=k", b"2", If_None_Match="*")
    assert (late.status, late.headers["etag"]) == (412, first.headers["etag"])
    told = await asyncio.gather(
        *(asked(mine, "PUT", "key=k", b"%d" % n, If_Match=first.headers["etag"]) for n in range(12))
    )
    assert sorted(one.status for one in told) == [204] + [412] * 11
    assert (await asked(mine, "DELETE", "key=k", None, If_Match='"999"')).status == 412


async def _a_value_ends(place: Open, asked: Any) -> None:
    mine = place.door.admit("R1", MINE)
    await asked(mine, "PUT", "key=k&seconds=2.5", b"1")
    assert (await asked(mine, "GET", "key=k")).headers["greentic-expires"] == "1002.500"
    place.now = 1002.5
    assert (await asked(mine, "GET", "key=k")).status == 404


async def _nobody_reaches_anothers(place: Open, asked: Any) -> None:
    mine, theirs = place.door.admit("R1", MINE), place.door.admit("R2", THEIRS)
    await asked(mine, "PUT", "key=k", b"mine")
    assert (await asked(theirs, "GET", "key=k")).status == 404
    assert json.loads((await asked(theirs, "GET", "prefix=")).body) == {"keys": []}
    refused = await asked({**mine, TOKEN_VARIABLE: "x" * 43}, "GET", "key=k")
    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    again = place.door.admit("R1", MINE)  # a worker that was started again
    assert (await asked(mine, "GET", "key=k")).status == 401
    assert (await asked(again, "GET", "key=k")).body == b"mine"
    place.door.dismiss("R1")
    place.door.dismiss("R1")
    assert (await asked(again, "GET", "key=k")).status == 401


async def _what_cannot_be_is_refused_and_says_why(place: Open, asked: Any) -> None:
    mine = place.door.admit("R1", MINE)
    for method, query, headers, status in (
        ("GET", "key=", {}, 400),
        ("GET", "key=%ff", {}, 400),
        ("GET", "key=a&key=b", {}, 400),
        ("GET", "key=a&prefix=b", {}, 400),
        ("GET", "other=1", {}, 400),
        ("GET", "key", {}, 400),
        ("POST", "key=k", {}, 405),
        ("HEAD", "key=k", {}, 405),
        ("PUT", "key=k", {"If_Match": "*"}, 400),
        ("PUT", "key=k", {"If_Match": 'W/"1"'}, 400),
        ("PUT", "key=k", {"If_Match": '"1"', "If_None_Match": "*"}, 400),
        ("PUT", "key=k", {"If_None_Match": '"1"'}, 400),
        ("PUT", "key=k&seconds=0", {}, 400),
        ("PUT", "key=k&seconds=nan", {}, 400),
        ("PUT", "key=" + "k" * 600, {}, 400),
        ("PUT", "", {}, 400),
        ("DELETE", "", {}, 400),
    ):
        told = await asked(mine, method, query, None, **headers)
        assert told.status == status, (method, query, told)
        assert method == "HEAD" or told.message
    assert (await asked(mine, "PUT", "key=k", b"x" * MAX_VALUE)).status == 204
    assert (await asked(mine, "PUT", "key=l", b"x" * (MAX_VALUE + 1))).status == 413
    assert json.loads((await asked(mine, "GET", "")).body) == {"keys": ["k"]}
    elsewhere = await asked({**mine, URL_VARIABLE: mine[URL_VARIABLE] + "/x"}, "GET", "key=k")
    assert elsewhere.status == 404


async def _a_store_that_fails_is_an_error_of_the_call(place: Open, asked: Any) -> None:
    mine = place.door.admit("R1", MINE)

    async def failing() -> None:
        raise ProviderError("the disk is gone", next_step="find it")

    place.store.before = failing
    told = await asked(mine, "GET", "key=k")
    assert (told.status, told.message) == (503, "the disk is gone")

    async def broken() -> None:
        raise RuntimeError("a fault of the provider's")

    place.store.before = broken
    for _ in range(2):
        assert (await asked(mine, "GET", "key=k")).status == 503
    place.store.before = None
    assert (await asked(mine, "GET", "key=")).status == 400
    assert (await asked(mine, "GET", "prefix=")).status == 200
    assert place.told == [
        "the disk is gone",
        "the store of state failed: RuntimeError: a fault of the provider's",
        None,
    ]
    place.store._cap = 10
    full = await asked(mine, "PUT", "key=k", b"x" * 20)
    assert (full.status, "at most" in full.message) == (507, True)
    assert (await asked(mine, "PUT", "key=k", b"x")).status == 204


async def _one_worker_does_not_keep_the_others_out(place: Open, asked: Any) -> None:
    mine, theirs = place.door.admit("R1", MINE), place.door.admit("R2", THEIRS)
    going, arrived = asyncio.Event(), asyncio.Semaphore(0)

    async def waiting() -> None:
        arrived.release()
        await going.wait()

    place.store.before = waiting
    loop = asyncio.get_running_loop()
    loop.set_default_executor(__import__("concurrent.futures").futures.ThreadPoolExecutor(CALLS + 4))
    many = [asyncio.create_task(asked(mine, "GET", "key=k")) for _ in range(CALLS)]
    for _ in range(CALLS):
        await arrived.acquire()
    assert (await asked(mine, "GET", "prefix=")).status == 429
    assert (await asked(theirs, "GET", "prefix=")).status == 200
    going.set()
    assert {one.status for one in await asyncio.gather(*many)} == {404}
    assert (await asked(mine, "GET", "prefix=")).status == 200


@pytest.mark.parametrize(
    "test",
    [
        _a_value_is_kept_and_forgotten,
        _of_those_who_saw_the_same_one_wins,
        _a_value_ends,
        _nobody_reaches_anothers,
        _what_cannot_be_is_refused_and_says_why,
        _a_store_that_fails_is_an_error_of_the_call,
        _one_worker_does_not_keep_the_others_out,
    ],
    ids=lambda test: test.__name__.strip("_"),
)
def test_the_door(test: Callable[[Open, Any], Awaitable[None]]) -> None:
    through_the_door(test)()


def test_a_store_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_of, "SECONDS", 0.05)

    async def silent(place: Open, asked: Any) -> None:
        async def never() -> None:
            await asyncio.Event().wait()

        place.store.before = never
        told = await asked(place.door.admit("R1", MINE), "GET", "key=k")
        assert (told.status, told.message) == (504, "the store of state does not answer")

    through_the_door(silent)()


def test_who_is_being_answered_at_the_end_is_answered() -> None:
    async def scenario() -> None:
        store = Faulty()
        door = StateDoor(store)
        await door.open()
        mine = door.admit("R1", MINE)
        arrived, going = asyncio.Event(), asyncio.Event()

        async def waiting() -> None:
            arrived.set()
            await going.wait()

        store.before = waiting
        asking = asyncio.create_task(asyncio.to_thread(ask, mine, "GET", "key=k"))
        await arrived.wait()
        closing = asyncio.create_task(door.close())
        going.set()
        assert (await asking).status == 404
        await closing
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(ask, mine, "GET", "key=k")

    asyncio.run(scenario())
