"""The local deployer's plan tells what a reconcile then does, and does nothing, whatever state the runtime is in."""

from __future__ import annotations

import os
import signal

from tests.integration.local_environments import DEPLOYMENT, V1, V2, World, in_world, processes_of, until_dead

from greentic.providers.local import lock
from greentic.providers.local.layout import Layout


async def told(world: World) -> list[tuple[str, str, str]]:
    """The plan, without its reasons; that there are some is seen here."""
    changes = (await world.deployer.plan(world.desired)).changes
    assert all(change.reason for change in changes)
    return [(change.action, change.kind, change.name) for change in changes]


@in_world
async def test_where_nothing_runs_everything_is_to_start_and_nothing_does(world: World) -> None:
    world.bundle(V1, lifecycle="ready")
    before = sorted(world.folder.rglob("*"))
    assert await told(world) == [
        ("start", "listener", "127.0.0.1:0"),
        ("start", "router", "router-0"),
        ("start", "worker", V1),
        ("publish", "table", DEPLOYMENT),
    ]
    assert sorted(world.folder.rglob("*")) == before
    assert not (await world.observe()).running
    await world.deployer.reconcile(world.desired)
    assert await told(world) == []


@in_world
async def test_settings_and_workers_are_told_then_done(world: World) -> None:
    world.bundle(V1)
    await world.warm(V1)
    await world.live(v1=10_000)
    assert await told(world) == []
    world.bundle(V2, lifecycle="ready")
    world.lifecycle(V1, "inactive")
    world.split(v2=10_000)

    def settings(document: dict[str, object]) -> None:
        host = document["host_config"]
        assert isinstance(host, dict)
        host["router"] = {"replicas": 2, "metrics_addr": "127.0.0.1:0"}

    world.record(settings)
    first = (await world.observe()).revisions
    expected = [
        ("start", "router", "router-1"),
        ("start", "listener", "127.0.0.1:0"),
        ("start", "worker", V2),
        ("publish", "table", DEPLOYMENT),
        ("end", "worker", V1),
    ]
    assert await told(world) == await told(world) == expected
    assert (await world.observe()).revisions[V1].process_id == first[V1].process_id
    seen = await world.deployer.reconcile(world.desired)
    assert await told(world) == []
    assert len(seen.router_states) == 2
    assert V1 not in seen.revisions
    assert await world.get() == (200, b"v2")


@in_world
async def test_a_setting_of_routers_alone_publishes_the_table(world: World) -> None:
    await world.deployer.reconcile(world.desired)
    world.record(lambda document: document["host_config"].update(stamp_revision=True))
    assert await told(world) == [("publish", "table", "local")]
    await world.deployer.reconcile(world.desired)
    assert await told(world) == []


@in_world
async def test_an_older_record_plans_what_is_followed(world: World) -> None:
    older = world.desired
    world.bundle(V1)
    await world.warm(V1)
    assert (await world.deployer.plan(older)).changes == ()


@in_world
async def test_a_runtime_that_was_killed_is_to_be_started_again(world: World) -> None:
    world.bundle(V1)
    await world.warm(V1)
    os.kill(world.runtime_pid(), signal.SIGKILL)
    await lock.released(Layout(world.folder).lock, 10)
    for process in processes_of(world.folder):
        await until_dead(process)
    assert ("start", "worker", V1) in await told(world)
    assert not (await world.observe()).running
    await world.deployer.reconcile(world.desired)
    assert await told(world) == []
