"""Drain: what is in flight ends by itself, or at the deadline, and nobody new comes."""

from __future__ import annotations

import asyncio
import time

from greentic.conformance.checking import Failed, check, expect
from greentic.conformance.requests import Answer, Client
from greentic.conformance.scene import host
from greentic.conformance.stage import Stage, eventually, refused, uncalled
from greentic.spec.traffic import PinMode, PinPolicy

SLOW_SECONDS = 1.0
CUT_SECONDS = 5.0
"""A request that does not end before the deadline of a drain does."""
SLACK_SECONDS = 2.0
"""How much longer than what it waits for a drain may take: to notice it, and to end a worker."""
PROMISE_SECONDS = 2


@check("drain", "lets a request in flight finish, ends right after it, and says so")
async def in_flight_finishes(stage: Stage) -> str:
    deployment, (old, new) = await stage.serving("one", 10_000, 0)
    slow = await _slow(stage, SLOW_SECONDS)
    await stage.move(deployment, {old: 0, new: 10_000})
    began = time.monotonic()
    report = await stage.drain(old)
    took = time.monotonic() - began
    answer = await slow
    expect(answer.revision == old, f"the request in flight was answered with status {answer.status}")
    expect(report.cut == 0, f"the drain says that it cut {report.cut}")
    expect(report.finished >= 1, "the drain does not count the request that it waited for")
    expect(took < SLOW_SECONDS + SLACK_SECONDS, f"the drain took {took:.1f} s, the last request {SLOW_SECONDS:g} s")
    expect(not (await stage.workers(old))[old], "the worker still exists after the drain")
    return f"the request ended after {SLOW_SECONDS:g} s, the drain after {took:.2f} s"


@check("drain", "cuts what is still in flight at the deadline, and says how much")
async def deadline_cuts(stage: Stage) -> str:
    deployment = stage.scene.deployment("one")
    old = await stage.warmed(deployment, drain_seconds=1)
    new = await stage.warmed(deployment, "2.0.0")
    await stage.move(deployment, {old: 10_000, new: 0})
    slow = await _slow(stage, CUT_SECONDS)
    await stage.move(deployment, {old: 0, new: 10_000})
    began = time.monotonic()
    report = await stage.drain(old)
    took = time.monotonic() - began
    try:
        answer = await slow
    except Failed:
        told = "the connection was cut"
    else:
        expect(answer.revision is None, "a request that was to be cut was answered")
        told = f"the client got status {answer.status}"
    expect(report.cut == 1, f"the drain says that it cut {report.cut}, not 1")
    expect(0.9 <= took < 1 + SLACK_SECONDS, f"a drain with a deadline of 1 s took {took:.1f} s")
    expect(not (await stage.workers(old))[old], "the worker still exists after the deadline")
    return f"{told} after {took:.2f} s, reported as cut"


@check("drain", "takes no new visitor while it waits, and sends them to the others without an error")
async def nobody_new(stage: Stage) -> str:
    deployment, (old, new) = await stage.serving("one", 10_000, 0)
    client = await stage.client()
    cookies = (await client.get("/", host("one"))).cookies
    slow = await _slow(stage, SLOW_SECONDS)
    await stage.move(deployment, {old: 0, new: 10_000})
    draining = asyncio.create_task(stage.drain(old))
    counted = await stage.counts("one", 40)
    again = await client.get("/", host("one"), Cookie="; ".join(cookies))
    await draining
    await slow
    expect(counted[new] == 40, f"while draining, 40 new visitors came to {dict(counted)}")
    expect(again.revision == new, f"a visitor whose promise had ended came to {again.revision or again.status}")
    return "40 of 40 new visitors went to the other revision, and so did one whose promise had ended"


@check("drain", "keeps visitors where they were promised to stay until the promise ends, and waits for that")
async def pinned_stay(stage: Stage) -> str:
    deployment, (old, new) = await stage.serving("one", 10_000, 0)
    client = await stage.client()
    cookie = "; ".join((await client.get("/", host("one"))).cookies)
    grace = PinPolicy(mode=PinMode.GRACE, grace_seconds=PROMISE_SECONDS)
    await stage.move(deployment, {old: 0, new: 10_000}, grace)
    promised_until = time.time() + PROMISE_SECONDS
    began = time.monotonic()
    draining = asyncio.create_task(stage.drain(old))
    kept = 0
    while time.time() < promised_until - 0.5:
        answer = await client.get("/", host("one"), Cookie=cookie)
        expect(answer.revision == old, f"a visitor with a promise came to {answer.revision or answer.status}")
        kept += 1
        await asyncio.sleep(0.05)
    counted = await stage.counts("one", 4)
    expect(counted[new] == 4, f"visitors without a promise came to {dict(counted)}")
    report = await draining
    took = time.monotonic() - began
    expect(took >= PROMISE_SECONDS - 1, f"the drain ended after {took:.1f} s, the promise held {PROMISE_SECONDS} s")
    expect(took < PROMISE_SECONDS + 1 + SLACK_SECONDS, f"the drain took {took:.1f} s, long after the promise's end")
    after = await client.get("/", host("one"), Cookie=cookie)
    expect(after.revision == new, f"after the drain the visitor came to {after.revision or after.status}")
    return f"{kept} requests of a promised visitor stayed; the drain ended after {took:.2f} s, {report.pins_cut} cut"


@check("drain", "ends at once when nothing is in flight")
async def idle_ends_at_once(stage: Stage) -> str:
    deployment, (old, new) = await stage.serving("one", 10_000, 0)
    await stage.counts("one", 10)
    await stage.move(deployment, {old: 0, new: 10_000})
    began = time.monotonic()
    report = await stage.drain(old)
    took = time.monotonic() - began
    expect(took < SLACK_SECONDS, f"with nothing in flight the drain took {took:.1f} s of its 5 s")
    expect((report.finished, report.cut) == (0, 0), f"it reports {report.finished} finished and {report.cut} cut")
    return f"{took:.2f} s"


@check("drain", "never drains or archives what still has a share, and calls nobody for it")
async def share_is_protected(stage: Stage) -> str:
    _, (one, two) = await stage.serving("one", 5_000, 5_000)
    made = len(stage.bench.calls())
    for verb in ("drain", "archive"):
        call = getattr(stage.deployer, f"{verb}_revision")(stage.scene.desired, one)
        await refused(call, ("conflict",), f"{verb} of a revision with half of the traffic")
    uncalled(stage, made)
    counted = await stage.counts("one", 20)
    expect((counted[one], counted[two]) == (10, 10), f"afterwards the shares are {dict(counted)}")
    return "both refused as a conflict, the shares unchanged"


async def _slow(stage: Stage, seconds: float) -> asyncio.Task[Answer]:
    """A request that takes so long, begun: the worker itself says that it works on it."""
    task = asyncio.create_task((await stage.client()).get(f"/slow?{seconds}", host("one")))
    client: Client = await stage.client()

    async def begun() -> bool:
        return bool((await client.get("/", host("one"))).told["working"])

    await eventually(begun, "the worker does not get the slow request")
    return task
