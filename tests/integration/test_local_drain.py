"""Draining waits for what is in flight, and for nothing else."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.integration.local_environments import DEPLOYMENT, V1, V2, World, get, in_world, until_dead

from greentic.spec.errors import Conflict


async def two_revisions(world: World, drain_seconds: int) -> int:
    """v1 and v2 are ready, v1 has all the traffic; the port of the router."""
    world.bundle(V1, drain_seconds=drain_seconds)
    world.bundle(V2)
    await world.warm(V1)
    await world.warm(V2)
    await world.live(v1=10_000)
    return int(((await world.observe()).url or "").rpartition(":")[2])


@in_world
async def test_a_drain_waits_for_the_request_in_flight_and_ends_then(world: World) -> None:
    port = await two_revisions(world, drain_seconds=30)
    worker = (await world.observe()).revisions[V1].process_id
    assert worker is not None
    slow = asyncio.create_task(get(port, "/slow/1"))
    await world.until(lambda seen: seen.revisions[V1].in_flight == 1)
    await world.live(v2=10_000)
    draining = asyncio.create_task(world.deployer.drain_revision(world.lifecycle(V1, "draining"), V1))
    assert await get(port) == (200, b"v2")
    assert not draining.done()
    assert await slow == (200, b"v1")
    ended = time.monotonic()
    report = await draining
    assert time.monotonic() - ended < 1.0
    assert (report.revision_id, report.finished, report.cut) == (V1, 1, 0)
    assert 0.2 < report.seconds < 5
    await until_dead(worker)
    again = await world.deployer.drain_revision(world.desired, V1)
    assert (again.finished, again.cut) == (0, 0)
    before = world.log()
    seen = await world.deployer.reconcile(world.desired)
    assert seen.revisions[V1].state == "absent"
    assert world.log() == before, "what was drained is not started again although the record does not say so yet"


@in_world
async def test_a_drain_with_nothing_in_flight_ends_at_once(world: World) -> None:
    await two_revisions(world, drain_seconds=30)
    await world.live(v2=10_000)
    report = await world.deployer.drain_revision(world.lifecycle(V1, "draining"), V1)
    assert (report.finished, report.cut) == (0, 0)
    assert report.seconds < 2


@in_world
async def test_the_deadline_of_a_drain_cuts(world: World) -> None:
    port = await two_revisions(world, drain_seconds=1)
    slow = asyncio.create_task(get(port, "/slow/30"))
    await world.until(lambda seen: seen.revisions[V1].in_flight == 1)
    await world.live(v2=10_000)
    began = time.monotonic()
    report = await world.deployer.drain_revision(world.lifecycle(V1, "draining"), V1, world.progress.append)
    assert time.monotonic() - began < 8
    assert (report.finished, report.cut) == (0, 1)
    assert 1 <= report.seconds < 4, "not the five seconds that the worker goes on for nobody"
    assert "v1 serves nobody any more; ending its worker" in world.progress
    assert (await slow)[0] >= 500


@in_world
async def test_what_has_traffic_is_not_drained(world: World) -> None:
    await two_revisions(world, drain_seconds=1)
    world.lifecycle(V1, "draining")
    for verb in (world.deployer.drain_revision, world.deployer.archive_revision):
        with pytest.raises(Conflict, match="share of the traffic"):
            await verb(world.desired, V1)
    assert (await world.observe()).revisions[V1].healthy


@in_world
async def test_a_cancelled_drain_can_be_asked_again(world: World) -> None:
    port = await two_revisions(world, drain_seconds=30)
    slow = asyncio.create_task(get(port, "/slow/1"))
    await world.until(lambda seen: seen.revisions[V1].in_flight == 1)
    await world.live(v2=10_000)
    world.lifecycle(V1, "draining")
    first = asyncio.create_task(world.deployer.drain_revision(world.desired, V1, world.progress.append))
    while not any("in flight" in line for line in world.progress):
        await asyncio.sleep(0.005)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    report = await world.deployer.drain_revision(world.desired, V1)
    assert (report.finished, report.cut) == (1, 0)
    assert await slow == (200, b"v1")


@in_world
async def test_a_drained_revision_can_be_warmed_again(world: World) -> None:
    await two_revisions(world, drain_seconds=1)
    await world.live(v2=10_000)
    await world.deployer.drain_revision(world.lifecycle(V1, "draining"), V1)
    world.lifecycle(V1, "inactive")
    world.lifecycle(V1, "staged")
    world.lifecycle(V1, "warming")
    await world.warm(V1)
    await world.live(v1=10_000)
    assert await world.get() == (200, b"v1")
    assert (await world.observe()).generations == {DEPLOYMENT: 3}
