"""Schedules driven in virtual time: the real engine and store, and a deployer that stands at its contract."""

from __future__ import annotations

import asyncio
import itertools
from asyncio import CancelledError
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.property.manifest_scene import FakeDeployer, World
from tests.property.strategies import ulid

from greentic.engine.command import Command
from greentic.engine.slots import table
from greentic.envpacks.deployer import (
    Deployer,
    DeployerContext,
    DesiredState,
    Observation,
    Progress,
    Receipt,
    RevisionObservation,
    silent,
)
from greentic.envpacks.registry import EnvPack, Registry
from greentic.operations import driver_lock, schedules, traffic
from greentic.operations.context import Context
from greentic.spec.capabilities import Slot
from greentic.spec.errors import Conflict, GateFailed, InvalidArgument, TimedOut
from greentic.spec.payloads import DEFAULT_PACKS
from greentic.spec.schedule import ErrorRate, ScheduleState, TrafficSchedule, WorkersHealthy
from greentic.spec.verbs import find
from greentic.store.clock import timestamp
from greentic.store.files import FilesStore

ENV = "local"
GATES = (WorkersHealthy(), ErrorRate(limit_bps=100, min_requests=20))
STEPS = [100, 1_000, 5_000, 10_000]


@dataclass
class Seen:
    """What the world shows of each revision; tests change it."""

    state: dict[str, str] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    workers: dict[str, tuple[int, int]] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    missing: bool = False
    running: bool = True


class Watched(FakeDeployer):
    """The fake of the manifests' tests, showing what `seen` says."""

    def __init__(self, world: World, seen: Seen) -> None:
        super().__init__(world)
        self.seen = seen

    async def observe(self, desired: DesiredState) -> Observation:
        if not self.seen.running:
            return Observation(running=False)
        revisions = {
            one.revision_id: RevisionObservation(
                one.revision_id,
                self.seen.state.get(one.revision_id, "healthy"),
                requests=self.seen.requests.get(one.revision_id, 0),
                errors=self.seen.errors.get(one.revision_id, 0),
                restarts=self.seen.restarts.get(one.revision_id, 0),
                ready_workers=self.seen.workers.get(one.revision_id, (1, 1))[0],
                wanted_workers=self.seen.workers.get(one.revision_id, (1, 1))[1],
            )
            for one in desired.environment.revisions
        }
        return Observation(True, "http://127.0.0.1:1", 1, {}, revisions)

    async def reconcile(self, desired: DesiredState, progress: Progress = silent) -> Observation:
        self.seen.running = True
        return await self.observe(desired)

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        if self.seen.missing:
            raise TimedOut("router-1 did not take the new table")
        return await super().apply_traffic_split(desired, deployment_id, progress)


class Scene:
    """`web` with v1 live and v2 ready, a clock that only sleeping moves, and events at seconds of it."""

    def __init__(self, folder: Path) -> None:
        self.at = datetime(2026, 7, 24, 10, tzinfo=UTC)
        self.began = self.at
        self.minted = itertools.count(1)
        self.seen = Seen()
        self.lines: list[str] = []
        self.events: list[tuple[float, Callable[[], Any]]] = []
        self.store = FilesStore(folder, clock=lambda: self.at)
        self.deployment = ulid(next(self.minted))
        packs = [pack.to_json() for pack in DEFAULT_PACKS]
        self.do("env create", environment_id=ENV, name=ENV, packs=packs)
        self.do("bundles add", deployment_id=self.deployment, bundle_id="web", customer_id="acme")
        self.old, self.new, self.third = self.ready(), self.ready(), ""
        asyncio.run(traffic.set_split(self.context(), ENV, "web", [("v1", 10_000)]))

    def do(self, name: str, /, **payload: Any) -> Any:
        noun, _, verb = name.partition(" ")
        parsed = find(noun, verb).payload().model_validate(payload)
        return self.store.apply(Command(ENV, noun, verb, parsed, self.mint(), "tester"))

    def ready(self) -> str:
        revision_id = self.mint()
        self.do(
            "revisions stage",
            revision_id=revision_id,
            deployment_id=self.deployment,
            bundle_digest="sha256:" + "ab" * 32,
            pack_list=[],
            pack_list_lock_ref=f"revisions/{revision_id}/pack-list.lock",
            config_digest="sha256:" + "ef" * 32,
        )
        self.do("revisions warm", revision_id=revision_id, health_gate={"ok": True})
        return revision_id

    def mint(self) -> str:
        return ulid(next(self.minted))

    def context(self, **options: Any) -> Context:
        def deployer(_: DeployerContext) -> Deployer:
            return Watched(World(), self.seen)

        path = "greentic.deployer.local-process"
        packs = Registry({path: lambda: EnvPack(path, Slot.DEPLOYER, "^0.1.0", "fake", deployer=deployer)})
        surroundings = Context(
            store=self.store,
            registry=packs,
            actor="tester",
            by="ops",
            now=lambda: timestamp(self.at),
            mint=self.mint,
            progress=self.lines.append,
            sleep=self.sleep,
        )
        return replace(surroundings, **options)

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.at += timedelta(seconds=seconds)
        due = [event for event in self.events if event[0] <= self.elapsed]
        self.events = [event for event in self.events if event[0] > self.elapsed]
        for _, event in due:
            found = event()
            if found is not None:
                await found

    @property
    def elapsed(self) -> float:
        return (self.at - self.began).total_seconds()

    def after(self, seconds: float, event: Callable[[], Any]) -> None:
        self.events.append((seconds, event))

    async def begin(self, steps: list[int] | None = STEPS, over: float = 600, **options: Any) -> dict[str, Any]:
        own = {name: options.pop(name) for name in ("key", "dry_run") if name in options}
        return await schedules.begin(
            self.context(**own),
            ENV,
            "web",
            [("v2", 10_000)],
            steps=steps,
            over_seconds=over,
            gates=GATES,
            **options,
        )

    def run(self, **options: Any) -> dict[str, Any]:
        return asyncio.run(self.begin(**options))

    @property
    def schedule(self) -> TrafficSchedule:
        found = self.store.load(ENV).environment.schedule(self.deployment)
        assert found is not None
        return found

    @property
    def shares(self) -> dict[str, int]:
        split = self.store.load(ENV).environment.split(self.deployment)
        assert split is not None
        names = {self.old: "v1", self.new: "v2", self.third: "v3"}
        return {names[entry.revision_id]: entry.weight_bps for entry in split.entries if entry.weight_bps}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "envs")


def test_each_step_is_held_for_its_time_and_the_last_one_too(scene: Scene) -> None:
    moves: list[tuple[float, dict[str, int]]] = []
    for second in (1, 149, 151, 299, 301, 449, 451, 599):
        scene.after(second, lambda: moves.append((scene.elapsed, scene.shares)))
    told = scene.run()
    assert scene.elapsed == 600
    assert moves == [
        (1, {"v2": 100, "v1": 9_900}),
        (149, {"v2": 100, "v1": 9_900}),
        (151, {"v2": 1_000, "v1": 9_000}),
        (299, {"v2": 1_000, "v1": 9_000}),
        (301, {"v2": 5_000, "v1": 5_000}),
        (449, {"v2": 5_000, "v1": 5_000}),
        (451, {"v2": 10_000}),
        (599, {"v2": 10_000}),
    ]
    assert told["schedule"]["state"] == "finished"
    assert told["receipt"]["generation"] == told["generation"] == 4
    assert [step.generation for step in scene.schedule.steps] == [1, 2, 3, 4]
    assert not driver_lock.driven(scene.context(), ENV, scene.deployment)


def test_a_step_is_the_share_of_the_revision_that_gains(scene: Scene) -> None:
    scene.third = scene.ready()
    asyncio.run(traffic.set_split(scene.context(), ENV, "web", [("v2", 100), ("v3", 300), ("v1", None)]))
    seen: list[dict[str, int]] = []
    for second in (1, 201, 401):
        scene.after(second, lambda: seen.append(scene.shares))
    told = scene.run(steps=[100, 1_000, 5_000, 10_000])
    assert seen == [
        {"v2": 1_000, "v1": 8_727, "v3": 273},
        {"v2": 5_000, "v1": 4_848, "v3": 152},
        {"v2": 10_000},
    ], "10 % are 10 %, and the others keep their proportion"
    assert "1 of 4 steps left out: reached already" in scene.lines
    assert scene.elapsed == 600, "what is left out takes no time"
    assert len(told["schedule"]["steps"]) == 3


@pytest.mark.parametrize(
    ("shares", "live", "steps"),
    [
        ([("v2", 4_000), ("v1", None)], 0, [100, 1_000, 4_000]),
        ([("v2", 4_000), ("v1", None)], 1_000, [4_000]),
        ([("v2", 10_000)], 0, [100, 1_000, 5_000, 10_000]),
        ([("v2", 10_000)], 700, [1_000, 5_000, 10_000]),
        ([("v2", 100), ("v1", None)], 0, [100]),
    ],
)
def test_the_usual_steps_end_at_the_target(
    scene: Scene, shares: list[tuple[str, int | None]], live: int, steps: list[int]
) -> None:
    asyncio.run(traffic.set_split(scene.context(), ENV, "web", [("v2", live), ("v1", None)]))
    asyncio.run(
        schedules.begin(scene.context(), ENV, "web", shares, steps=None, over_seconds=60, gates=GATES, drive=False)
    )
    found = [{one.revision_id: one.weight_bps for one in step.entries}[scene.new] for step in scene.schedule.steps]
    assert found == steps
    assert scene.schedule.step_seconds == 60 / len(steps)


def test_a_nearer_target_ends_its_steps(scene: Scene) -> None:
    def begin(*steps: int) -> Any:
        shares = [("v2", 4_000), ("v1", None)]
        return asyncio.run(
            schedules.begin(scene.context(), ENV, "web", shares, steps=steps, over_seconds=2, gates=GATES, drive=False)
        )

    with pytest.raises(InvalidArgument, match="its target, 40%") as refused:
        begin(1_000, 10_000)
    assert refused.value.next_step == "end --steps with 40%, or name another target"
    begin(1_000, 4_000)
    assert scene.shares == {"v2": 1_000, "v1": 9_000}


def test_several_that_gain_share_a_step(scene: Scene) -> None:
    scene.third = scene.ready()
    shares = [("v2", 3_000), ("v3", 6_000), ("v1", None)]
    asyncio.run(
        schedules.begin(
            scene.context(), ENV, "web", shares, steps=[900, 9_000], over_seconds=2, gates=GATES, drive=False
        )
    )
    assert scene.shares == {"v2": 300, "v3": 600, "v1": 9_100}, "a step is what those who gain have together"


@pytest.mark.parametrize(
    ("steps", "over", "said"),
    [
        ([0, 10_000], 600, "0% moves nothing"),
        ([], 600, "1 to 20 steps"),
        (list(range(100, 2_300, 100)), 600, "1 to 20 steps"),
        ([1_000, 500, 10_000], 600, "ascend"),
        ([1_000, 1_000, 10_000], 600, "ascend"),
        ([1_000, 5_000], 600, "the last one is its target, 100%"),
        (STEPS, 0, "more than nothing"),
        (STEPS, -1, "more than nothing"),
        (STEPS, float("nan"), "more than nothing"),
        (STEPS, 10**9, "at most 30 days"),
    ],
)
def test_nonsense_is_refused_and_moves_nothing(scene: Scene, steps: list[int], over: float, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        scene.run(steps=steps, over=over)
    assert scene.shares == {"v1": 10_000}
    assert scene.store.load(ENV).environment.schedule(scene.deployment) is None


def test_a_failing_revision_is_rolled_back_with_the_reason(scene: Scene) -> None:
    scene.seen.requests[scene.new] = 1_000
    scene.seen.errors[scene.new] = 500  # of the time before: not to be held against the step
    scene.after(10, lambda: scene.seen.requests.update({scene.new: 1_019, scene.old: 5}))
    scene.after(10, lambda: scene.seen.errors.update({scene.new: 519, scene.old: 5}))
    began = table(scene.store.load(ENV).environment.split(scene.deployment))
    scene.after(150.5, lambda: scene.seen.requests.update({scene.new: 1_139}))
    scene.after(150.5, lambda: scene.seen.errors.update({scene.new: 521}))
    with pytest.raises(
        GateFailed, match=r"step 2 of 4 .*v2 failed 2 of 120 requests \(1.67%\), more than 1%"
    ) as failed:
        scene.run()
    assert "Rolled back to v1 100%" in failed.value.message
    assert failed.value.next_step == "gtc op revisions logs web v2"
    assert scene.elapsed < 152, "not only when the step is over"
    assert table(scene.store.load(ENV).environment.split(scene.deployment)) == began
    assert scene.schedule.state is ScheduleState.FAILED
    assert "2 of 120" in str(scene.schedule.reason)


def test_few_requests_and_few_errors_pass(scene: Scene) -> None:
    scene.after(10, lambda: scene.seen.requests.update({scene.new: 19}))
    scene.after(10, lambda: scene.seen.errors.update({scene.new: 19}))
    scene.after(160, lambda: scene.seen.requests.update({scene.new: 219}))
    scene.after(160, lambda: scene.seen.errors.update({scene.new: 21}))
    assert scene.run()["schedule"]["state"] == "finished"
    assert [step.verdict for step in scene.schedule.steps] == [
        "v2: 19 requests, 19 failed",
        "v2: 200 requests, 2 failed",
        "v2: 0 requests, 0 failed",
        "v2: 0 requests, 0 failed",
    ]


def test_counters_that_begin_anew_are_taken_as_they_are(scene: Scene) -> None:
    scene.seen.requests[scene.new] = 1_000
    scene.after(10, lambda: scene.seen.requests.update({scene.new: 30}))
    scene.after(10, lambda: scene.seen.errors.update({scene.new: 30}))
    with pytest.raises(GateFailed, match="30 of 30"):
        scene.run()


def test_a_worker_that_dies_on_the_way_is_rolled_back(scene: Scene) -> None:
    scene.after(200, lambda: scene.seen.state.update({scene.new: "backing-off"}))
    with pytest.raises(GateFailed, match=r"step 2 of 4 .*the worker of v2 is backing-off"):
        scene.run()
    assert scene.shares == {"v1": 10_000}


def test_a_worker_that_was_back_before_anybody_looked_is_rolled_back_too(scene: Scene) -> None:
    scene.seen.restarts[scene.new] = 4  # of the time before
    scene.after(200, lambda: scene.seen.restarts.update({scene.new: 5}))
    with pytest.raises(GateFailed, match=r"step 2 of 4 .*the worker of v2 ended and was started again"):
        scene.run()
    assert scene.shares == {"v1": 10_000}


def test_nothing_is_rolled_back_to_who_cannot_carry_it(scene: Scene) -> None:
    scene.after(200, lambda: scene.seen.state.update({scene.old: "failed"}))
    with pytest.raises(
        GateFailed, match=r"Not rolled back, the dial stays.*v1 is recorded ready but its worker is failed"
    ):
        scene.run()
    assert scene.shares == {"v2": 1_000, "v1": 9_000}
    assert scene.schedule.state is ScheduleState.PAUSED


def test_a_data_plane_that_went_down_is_started_and_no_fault_of_the_revision(scene: Scene) -> None:
    scene.after(200, lambda: setattr(scene.seen, "running", False))
    assert scene.run()["schedule"]["state"] == "finished"


def test_a_step_beyond_the_ready_capacity_is_not_taken(scene: Scene) -> None:
    scene.after(200, lambda: scene.seen.workers.update({scene.new: (2, 5)}))
    with pytest.raises(Conflict, match=r"2 of 5 workers ready: it can carry 40% .*not 50%") as short:
        scene.run()
    assert short.value.next_step == "gtc op traffic resume web, or abort it"
    assert scene.shares == {"v2": 1_000, "v1": 9_000}
    assert scene.schedule.state is ScheduleState.PAUSED
    scene.seen.workers.clear()
    assert asyncio.run(schedules.resume(scene.context(), ENV, "web"))["schedule"]["state"] == "finished"


def test_a_target_beyond_the_ready_capacity_is_refused_at_the_beginning(scene: Scene) -> None:
    scene.seen.workers[scene.new] = (2, 5)
    with pytest.raises(Conflict, match="it can carry 40%"):
        scene.run()
    assert scene.store.load(ENV).environment.schedule(scene.deployment) is None


def test_a_pause_ends_the_command_and_a_resume_holds_the_step_once_more(scene: Scene) -> None:
    scene.after(200, lambda: schedules.pause(scene.context(by="boss"), ENV, "web", note="lunch"))
    with pytest.raises(Conflict, match="step 2 of 4: it was paused by boss: lunch"):
        scene.run()
    scene.at += timedelta(hours=1)
    assert scene.shares == {"v2": 1_000, "v1": 9_000}
    began = scene.elapsed
    told = asyncio.run(schedules.resume(scene.context(), ENV, "web"))
    assert told["schedule"]["state"] == "finished"
    assert scene.elapsed - began == 3 * 150


def test_an_abort_by_somebody_else_ends_the_command(scene: Scene) -> None:
    scene.after(200, lambda: schedules.abort(scene.context(by="boss"), ENV, "web", note="no"))
    with pytest.raises(Conflict, match="it was aborted by boss: no"):
        scene.run()
    assert scene.shares == {"v1": 10_000}


def test_an_abort_may_leave_the_dial(scene: Scene) -> None:
    scene.after(200, lambda: schedules.abort(scene.context(), ENV, "web", stay=True))
    with pytest.raises(Conflict, match="aborted"):
        scene.run()
    assert scene.shares == {"v2": 1_000, "v1": 9_000}
    asyncio.run(traffic.set_split(scene.context(), ENV, "web", [("v1", 10_000)]))


def test_a_rollback_ends_it_and_goes_back_to_before_the_schedule(scene: Scene) -> None:
    scene.after(320, lambda: traffic.rollback(scene.context(by="boss"), ENV, "web"))
    with pytest.raises(Conflict, match="it was aborted by boss: rollback to generation 0"):
        scene.run()
    assert scene.shares == {"v1": 10_000}


def test_after_the_end_a_rollback_undoes_all_steps_and_a_second_one_that(scene: Scene) -> None:
    scene.run()
    told = asyncio.run(traffic.rollback(scene.context(), ENV, "web"))
    assert (told["restored_generation"], scene.shares) == (0, {"v1": 10_000})
    asyncio.run(traffic.rollback(scene.context(), ENV, "web"))
    assert scene.shares == {"v2": 10_000}


def test_while_it_runs_nobody_else_moves_the_dial_or_drives_it(scene: Scene) -> None:
    refused: list[Conflict] = []

    async def meddle() -> None:
        for attempt in (
            traffic.set_split(scene.context(), ENV, "web", [("v1", 10_000)]),
            schedules.resume(scene.context(), ENV, "web"),
            scene.begin(),
        ):
            with pytest.raises(Conflict) as refusal:
                await attempt
            refused.append(refusal.value)

    scene.after(200, meddle)
    assert scene.run()["schedule"]["state"] == "finished"
    assert [one.details["reason"] for one in refused] == ["schedule-open", "schedule-driven", "schedule-driven"]
    assert refused[0].next_step == "gtc op traffic abort web, with --stay to keep the shares as they are"


def test_a_runner_that_was_overtaken_moves_nothing_more(scene: Scene) -> None:
    """The lock is of one machine; the record decides among several."""

    def overtake() -> None:
        scene.do("traffic resume", deployment_id=scene.deployment, runner=ulid(2**70), updated_by="elsewhere")

    scene.after(149.5, overtake)
    with pytest.raises(Conflict, match="another command drives it now"):
        scene.run()
    assert scene.shares == {"v2": 100, "v1": 9_900}
    assert scene.schedule.state is ScheduleState.RUNNING, "it is the other's: neither paused nor ended"


def test_ctrl_c_pauses_it(scene: Scene) -> None:
    def interrupt() -> None:
        raise CancelledError

    scene.after(200, interrupt)
    with pytest.raises(CancelledError):
        scene.run()
    assert scene.schedule.state is ScheduleState.PAUSED
    assert scene.schedule.reason == "the command that drove it was interrupted"
    assert any("gtc op traffic resume web" in line for line in scene.lines)


class Killed(BaseException):
    """The end of the process, as far as a test can have it without one: nobody cleans up."""


def test_a_killed_command_leaves_a_schedule_that_can_be_resumed_under_the_same_key_too(scene: Scene) -> None:
    def kill() -> None:
        raise Killed

    scene.after(200, kill)
    with pytest.raises(Killed):
        scene.run(key="release-7")
    assert scene.schedule.state is ScheduleState.RUNNING
    shown = traffic.show(scene.context(), ENV, "web")["schedule"]
    assert (shown["driven"], shown["step"]) == (False, 2)
    told = scene.run(key="release-7")
    assert told["schedule"]["state"] == "finished"
    before = scene.store.load(ENV).generation
    assert scene.run(key="release-7")["schedule"]["state"] == "finished"
    assert scene.store.load(ENV).generation == before, "the same request again has had its effect"


def test_a_router_that_does_not_follow_pauses_it(scene: Scene) -> None:
    scene.after(149.5, lambda: setattr(scene.seen, "missing", True))
    with pytest.raises(TimedOut, match="router-1") as missing:
        scene.run()
    assert missing.value.next_step == "gtc op traffic resume web, or abort it"
    assert scene.schedule.state is ScheduleState.PAUSED
    scene.seen.missing = False
    assert asyncio.run(schedules.resume(scene.context(), ENV, "web"))["schedule"]["state"] == "finished"


def test_a_rehearsal_changes_nothing(scene: Scene) -> None:
    told = scene.run(dry_run=True)
    assert [step["entries"][0]["weight_bps"] for step in told["schedule"]["steps"]] == STEPS
    assert told["rehearsal"]["moves"] == [{"from": "v1", "to": "v2", "slots": 100}]
    assert scene.shares == {"v1": 10_000}
    assert scene.store.load(ENV).environment.schedule(scene.deployment) is None


def test_a_paused_deployment_and_one_without_traffic_have_nothing_to_try(scene: Scene) -> None:
    scene.do("bundles update", deployment_id=scene.deployment, status="paused")
    with pytest.raises(Conflict, match="is paused"):
        scene.run()
    scene.do("bundles update", deployment_id=scene.deployment, status="active")
    asyncio.run(traffic.clear(scene.context(), ENV, "web"))
    with pytest.raises(Conflict, match="has no traffic yet"):
        scene.run()


def test_the_revisions_of_an_open_schedule_are_neither_drained_nor_archived(scene: Scene) -> None:
    scene.run(drive=False)
    for verb in ("drain", "archive"):
        for revision_id in (scene.old, scene.new):
            with pytest.raises(Conflict, match="part of an open schedule"):
                scene.do(f"revisions {verb}", revision_id=revision_id)
