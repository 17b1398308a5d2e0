"""Faults: whatever call fails, is late, or is the last one of its process, running again comes to the same end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from greentic.conformance.checking import Failed, check, expect
from greentic.conformance.stage import Stage
from greentic.envpacks.bench import Fault
from greentic.spec.errors import GreenticError

MOST_CALLS = 400
"""A verb that makes more calls than this for one worker is not gone through call by call."""

Kind = Literal["error", "timeout", "kill"]


@check("faults", "tells of a call that fails, and comes to the same end when it is run again")
async def error_converges(stage: Stage) -> str:
    return await _every_call(stage, "error")


@check("faults", "tells of a call that takes too long, and comes to the same end when it is run again")
async def timeout_converges(stage: Stage) -> str:
    return await _every_call(stage, "timeout")


@check("faults", "can be killed between any two calls: run again it comes to the same end, and nothing is orphaned")
async def kill_converges(stage: Stage) -> str:
    return await _every_call(stage, "kill")


async def _every_call(stage: Stage, kind: Kind) -> str:
    """A fault at each call of warming, moving, draining and archiving in turn, each mended by saying the verb again."""
    deployment, (base,) = await stage.serving("one", 10_000)
    for number in range(MOST_CALLS):
        revision = stage.scene.staged(deployment, version=f"9.0.{number}")
        struck = await _life(stage, deployment, base, revision, Fault(number, kind))
        await _as_wanted(stage, base, revision)
        if not struck:
            return f"{number} calls, each struck once by {kind}; one worker, exact shares and no orphan after each"
    raise Failed(f"more than {MOST_CALLS} calls for the life of one revision")


async def _life(stage: Stage, deployment: str, base: str, revision: str, fault: Fault) -> bool:
    """One revision from staged to archived under one fault: whether the fault struck."""
    deployer, scene = stage.deployer, stage.scene
    made = len(stage.bench.calls())
    stage.bench.inject(fault)
    scene.warming(revision)
    await _said(lambda: deployer.stage_revision(scene.desired, revision))
    await _said(lambda: deployer.warm_revision(scene.desired, revision))
    scene.ready(revision)
    scene.split(deployment, **{base: 5_000, revision: 5_000})
    await _said(lambda: stage.apply(deployment))
    counted = await stage.counts("one", 10)
    expect(
        (counted[base], counted[revision]) == (5, 5),
        f"after the fault at call {fault.at} and a second run the shares are {dict(counted)}",
    )
    scene.split(deployment, **{base: 10_000, revision: 0})
    await _said(lambda: stage.apply(deployment))
    scene.draining(revision)
    await _said(lambda: deployer.drain_revision(scene.desired, revision))
    scene.drained(revision)
    scene.archived(revision)
    await _said(lambda: deployer.archive_revision(scene.desired, revision))
    struck = len(stage.bench.calls()) - made > fault.at
    stage.bench.inject(None)
    await deployer.reconcile(scene.desired)
    return struck


async def _said(verb: Callable[[], Awaitable[object]]) -> None:
    """Say a verb; once more when it fails with an error of ours. Anything else it raises is a failure of its own."""
    try:
        await verb()
    except GreenticError:
        await verb()


async def _as_wanted(stage: Stage, base: str, gone: str) -> None:
    workers = await stage.workers()
    expect(set(workers) == {base}, f"orphans or losses: there are workers of {sorted(workers)}, wanted is {base}")
    expect(len(workers[base]) == 1, f"{len(workers[base])} workers of one revision")
    left = [one for one in await stage.things(owner=gone) if one.kind != "trace"]
    expect(not left, f"left of the archived revision: {', '.join(f'{one.kind} {one.name}' for one in left)}")
    routers = await stage.things("router")
    expect(len({one.name for one in routers}) == len(routers), "a router exists twice")
