"""Several router processes on one listening socket: real processes under load, killed, stopped, replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest
from tests.integration.local_environments import APP, DEPLOYMENT, V1, V2, World, alive, get, in_world, until_dead
from tests.integration.router_load import Load

from greentic.envpacks.deployer import Observation, RouterObservation
from greentic.spec.errors import Conflict, TimedOut


def replicas(world: World, count: int) -> None:
    """Record how many routers there are to be."""
    world.record(lambda document: document["host_config"].update(router={"replicas": count}))


async def two_versions(world: World, routers: int, app: str = APP, drain_seconds: int = 5) -> int:
    """v1 live, v2 ready, `routers` routers; the port."""
    replicas(world, routers)
    for revision_id in (V1, V2):
        world.bundle(revision_id, {"main.py": app}, drain_seconds=drain_seconds)
        await world.warm(revision_id)
    await world.live(v1=10_000)
    seen = await world.observe()
    assert seen.url is not None
    return int(seen.url.rpartition(":")[2])


def serving(seen: Observation) -> list[RouterObservation]:
    return [router for router in seen.router_states if router.state == "serving"]


def pids(seen: Observation) -> list[int]:
    return [router.process_id for router in serving(seen) if router.process_id is not None]


async def settled(world: World, count: int) -> Observation:
    """Wait until `count` routers are ready and no other process is there."""
    return await world.until(lambda seen: seen.routers == count == len(seen.router_states), seconds=20)


async def counted(world: World, load: Load) -> None:
    """Every request is counted once, those of replaced routers among them.

    Waits, because a router that is slow to answer is seen as it was a moment ago.
    """
    await world.until(lambda seen: sum(found.requests for found in seen.revisions.values()) == len(load.log))


LASTING = APP.replace(
    '    path = scope["path"]',
    """
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hi"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    path = scope["path"]
    if path == "/never":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    if path == "/events":
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: hi\\n\\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        return""",
)
"""An application with what does not end by itself, too: event streams and WebSockets."""


class Lasting:
    """On a connection each: a request that is never answered, event streams and WebSockets; all have begun."""

    def __init__(self, port: int, streams: int, tunnels: int) -> None:
        self._port = port
        self._streams = streams
        self._tunnels = tunnels
        self._readers: list[asyncio.StreamReader] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Lasting:
        await self._begin("/never", "Connection: close\r\n")
        for _ in range(self._streams):
            await self._begin("/events", until=b"data: hi\n\n")
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        for _ in range(self._tunnels):
            await self._begin("/", upgrade + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"\x81\x02hi")
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def ended(self) -> None:
        """Wait for all to end, as they should when they are cut."""
        slow, *lasting = [await asyncio.wait_for(reader.read(), 15) for reader in self._readers]
        assert slow.startswith(b"HTTP/1.1 503 "), slow
        for end in lasting[: self._streams]:
            assert b"0\r\n\r\n" not in end, "what was cut must not look complete"
        assert lasting[self._streams :] == [b"\x88\x02\x03\xf4"] * self._tunnels

    async def _begin(self, path: str, fields: str = "", until: bytes = b"") -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
        self._readers.append(reader)
        self._writers.append(writer)
        if until:
            async with asyncio.timeout(10):
                await reader.readuntil(until)


class Dial:
    """Moves all traffic to and fro, and holds the requests against the receipts."""

    def __init__(self, world: World, routers: int) -> None:
        self._world = world
        self._routers = routers
        self.moves: list[tuple[float, float, str]] = []

    async def move(self) -> None:
        to = "v1" if self.moves and self.moves[-1][2] == "v2" else "v2"
        self._world.split(**{to: 10_000})
        began = time.monotonic()
        receipt = await self._world.deployer.apply_traffic_split(self._world.desired, DEPLOYMENT)
        self.moves.append((began, time.monotonic(), to))
        assert (receipt.acknowledged, receipt.expected, receipt.missing) == (self._routers, self._routers, ())

    def check(self, load: Load) -> int:
        """Whatever was asked between a receipt and the next move went where that receipt says; how many were."""
        ends = [began for began, _, _ in self.moves[1:]] + [float("inf")]
        checked = 0
        for (_, received, to), until in zip(self.moves, ends, strict=True):
            for asked in load.log:
                if received <= asked.sent and asked.done < until and not asked.failure:
                    assert asked.answer == f"200 {to}", (asked, received)
                    checked += 1
        return checked


@in_world
async def test_rolling_restarts_and_moves_of_the_dial_fail_no_request(world: World) -> None:
    port = await two_versions(world, routers=3)
    before = await settled(world, 3)
    dial = Dial(world, 3)
    async with Load(port) as load:
        for _ in range(2):
            await load.more(60)
            restarting = asyncio.create_task(world.deployer.restart_routers(world.desired, 60, world.progress.append))
            while not restarting.done():
                await dial.move()
            restarted = await restarting
            await dial.move()
            assert [one.name for one in restarted] == ["router-0", "router-1", "router-2"]
        await load.more(60)
        asked = len(load.log)
    assert load.failed == []
    assert dial.check(load) > 50
    after = await settled(world, 3)
    assert not set(pids(before)) & set(pids(after))
    assert [router.restarts for router in after.router_states] == [0, 0, 0], "nothing had to be replaced"
    assert len(load.log) >= asked
    await counted(world, load)
    assert sum(found.errors for found in after.revisions.values()) == 0
    await until_dead(*pids(before))


@in_world
async def test_a_killed_router_breaks_at_most_what_was_in_flight_on_it(world: World) -> None:
    port = await two_versions(world, routers=2)
    await settled(world, 2)
    chance = random.Random(4)
    dial = Dial(world, 2)
    kills: list[float] = []
    async with Load(port, keep=4, fresh=4) as load:
        for _ in range(4):
            await load.more(40)
            seen = await settled(world, 2)
            victim = chance.choice(pids(seen))
            kills.append(time.monotonic())
            os.kill(victim, signal.SIGKILL)
            await load.more(20)  # the other one serves on
            await dial.move()  # waits for the successor
            assert victim not in pids(await settled(world, 2))
    for broken in load.failed:
        assert any(broken.opened <= kill <= broken.done for kill in kills), broken
    kept = [broken for broken in load.failed if broken.kind.startswith("kept")]
    assert len(kept) <= 4 * len(kills), "each connection once"
    assert {asked.answer for asked in load.log if not asked.failure} <= {"200 v1", "200 v2"}
    assert dial.check(load) > 50
    assert sum(router.restarts for router in (await world.observe()).router_states) == 4


@in_world
async def test_a_drain_waits_on_every_router_and_ends_everything_as_it_should(world: World) -> None:
    port = await two_versions(world, 3, LASTING, drain_seconds=1)
    await settled(world, 3)
    async with Lasting(port, streams=3, tunnels=4) as lasting:
        seen = await world.until(lambda seen: seen.revisions[V1].in_flight == 8)
        assert all(2 <= router.connections <= 3 for router in seen.router_states), "on each of them something"
        await world.live(v2=10_000)
        world.progress.clear()
        draining = asyncio.create_task(
            world.deployer.drain_revision(world.lifecycle(V1, "draining"), V1, world.progress.append)
        )
        seen = await world.until(lambda seen: seen.revisions[V1].drain_seconds_left is not None)
        assert seen.revisions[V1].in_flight == 8
        began = time.monotonic()
        await lasting.ended()
        assert time.monotonic() - began < 2.5
        report = await draining
        assert (report.finished, report.cut, report.cut_streams, report.cut_tunnels) == (0, 8, 3, 4)
    wanted = "waiting for 1 request and 3 streams and 4 tunnels in flight on v1, at most 1 s"
    assert wanted in world.progress, world.progress


@in_world
async def test_the_end_of_a_restart_and_of_everything_tells_whom_it_cuts(world: World) -> None:
    port = await two_versions(world, 2, LASTING)
    before = pids(await settled(world, 2))
    async with Lasting(port, streams=1, tunnels=2) as lasting:
        await world.until(lambda seen: seen.revisions[V1].in_flight == 4)
        async with Load(port) as load:
            await world.deployer.restart_routers(world.desired, 1)
            finishing = [router for router in (await world.observe()).router_states if router.state == "finishing"]
            assert {router.process_id for router in finishing} == set(before)
            assert (await world.observe()).revisions[V1].in_flight >= 4, "what finishes is seen still"
            await lasting.ended()
            await until_dead(*before)
            await load.more(20)
        assert load.failed == []
    cuts = [json.loads(line) for line in world.log().splitlines() if "router-finished" in line]
    assert sum(cut["cut"] for cut in cuts) == 4
    async with hurried(world, grace=1.5), Lasting(port, streams=1, tunnels=1) as lasting:
        await world.until(lambda seen: seen.revisions[V1].in_flight == 3)
        await world.deployer.stop(world.desired, world.progress.append)
        await lasting.ended()
    assert "waiting for 2 requests and 1 tunnel in flight, at most 1 s" in world.progress
    assert "after 1.5 s cut 1 request and 1 stream and 1 tunnel in flight" in world.progress


@in_world
async def test_more_and_fewer_routers_while_requests_run(world: World) -> None:
    port = await two_versions(world, routers=1)
    async with Load(port) as load:
        for count in (3, 2, 4, 1):
            restarting = asyncio.create_task(world.deployer.restart_routers(world.desired, 60))
            await load.more(30)
            replicas(world, count)
            seen = await world.deployer.reconcile(world.desired)
            assert seen.routers == count
            assert [router.name for router in serving(seen)] == [f"router-{index}" for index in range(count)]
            dial = Dial(world, count)
            await dial.move()
            await restarting
            await load.more(60)
            dial.check(load)
    assert load.failed == []
    await settled(world, 1)
    await counted(world, load)


@in_world
async def test_connections_are_shared_evenly(world: World) -> None:
    port = await two_versions(world, routers=2)
    await settled(world, 2)
    async with contextlib.AsyncExitStack() as stack:
        for number in range(1, 25):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            seen = await world.until(
                lambda seen, number=number: sum(one.connections for one in seen.router_states) == number
            )
        assert all(8 <= router.connections <= 16 for router in seen.router_states), seen.router_states


@in_world
async def test_connections_that_are_kept_are_shared_with_the_routers_that_come(world: World) -> None:
    port = await two_versions(world, routers=1)

    def even(seen: Observation) -> bool:
        return seen.routers == 3 == len(seen.router_states) and all(one.connections >= 3 for one in seen.router_states)

    async with Load(port, keep=12, fresh=0) as load:
        await load.more(24)
        replicas(world, 3)
        await world.deployer.reconcile(world.desired)
        await world.until(even, seconds=15)
        await world.deployer.restart_routers(world.desired, 60)
        await world.until(even, seconds=15)
    assert load.failed == []


@in_world
async def test_a_router_that_hangs_is_named_and_the_record_stands(world: World) -> None:
    await two_versions(world, routers=2)
    hanging = serving(await settled(world, 2))[1]
    assert hanging.process_id is not None
    os.kill(hanging.process_id, signal.SIGSTOP)
    try:
        world.split(v2=10_000)
        with pytest.raises(TimedOut, match="router-1 did not take the new table") as caught:
            await world.deployer.apply_traffic_split(world.desired, DEPLOYMENT)
        assert caught.value.details == {"missing": ["router-1"], "acknowledged": 1, "expected": 2}
        seen = await world.observe()
        assert seen.generations == {DEPLOYMENT: 1}, "what all routers serve is what the slowest serves"
        assert serving(seen)[0].generations == {DEPLOYMENT: 2}
    finally:
        os.kill(hanging.process_id, signal.SIGCONT)
    receipt = await world.deployer.apply_traffic_split(world.desired, DEPLOYMENT)
    assert (receipt.generation, receipt.acknowledged, receipt.expected) == (2, 2, 2)
    assert hanging.process_id in pids(await world.observe())


@contextlib.asynccontextmanager
async def hurried(world: World, lease: float = 10, grace: float = 10) -> AsyncIterator[int]:
    """The environment under a runtime whose leases or whose end is short; its process id."""
    os.kill(world.runtime_pid(), signal.SIGKILL)
    await until_dead(world.runtime_pid())
    reading, writing = os.pipe()
    times = ("--lease-seconds", str(lease), "--grace-seconds", str(grace))
    arguments = ("--folder", str(world.folder), "--environment-id", "local", *times)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "greentic.providers.local.runtime", *arguments, "--ready-fd", str(writing)],
        pass_fds=[writing],
    )
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as ready:
            assert b'"ready":true' in await asyncio.to_thread(ready.read)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        await world.deployer.stop(world.desired)
        process.wait(10)


@in_world
async def test_routers_that_do_not_hear_of_their_runtime_claim_nothing(world: World) -> None:
    port = await two_versions(world, routers=2)
    async with hurried(world, lease=0.5) as runtime:
        before = await settled(world, 2)
        assert [router.lapses for router in before.router_states] == [0, 0]
        async with Load(port, keep=2, fresh=2) as load:
            os.kill(runtime, signal.SIGSTOP)
            await asyncio.sleep(1.2)  # time passing is what this is about
            os.kill(runtime, signal.SIGCONT)
            after = await settled(world, 2)
        assert load.failed == [], "they serve on all the same"
    assert [router.lapses for router in after.router_states] == [1, 1]
    assert pids(after) == pids(before), "nobody was replaced for the runtime's sake"
    log = world.log("router.log")
    assert log.count("not ready: it has not heard from its runtime") == 2
    assert log.count("ready again") == 2


@in_world
async def test_each_router_answers_for_itself_on_the_address_that_it_serves(world: World) -> None:
    port = await two_versions(world, routers=2)
    assert await get(port, "/readyz") == (200, b"v1"), "nobody asked for it: the path is the worker's"
    world.record(lambda document: document["host_config"]["router"].update(ready_path="/readyz"))
    await world.deployer.reconcile(world.desired)

    async def until(status: int) -> bytes:
        """Both routers answer with `status`: they share the new connections evenly."""
        async with asyncio.timeout(10):
            while True:
                found = [await get(port, "/readyz") for _ in range(8)]
                if all(code == status for code, _ in found):
                    return found[-1][1]

    async with hurried(world, lease=0.5) as runtime:
        await settled(world, 2)
        assert json.loads(await until(200)) == {"ready": True}
        os.kill(runtime, signal.SIGSTOP)
        refused = json.loads(await until(503))["error"]
        assert refused["kind"] == "not-ready"
        assert refused["message"].startswith("this router is not ready: it has not heard from its runtime for")
        assert await get(port, "/readyz/x") == (200, b"v1"), "it serves on all the same"
        os.kill(runtime, signal.SIGCONT)
        await until(200)
    world.record(lambda document: document["host_config"]["router"].pop("ready_path"))
    await world.deployer.reconcile(world.desired)
    assert await get(port, "/readyz") == (200, b"v1")


@in_world
async def test_a_router_that_hangs_for_long_is_replaced(world: World) -> None:
    await two_versions(world, routers=2)
    async with hurried(world, lease=0.4):
        hanging = pids(await settled(world, 2))[0]
        os.kill(hanging, signal.SIGSTOP)
        seen = await world.until(lambda seen: seen.routers == 1)
        doubtful = next(router for router in seen.router_states if not router.ready)
        assert doubtful.name == "router-0"
        receipt = await world.deployer.apply_traffic_split(world.desired, DEPLOYMENT)
        assert receipt.acknowledged == 2
        assert hanging not in pids(await world.observe()), "no receipt counts one whose lease has lapsed"
        seen = await settled(world, 2)
        assert hanging not in pids(seen)
        assert not alive(hanging)


@in_world
async def test_what_is_not_running_has_no_router_to_restart(world: World) -> None:
    with pytest.raises(Conflict, match="not running") as caught:
        await world.deployer.restart_routers(world.desired, 60)
    assert caught.value.next_step == "gtc start local --background"
