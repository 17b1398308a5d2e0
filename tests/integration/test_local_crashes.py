"""Whatever is killed comes back, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

from tests.integration.local_environments import (
    DEPLOYMENT,
    V1,
    V2,
    World,
    alive,
    get,
    in_world,
    processes_of,
    until_dead,
)

PARENT = """#!/usr/bin/env python3
import os, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(child.pid).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


async def live(world: World) -> None:
    world.bundle(V1)
    await world.warm(V1)
    await world.live(v1=10_000)


def router_of(world: World) -> int:
    started = [json.loads(line) for line in world.log().splitlines() if '"router-started"' in line]
    return int(started[-1]["pid"])


async def until_answered(world: World, expected: tuple[int, bytes], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while await world.get() != expected:
            await asyncio.sleep(0.005)


@in_world
async def test_a_killed_worker_is_started_again(world: World) -> None:
    await live(world)
    before = (await world.observe()).revisions[V1]
    assert before.process_id is not None
    os.kill(before.process_id, signal.SIGKILL)
    after = (await world.until(lambda seen: seen.revisions[V1].healthy and seen.revisions[V1].restarts)).revisions[V1]
    assert after.restarts == 1
    assert after.process_id != before.process_id
    await until_answered(world, (200, b"v1"))
    states = [json.loads(line) for line in world.log().splitlines() if '"worker"' in line]
    assert [line["state"] for line in states if line["state"] == "backing-off"] == ["backing-off"]
    assert any("SIGKILL" in line["detail"] for line in states)


@in_world
async def test_a_worker_that_is_down_keeps_its_share_and_is_seen_to_be_down(world: World) -> None:
    await live(world)
    world.bundle(V2)
    await world.warm(V2)
    await world.live(v1=5_000, v2=5_000)
    broken = world.folder / "revisions" / V2 / "bundle" / "apps" / "web" / "main.py"
    broken.write_text("raise SystemExit(3)\n")
    process = (await world.observe()).revisions[V2].process_id
    assert process is not None
    os.kill(process, signal.SIGKILL)
    seen = await world.until(lambda seen: seen.revisions[V2].restarts >= 1 and not seen.revisions[V2].process_id)
    assert seen.revisions[V2].state == "backing-off"
    assert seen.revisions[V1].healthy
    assert seen.generations == {DEPLOYMENT: 2}
    assert (await world.deployer.apply_traffic_split(world.desired, DEPLOYMENT)).generation == 2
    await world.live(v1=10_000)
    assert [await world.get() for _ in range(4)] == [(200, b"v1")] * 4


@in_world
async def test_a_killed_router_is_replaced_and_no_connection_refused(world: World) -> None:
    await live(world)
    port = int(((await world.observe()).url or "").rpartition(":")[2])
    for _ in range(3):
        router = router_of(world)
        os.kill(router, signal.SIGKILL)
        await until_dead(router)
        # Nobody listens but the runtime's socket: what connects now waits for the next router.
        status, body = await get(port)
        assert (status, body) == (200, b"v1")
        await world.until(lambda seen: seen.routers == 1)
        assert router_of(world) != router
    assert (await world.observe()).generations == {DEPLOYMENT: 1}
    receipt = await world.deployer.apply_traffic_split(world.split(v1=10_000), DEPLOYMENT)
    assert receipt.generation == 2


@in_world
async def test_a_killed_runtime_leaves_no_orphan_and_comes_back_to_the_record(world: World) -> None:
    await live(world)
    runtime, router = world.runtime_pid(), router_of(world)
    worker = (await world.observe()).revisions[V1].process_id
    assert worker is not None
    url = (await world.observe()).url
    os.kill(runtime, signal.SIGKILL)
    await until_dead(runtime, router, worker)
    assert processes_of(world.folder) == []
    assert (await world.observe()).running is False
    seen = await world.deployer.reconcile(world.desired)
    assert seen.url == url
    assert seen.revisions[V1].healthy
    assert seen.generations == {DEPLOYMENT: 1}
    assert await world.get() == (200, b"v1")


@in_world
async def test_a_runtime_that_comes_back_serves_from_its_first_connection(world: World) -> None:
    await live(world)
    world.bundle(V2)
    await world.warm(V2)
    port = int(((await world.observe()).url or "").rpartition(":")[2])
    runtime = world.runtime_pid()
    os.kill(runtime, signal.SIGKILL)
    await until_dead(runtime)
    answers: list[tuple[int, bytes]] = []

    async def knock() -> None:
        while True:
            with contextlib.suppress(ConnectionError):
                answers.append(await get(port))
                return
            await asyncio.sleep(0.005)

    # Whatever verb comes first brings everything back: here the split of the record.
    _, receipt = await asyncio.gather(knock(), world.deployer.apply_traffic_split(world.desired, DEPLOYMENT))
    assert answers == [(200, b"v1")]
    assert receipt.generation == 1
    await world.until(lambda seen: seen.revisions[V2].healthy)


@in_world
async def test_what_a_worker_started_ends_with_it(world: World) -> None:
    world.bundle(V1, {"server": PARENT}, {"kind": "process", "command": ["./server"]}, health="/")
    await world.warm(V1)
    await world.live(v1=10_000)
    child = int((await world.get())[1])
    assert alive(child)
    world.record(lambda document: document.update(traffic_splits=[]))
    await world.deployer.archive_revision(world.lifecycle(V1, "archived"), V1)
    await until_dead(child)


@in_world
async def test_what_a_worker_started_survives_a_killed_runtime_only_until_the_next(world: World) -> None:
    world.bundle(V1, {"server": PARENT}, {"kind": "process", "command": ["./server"]}, health="/")
    await world.warm(V1)
    await world.live(v1=10_000)
    child = int((await world.get())[1])
    runtime = world.runtime_pid()
    os.kill(runtime, signal.SIGKILL)
    await until_dead(runtime)
    await world.deployer.reconcile(world.desired)
    await until_dead(child)
    assert Path(f"/proc/{int((await world.get())[1])}").exists()


@in_world
async def test_what_a_worker_started_in_a_session_of_its_own_ends_with_the_runtime(world: World) -> None:
    apart = PARENT.replace('signal.pause()"]', 'signal.pause()"], start_new_session=True')
    world.bundle(V1, {"server": apart}, {"kind": "process", "command": ["./server"]}, health="/")
    await world.warm(V1)
    await world.live(v1=10_000)
    child = int((await world.get())[1])
    assert os.getsid(child) == child
    await world.deployer.stop(world.desired)
    await until_dead(child)


@in_world
async def test_a_runtime_that_does_not_answer_is_ended_all_the_same(world: World) -> None:
    await live(world)
    world.deployer.stop_seconds = 0.3
    runtime = world.runtime_pid()
    os.kill(runtime, signal.SIGSTOP)
    assert await world.deployer.stop(world.desired) is True
    await until_dead(runtime)


@in_world
async def test_a_terminated_runtime_ends_in_order(world: World) -> None:
    await live(world)
    runtime = world.runtime_pid()
    os.kill(runtime, signal.SIGTERM)
    await until_dead(runtime)
    assert processes_of(world.folder) == []
    assert '"stopped"' in world.log()
