"""What every store of session pins must show: functions that take a place to open stores at and raise AssertionError.

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_pins(check): asyncio.run(check(lambda: MyStore(place)))

Each call of `open` gives a store that shares its pins with the others of one check and with no other check; a store in
memory gives the same one again. Time is an argument: nothing waits, so ends lie far from the present.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from greentic.router.pins import CAP_PER_TENANT, Pin, PinScope, PinStore

Open = Callable[[], PinStore]
Check = Callable[[Open], Awaitable[None]]

SCOPE: Final = PinScope("env", "01J0000000000000000000DEPA", "acme")
ALL: Final = {"R1": 0, "R2": 0}


def _begin() -> int:
    return int(time.time())


async def a_pin_is_kept_and_found(open_: Open) -> None:
    """By every client, with what it said."""
    now = _begin()
    one, other = open_(), open_()
    pin = Pin("R1", 7, now + 100)
    assert await one.lookup(SCOPE, b"h", ALL, now) is None
    assert _same(await one.try_pin(SCOPE, b"h", pin, ALL, now), pin)
    assert _same(await other.lookup(SCOPE, b"h", ALL, now), pin)
    assert await other.lookup(SCOPE, b"g", ALL, now) is None
    await _close(one, other)


async def the_first_of_two_wins(open_: Open) -> None:
    """The second is told the first's pin, and changes nothing of it."""
    now = _begin()
    one, other = open_(), open_()
    first = Pin("R1", 7, now + 100)
    await one.try_pin(SCOPE, b"h", first, ALL, now)
    assert _same(await other.try_pin(SCOPE, b"h", Pin("R2", 9, now + 900), ALL, now), first)
    assert _same(await one.lookup(SCOPE, b"h", ALL, now), first)
    await _close(one, other)


async def fifty_at_once_agree(open_: Open) -> None:
    """Fifty first requests of one session, over two clients, half wanting each revision, are told one pin."""
    now = _begin()
    clients = open_(), open_()
    told = await asyncio.gather(
        *(
            clients[number % 2].try_pin(SCOPE, b"h", Pin(("R1", "R2")[number // 2 % 2], number, now + 100), ALL, now)
            for number in range(50)
        )
    )
    assert len(set(told)) == 1
    assert told[0] is not None
    await _close(*clients)


async def a_pin_ends_by_itself(open_: Open) -> None:
    """At its end, and not a moment before; another one may take its place then."""
    now = _begin()
    store = open_()
    await store.try_pin(SCOPE, b"h", Pin("R1", 1, now + 100), ALL, now)
    assert await store.lookup(SCOPE, b"h", ALL, now + 99.9) is not None
    assert await store.lookup(SCOPE, b"h", ALL, now + 100) is None
    pin = Pin("R2", 1, now + 300)
    assert _same(await store.try_pin(SCOPE, b"h", pin, ALL, now + 100), pin)
    assert await store.try_pin(SCOPE, b"late", Pin("R1", 1, now + 50), ALL, now + 50) is None
    await _close(store)


async def what_does_not_hold_gives_way(open_: Open) -> None:
    """A pin of an older generation than holds, or to a revision whose pins do not hold."""
    now = _begin()
    store = open_()
    await store.try_pin(SCOPE, b"h", Pin("R1", 5, now + 100), ALL, now)
    for admissible in ({"R1": 6, "R2": 0}, {"R2": 0}, {}):
        assert await store.lookup(SCOPE, b"h", admissible, now) is None
    assert await store.lookup(SCOPE, b"h", {"R1": 5}, now) is not None
    pin = Pin("R2", 6, now + 200)
    assert _same(await store.try_pin(SCOPE, b"h", pin, {"R1": 6, "R2": 0}, now), pin)
    assert _same(await store.lookup(SCOPE, b"h", ALL, now), pin)
    assert dict(await store.counts(SCOPE, now)) == {"R2": 1}
    await _close(store)


async def scopes_are_apart(open_: Open) -> None:
    """By environment, deployment and tenant, also where their names run into each other."""
    now = _begin()
    store = open_()
    await store.try_pin(SCOPE, b"h", Pin("R1", 1, now + 100), ALL, now)
    for other in (
        SCOPE._replace(env_id="other"),
        SCOPE._replace(deployment_id="other"),
        SCOPE._replace(tenant="other"),
        SCOPE._replace(env_id="env:01J0000000000000000000DEPA", deployment_id="acme", tenant=""),
        SCOPE._replace(tenant="a}b:*"),
    ):
        assert await store.lookup(other, b"h", ALL, now) is None
        assert not await store.counts(other, now)
    await _close(store)


async def pins_are_counted_by_revision(open_: Open) -> None:
    """Those that are live; what has ended counts no more."""
    now = _begin()
    store = open_()
    for number in range(5):
        await store.try_pin(SCOPE, b"h%d" % number, Pin("R1", 1, now + 100), ALL, now)
    for number in range(5, 8):
        await store.try_pin(SCOPE, b"h%d" % number, Pin("R2", 1, now + 200), ALL, now)
    assert dict(await store.counts(SCOPE, now)) == {"R1": 5, "R2": 3}
    assert dict(await store.counts(SCOPE, now + 150)) == {"R2": 3}
    assert dict(await store.counts(SCOPE, now + 250)) == {}
    await _close(store)


async def a_tenant_is_bounded_and_what_ended_makes_room(open_: Open) -> None:
    """The session beyond the cap is told that there is no room, keeps nothing and takes nobody's place. Once pins have
    ended there is room again, although nobody asked for them any more.
    """
    now = _begin()
    store = open_()
    for number in range(CAP_PER_TENANT):
        end = now + (100 if number % 2 else 1000)
        assert await store.try_pin(SCOPE, b"h%d" % number, Pin("R1", 1, end), ALL, now) is not None
    assert await store.try_pin(SCOPE, b"more", Pin("R1", 1, now + 100), ALL, now) is None
    assert await store.lookup(SCOPE, b"more", ALL, now) is None
    assert store.document()["skipped"] == 1
    assert await store.try_pin(SCOPE, b"h0", Pin("R2", 1, now + 100), ALL, now) is not None
    elsewhere = SCOPE._replace(tenant="other")
    assert await store.try_pin(elsewhere, b"more", Pin("R1", 1, now + 100), ALL, now) is not None
    pin = Pin("R1", 1, now + 500)
    assert _same(await store.try_pin(SCOPE, b"more", pin, ALL, now + 100), pin)
    assert sum((await store.counts(SCOPE, now + 100)).values()) == CAP_PER_TENANT // 2 + 1
    await _close(store)


CHECKS: Final[tuple[Check, ...]] = (
    a_pin_is_kept_and_found,
    the_first_of_two_wins,
    fifty_at_once_agree,
    a_pin_ends_by_itself,
    what_does_not_hold_gives_way,
    scopes_are_apart,
    pins_are_counted_by_revision,
    a_tenant_is_bounded_and_what_ended_makes_room,
)


def _same(found: Pin | None, pin: Pin) -> bool:
    """A store need not keep the slot: it follows from the session."""
    return found is not None and found[:3] == pin[:3]


async def _close(*stores: PinStore) -> None:
    for store in stores:
        await store.close()
