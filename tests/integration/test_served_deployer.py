"""The local deployer on the other side of the wire passes the very tests that it passes in the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.integration import test_local_drain, test_local_failures, test_local_life
from tests.integration.executable_packs import SERVED, installed
from tests.integration.local_environments import V1, V2, World, get, in_world

from greentic.envpacks.subprocess import SubprocessDeployer

LIFE = test_local_life
DRAIN = test_local_drain
FAILURES = test_local_failures
SCENARIOS = (
    LIFE.test_warm_split_and_request,
    LIFE.test_a_preview_reaches_a_ready_revision_without_traffic,
    LIFE.test_every_verb_again_changes_nothing,
    LIFE.test_archive_ends_one_worker_and_leaves_its_neighbour,
    LIFE.test_preconditions_are_refused_before_anything_starts,
    LIFE.test_an_older_record_does_not_undo_a_newer_one,
    LIFE.test_serving_in_the_foreground,
    DRAIN.test_the_deadline_of_a_drain_cuts,
    DRAIN.test_what_has_traffic_is_not_drained,
    FAILURES.test_an_application_that_raises_on_import,
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.__name__)
def test_the_same_over_the_wire(scenario: Callable[[], None], tmp_path: Path) -> None:
    executable = installed(tmp_path, SERVED)
    in_world(scenario.scenario, partial(SubprocessDeployer, executable))()  # type: ignore[attr-defined]
    left = list((tmp_path / "env-packs" / ".running").iterdir())
    assert [one.name for one in left] == [".lock"], "each call takes its own copy away"


def test_every_verb_of_the_contract_is_spoken() -> None:
    from greentic.envpacks.wire import verbs

    assert [verb for verb in verbs() if not asyncio.iscoroutinefunction(getattr(SubprocessDeployer, verb, None))] == []


def test_shares_drain_and_cancellation(tmp_path: Path) -> None:
    executable = installed(tmp_path, SERVED)

    async def scenario(world: World) -> None:
        for revision in (V1, V2):
            world.bundle(revision, drain_seconds=30)
            await world.warm(revision)
        assert any("starting the runtime" in line for line in world.progress), "progress travels"
        await world.live(v1=5_000, v2=5_000)
        seen = await world.observe()
        port = int((seen.url or "").rpartition(":")[2])
        assert sorted([await get(port) for _ in range(20)]) == [(200, b"v1")] * 10 + [(200, b"v2")] * 10
        await world.live(v1=10_000)
        slow = asyncio.create_task(get(port, "/slow/8", seconds=40))
        await world.until(lambda seen: seen.revisions[V1].in_flight == 1)
        await world.live(v2=10_000)
        world.lifecycle(V1, "draining")
        first = asyncio.create_task(world.deployer.drain_revision(world.desired, V1, world.progress.append))
        while not any("in flight" in line for line in world.progress):
            assert not slow.done()
            await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        report = await world.deployer.drain_revision(world.desired, V1)
        assert (report.finished, report.cut) == (1, 0)
        assert await slow == (200, b"v1")
        assert await get(port) == (200, b"v2")
        again = (await world.observe()).revisions
        assert again[V2].process_id == seen.revisions[V2].process_id, "a worker outlives the calls"

    in_world(scenario, partial(SubprocessDeployer, executable))()
