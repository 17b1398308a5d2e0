"""Drain: what is in flight ends by itself, or at the deadline, and nobody new comes."""

from __future__ import annotations

import asyncio
import time

from greentic.conformance.checking import Failed, check, expect
from greentic.conformance.scene import host
from greentic.conformance.stage import BOUND_SECONDS, Stage, eventually

SLOW_SECONDS = 1.0


@check("drain", "lets a request in flight finish, ends right after it, and says so")
async def in_flight_finishes(stage: Stage) -> str:
    deployment, (old, new) = await stage.serving("one", 10_000, 0)
    slow = asyncio.create_task((await stage.client()).get(f"/slow?{SLOW_SECONDS}", host("one")))
    await _in_flight(stage, old)
    await stage.move(deployment, {old: 0, new: 10_000})
    stage.scene.draining(old)
    began = time.monotonic()
    report = await stage.deployer.drain_revision(stage.scene.desired, old)
    took = time.monotonic() - began
    answer = await slow
    expect(answer.revision == old, f"the request in flight was answered with status {answer.status}")
    expect(report.cut == 0, f"the drain says that it cut {report.cut}")
    expect(report.finished >= 1, "the drain does not count the request that it waited for")
    expect(took < SLOW_SECONDS + 2, f"the drain took {took:.1f} s although the last request ended long before")
    expect(not (await stage.workers(old))[old], "the worker still exists after the drain")
    return f"the request ended after {SLOW_SECONDS:g} s, the drain after {took:.2f} s"


@check("drain", "cuts what is still in flight at the deadline, and says how much")
async def deadline_cuts(stage: Stage) -> str:
    deployment = stage.scene.deployment("one")
    old = stage.scene.staged(deployment, drain_seconds=1)
    new = stage.scene.staged(deployment, version="2.0.0")
    for revision in (old, new):
        await stage.warm(revision)
    await stage.move(deployment, {old: 10_000, new: 0})
    slow = asyncio.create_task((await stage.client()).get("/slow?15", host("one")))
    await _in_flight(stage, old)
    await stage.move(deployment, {old: 0, new: 10_000})
    stage.scene.draining(old)
    began = time.monotonic()
    report = await stage.deployer.drain_revision(stage.scene.desired, old)
    took = time.monotonic() - began
    try:
        answer = await slow
    except Failed:
        told = "the connection was cut"
    else:
        expect(answer.revision is None, "a request that was to be cut was answered")
        told = f"the client got status {answer.status}"
    expect(report.cut == 1, f"the drain says that it cut {report.cut}, not 1")
    expect(0.9 <= took < 5, f"a drain with a deadline of 1 s took {took:.1f} s")
    expect(not (await stage.workers(old))[old], "the worker still exists after the deadline")
    return f"{told} after {took:.2f} s, reported as cut"


@check("drain", "takes no new visitor while it waits, and sends them to the others without an error")
async def nobody_new(stage: Stage) -> str:
    deployment, (old, new) = await stage.serving("one", 10_000, 0)
    slow = asyncio.create_task((await stage.client()).get(f"/slow?{SLOW_SECONDS}", host("one")))
    await _in_flight(stage, old)
    await stage.move(deployment, {old: 0, new: 10_000})
    stage.scene.draining(old)
    draining = asyncio.create_task(stage.deployer.drain_revision(stage.scene.desired, old))
    counted = await stage.counts("one", 40)
    await draining
    await slow
    expect(counted[new] == 40, f"while draining, 40 new visitors came to {dict(counted)}")
    return "40 of 40 new visitors went to the other revision"


@check("drain", "ends at once when nothing is in flight")
async def idle_ends_at_once(stage: Stage) -> str:
    deployment, (old, new) = await stage.serving("one", 10_000, 0)
    await stage.counts("one", 10)
    await stage.move(deployment, {old: 0, new: 10_000})
    stage.scene.draining(old)
    began = time.monotonic()
    report = await stage.deployer.drain_revision(stage.scene.desired, old)
    took = time.monotonic() - began
    expect(took < 3, f"with nothing in flight the drain took {took:.1f} s of its 5 s")
    expect((report.finished, report.cut) == (0, 0), f"it reports {report.finished} finished and {report.cut} cut")
    return f"{took:.2f} s"


@check("drain", "never drains or archives what still has a share")
async def share_is_protected(stage: Stage) -> str:
    deployment, (one, two) = await stage.serving("one", 5_000, 5_000)
    for verb in ("drain", "archive"):
        call = getattr(stage.deployer, f"{verb}_revision")
        try:
            await call(stage.scene.desired, one)
        except Exception as error:
            expect(getattr(error, "kind", "") == "conflict", f"{verb} of a live revision: {error}")
        else:
            raise Failed(f"{verb} of a revision with half of the traffic was carried out")
    counted = await stage.counts("one", 20)
    expect((counted[one], counted[two]) == (10, 10), f"afterwards the shares are {dict(counted)} ({deployment})")
    return "both refused as a conflict, the shares unchanged"


async def _in_flight(stage: Stage, revision: str) -> None:
    """Wait until the request is with the worker: what a drain has to wait for has begun."""

    async def there() -> bool:
        seen = (await stage.observe()).revisions.get(revision)
        return seen is not None and seen.in_flight > 0

    await eventually(there, "the deployer does not see the request in flight", BOUND_SECONDS)
