"""Credentials: what is declared is what is used, and no secret stands where others read."""

from __future__ import annotations

from greentic.conformance.checking import check, expect
from greentic.conformance.scene import host
from greentic.conformance.stage import Stage


@check("credentials", "uses every permission that it declares, and none that it does not")
async def exact_permissions(stage: Stage) -> str:
    await _whole_life(stage)
    used = {call.permission for call in stage.bench.calls()}
    declared = set(stage.bench.permissions)
    expect(used, "no call to the provider was seen at all")
    expect(used <= declared, f"used but not declared: {', '.join(sorted(used - declared))}")
    expect(declared <= used, f"declared but never used: {', '.join(sorted(declared - used))}")
    return f"{len(stage.bench.calls())} calls, exactly the permissions {', '.join(sorted(used))}"


@check("credentials", "shows no secret in anything that others can read: arguments, objects, records, logs")
async def no_secret_shown(stage: Stage) -> str:
    await _whole_life(stage)
    world = await stage.things()
    expect(stage.bench.secrets(), "the bench names no secret to look for")
    for thing in world:
        for secret in stage.bench.secrets():
            expect(secret not in thing.text, f"a secret stands in the {thing.kind} {thing.name}")
    characters = sum(len(thing.text) for thing in world)
    return f"{len(stage.bench.secrets())} secrets not found in {len(world)} things, {characters} characters"


@check("credentials", "hands a worker nothing secret that is the operator's or the routers'")
async def worker_is_clean(stage: Stage) -> str:
    await stage.serving("one", 10_000)
    given = (await (await stage.client()).get("/", host("one"))).told["variables"]
    for name, value in given.items():
        for secret in stage.bench.secrets():
            expect(secret not in value, f"the worker was given a secret in its variable {name}")
    return f"{len(given)} variables, none with one of {len(stage.bench.secrets())} secrets"


async def _whole_life(stage: Stage) -> None:
    """From nothing to live, a move, a drain, an archive, and traffic taken away."""
    deployment, (one, two) = await stage.serving("one", 10_000, 0)
    await stage.counts("one", 4)
    await stage.deployer.preview(stage.scene.desired, two, 60)
    await stage.move(deployment, {one: 0, two: 10_000})
    await stage.end(one)
    await stage.deployer.reconcile(stage.scene.desired)
    await stage.counts("one", 4)
