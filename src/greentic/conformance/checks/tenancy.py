"""Tenancy: one customer can neither reach nor disturb another."""

from __future__ import annotations

from greentic.conformance.checking import check, expect
from greentic.conformance.scene import host
from greentic.conformance.stage import Stage
from greentic.spec.traffic import PinMode, PinPolicy

PROMISE_SECONDS = 60
ONE = "customer-one"
TWO = "customer-two"


@check("tenancy", "answers for each customer with that customer's worker, which knows whose it is")
async def own_worker(stage: Stage) -> str:
    first, (one,) = await stage.serving("one", 10_000, customer=ONE)
    second, (two,) = await stage.serving("two", 10_000, customer=TWO)
    client = await stage.client()
    for name, deployment, revision, customer in (("one", first, one, ONE), ("two", second, two, TWO)):
        answer = await client.get("/", host(name))
        expect(answer.revision, f"{host(name)} is answered {answer.status}")
        wanted = {
            "revision_id": revision,
            "deployment_id": deployment,
            "bundle_id": name,
            "customer_id": customer,
            "tenant": customer,
            "env_id": stage.bench.environment_id,
        }
        said = {key: answer.told.get(key) for key in wanted}
        expect(said == wanted, f"the worker of {customer} says {said}, it was deployed as {wanted}")
    return "both workers name their own customer, tenant, deployment and revision"


@check("tenancy", "serves no host that belongs to nobody")
async def foreign_host(stage: Stage) -> str:
    await stage.serving("one", 10_000)
    client = await stage.client()
    for name in ("nobody.conformance.test", "localhost", "one.conformance.test.evil.example"):
        answer = await client.get("/", name)
        expect(answer.revision is None and answer.status == 404, f"the host {name} was answered {answer.status}")
    return "three foreign hosts, three times 404"


@check("tenancy", "keeps two customers apart that share a host, by the longest path, whatever a client claims to be")
async def shared_host(stage: Stage) -> str:
    shared = host("shared")
    first, (one,) = await stage.serving("one", 10_000, customer=ONE, hosts=(shared,), path_prefixes=("/",))
    _, (two,) = await stage.serving("two", 10_000, customer=TWO, hosts=(shared,), path_prefixes=("/two",))
    client = await stage.client()
    claims = {"x_greentic_deployment": first, "x_greentic_revision": one, "x_greentic_tenant": ONE}
    for path, wanted in (("/", one), ("/twofold", one), ("/two", two), ("/two/deeper?/", two), ("/two/../two", two)):
        for headers in ({}, claims):
            answer = await client.get(path, shared, **headers)
            expect(
                answer.revision == wanted or (".." in path and answer.revision is None),
                f"{path} with {sorted(headers)} was answered by {answer.revision or answer.status}, not {wanted}",
            )
    return "five paths, each with and without claims of being the other"


@check("tenancy", "takes a cookie of one customer's deployment for nothing at another's")
async def foreign_cookie(stage: Stage) -> str:
    await stage.serving("one", 10_000, customer=ONE)
    _, (two, three) = await stage.serving("two", 5_000, 5_000, customer=TWO)
    client = await stage.client()
    cookies = (await client.get("/", host("one"))).cookies
    mine = (await client.get("/", host("two"))).cookies
    expect(cookies and mine, "a visitor is given no cookie")
    value = cookies[0].partition("=")[2]
    own = mine[0].partition("=")[0]
    seen = set()
    for _ in range(4):
        answer = await client.get("/", host("two"), Cookie=f"{own}={value}; {cookies[0]}")
        expect(answer.status == 200, f"a foreign cookie was answered {answer.status}")
        seen.add(answer.revision)
    expect(seen == {two, three}, f"a foreign cookie chose the revision: {seen}")
    return "ignored: the visitor is a new one"


@check("tenancy", "grants nothing at one deployment for a preview of another")
async def foreign_preview(stage: Stage) -> str:
    _, (one,) = await stage.serving("one", 10_000, customer=ONE)
    await stage.serving("two", 10_000, customer=TWO)
    token = await stage.deployer.preview(stage.scene.desired, one, 60)
    answer = await (await stage.client()).get(f"/?gt_preview={token}", host("two"))
    expect(answer.revision != one, "a preview of one customer was answered by it at the other's host")
    expect(answer.status in {200, 403}, f"it was answered {answer.status}")
    return f"answered {answer.status}, not by the revision of the other customer"


@check("tenancy", "takes no cookie and no preview that it did not sign: one altered character makes them nothing")
async def nothing_to_guess(stage: Stage) -> str:
    deployment, (old, new) = await stage.serving("one", 10_000, 0)
    client = await stage.client()
    cookie = (await client.get("/", host("one"))).cookies[0]
    grace = PinPolicy(mode=PinMode.GRACE, grace_seconds=PROMISE_SECONDS)
    await stage.move(deployment, {old: 0, new: 10_000}, grace)
    token = await stage.deployer.preview(stage.scene.desired, old, 60)
    genuine = await client.get("/", host("one"), Cookie=cookie)
    expect(genuine.revision == old, f"a promised visitor came to {genuine.revision or genuine.status}")
    for place in (-2, -10, -20):
        answer = await client.get("/", host("one"), Cookie=_altered(cookie, place))
        expect(answer.revision == new, f"a forged promise to stay led to {answer.revision or answer.status}")
        answer = await client.get(f"/?gt_preview={_altered(token, place)}", host("one"))
        expect(answer.revision != old, "a forged preview reached the revision")
    return "three forged promises to stay and three forged previews, each as good as none"


def _altered(text: str, place: int) -> str:
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place:][1:]


@check("tenancy", "keeps serving one customer whatever happens to the other's deployment")
async def neighbours_undisturbed(stage: Stage) -> str:
    first, (one, other) = await stage.serving("one", 10_000, 0, customer=ONE)
    _, (two,) = await stage.serving("two", 10_000, customer=TWO)
    before = await stage.workers(two)
    async with stage.asking("two") as asking:
        await asking.more()
        await stage.move(first, {one: 0, other: 10_000})
        await asking.more()
        await stage.end(one)
        await asking.more()
        stage.scene.cleared(first)
        await stage.apply(first)
        await asking.more()
        await stage.end(other)
        await stage.deployer.reconcile(stage.scene.desired)
        await asking.more()
    wrong = asking.others(two)
    expect(not wrong, f"{len(wrong)} of {len(asking.seen)} requests to the neighbour failed: {wrong[:1]}")
    expect(await stage.workers(two) == before, "the neighbour's worker was replaced")
    return f"moved, drained, cleared and archived beside {len(asking.seen)} requests, all answered by the same worker"
