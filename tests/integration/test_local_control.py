"""The control socket against those who do not speak its language."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests.integration.local_environments import V1, World, in_world, processes_of

from greentic.providers.local import address, client
from greentic.providers.local.layout import Layout
from greentic.spec.errors import Conflict, GreenticError, InvalidArgument, SpecViolation

MALFORMED = (
    b"",
    b"\n",
    b"nonsense\n",
    b"[]\n",
    b"3\n",
    b'{"id": 1}\n',
    b'{"id":1,"method":"observe","params":3}\n',
    b"\xff\xfe\n",
    b"[" * 100_000 + b"\n",
    b'{"id": 1, "method": "warm"',
    b'{"method": ["x"]}\n',
    b'{"id":1,"method":"reconcile","params":{"desired":{"generation":1,"environment":{}}}}\n',
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
)


async def say(world: World, data: bytes) -> list[Any]:
    """What the runtime answers to `data` until it closes, or until as many lines have come back."""
    reader, writer = await asyncio.open_unix_connection(world.folder / "run" / "control.sock")
    writer.write(data)
    writer.write_eof()
    answers = [json.loads(line) async for line in reader]
    writer.close()
    await writer.wait_closed()
    return answers


@in_world
async def test_what_is_malformed_is_answered_and_harms_nobody(world: World) -> None:
    await world.deployer.reconcile(world.desired)
    runtime = world.runtime_pid()
    for data in MALFORMED:
        answers = await say(world, data)
        assert all(set(answer) == {"id", "error"} and answer["error"]["kind"] for answer in answers), (data, answers)
    assert world.runtime_pid() == runtime
    assert (await world.observe()).running
    assert "internal-error" not in world.log()


@in_world
async def test_a_message_that_is_too_long_ends_its_connection_only(world: World) -> None:
    await world.deployer.reconcile(world.desired)
    _, writer = await asyncio.open_unix_connection(world.folder / "run" / "control.sock")
    sent = 0
    with contextlib.suppress(OSError):
        while sent < 128:
            writer.write(b"x" * 1024 * 1024)
            sent += 1
            await writer.drain()
    writer.close()
    assert sent < 128, "megabytes that were taken"
    assert (await world.observe()).running
    resident = Path(f"/proc/{world.runtime_pid()}/status").read_text().partition("VmRSS:")[2].split()[0]
    assert int(resident) < 400_000


@in_world
async def test_requests_of_one_connection_are_answered_each(world: World) -> None:
    await world.deployer.reconcile(world.desired)
    reader, writer = await asyncio.open_unix_connection(world.folder / "run" / "control.sock")
    writer.write(b"".join(b'{"id":%d,"method":"observe"}\n' % number for number in range(50)))
    answers = [json.loads(await reader.readline()) for _ in range(50)]
    assert sorted(answer["id"] for answer in answers) == list(range(50))
    assert all(answer["result"]["running"] for answer in answers)
    writer.close()
    await writer.wait_closed()


@in_world
async def test_errors_come_out_as_what_they_are(world: World) -> None:
    await world.deployer.reconcile(world.desired)
    path = address.find(Layout(world.folder))
    with pytest.raises(InvalidArgument, match="no method 'dance'"):
        await client.call(path, "dance", {})
    with pytest.raises(SpecViolation):
        await client.call(path, "warm", {"desired": {"generation": 1, "environment": {"schema": "x"}}})
    with pytest.raises(client.NotRunning):
        await client.call(world.folder / "absent.sock", "observe", {})


@in_world
async def test_progress_is_told(world: World) -> None:
    world.bundle(V1)
    await world.deployer.warm_revision(world.desired, V1, world.progress.append)
    assert world.progress[0] == "starting the runtime"
    assert world.progress[1].startswith("waiting until v1 is healthy on 127.0.0.1:")


def test_a_long_path_with_a_space() -> None:
    async def scenario(folder: Path) -> None:
        world = World.new(folder)
        try:
            world.bundle(V1)
            await world.warm(V1)
            await world.live(v1=10_000)
            assert await world.get() == (200, b"v1")
            path = address.find(Layout(folder))
            assert path != folder / "run" / "control.sock"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        finally:
            assert await world.deployer.stop(world.desired)
        assert not path.parent.exists(), "nothing is left in the temporary folder"

    with tempfile.TemporaryDirectory(prefix="gt-") as name:
        asyncio.run(scenario(Path(name) / ("a folder " + "x" * 100)))


@in_world
async def test_a_stale_socket_is_nobodys(world: World) -> None:
    await world.deployer.reconcile(world.desired)
    runtime = world.runtime_pid()
    os.kill(runtime, 9)
    while processes_of(world.folder):
        await asyncio.sleep(0.005)
    assert (world.folder / "run" / "control.sock").exists()
    assert (await world.observe()).running is False
    assert (await world.deployer.reconcile(world.desired)).running


@in_world
async def test_a_call_that_a_stop_interrupts_is_told_so(world: World) -> None:
    mute = "#!/usr/bin/env python3\nimport signal\nsignal.pause()\n"
    world.bundle(V1, {"server": mute}, {"kind": "process", "command": ["./server"]}, timeout=60)
    warming = asyncio.create_task(world.deployer.warm_revision(world.desired, V1))
    await world.until(lambda seen: seen.running and seen.revisions[V1].process_id)
    assert await world.deployer.stop(world.desired) is True
    with pytest.raises(Conflict, match=r"stopped meanwhile|ended while it was warmed"):
        await warming
    assert processes_of(world.folder) == []


@in_world
async def test_a_verb_during_the_end_is_refused_or_starts_another(world: World) -> None:
    world.bundle(V1)
    await world.warm(V1)
    await world.live(v1=10_000)

    async def again() -> None:
        try:
            await world.deployer.reconcile(world.desired)
        except GreenticError as error:
            refusals.append(error)

    refusals: list[GreenticError] = []
    await asyncio.gather(world.deployer.stop(world.desired), *(again() for _ in range(5)))
    assert all(isinstance(error, Conflict) or "ended while" in error.message for error in refusals), refusals
    await world.deployer.stop(world.desired)
    assert processes_of(world.folder) == []
