"""Credentials: what is declared is what is used, and no secret stands where others read."""

from __future__ import annotations

import contextlib

from greentic.conformance.bundles import HEALTHY, SICK
from greentic.conformance.checking import check, expect
from greentic.conformance.recorded import Recorded
from greentic.conformance.scene import host
from greentic.conformance.stage import Stage, refused
from greentic.operations.context import desired
from greentic.spec.errors import NotImplementedYet


@check("credentials", "uses every permission that it declares, and none that it does not")
async def exact_permissions(stage: Stage) -> str:
    await _whole_life(stage)
    await stage.deployer.stop(stage.scene.desired)
    used = {call.permission for call in stage.bench.calls()}
    declared = set(stage.bench.permissions)
    expect(used, "no call to the provider was seen at all")
    expect(used <= declared, f"used but not declared: {', '.join(sorted(used - declared))}")
    expect(declared <= used, f"declared but never used: {', '.join(sorted(declared - used))}")
    return f"{len(stage.bench.calls())} calls, exactly the permissions {', '.join(sorted(used))}"


@check(
    "credentials",
    "shows no secret to others: no argument, object, record, log, progress, error, reading, plan or explanation",
)
async def no_secret_shown(stage: Stage) -> str:
    token = await _whole_life(stage)
    await stage.serving("late", 10_000)  # started when there is something to leak: the routers have their keys
    complaint = await _error(stage)
    desired = stage.scene.desired
    answer = await (await stage.client()).get("/", host("one"))
    told = {f"{one.kind} {one.name}": one.text for one in await stage.things()}
    told["progress"] = "\n".join(stage.said)
    told["observation"] = repr(await stage.observe())
    told["error"] = complaint
    told["plan"] = repr(await stage.deployer.plan(desired))
    with contextlib.suppress(NotImplementedYet):  # a deployer may do without these two
        told["explanation"] = repr(await stage.deployer.explain(desired, answer.headers.get("x-request-id", "none")))
    with contextlib.suppress(NotImplementedYet):
        told["metrics"] = await stage.deployer.metrics(desired)
    secrets = (*stage.bench.secrets(), token)
    for where, text in told.items():
        for number, secret in enumerate(secrets):
            expect(secret not in text, f"the secret number {number} stands in {where}")
    await stage.deployer.stop(desired, stage.say)
    characters = sum(map(len, told.values()))
    return f"{len(secrets)} secrets not found in {len(told)} places, {characters} characters"


@check("credentials", "brings no secret into what the store keeps of a life: document, ledger, audit log")
async def no_secret_recorded(stage: Stage) -> str:
    recorded = Recorded(stage)
    deployment = recorded.deployment("one")
    await recorded.live(deployment, HEALTHY)
    await recorded.live(deployment, HEALTHY, "2.0.0")
    token = await recorded.preview("one", "v1")
    await recorded.retire("one", "v1")
    await refused(recorded.live(deployment, SICK), ("gate-failed", "timeout"), "deploying a sick one")
    kept = recorded.files()
    written = {"environment.json", "audit/events.jsonl"} <= set(kept) and any(
        name.startswith("ledger/") for name in kept
    )
    expect(written, f"the store has written only {', '.join(sorted(kept))}")
    secrets = (*stage.bench.secrets(), token)
    for name, text in kept.items():
        for number, secret in enumerate(secrets):
            expect(secret not in text, f"the secret number {number} stands in the store's {name}")
    await stage.deployer.stop(desired(recorded.context.store.load(recorded.environment_id)), stage.say)
    return f"{len(secrets)} secrets not found in {len(kept)} files of the store after two deploys, a failed one, an end"


@check("credentials", "hands a worker nothing secret that is the operator's or the routers'")
async def worker_is_clean(stage: Stage) -> str:
    await stage.serving("one", 10_000)
    given = (await (await stage.client()).get("/", host("one"))).told["variables"]
    for name, value in given.items():
        for secret in stage.bench.secrets():
            expect(secret not in value, f"the worker was given a secret in its variable {name}")
    return f"{len(given)} variables, none with one of {len(stage.bench.secrets())} secrets"


async def _error(stage: Stage) -> str:
    """What the deployer says of a worker that never gets well, which stays recorded as being warmed."""
    revision = stage.scene.staged(stage.scene.deployment("sick"), SICK)
    await stage.stage(revision)
    stage.scene.warming(revision)
    call = stage.deployer.warm_revision(stage.scene.desired, revision, stage.say)
    error = await refused(call, ("gate-failed", "timeout"), "warming a sick one")
    return f"{error.message}\n{error.details}\n{error.next_step}"


async def _whole_life(stage: Stage) -> str:
    """From nothing to live, a move, a drain, an archive; a preview's token."""
    deployment, (one, two) = await stage.serving("one", 10_000, 0)
    await stage.counts("one", 4)
    token = await stage.deployer.preview(stage.scene.desired, two, 60)
    await (await stage.client()).get(f"/?gt_preview={token}", host("one"))
    await stage.move(deployment, {one: 0, two: 10_000})
    await stage.end(one)
    await stage.deployer.reconcile(stage.scene.desired, stage.say)
    await stage.counts("one", 4)
    return token
