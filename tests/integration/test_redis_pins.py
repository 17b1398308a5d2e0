"""Session pins in a real Redis: the contract, the bounds in time, and what an outage costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_server import PASSWORD, RedisServer, free_port, redis_server

from greentic.envpacks.breaker import FAILURES, FIRST_SECONDS, LONGEST_SECONDS, Breaker
from greentic.providers.redis import pin_store
from greentic.router.pin_conformance import ALL, CHECKS, SCOPE
from greentic.router.pins import CAP_PER_TENANT, Pin, PinStore


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(running: RedisServer) -> RedisServer:
    running.ask("FLUSHALL")
    return running


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_pins_in_redis_conform(redis: RedisServer, check: Any) -> None:
    asyncio.run(check(lambda: pin_store(redis.settings())))


def test_nothing_stays_behind(redis: RedisServer) -> None:
    """Every key expires: the pin at its end, the set of a scope with its last pin."""

    async def pinned() -> None:
        store = pin_store(redis.settings())
        now = time.time()
        for number in range(20):
            end = int(now) + 10 + number
            await store.try_pin(SCOPE, b"h%d" % number, Pin("R1", 1, end), ALL, now)
        await store.close()

    asyncio.run(pinned())
    keys = redis.ask("KEYS", "*").splitlines()
    assert len(keys) == 21
    assert all(0 < int(redis.ask("PTTL", key)) <= 30_000 for key in keys)
    tag = "{env:01J0000000000000000000DEPA:acme}"
    assert all(key.startswith(("gt:pin:" + tag, "gt:pins:" + tag)) for key in keys)
    last = int(redis.ask("PTTL", f"gt:pins:{tag}"))
    assert last >= max(int(redis.ask("PTTL", key)) for key in keys if ":pin:" in key) - 50


def test_what_ended_fills_no_cap(redis: RedisServer) -> None:
    """The hole of the reference: members that ended stayed as long as the tenant was busy."""

    async def busy() -> list[Pin | None]:
        store = pin_store(redis.settings())
        now = int(time.time())
        kept = []
        for number in range(CAP_PER_TENANT + 500):
            at = now + number
            kept.append(await store.try_pin(SCOPE, b"h%d" % number, Pin("R1", 1, at + 60), ALL, at))
        await store.close()
        return kept

    assert None not in asyncio.run(busy())
    assert int(redis.ask("ZCARD", "gt:pins:{env:01J0000000000000000000DEPA:acme}")) <= 61


def test_one_question_is_one_round_trip(redis: RedisServer) -> None:
    async def asked() -> int:
        store = pin_store(redis.settings())
        now = time.time()
        await store.lookup(SCOPE, b"warm", ALL, now)
        before = _commands(redis)
        for number in range(100):
            await store.try_pin(SCOPE, b"h%d" % number, Pin("R1", 1, int(now) + 60), ALL, now)
        after = _commands(redis)
        await store.close()
        return after - before

    assert asyncio.run(asked()) == 100


def _commands(redis: RedisServer) -> int:
    """EVALSHA calls so far."""
    for line in redis.ask("INFO", "commandstats").splitlines():
        if line.startswith("cmdstat_evalsha:"):
            return int(line.partition("calls=")[2].partition(",")[0])
    return 0


def test_a_script_that_redis_forgot_is_given_again(redis: RedisServer) -> None:
    async def asked() -> Pin | None:
        store = pin_store(redis.settings())
        now = time.time()
        await store.try_pin(SCOPE, b"h", Pin("R1", 1, int(now) + 60), ALL, now)
        redis.ask("SCRIPT", "FLUSH")
        found = await store.lookup(SCOPE, b"h", ALL, now)
        await store.close()
        return found

    found = asyncio.run(asked())
    assert found is not None
    assert found.revision_id == "R1"


# Outages


async def _ask(store: PinStore, count: int) -> list[float]:
    """How long each of `count` questions took, in seconds; none has an answer."""
    spent = []
    for number in range(count):
        began = time.perf_counter()
        now = time.time()
        assert await store.try_pin(SCOPE, b"h%d" % number, Pin("R1", 1, int(now) + 60), ALL, now) is None
        assert not await store.counts(SCOPE, now)
        spent.append((time.perf_counter() - began) / 2)
    return spent


def test_a_redis_that_is_not_there_costs_next_to_nothing() -> None:
    async def asked() -> tuple[list[float], dict[str, Any]]:
        store = pin_store({"url": f"redis://127.0.0.1:{free_port()}/0", "namespace": "gt", "timeout_ms": 50})
        spent = await _ask(store, 50)
        document = store.document()
        await store.close()
        return spent, document

    spent, document = asyncio.run(asked())
    assert document["failures"]["connection"] == FAILURES
    assert document["failures"]["interrupted"] == 100 - FAILURES
    assert document["interruptions"] == 1
    assert sorted(spent)[40] < 0.005


def test_a_wrong_password_is_a_failure_and_shows_itself_nowhere(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def asked() -> dict[str, Any]:
        store = pin_store(redis.settings(password="hunter2"))
        await _ask(store, 5)
        document = store.document()
        await store.close()
        return document

    document = asyncio.run(asked())
    assert sum(document["failures"].values()) == 10
    assert "hunter2" not in caplog.text + repr(document)
    assert "does not answer" in caplog.text


def test_a_redis_that_stalls_is_waited_for_as_long_as_was_said(redis: RedisServer) -> None:
    async def asked() -> tuple[list[float], dict[str, Any], Pin | None]:
        store = pin_store(redis.settings(timeout_ms=50))
        now = time.time()
        pin = Pin("R1", 1, int(now) + 60)
        assert await store.try_pin(SCOPE, b"before", pin, ALL, now) is not None
        redis.ask("CLIENT", "PAUSE", "700", "ALL")
        spent = await _ask(store, 20)
        document = store.document()
        # It answers again, and so does the breaker, with nobody told another one's late answer.
        deadline = time.monotonic() + 20
        found = None
        while found is None and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            found = await store.lookup(SCOPE, b"before", ALL, time.time())
        assert await store.lookup(SCOPE, b"never", ALL, time.time()) is None
        await store.close()
        return spent, document, found

    spent, document, found = asyncio.run(asked())
    assert document["failures"]["timeout"] == FAILURES
    assert found == Pin("R1", 1, found.expires) if found else False
    assert max(spent) < 0.5
    assert sorted(spent)[15] < 0.005


def test_a_late_answer_is_nobodys(redis: RedisServer) -> None:
    """A question given up on leaves its connection such that the next answer on it belongs to the next question."""

    async def asked() -> None:
        store = pin_store(redis.settings(timeout_ms=30))
        now = time.time()
        pins = [Pin(f"R{number}", 1, int(now) + 60) for number in range(4)]
        held = {f"R{number}": 0 for number in range(4)}
        for number, pin in enumerate(pins):
            assert await store.try_pin(SCOPE, b"%d" % number, pin, held, now) is not None
        redis.ask("CLIENT", "PAUSE", "150", "ALL")
        given_up = await asyncio.gather(*(store.lookup(SCOPE, b"%d" % number, held, now) for number in range(4)))
        assert given_up == [None] * 4
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and await store.lookup(SCOPE, b"0", held, now) is None:
            await asyncio.sleep(0.01)
        for number, pin in enumerate(pins):
            found = await store.lookup(SCOPE, b"%d" % number, held, now)
            assert found is not None
            assert found[:3] == pin[:3]
        await store.close()

    asyncio.run(asked())


def test_closing_ends_what_is_asked(redis: RedisServer) -> None:
    async def asked() -> Pin | None:
        store = pin_store(redis.settings(timeout_ms=1000))
        now = time.time()
        assert await store.lookup(SCOPE, b"h", ALL, now) is None
        redis.ask("CLIENT", "PAUSE", "300", "ALL")
        question = asyncio.ensure_future(store.lookup(SCOPE, b"h", ALL, now))
        await asyncio.sleep(0)
        await store.close()
        return await question

    assert asyncio.run(asked()) is None


def test_the_breaker() -> None:
    breaker = Breaker()
    assert [breaker.failed(0) for _ in range(FAILURES)] == [*[False] * (FAILURES - 1), True]
    assert not breaker.allows(FIRST_SECONDS - 0.1)
    # One probe at a time; it fails, and the pause doubles.
    assert [breaker.allows(FIRST_SECONDS) for _ in range(3)] == [True, False, False]
    assert breaker.failed(FIRST_SECONDS) is False
    assert not breaker.allows(FIRST_SECONDS + 2 * FIRST_SECONDS - 0.1)
    assert breaker.allows(FIRST_SECONDS + 2 * FIRST_SECONDS)
    assert breaker.succeeded() is True
    assert breaker.allows(FIRST_SECONDS)
    assert breaker.succeeded() is False
    assert breaker.openings == 1
    now = 100.0
    for _ in range(FAILURES):
        breaker.failed(now)
    for _ in range(20):
        now += LONGEST_SECONDS
        assert breaker.allows(now)
        breaker.failed(now)
    assert not breaker.allows(now + LONGEST_SECONDS - 0.1)


def test_a_success_in_between_forgives(tmp_path: Path) -> None:
    breaker = Breaker()
    for _ in range(50):
        for _ in range(FAILURES - 1):
            assert breaker.failed(0) is False
        breaker.succeeded()
    assert breaker.allows(0)


def test_the_password_reaches_no_representation(redis: RedisServer) -> None:
    async def told() -> str:
        store = pin_store(redis.settings())
        text = repr(store) + repr(store.document())
        await store.close()
        return text

    assert PASSWORD not in asyncio.run(told())
