"""Faults: whatever call fails, is late, or is the last one of its process, running again comes to the same end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from greentic.conformance.checking import Failed, check, expect
from greentic.conformance.stage import Stage
from greentic.envpacks.bench import Fault, FaultKind
from greentic.envpacks.calls import Killed
from greentic.envpacks.deployer import Deployer
from greentic.spec.errors import GreenticError

_LOOK_SECONDS = 0.001
MOST_CALLS = 400
"""A life with more calls than this is not gone through call by call."""
SECONDS = 300.0

Verb = Callable[[Deployer], Awaitable[object]]


@check("faults", "tells of a call that fails, and comes to the same end when it is run again", SECONDS)
async def error_converges(stage: Stage) -> str:
    return await _every_call(stage, "error")


@check("faults", "tells of a call whose answer is lost, and comes to the same end when it is run again", SECONDS)
async def timeout_converges(stage: Stage) -> str:
    return await _every_call(stage, "timeout")


@check("faults", "can be killed between any two calls: run again it ends the same, and nothing is orphaned", SECONDS)
async def kill_converges(stage: Stage) -> str:
    return await _every_call(stage, "kill")


@check("faults", "starts and stops through a failure, a lost answer and a kill at any call", SECONDS)
async def start_and_stop_converge(stage: Stage) -> str:
    _, (base,) = await stage.serving("one", 10_000)
    await stage.deployer.stop(stage.scene.desired)
    told = []
    kinds: tuple[FaultKind, ...] = ("error", "timeout", "kill")
    for kind in kinds:
        for number in range(MOST_CALLS):
            if not await _day(stage, base, _Struck(stage, Fault(number, kind))):
                told.append(f"{number} calls of each struck by {kind}")
                break
        else:
            raise Failed(f"more than {MOST_CALLS} calls to start and to stop")
    return f"{', '.join(told)}; it served after each start, and nothing ran after each stop"


@check("faults", "can be interrupted at any call: said again, the verb comes to the same end", SECONDS)
async def interruption_converges(stage: Stage) -> str:
    deployment, (base,) = await stage.serving("one", 10_000)
    for number in range(MOST_CALLS):
        interruption = _Interruption(stage, number)
        await _life(stage, deployment, base, interruption)
        if not interruption.struck:
            return f"interrupted after {number} calls up and {number} calls down; nothing was left of it"
    raise Failed(f"more than {MOST_CALLS} calls for the life of one revision")


class _Struck:
    """Says a verb under a fault; once more, as another process of the tool, when it fails as a deployer may fail.

    Anything else that it raises is a failure of its own.
    """

    def __init__(self, stage: Stage, fault: Fault) -> None:
        self._stage = stage
        self._fault = fault
        self._made = 0
        self._struck = False
        self.begin()

    def begin(self) -> None:
        """Strike from here on, at the call of the fault's number."""
        self._made = len(self._stage.bench.calls())
        self._stage.bench.inject(self._fault)

    def __str__(self) -> str:
        return f"{self._fault.kind} at call {self._fault.at}"

    async def say(self, verb: Verb) -> None:
        try:
            await verb(self._stage.deployer)
        except (GreenticError, Killed):
            await self._stage.enter()
            await verb(self._stage.deployer)

    def end(self) -> None:
        """Strike no more until `begin`."""
        self._stage.bench.inject(None)
        self._struck = self._struck or len(self._stage.bench.calls()) - self._made > self._fault.at

    @property
    def struck(self) -> bool:
        """Whether the fault has struck at all."""
        return self._struck


class _Interruption:
    """Says a verb; interrupts it when the provider was called often enough, and says it again."""

    def __init__(self, stage: Stage, at: int) -> None:
        self._stage = stage
        self._at = at
        self._armed = False
        self.struck = False
        self.begin()

    def begin(self) -> None:
        """Interrupt after that many calls from here on."""
        self._left_at = len(self._stage.bench.calls()) + self._at
        self._armed = True

    def end(self) -> None:
        """Interrupt no more until `begin`."""
        self._armed = False

    def __str__(self) -> str:
        return f"interruption after call {self._at}"

    async def say(self, verb: Verb) -> None:
        task = asyncio.ensure_future(verb(self._stage.deployer))
        while self._armed and not task.done() and not self._due():
            await asyncio.wait({task}, timeout=_LOOK_SECONDS)
        if self._armed and self._due():
            self._armed, self.struck = False, True
            task.cancel()
            await asyncio.wait({task})
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, GreenticError):
                raise error
            await self._stage.enter()
            await verb(self._stage.deployer)
        else:
            await task

    def _due(self) -> bool:
        return len(self._stage.bench.calls()) > self._left_at


async def _every_call(stage: Stage, kind: FaultKind) -> str:
    """A fault at each call in turn, each mended by saying the verb again."""
    deployment, (base,) = await stage.serving("one", 10_000)
    for number in range(MOST_CALLS):
        fault = _Struck(stage, Fault(number, kind))
        await _life(stage, deployment, base, fault)
        if not fault.struck:
            return f"{number} calls up and {number} calls down struck by {kind}; exact shares and no orphan after each"
    raise Failed(f"more than {MOST_CALLS} calls for the life of one revision")


async def _life(stage: Stage, deployment: str, base: str, fault: _Struck | _Interruption) -> None:
    """One revision on its way up (staged, warmed, given half) and down (moved away, drained, archived), each under the
    fault.
    """
    scene = stage.scene
    revision = scene.staged(deployment, version="9.0.0")
    scene.warming(revision)
    fault.begin()
    await fault.say(lambda deployer: deployer.stage_revision(scene.desired, revision))
    await fault.say(lambda deployer: deployer.warm_revision(scene.desired, revision))
    workers = (await stage.workers(revision))[revision]
    expect(len(workers) == 1, f"{fault}: after warming there are {len(workers)} workers of the revision")
    scene.ready(revision)
    scene.split(deployment, {base: 5_000, revision: 5_000})
    await fault.say(lambda deployer: deployer.apply_traffic_split(scene.desired, deployment))
    fault.end()
    counted = await stage.counts("one", 10)
    expect((counted[base], counted[revision]) == (5, 5), f"{fault}: the dial ended with the shares {dict(counted)}")
    scene.split(deployment, {base: 10_000, revision: 0})
    fault.begin()
    await fault.say(lambda deployer: deployer.apply_traffic_split(scene.desired, deployment))
    scene.draining(revision)
    await fault.say(lambda deployer: deployer.drain_revision(scene.desired, revision))
    expect(not (await stage.workers(revision))[revision], f"{fault}: after the drain the worker is still there")
    scene.drained(revision)
    scene.archived(revision)
    await fault.say(lambda deployer: deployer.archive_revision(scene.desired, revision))
    fault.end()
    await stage.deployer.reconcile(scene.desired)
    workers_left = await stage.workers()
    expect(set(workers_left) == {base}, f"{fault}: orphans or losses: workers of {sorted(workers_left)}, not of {base}")
    expect(len(workers_left[base]) == 1, f"{fault}: {len(workers_left[base])} workers of one revision")
    left = [f"{one.kind} {one.name}" for one in await stage.things(owner=revision) if one.kind != "trace"]
    expect(not left, f"{fault}: left of the archived revision: {', '.join(left)}")
    expect((await stage.counts("one", 2))[base] == 2, f"{fault}: the neighbour does not serve any more")


async def _day(stage: Stage, base: str, fault: _Struck) -> bool:
    """Start and stop, each under the fault: whether it struck."""
    await fault.say(lambda deployer: deployer.reconcile(stage.scene.desired))
    fault.end()
    expect((await stage.counts("one", 2))[base] == 2, f"{fault}: after the start it does not serve")
    fault.begin()
    await fault.say(lambda deployer: deployer.stop(stage.scene.desired))
    fault.end()
    left = [f"{one.kind} {one.name}" for one in await stage.things() if one.kind not in {"trace", "record"}]
    expect(not left, f"{fault}: after the stop there is still {', '.join(left)}")
    return fault.struck
