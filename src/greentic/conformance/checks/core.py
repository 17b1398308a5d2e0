"""Core: the verbs, said once and said twice, and what is there afterwards."""

from __future__ import annotations

from collections.abc import Mapping

from greentic.conformance.bundles import HEALTHY, LATE_SECONDS, SICK
from greentic.conformance.checking import check, expect
from greentic.conformance.scene import host
from greentic.conformance.stage import Stage, eventually, refused, uncalled
from greentic.spec.errors import GreenticError
from greentic.spec.traffic import TrafficSplit

UNKNOWN = "0000000000000000000000ZZZZ"


@check("core", "can be told twice to stage: nothing is there twice, and nothing runs yet")
async def stage_twice(stage: Stage) -> str:
    revision = stage.scene.staged(stage.scene.deployment("one"))
    await stage.stage(revision)
    before = await stage.lasting()
    await stage.stage(revision)
    expect(await stage.lasting() == before, "staging again changed the provider")
    expect(not await stage.things("worker"), "a worker runs although the revision was only staged")
    return f"{len(before)} things after the first and after the second, no worker among them"


@check("core", "makes exactly one worker of a revision, however often it is warmed")
async def warm_twice(stage: Stage) -> str:
    revision = stage.scene.staged(stage.scene.deployment("one"))
    await stage.stage(revision)
    stage.scene.warming(revision)
    await stage.deployer.warm_revision(stage.scene.desired, revision)
    first = await stage.workers(revision)
    expect(len(first[revision]) == 1, f"after warming there are {len(first[revision])} workers of the revision")
    before = await stage.lasting()
    await stage.deployer.warm_revision(stage.scene.desired, revision)
    expect(await stage.workers(revision) == first, "warming again replaced or doubled the worker")
    expect(await stage.lasting() == before, "warming again changed the provider")
    return f"one worker, {first[revision][0]}, before and after"


@check("core", "returns from warming, and from starting it anew, only when the worker answers")
async def warm_waits(stage: Stage) -> str:
    late = {HEALTHY: {"late_seconds": LATE_SECONDS}}
    deployment = stage.scene.deployment("one", overrides=late)
    revision = await stage.warmed(deployment)
    await stage.move(deployment, {revision: 10_000})
    answer = await (await stage.client()).get("/", host("one"))
    expect(answer.revision == revision, f"a warmed revision answered with status {answer.status}")
    age = float(answer.told["age"])
    expect(age >= LATE_SECONDS, f"it was called warm {age:.2f} s after its start, before it was well")
    await stage.deployer.stop(stage.scene.desired)
    await stage.deployer.reconcile(stage.scene.desired)
    answer = await (await stage.client()).get("/", host("one"))
    expect(answer.revision == revision, f"right after a reconcile the worker answers with status {answer.status}")
    return f"well after {LATE_SECONDS} s, served first {age:.2f} s after its start, and right after a new start"


@check(
    "core", "fails the gate of a worker that never gets well, with the worker's own words, and keeps nothing running"
)
async def warm_fails(stage: Stage) -> str:
    revision = stage.scene.staged(stage.scene.deployment("one"), SICK)
    await stage.stage(revision)
    stage.scene.warming(revision)
    error = await refused(
        stage.deployer.warm_revision(stage.scene.desired, revision), ("gate-failed", "timeout"), "warming a sick one"
    )
    told = f"{error.message} {error.details}"
    expect("database of the worker" in told, f"the worker said why, the deployer says only: {error.message}")
    expect(not (await stage.workers(revision))[revision], "the worker that failed its gate still runs")
    return error.message


@check("core", "ends the worker of a drained revision, and says the same of it a second time")
async def drain_twice(stage: Stage) -> str:
    deployment, (old, new) = await stage.serving("one", 0, 10_000)
    stage.scene.draining(old)
    await stage.deployer.drain_revision(stage.scene.desired, old)
    expect(not (await stage.workers(old))[old], "the drained revision's worker still exists")
    before = await stage.lasting()
    await stage.deployer.drain_revision(stage.scene.desired, old)
    expect(await stage.lasting() == before, "draining again changed the provider")
    expect((await stage.counts("one", 5))[new] == 5, "the other revision does not serve any more")
    return f"no worker of the drained revision; {deployment} serves on"


@check("core", "leaves nothing of an archived revision, drained before or not, and touches no neighbour")
async def archive_leaves_nothing(stage: Stage) -> str:
    _, (drained, running, new) = await stage.serving("one", 0, 0, 10_000)
    _, (other,) = await stage.serving("two", 10_000, customer="customer-two")
    neighbours = await stage.workers(new, other)
    await stage.end(drained)
    await stage.archive(running)
    for revision in (drained, running):
        await stage.deployer.archive_revision(stage.scene.desired, revision)
        left = [f"{one.kind} {one.name}" for one in await stage.things(owner=revision) if one.kind != "trace"]
        expect(not left, f"left of the archived revision: {', '.join(left)}")
    expect(await stage.workers(new, other) == neighbours, "a neighbour's worker was ended or replaced")
    expect((await stage.counts("two", 3))[other] == 3, "the neighbour does not serve any more")
    return "nothing but traces left of two revisions, both neighbours the same processes as before"


@check("core", "knows no revision that is not recorded, and calls nobody for it")
async def unknown_revision(stage: Stage) -> str:
    await stage.serving("one", 10_000)
    made = len(stage.bench.calls())
    for verb in ("stage", "warm", "drain", "archive"):
        call = getattr(stage.deployer, f"{verb}_revision")(stage.scene.desired, UNKNOWN)
        await refused(call, ("not-found",), f"{verb} of an unknown revision")
    uncalled(stage, made)
    return "not-found from all four verbs, no call to the provider"


@check("core", "refuses a split that does not sum to 10,000, and calls nobody for it")
async def wrong_sum(stage: Stage) -> str:
    deployment, (revision,) = await stage.serving("one", 10_000)
    state = stage.scene.desired
    split = _reweighed(state.split(deployment))
    environment = state.environment.model_copy(update={"traffic_splits": (split,)})
    wrong = type(state)(environment, state.generation + 1)
    made = len(stage.bench.calls())
    await refused(stage.deployer.apply_traffic_split(wrong, deployment), ("spec",), "a split of 9,000 basis points")
    uncalled(stage, made)
    expect((await stage.counts("one", 3))[revision] == 3, "the live split does not serve any more")
    return "refused, no call to the provider"


@check("core", "finds no split of a deployment that is not recorded, and calls nobody for it")
async def missing_split(stage: Stage) -> str:
    await stage.serving("one", 10_000)
    made = len(stage.bench.calls())
    call = stage.deployer.apply_traffic_split(stage.scene.desired, UNKNOWN)
    await refused(call, ("not-found",), "the split of an unknown deployment")
    uncalled(stage, made)
    return "not-found, no call to the provider"


@check("core", "applies each of two splits twice, and tells of the one that it was asked for")
async def apply_twice(stage: Stage) -> str:
    names = [(await stage.serving(name, 10_000))[0] for name in ("one", "two")]
    before = await stage.lasting()
    for deployment in (*names, *names):
        receipt = await stage.apply(deployment)
        generation = stage.scene.desired.split(deployment).generation
        told = (receipt.deployment_id, receipt.generation)
        expect(
            told == (deployment, generation), f"asked to apply {(deployment, generation)}, its receipt is for {told}"
        )
    expect(await stage.lasting() == before, "applying the same splits again changed the provider")
    seen = (await stage.observe()).generations
    wrong = {one: seen.get(one) for one in names if seen.get(one) != stage.scene.desired.split(one).generation}
    expect(not wrong, f"generations are observed that are not the recorded ones: {wrong}")
    return f"four receipts, each its own; {len(before)} things, the same before and after"


@check("core", "changes nothing when the whole record is said again")
async def reconcile_twice(stage: Stage) -> str:
    await stage.serving("one", 7_500, 2_500)
    await stage.serving("two", 10_000, customer="customer-two")
    await stage.deployer.reconcile(stage.scene.desired)
    before = await stage.lasting()
    await stage.deployer.reconcile(stage.scene.desired)
    expect(await stage.lasting() == before, "reconciling what is right changed the provider")
    return f"{len(before)} things, the same before and after"


@check("core", "tells what a reconcile would change, changes nothing for it, and does just that when it is told to")
async def plan_tells_and_changes_nothing(stage: Stage) -> str:
    deployment, (staying, leaving) = await stage.serving("one", 10_000, 0)
    coming = stage.scene.staged(deployment, HEALTHY, "3.0.0")
    await stage.stage(coming)
    await stage.deployer.reconcile(stage.scene.desired)
    await _planned(stage, {}, "after a reconcile")
    stays = await stage.workers(staying)
    stage.scene.draining(leaving)
    stage.scene.drained(leaving)
    stage.scene.warming(coming)
    await _planned(stage, {coming: "start", leaving: "end"}, "with one worker to start and one too many")
    await stage.deployer.reconcile(stage.scene.desired)

    async def done() -> bool:
        world = await stage.workers(staying, leaving, coming)
        return {name: len(those) for name, those in world.items()} == {staying: 1, leaving: 0, coming: 1}

    await eventually(done, "reconciling did not start and end the workers that the plan told of")
    expect(await stage.workers(staying) == stays, "reconciling replaced a worker that the plan did not tell of")
    await _planned(stage, {}, "after that reconcile")
    await stage.deployer.stop(stage.scene.desired)
    await stage.enter()
    await _planned(stage, {staying: "start", coming: "start"}, "after a stop")
    return "one to start, one to end, then nothing; two after a stop; the world the same before and after each plan"


async def _planned(stage: Stage, workers: Mapping[str, str], when: str) -> None:
    """Ask for the plan: it tells of these workers and no others, of nothing at all when there are none, and the
    provider is as it was. Calls that `observe` makes too only look."""
    before, made = await stage.lasting(), len(stage.bench.calls())
    await stage.observe()
    looks = {one.permission for one in stage.bench.calls()[made:]}
    made = len(stage.bench.calls())
    changes = (await stage.deployer.plan(stage.scene.desired)).changes
    calls = [f"{one.permission} {one.target}" for one in stage.bench.calls()[made:] if one.permission not in looks]
    expect(not calls, f"the plan called the provider {when}: {', '.join(calls[:5])}")
    expect(await stage.lasting() == before, f"the plan changed the provider {when}")
    told = {one.name: one.action for one in changes if one.kind == "worker"}
    expect(told == workers, f"{when} the plan tells of the workers {told}, not of {dict(workers)}")
    expect(workers or not changes, f"{when} the plan tells of {[f'{one.action} {one.name}' for one in changes]}")


@check("core", "ends everything that runs when it is stopped, and brings it back from the record alone")
async def reconcile_mends(stage: Stage) -> str:
    _, (one, two) = await stage.serving("one", 5_000, 5_000)
    await stage.deployer.stop(stage.scene.desired)
    left = [f"{one.kind} {one.name}" for one in await stage.things() if one.kind not in {"trace", "record"}]
    expect(not left, f"after the stop there is still {', '.join(left)}")
    await stage.enter()
    await stage.deployer.reconcile(stage.scene.desired)
    counted = await stage.counts("one", 4)
    expect((counted[one], counted[two]) == (2, 2), f"after a stop and a reconcile the shares are {dict(counted)}")
    return "stopped: no process and no socket; reconciled by another process of the tool: serving"


@check("core", "does not go back to an older record")
async def older_record(stage: Stage) -> str:
    deployment, (one, two) = await stage.serving("one", 10_000, 0)
    old = stage.scene.desired
    await stage.move(deployment, {one: 0, two: 10_000})
    try:
        await stage.deployer.apply_traffic_split(old, deployment)
    except GreenticError as error:
        expect(error.kind == "conflict", f"an older record is refused as {error.kind}: {error.message}")
        told = f"refused: {error.message}"
    else:
        told = "left alone"
    expect((await stage.counts("one", 5))[two] == 5, "an older record undid the newer")
    return f"the older record was {told}"


@check("core", "names where it can be reached, and is reached there")
async def discovered_values(stage: Stage) -> str:
    _, (revision,) = await stage.serving("one", 10_000)
    seen = await stage.observe()
    expect(seen.running and seen.url, "the deployer says that nothing runs")
    answer = await (await stage.client()).get("/where", host("one"))
    expect(answer.revision == revision, f"{seen.url} answers with status {answer.status}")
    state = seen.revisions.get(revision)
    expect(state is not None and state.healthy, f"the serving revision is observed as {state and state.state}")
    return f"{seen.url} answers for {revision}"


@check("core", "gives a worker the parameters that were frozen with it, and never those of later answers")
async def frozen_parameters(stage: Stage) -> str:
    deployment = stage.scene.deployment("one", overrides={HEALTHY: {"greeting": "first"}})
    revision = await stage.warmed(deployment)
    await stage.move(deployment, {revision: 10_000})
    said = await _greeting(stage)
    expect(said == "first", f"the worker was given the greeting {said!r}, frozen was 'first'")
    stage.scene.configure(deployment, {HEALTHY: {"greeting": "second"}})
    await stage.stage(revision)
    await stage.deployer.warm_revision(stage.scene.desired, revision)
    await stage.deployer.stop(stage.scene.desired)
    await stage.deployer.reconcile(stage.scene.desired)
    said = await _greeting(stage)
    expect(said == "first", f"a revision frozen with 'first' runs with {said!r} after new answers")
    later = await stage.warmed(deployment, "2.0.0")
    await stage.move(deployment, {revision: 0, later: 10_000})
    said = await _greeting(stage)
    expect(said == "second", f"a revision that was staged with 'second' runs with {said!r}")
    return "'first' before and after new answers, a stop and a new start; 'second' for what was staged later"


@check("core", "leaves nothing when everything is taken away")
async def destroy_leaves_nothing(stage: Stage) -> str:
    deployment, revisions = await stage.serving("one", 5_000, 5_000)
    stage.scene.cleared(deployment)
    await stage.apply(deployment)
    for revision in revisions:
        await stage.end(revision)
    await stage.deployer.stop(stage.scene.desired)
    left = [f"{one.kind} {one.name}" for one in await stage.things() if one.kind != "trace"]
    expect(not left, f"left after the end: {', '.join(left)}")
    expect(not await stage.deployer.stop(stage.scene.desired), "there was something to end a second time")
    return "no worker, no router, no socket, no record"


async def _greeting(stage: Stage) -> object:
    answer = await (await stage.client()).get("/", host("one"))
    expect(answer.revision, f"nobody answers: status {answer.status}")
    return answer.told["config"].get("greeting")


def _reweighed(split: TrafficSplit) -> TrafficSplit:
    entries = tuple(entry.model_copy(update={"weight_bps": 9_000}) for entry in split.entries)
    return split.model_copy(update={"entries": entries, "generation": split.generation + 1, "slots": ()})
