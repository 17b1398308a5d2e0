"""Traffic: what clients get, counted on the wire."""

from __future__ import annotations

import time
from collections.abc import Mapping

from greentic.conformance.checking import check, expect
from greentic.conformance.scene import host
from greentic.conformance.stage import Stage, plausible_token

CYCLE = 10_000
"""Requests of which one basis point is one."""


@check("traffic", "gives each revision its share of new visitors, within one request at every moment")
async def exact_shares(stage: Stage) -> str:
    weights = (5_000, 3_000, 1_500, 500)
    _, revisions = await stage.serving("one", *weights)
    routers = await stage.routers()
    asked = 0
    counted: dict[str, int] = dict.fromkeys(revisions, 0)
    worst = 0.0
    for requests in (1, 2, 7, 30, 160, 200):
        for name, count in (await stage.counts("one", requests)).items():
            counted[name] = counted.get(name, 0) + count
        asked += requests
        worst = max(worst, _within(routers, counted, dict(zip(revisions, weights, strict=True)), asked))
    return f"after each of six counts up to {asked} requests every revision within {worst:.2f} of its share"


@check("traffic", "gives each revision exactly its basis points of ten thousand new visitors, down to one basis point")
async def exact_basis_points(stage: Stage) -> str:
    weights = (6_666, 3_332, 1, 1)
    _, revisions = await stage.serving("one", *weights)
    counted = await stage.counts("one", CYCLE)
    worst = _within(await stage.routers(), counted, dict(zip(revisions, weights, strict=True)), CYCLE)
    return f"{', '.join(str(counted[one]) for one in revisions)} of {CYCLE} requests, {worst:.2f} from the shares"


@check("traffic", "is seen by every client at the new position of the dial when the receipt is there")
async def receipt_is_true(stage: Stage) -> str:
    deployment, (one, two) = await stage.serving("one", 10_000, 0)
    moves = 12
    async with stage.asking("one") as asking:
        windows = []
        for number in range(moves):
            target, other = (two, one) if number % 2 == 0 else (one, two)
            receipt = await stage.move(deployment, {target: 10_000, other: 0})
            acknowledged = time.monotonic()
            generation = stage.scene.desired.split(deployment).generation
            expect(receipt.generation >= generation, f"the receipt says {receipt.generation}, recorded is {generation}")
            expect(not receipt.missing, f"the receipt lacks {', '.join(receipt.missing)}")
            counted = await stage.counts("one", 4)
            expect(counted[target] == 4, f"after the receipt of generation {generation}, 4 visitors came to {counted}")
            await asking.more()
            windows.append((acknowledged, time.monotonic(), target))
    late = [
        who for since, until, target in windows for sent, who in asking.seen if since <= sent < until and who != target
    ]
    expect(not late, f"{len(late)} requests that were sent after a receipt were answered by {late[:1]}")
    wrong = asking.others(one, two)
    expect(not wrong, f"{len(wrong)} requests failed while the dial moved: {wrong[:1]}")
    return f"{moves} moves, {len(asking.seen)} requests beside them, none failed, none stale after a receipt"


@check("traffic", "has every router follow, on old connections and new ones, and counts them in the receipt")
async def every_router(stage: Stage) -> str:
    stage.scene.routers(2)
    deployment, (one, two) = await stage.serving("one", 10_000, 0)
    routers = await stage.routers()
    clients = [await stage.client() for _ in range(16)]
    for client in clients:
        await client.get("/", host("one"))
    for target, other in ((two, one), (one, two), (two, one), (one, two)):
        receipt = await stage.move(deployment, {target: 10_000, other: 0})
        told = (receipt.acknowledged, receipt.expected)
        expect(told == (routers, routers), f"the receipt counts {told[0]} of {told[1]} routers, there are {routers}")
        answers = [(await client.get("/", host("one"))).revision for client in clients]
        late = sum(who != target for who in answers)
        expect(not late, f"{late} of {len(clients)} connections were served by the old table after the receipt")
    return f"{routers} routers, {len(clients)} connections, four moves, none late"


@check("traffic", "moves the dial without restarting or replacing a worker")
async def workers_stay(stage: Stage) -> str:
    deployment, (one, two) = await stage.serving("one", 10_000, 0)
    before = await stage.workers(one, two)
    for share in (1, 5_000, 10_000, 2_500):
        await stage.move(deployment, {one: 10_000 - share, two: share})
    expect(await stage.workers(one, two) == before, "a move of the dial replaced a worker")
    return f"four moves, workers {', '.join(name for names in before.values() for name in names)}"


@check("traffic", "keeps the dial of one deployment out of the traffic of another")
async def dials_are_independent(stage: Stage) -> str:
    first, (a, b) = await stage.serving("one", 10_000, 0)
    _, (c, d) = await stage.serving("two", 7_500, 2_500, customer="customer-two")
    total: dict[str, int] = {}
    asked = 0
    for number, share in enumerate((2_500, 5_000, 10_000, 0), start=1):
        await stage.move(first, {a: 10_000 - share, b: share})
        for name, count in (await stage.counts("two", 25)).items():
            total[name] = total.get(name, 0) + count
        asked = 25 * number
    _within(await stage.routers(), total, {c: 7_500, d: 2_500}, asked)
    return f"four moves of the first; the second gave {total[c]} and {total[d]} of {asked}, its exact shares"


@check("traffic", "returns to the very table of before when it is rolled back")
async def rollback_restores(stage: Stage) -> str:
    deployment, (one, two) = await stage.serving("one", 9_000, 1_000)
    await stage.move(deployment, {one: 0, two: 10_000})
    expect((await stage.counts("one", 10))[two] == 10, "the move was not applied")
    stage.scene.rolled_back(deployment)
    receipt = await stage.apply(deployment)
    generation = stage.scene.desired.split(deployment).generation
    expect(receipt.generation >= generation, f"the receipt says {receipt.generation}, recorded is {generation}")
    worst = _within(await stage.routers(), await stage.counts("one", 100), {one: 9_000, two: 1_000}, 100)
    return f"90 and 10 of 100 again, within {worst:.2f}"


@check("traffic", "gives nothing to a revision at no share, and nothing to anybody when the split was cleared")
async def cleared_is_silent(stage: Stage) -> str:
    deployment, (_, two) = await stage.serving("one", 10_000, 0)
    counted = await stage.counts("one", 50)
    expect(counted[two] == 0, f"a revision at no share got {counted[two]} of 50 requests")
    stage.scene.cleared(deployment)
    await stage.apply(deployment)
    answer = await (await stage.client()).get("/", host("one"))
    expect(answer.revision is None and answer.status >= 400, f"{answer.revision} answered after the split was cleared")
    return f"0 of 50 for a revision at no share; after the clearing status {answer.status} for everybody"


@check("traffic", "keeps a visitor who comes back with the cookie where the visitor was")
async def visitors_stay(stage: Stage) -> str:
    await stage.serving("one", 5_000, 5_000)
    client = await stage.client()
    for _ in range(6):
        first = await client.get("/", host("one"))
        expect(first.cookies, "a new visitor is given no cookie")
        cookie = "; ".join(first.cookies)
        for path in ("/", "/deeper/page"):
            again = await client.get(path, host("one"), Cookie=cookie)
            expect(again.revision == first.revision, f"a visitor of {first.revision} came to {again.revision}")
    return "six visitors, each back twice on other paths"


@check("traffic", "moves no more visitors than the dial was moved")
async def movement_is_minimal(stage: Stage) -> str:
    deployment, (one, two) = await stage.serving("one", 8_000, 2_000)
    client = await stage.client()
    visitors = [await client.get("/", host("one")) for _ in range(40)]
    await stage.move(deployment, {one: 5_000, two: 5_000})
    moved = back = 0
    for visitor in visitors:
        again = await client.get("/", host("one"), Cookie="; ".join(visitor.cookies))
        moved += again.revision != visitor.revision
        back += visitor.revision == two and again.revision != two
    expect(back == 0, f"{back} visitors left a revision whose share grew")
    expect(moved <= 0.3 * len(visitors) + 1, f"{moved} of {len(visitors)} visitors moved for three tenths of the slots")
    return f"{moved} of {len(visitors)} visitors moved when three tenths of the table did"


@check("traffic", "reaches a revision without a share by a signed preview, and by nothing else")
async def preview_reaches(stage: Stage) -> str:
    _, (one, two) = await stage.serving("one", 10_000, 0)
    token = await stage.deployer.preview(stage.scene.desired, two, 60)
    expect(plausible_token(token), "the preview token cannot stand in a URL")
    client = await stage.client()
    seen = await client.get(f"/?gt_preview={token}", host("one"))
    expect(seen.revision == two, f"the preview of {two} came to {seen.revision or seen.status}")
    forged = token[:-4] + ("AAAA" if not token.endswith("AAAA") else "BBBB")
    answer = await client.get(f"/?gt_preview={forged}", host("one"))
    expect(answer.revision != two, "a forged preview reaches the revision")
    named = await client.get("/", host("one"), x_greentic_revision=two)
    expect(named.revision == one, "a stranger reaches a revision without a share by naming it in a header")
    return "by its token; not by a forged one, not by a header"


def _within(routers: int, counted: Mapping[str, int], weights: Mapping[str, int], asked: int) -> float:
    """The largest distance of a count from its exact share; Failed when it is a request or more for each router: each
    of them walks a sequence of its own, whose counts are a share rounded up or down. Where the share is a whole number
    and there is one router, the count is that number.
    """
    strangers = {name: count for name, count in counted.items() if name not in weights and count}
    expect(not strangers, f"answered by others than the split names: {strangers}")
    worst = 0.0
    for name, weight in weights.items():
        count = counted.get(name, 0)
        distance = abs(count - asked * weight / 10_000)
        worst = max(worst, distance)
        expect(distance < routers, f"a revision with {weight} basis points got {count} of {asked} requests")
    return worst
