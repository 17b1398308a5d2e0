"""Whatever happens in one check is its verdict: the next one runs, and nothing is left."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from greentic.conformance import runner
from greentic.conformance.checking import Check, Failed
from greentic.conformance.stage import Stage
from greentic.envpacks.bench import Fault, Recording
from greentic.envpacks.calls import Call, Killed, making, observe
from greentic.spec.errors import Conflict, ProviderError, TimedOut

KIND = "acme.deployer.nomad@1.0.0"


class Empty:
    """A bench with nothing on it."""

    environment_id = "conformance"
    permissions = frozenset[str]()
    closed = 0

    def __init__(self, folder: Path, problem: BaseException | None = None) -> None:
        self.folder = folder
        self.problem = problem
        folder.mkdir()

    async def deployer(self) -> Any:
        return None

    async def close(self) -> None:
        type(self).closed += 1
        if self.problem is not None:
            raise self.problem


def check(look: Callable[[Stage], Awaitable[str]], seconds: float = 5.0) -> Check:
    return Check("core.example", "core", "does it", look, seconds)


def raising(error: BaseException) -> Callable[[Stage], Awaitable[str]]:
    async def look(_: Stage) -> str:
        raise error

    return look


async def passing(_: Stage) -> str:
    return "seen"


async def endless(_: Stage) -> str:
    await asyncio.Event().wait()
    return "never"


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    place = tmp_path / "benches"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    Empty.closed = 0
    yield
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("look", "outcome", "evidence"),
    [
        (passing, "passed", "seen"),
        (raising(Failed("two workers")), "failed", "two workers"),
        (raising(Conflict("it runs already")), "failed", "conflict: it runs already"),
        (raising(KeyError("x")), "broken", "KeyError: 'x'"),
        (raising(Killed()), "broken", "Killed: "),
        (endless, "failed", "it did not end within 0.05 s"),
    ],
)
def test_how_a_check_ends(look: Any, outcome: str, evidence: str) -> None:
    verdict = asyncio.run(runner.conduct(check(look, 0.05), KIND, Empty))
    assert (verdict.outcome, verdict.evidence) == (outcome, evidence)
    assert Empty.closed == 1


def test_a_bench_that_cannot_be_opened_or_closed_judges_nothing() -> None:
    def refusing(_: Path) -> Any:
        raise ProviderError("no such platform")

    verdict = asyncio.run(runner.conduct(check(passing), KIND, refusing))
    assert (verdict.outcome, verdict.evidence) == ("broken", "the bench cannot be opened: provider: no such platform")
    verdict = asyncio.run(runner.conduct(check(passing), KIND, lambda folder: Empty(folder, OSError("busy"))))
    assert verdict.outcome == "broken"
    assert verdict.evidence == "the bench cannot be closed: OSError: busy; before that: passed: seen"


def test_no_failure_keeps_others_from_running() -> None:
    told: list[runner.Verdict] = []
    chosen = [check(raising(KeyError("x"))), check(passing), check(raising(Failed("no"))), check(passing)]
    verdicts = asyncio.run(runner.examine(chosen, KIND, Empty, told.append))
    assert [one.outcome for one in verdicts] == ["broken", "passed", "failed", "passed"]
    assert tuple(told) == verdicts


def test_an_interruption_closes_the_bench_and_goes_on_up() -> None:
    async def interrupted() -> None:
        task = asyncio.create_task(runner.conduct(check(endless), KIND, Empty))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    assert Empty.closed == 1


class TestRecording:
    """Calls are written down by whoever makes them, and struck where it was asked for."""

    def test_without_a_witness_a_call_is_just_made(self) -> None:
        with making("process.start", "worker"):
            made = True
        assert made

    def test_calls_are_counted_over_recordings_of_one_folder(self, tmp_path: Path) -> None:
        first, second = Recording(tmp_path / "calls"), Recording(tmp_path / "calls")
        for recording, target in ((first, "a"), (second, "b"), (first, "c")):
            with recording(Call("file.write", target)):
                pass
        assert [one.target for one in second.calls()] == ["a", "b", "c"]

    @pytest.mark.parametrize(("kind", "error", "made"), [("error", ProviderError, False), ("timeout", TimedOut, True)])
    def test_a_fault_strikes_once_and_where_it_was_asked_for(
        self, tmp_path: Path, kind: Any, error: type[Exception], made: bool
    ) -> None:
        recording = Recording(tmp_path / "calls")
        done: list[int] = []

        def call(number: int) -> None:
            with making("file.write", number):
                done.append(number)

        async def calls() -> None:
            observe(recording)
            call(0)
            recording.inject(Fault(1, kind))
            call(1)
            with pytest.raises(error):
                call(2)
            call(3)

        asyncio.run(calls())
        assert done == ([0, 1, 2, 3] if made else [0, 1, 3])

    def test_the_dead_make_no_calls_until_somebody_takes_over(self, tmp_path: Path) -> None:
        recording = Recording(tmp_path / "calls")
        recording.inject(Fault(0, "kill"))
        for _ in range(3):
            with pytest.raises(Killed), recording(Call("file.write", "x")):
                raise AssertionError("the dead have written")
        assert len(recording.calls()) == 1
        recording.revive()
        with recording(Call("file.write", "y")):
            pass
        assert [one.target for one in recording.calls()] == ["x", "y"]
