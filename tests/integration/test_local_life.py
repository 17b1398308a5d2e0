"""The local deployer from a first warm to a stop: real processes, real requests."""

from __future__ import annotations

import asyncio
import json
import stat
import tempfile
from pathlib import Path

import pytest
from tests.integration.local_environments import (
    APP,
    DEPLOYMENT,
    SCRIPT,
    V1,
    V2,
    World,
    alive,
    deployment,
    in_world,
    processes_of,
    until_dead,
)

from greentic.envpacks.deployer import DesiredState
from greentic.spec.errors import Conflict, NotFound, ProviderError, SpecViolation


@in_world
async def test_warm_split_and_request(world: World) -> None:
    world.bundle(V1)
    await world.deployer.stage_revision(world.desired, V1)
    await world.warm(V1)
    world.split(v1=10_000)
    receipt = await world.deployer.apply_traffic_split(world.desired, DEPLOYMENT)
    assert (receipt.generation, receipt.acknowledged, receipt.expected, receipt.missing) == (1, 1, 1, ())
    assert 0 < receipt.milliseconds < 1000
    assert await world.get() == (200, b"v1")
    seen = await world.observe()
    found = seen.revisions[V1]
    assert found.healthy
    assert found.process_id is not None
    assert alive(found.process_id)
    assert (found.requests, found.errors, found.restarts, found.in_flight) == (1, 0, 0, 0)
    assert found.p50_ms is not None
    assert found.started_at is not None
    assert seen.routers == 1
    assert seen.generations == {DEPLOYMENT: 1}


@in_world
async def test_a_second_revision_gets_its_share_without_touching_the_first(world: World) -> None:
    world.bundle(V1)
    await world.warm(V1)
    await world.live(v1=10_000)
    first = (await world.observe()).revisions[V1].process_id
    world.bundle(V2)
    await world.warm(V2)
    assert await world.get() == (200, b"v1")
    await world.live(v1=5_000, v2=5_000)
    answers = [await world.get() for _ in range(20)]
    assert answers.count((200, b"v1")) == answers.count((200, b"v2")) == 10
    assert (await world.observe()).revisions[V1].process_id == first


@in_world
async def test_a_preview_reaches_a_ready_revision_without_traffic(world: World) -> None:
    world.bundle(V1)
    world.bundle(V2)
    await world.warm(V1)
    await world.live(v1=10_000)
    with pytest.raises(Conflict, match="warming"):
        await world.deployer.preview(world.desired, V2, 60)
    await world.warm(V2)
    token = await world.deployer.preview(world.desired, V2, 60)
    assert await world.get(f"/?gt_preview={token}") == (200, b"v2")
    assert await world.get() == (200, b"v1")


@in_world
async def test_every_verb_again_changes_nothing(world: World) -> None:
    world.bundle(V1)
    await world.warm(V1)
    await world.live(v1=10_000)
    before = await world.observe()
    await world.deployer.stage_revision(world.desired, V1)
    await world.deployer.warm_revision(world.desired, V1)
    await world.deployer.apply_traffic_split(world.desired, DEPLOYMENT)
    await world.deployer.reconcile(world.desired)
    after = await world.observe()
    assert after == before


@in_world
async def test_a_process_of_any_kind_runs_on_its_port(world: World) -> None:
    application = {"kind": "process", "command": ["./server", "--port=${PORT}"]}
    world.bundle(V1, {"server": SCRIPT}, application, health="/")
    await world.warm(V1)
    await world.live(v1=10_000)
    status, body = await world.get()
    assert status == 200
    assert body.startswith(b"process --port=")
    assert body.removeprefix(b"process --port=").isdigit()


def test_a_worker_knows_who_it_is_and_nothing_of_the_operator() -> None:
    async def scenario(folder: Path) -> None:
        operator = {"PATH": "/usr/bin:/bin", "HOME": "/home/x", "AWS_SECRET_ACCESS_KEY": "hunter2", "LC_ALL": "C.UTF-8"}
        world = World.new(folder, operator)
        try:
            world.bundle(V1, parameters={"greeting": "hello", "limit": 3})
            await world.warm(V1)
            await world.live(v1=10_000)
            found = json.loads((await world.get("/environment"))[1])
            assert "hunter2" not in json.dumps(found)
            port, config = found.pop("PORT"), found.pop("GREENTIC_CONFIG_FILE")
            assert port.isdigit()
            assert found.pop("GREENTIC_STATE_URL").startswith("http://127.0.0.1:")
            assert len(found.pop("GREENTIC_STATE_TOKEN")) >= 43
            assert found == {
                "PATH": "/usr/bin:/bin",
                "HOME": "/home/x",
                "LC_ALL": "C.UTF-8",
                "HOST": "127.0.0.1",
                "GREENTIC_ENV_ID": "local",
                "GREENTIC_REVISION_ID": V1,
                "GREENTIC_REVISION_NAME": "v1",
                "GREENTIC_DEPLOYMENT_ID": DEPLOYMENT,
                "GREENTIC_BUNDLE_ID": "web",
                "GREENTIC_BUNDLE_DIGEST": "sha256:" + "0" * 64,
                "GREENTIC_BUNDLE_VERSION": "1.0.0",
                "GREENTIC_CUSTOMER_ID": "acme",
                "GREENTIC_TENANT": "t1",
                "GREENTIC_TEAM": "blue",
            }
            assert json.loads((await world.get("/parameters"))[1]) == {"greeting": "hello", "limit": 3}
            assert stat.S_IMODE(Path(config).stat().st_mode) == 0o600
            runtime = Path(f"/proc/{world.runtime_pid()}/environ").read_bytes()
            assert b"hunter2" not in runtime
        finally:
            await world.deployer.stop(world.desired)

    with tempfile.TemporaryDirectory(prefix="gt-") as name:
        asyncio.run(scenario(Path(name)))


@in_world
async def test_everything_on_disk_is_private(world: World) -> None:
    world.bundle(V1)
    await world.warm(V1)
    await world.live(v1=10_000)
    (world.folder / "logs").chmod(0o755)
    private = ["router-keys.json", "run/control.sock", "run/desired.json", "run/runtime.lock", "logs/runtime.log"]
    private += [f"logs/revisions/{V1}.log"]
    modes = {name: stat.S_IMODE((world.folder / name).stat().st_mode) for name in private}
    assert modes == dict.fromkeys(private, 0o600)
    assert stat.S_IMODE((world.folder / "run").stat().st_mode) == 0o700
    secret = json.loads((world.folder / "router-keys.json").read_text())["ring"][0]["secret"]
    for path in [*(world.folder / "logs").rglob("*.log"), *(world.folder / "run").rglob("*.json")]:
        assert secret not in path.read_text()


@in_world
async def test_stop_leaves_nothing_and_may_be_asked_again(world: World) -> None:
    world.bundle(V1)
    await world.warm(V1)
    await world.live(v1=10_000)
    runtime = world.runtime_pid()
    worker = (await world.observe()).revisions[V1].process_id
    assert worker is not None
    assert await world.deployer.stop(world.desired) is True
    assert not alive(runtime)
    assert not alive(worker)
    assert processes_of(world.folder) == []
    assert await world.deployer.stop(world.desired) is False
    seen = await world.observe()
    assert (seen.running, seen.revisions[V1].state) == (False, "absent")
    await world.deployer.reconcile(world.desired)
    assert await world.get() == (200, b"v1")


@in_world
async def test_observing_starts_nothing(world: World) -> None:
    world.bundle(V1)
    seen = await world.observe()
    assert (seen.running, seen.url, seen.revisions[V1].state) == (False, None, "absent")
    assert processes_of(world.folder) == []
    assert not (world.folder / "run").exists()


@in_world
async def test_a_chosen_port_is_kept(world: World) -> None:
    first = (await world.deployer.reconcile(world.desired)).url
    await world.deployer.stop(world.desired)
    assert (await world.deployer.reconcile(world.desired)).url == first


@in_world
async def test_a_taken_port_is_named_and_nothing_stays(world: World) -> None:
    taken = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    world.record(lambda document: document["host_config"].update(listen_addr=f"127.0.0.1:{port}"))
    with pytest.raises(ProviderError) as caught:
        await world.deployer.reconcile(world.desired)
    assert f"127.0.0.1:{port}" in caught.value.message
    assert "in use" in caught.value.message
    assert "gtc op env update local --listen-addr" in str(caught.value.next_step)
    assert processes_of(world.folder) == []
    taken.close()
    await taken.wait_closed()
    assert (await world.deployer.reconcile(world.desired)).url == f"http://127.0.0.1:{port}"


@in_world
async def test_the_router_moves_to_another_address(world: World) -> None:
    world.bundle(V1)
    await world.warm(V1)
    await world.live(v1=10_000)
    worker = (await world.observe()).revisions[V1].process_id
    free = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = free.sockets[0].getsockname()[1]
    free.close()
    await free.wait_closed()
    world.record(lambda document: document["host_config"].update(listen_addr=f"127.0.0.1:{port}"))
    seen = await world.deployer.reconcile(world.desired)
    assert seen.url == f"http://127.0.0.1:{port}"
    assert await world.get() == (200, b"v1")
    assert seen.revisions[V1].process_id == worker


@in_world
async def test_two_that_start_it_at_once_share_one_runtime(world: World) -> None:
    world.bundle(V1)
    world.bundle(V2)
    await asyncio.gather(
        world.deployer.warm_revision(world.desired, V1),
        world.deployer.warm_revision(world.desired, V2),
        world.deployer.reconcile(world.desired),
    )
    runtime = world.runtime_pid()
    started = [line for line in world.log().splitlines() if '"started"' in line]
    assert len(started) == 1
    others = [process for process in processes_of(world.folder) if process != runtime and _is_runtime(process)]
    await until_dead(*others)  # who lost the race ends by itself
    seen = await world.observe()
    assert {found.state for found in seen.revisions.values()} == {"healthy"}


def _is_runtime(process: int) -> bool:
    return b"providers.local.runtime" in Path(f"/proc/{process}/cmdline").read_bytes()


@in_world
async def test_archive_ends_one_worker_and_leaves_its_neighbour(world: World) -> None:
    world.bundle(V1)
    world.bundle(V2)
    await world.warm(V1)
    await world.warm(V2)
    await world.live(v1=10_000)
    before = await world.observe()
    gone = before.revisions[V2].process_id
    assert gone is not None
    world.lifecycle(V2, "archived")
    await world.deployer.archive_revision(world.desired, V2)
    await world.deployer.archive_revision(world.desired, V2)
    await until_dead(gone)
    after = await world.observe()
    assert V2 not in after.revisions
    assert after.revisions[V1].process_id == before.revisions[V1].process_id
    assert not (world.folder / "run" / "workers" / V2).exists()
    assert (world.folder / "logs" / "revisions" / f"{V2}.log").exists()


@in_world
async def test_archive_and_drain_of_a_stopped_environment_start_nothing(world: World) -> None:
    world.bundle(V1, lifecycle="draining")
    report = await world.deployer.drain_revision(world.desired, V1)
    assert (report.finished, report.cut) == (0, 0)
    await world.deployer.archive_revision(world.lifecycle(V1, "archived"), V1)
    assert processes_of(world.folder) == []


@in_world
async def test_reconcile_ends_what_the_record_no_longer_has(world: World) -> None:
    world.bundle(V1)
    await world.warm(V1)
    worker = (await world.observe()).revisions[V1].process_id
    assert worker is not None
    await world.deployer.reconcile(world.lifecycle(V1, "failed"))
    await until_dead(worker)


@in_world
async def test_another_deployment_keeps_its_workers_and_its_traffic(world: World) -> None:
    other = "01J00000000000000000000D02"
    theirs = "01J00000000000000000000R07"
    world.record(lambda document: document["bundles"].append(deployment(other, "shop", "bcme", ["/shop"])))
    world.bundle(V1)
    world.bundle(
        theirs, {"main.py": APP.replace('os.environ["GREENTIC_REVISION_NAME"]', "'shop'")}, deployment_id=other
    )
    await world.warm(V1)
    await world.warm(theirs)
    world.split(other, v7=10_000)
    await world.deployer.apply_traffic_split(world.desired, other)
    await world.live(v1=10_000)
    before = await world.observe()
    assert await world.get("/shop") == (200, b"shop")
    assert await world.get("/") == (200, b"v1")
    world.lifecycle(V1, "draining")
    world.record(lambda document: document.update(traffic_splits=document["traffic_splits"][:1]))
    await world.deployer.drain_revision(world.desired, V1)
    await world.deployer.archive_revision(world.lifecycle(V1, "archived"), V1)
    after = await world.observe()
    assert after.revisions[theirs].process_id == before.revisions[theirs].process_id
    assert await world.get("/shop") == (200, b"shop")
    assert (await world.get("/"))[0] >= 400


@in_world
async def test_preconditions_are_refused_before_anything_starts(world: World) -> None:
    world.bundle(V1, lifecycle="ready")
    for verb in ("stage_revision", "warm_revision", "drain_revision", "archive_revision"):
        with pytest.raises(NotFound):
            await getattr(world.deployer, verb)(world.desired, "01J00000000000000000000R99")
    with pytest.raises(NotFound):
        await world.deployer.apply_traffic_split(world.desired, "01J00000000000000000000D99")
    world.split(v1=9_999)
    with pytest.raises(SpecViolation):
        await world.deployer.apply_traffic_split(world.desired, DEPLOYMENT)
    assert processes_of(world.folder) == []


@in_world
async def test_an_older_record_does_not_undo_a_newer_one(world: World) -> None:
    world.bundle(V1)
    world.bundle(V2)
    await world.warm(V1)
    await world.warm(V2)
    await world.live(v1=10_000)
    older = world.desired
    await world.live(v2=10_000)
    receipt = await world.deployer.apply_traffic_split(older, DEPLOYMENT)
    assert receipt.generation == 2
    await world.deployer.reconcile(older)
    assert await world.get() == (200, b"v2")
    assert json.loads((world.folder / "run" / "desired.json").read_text())["generation"] == world.desired.generation


@in_world
async def test_serving_in_the_foreground(world: World) -> None:
    world.bundle(V1, lifecycle="ready")
    world.split(v1=10_000)
    told: list[str] = []
    serving = asyncio.create_task(world.deployer.serve(world.desired, told.append))
    await world.until(lambda seen: seen.running and seen.revisions[V1].healthy and seen.routers)
    assert await world.get() == (200, b"v1")
    with pytest.raises(Conflict, match="served already"):
        await world.deployer.serve(world.desired)
    assert await world.deployer.stop(world.desired) is True
    await serving
    assert any("http://127.0.0.1" in line for line in told)


@in_world
async def test_a_cleared_split_is_acknowledged_too(world: World) -> None:
    world.bundle(V1)
    await world.warm(V1)
    await world.live(v1=10_000)

    def clear(document: dict) -> None:
        document["traffic_splits"] = []
        document["bundles"][0]["traffic_generation"] = 2

    world.record(clear)
    receipt = await world.deployer.apply_traffic_split(world.desired, DEPLOYMENT)
    assert receipt.generation == 2
    assert (await world.get())[0] >= 400


@in_world
async def test_a_foreign_record_is_refused(world: World) -> None:
    await world.deployer.reconcile(world.desired)
    document = world.desired.environment.to_json() | {"environment_id": "other", "bundles": []}
    document["host_config"]["env_id"] = "other"
    foreign = DesiredState(type(world.desired.environment).model_validate(document), 99)
    with pytest.raises(Conflict, match="of the environment 'local'"):
        await world.deployer.reconcile(foreign)
