"""What does not boot is said to be so, at once and with its reason."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

import pytest
from tests.integration.local_environments import APP, SCRIPT, V1, World, in_world, processes_of

from greentic.spec.errors import BundleError, GateFailed

SICK = APP.replace('"status": 200', '"status": 500')
DEAF = "#!/usr/bin/env python3\nimport signal\nprint('not listening', flush=True)\nsignal.pause()\n"
DYING = "#!/bin/sh\necho first\necho 'no license found' >&2\nexit 9\n"
SUICIDE = "#!/bin/sh\nkill -SEGV $$\n"


def process(*command: str) -> dict[str, object]:
    return {"kind": "process", "command": list(command)}


async def refused(world: World, seconds: float = 5.0) -> GateFailed:
    """The error of a warm that must fail, within `seconds`; nothing of the worker is left."""
    began = time.monotonic()
    with pytest.raises(GateFailed) as caught:
        await world.deployer.warm_revision(world.desired, V1)
    assert time.monotonic() - began < seconds
    seen = await world.observe()
    assert seen.revisions[V1].state == "failed"
    assert seen.revisions[V1].process_id is None
    assert not [found for found in processes_of(world.folder) if _serves_pack(found)]
    return caught.value


def _serves_pack(found: int) -> bool:
    with contextlib.suppress(OSError):
        return b"GREENTIC_REVISION_ID" in Path(f"/proc/{found}/environ").read_bytes()
    return False


@in_world
async def test_a_module_that_is_not_there(world: World) -> None:
    world.bundle(V1, application={"kind": "asgi", "app": "absent:app"})
    error = await refused(world)
    assert error.details["exit_status"] == 78
    assert "the pack has no module 'absent'" in error.message
    assert "\n" not in error.message


@in_world
async def test_a_dependency_that_is_not_there(world: World) -> None:
    world.bundle(V1, {"main.py": "import no_such_library\n"})
    error = await refused(world)
    assert "it needs a module 'no_such_library', which is neither vendored nor declared" in error.message


@in_world
async def test_an_attribute_that_is_not_there(world: World) -> None:
    world.bundle(V1, {"main.py": "application = None\n"})
    error = await refused(world)
    assert "main has no attribute 'app'" in error.message


@in_world
async def test_an_application_that_is_not_callable(world: World) -> None:
    world.bundle(V1, {"main.py": "app = 3\n"})
    assert "is not callable: it is of the type int" in (await refused(world)).message


@in_world
async def test_an_application_that_raises_on_import(world: World) -> None:
    world.bundle(V1, {"main.py": "raise RuntimeError('no such luck')\n"})
    error = await refused(world)
    assert "RuntimeError: no such luck" in error.message
    assert any("Traceback" in line for line in error.details["last_lines"])


@in_world
async def test_a_process_that_dies_at_once(world: World) -> None:
    world.bundle(V1, {"server": DYING}, process("./server"))
    error = await refused(world)
    assert "exited with status 9" in error.message
    assert error.details["last_lines"] == ["first", "no license found"]
    assert error.details["exit_status"] == 9
    assert str(world.folder / "logs" / "revisions" / f"{V1}.log") in str(error.next_step)


@in_world
async def test_a_process_that_a_signal_ends(world: World) -> None:
    world.bundle(V1, {"server": SUICIDE}, process("./server"))
    error = await refused(world)
    assert error.details["exit_status"] == -signal.SIGSEGV
    assert "SIGSEGV" in error.message


@in_world
async def test_a_process_that_never_listens(world: World) -> None:
    world.bundle(V1, {"server": DEAF}, process("./server"), timeout=1)
    error = await refused(world)
    assert "was not healthy within 1 s: it does not listen on $PORT" in error.message
    assert error.details["last_lines"] == ["not listening"]


@in_world
async def test_a_health_path_that_answers_500(world: World) -> None:
    world.bundle(V1, {"main.py": SICK}, timeout=1)
    assert "/healthz answered 500" in (await refused(world)).message


@in_world
async def test_a_command_that_does_not_exist(world: World) -> None:
    world.bundle(V1, {"readme": "x"}, process("no-such-program-anywhere"))
    error = await refused(world)
    assert error.details["exit_status"] == 127
    assert "there is no such program" in error.message


@in_world
async def test_an_interpreter_that_does_not_exist(world: World) -> None:
    world.bundle(V1, {"server": "#!/no/such/interpreter\n"}, process("./server"))
    assert "its interpreter '/no/such/interpreter' does not exist" in (await refused(world)).message


@in_world
async def test_a_file_that_the_pack_does_not_hold(world: World) -> None:
    world.bundle(V1, {"readme": "x"}, process("./server"))
    assert "which it does not hold" in (await refused(world)).message


@in_world
async def test_a_bundle_without_anything_to_run_is_refused_when_staged(world: World) -> None:
    world.bundle(V1, {"readme": "x"}, process("./server"))
    pack = world.folder / "revisions" / V1 / "bundle" / "apps" / "web" / "pack.json"
    pack.write_text('{"pack_id": "web", "version": "0.0.0", "kind": "reference"}')
    with pytest.raises(BundleError):
        await world.deployer.stage_revision(world.desired, V1)


@in_world
async def test_a_failed_revision_can_be_mended_and_warmed_again(world: World) -> None:
    world.bundle(V1, {"server": DYING}, process("./server"), health="/")
    await refused(world)
    (world.folder / "revisions" / V1 / "bundle" / "apps" / "web" / "server").write_text(SCRIPT)
    await world.warm(V1)
    await world.live(v1=10_000)
    assert (await world.get())[0] == 200


@in_world
async def test_a_failed_warm_leaves_the_live_revision_alone(world: World) -> None:
    world.bundle(V1)
    await world.warm(V1)
    await world.live(v1=10_000)
    world.bundle("01J00000000000000000000R02", {"main.py": "import no_such_library\n"})
    before = (await world.observe()).revisions[V1]
    with pytest.raises(GateFailed):
        await world.deployer.warm_revision(world.desired, "01J00000000000000000000R02")
    assert await world.get() == (200, b"v1")
    assert (await world.observe()).revisions[V1].process_id == before.process_id
