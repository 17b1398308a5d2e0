"""Supervision with real processes and small paces: each state is waited for, none slept for."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from greentic.worker import ports
from greentic.worker.launch import Launch
from greentic.worker.logfile import LogFile
from greentic.worker.process import Subprocess
from greentic.worker.supervision import Pace, State, Status, Supervision

PACE = Pace(check_every=0.02, probe=0.5, checks_failed=2, hung=0.2, backoff_first=0.01, backoff_longest=0.02)

SERVER = """
import http.server, os, pathlib, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(pathlib.Path("status").read_text()))
        self.end_headers()
    def log_message(self, *args): pass
print("begun", os.getpid(), flush=True)
class Server(http.server.HTTPServer):
    allow_reuse_address = True
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Case:
    """One supervised server in `folder`; the file `status` says what it answers."""

    def __init__(self, folder: Path, code: str = SERVER, pace: Pace = PACE, timeout: float = 10.0) -> None:
        self.folder = folder
        self.port = ports.choose(())
        self.seen: list[Status] = []
        (folder / "status").write_text("200")
        launch = Launch((sys.executable, "-c", code, str(self.port)), {}, folder, self.port, "/", timeout)
        self.supervision = Supervision(
            lambda: launch, LogFile(folder / "log"), changed=self._changed, chance=lambda: 0.0, pace=pace
        )

    def _changed(self) -> None:
        self.seen.append(self.supervision.status)

    @property
    def states(self) -> list[str]:
        """The states it went through, repeated ones once."""
        states = [status.state.value for status in self.seen]
        return [state for index, state in enumerate(states) if index == 0 or states[index - 1] != state]


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(bounded())


def test_from_absent_to_healthy_and_back(tmp_path: Path) -> None:
    case = Case(tmp_path)

    async def scenario() -> None:
        assert case.supervision.status == Status(State.ABSENT)
        case.supervision.start(keep=False)
        status = await case.supervision.settled()
        assert status.state is State.HEALTHY
        assert status.started_at is not None
        assert case.supervision.tail == [f"begun {status.process_id}"]
        case.supervision.start(keep=False)
        assert case.supervision.status == status
        await case.supervision.stop()
        assert case.supervision.status == Status(State.ABSENT)
        with pytest.raises(ProcessLookupError):
            os.kill(status.process_id or 0, 0)
        await case.supervision.stop()

    run(scenario)
    assert case.states == ["starting", "healthy", "absent"]


def test_a_first_start_that_fails_stays_failed(tmp_path: Path) -> None:
    case = Case(tmp_path, "print('sorry'); raise SystemExit(4)")

    async def scenario() -> None:
        case.supervision.start(keep=False)
        status = await case.supervision.settled()
        assert (status.state, status.exit_status, status.detail) == (State.FAILED, 4, "it exited with status 4")
        assert case.supervision.tail == ["sorry"]
        case.supervision.start(keep=False)
        assert case.supervision.status.state is State.STARTING
        await case.supervision.stop()

    run(scenario)


def test_a_start_that_is_kept_is_tried_again_with_growing_delays(tmp_path: Path) -> None:
    pace = Pace(backoff_first=0.01, backoff_longest=0.04)
    case = Case(tmp_path, "raise SystemExit(4)", pace)

    async def scenario() -> None:
        case.supervision.start(keep=True)
        while case.supervision.status.restarts < 4:
            await case.supervision.wait(State.STARTING)
            await case.supervision.wait(State.BACKING_OFF)
        await case.supervision.stop()

    run(scenario)
    assert case.states[:5] == ["starting", "backing-off", "starting", "backing-off", "starting"]
    details = [status.detail for status in case.seen if status.state is State.BACKING_OFF]
    assert all(detail.startswith("it exited with status 4; next start in 0.0 s") for detail in details)


def test_what_was_healthy_once_is_kept(tmp_path: Path) -> None:
    case = Case(tmp_path)

    async def scenario() -> None:
        case.supervision.start(keep=False)
        first = await case.supervision.wait(State.HEALTHY)
        os.kill(first.process_id or 0, signal.SIGKILL)
        down = await case.supervision.wait(State.BACKING_OFF)
        assert "was ended by SIGKILL" in down.detail
        second = await case.supervision.wait(State.HEALTHY)
        assert second.restarts == 1
        assert second.process_id != first.process_id
        await case.supervision.stop()

    run(scenario)


def test_unhealthy_and_well_again(tmp_path: Path) -> None:
    case = Case(tmp_path, pace=Pace(check_every=0.02, checks_failed=2, hung=60))

    async def scenario() -> None:
        case.supervision.start(keep=False)
        first = await case.supervision.wait(State.HEALTHY)
        (tmp_path / "status").write_text("500")
        assert (await case.supervision.wait(State.UNHEALTHY)).detail == "/ answered 500"
        (tmp_path / "status").write_text("200")
        assert (await case.supervision.wait(State.HEALTHY)).process_id == first.process_id
        await case.supervision.stop()

    run(scenario)


def test_one_that_hangs_is_started_again(tmp_path: Path) -> None:
    case = Case(tmp_path)

    async def scenario() -> None:
        case.supervision.start(keep=False)
        await case.supervision.wait(State.HEALTHY)
        (tmp_path / "status").write_text("500")
        down = await case.supervision.wait(State.BACKING_OFF)
        assert "not having been healthy for" in down.detail
        (tmp_path / "status").write_text("200")
        assert (await case.supervision.wait(State.HEALTHY)).restarts >= 1
        await case.supervision.stop()

    run(scenario)


def test_a_deadline(tmp_path: Path) -> None:
    case = Case(tmp_path, timeout=0.3)
    (tmp_path / "status").write_text("503")

    async def scenario() -> None:
        case.supervision.start(keep=False)
        status = await case.supervision.settled()
        assert status.state is State.FAILED
        assert status.detail.startswith("it was not healthy within 0.3 s")
        await case.supervision.stop()

    run(scenario)


@pytest.mark.parametrize("state", [State.STARTING, State.BACKING_OFF])
def test_stopped_on_its_way(tmp_path: Path, state: State) -> None:
    code = "import signal; signal.pause()" if state is State.STARTING else "raise SystemExit(1)"
    case = Case(tmp_path, code, Pace(backoff_first=60, backoff_longest=60))

    async def scenario() -> None:
        case.supervision.start(keep=True)
        await case.supervision.wait(state)
        await case.supervision.stop()
        assert case.supervision.status == Status(State.ABSENT)

    run(scenario)


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    async def scenario() -> None:
        code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
        log = LogFile(tmp_path / "log")
        process = await Subprocess.spawn((sys.executable, "-c", code), {}, tmp_path, log)
        while log.tail() != ["deaf"]:
            await asyncio.sleep(0.002)
        assert await process.stop(0.05) == -signal.SIGKILL
        assert process.ended
        log.close()

    run(scenario)


def test_a_cancelled_spawn_leaves_no_process(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = LogFile(tmp_path / "log")
        code = f"import pathlib, signal; pathlib.Path({str(tmp_path / 'ran')!r}).touch(); signal.pause()"
        spawning = asyncio.create_task(Subprocess.spawn((sys.executable, "-c", code), {}, tmp_path, log))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        spawning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await spawning
        mark = os.fsencode(tmp_path)
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                try:
                    assert mark not in (entry / "cmdline").read_bytes()
                except OSError:
                    continue

    run(scenario)
