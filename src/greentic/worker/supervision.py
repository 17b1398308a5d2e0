"""Keep one worker alive and know how it is.

    absent ──start──► starting ──healthy answer──► healthy ◄──► unhealthy (does not answer)
                        ▲  │                          │              │
                        │  └──► failed (a first start │ exits        │ does not answer for long: ended
                        │       that is not kept)     ▼              ▼
                        └───────────────────────── backing-off ◄─────┘

A worker that was healthy once is *kept*: it is started again whenever it ends, after a growing delay. A first start is
kept only when the caller says so; otherwise it fails at its first end or at its deadline, and stays failed, because
somebody is waiting to hear why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from greentic.spec.errors import GreenticError
from greentic.worker.backoff import FIRST_SECONDS, LONGEST_SECONDS, delay
from greentic.worker.health import Answer, probe
from greentic.worker.launch import HOST, Launch
from greentic.worker.logfile import LogFile
from greentic.worker.process import GRACE_SECONDS, Subprocess, describe


class State(StrEnum):
    """How a worker is."""

    ABSENT = "absent"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    BACKING_OFF = "backing-off"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Status:
    """A worker's state, why, and since when; `started_at` is RFC 3339, `exit_status` as of `Subprocess.exit`."""

    state: State = State.ABSENT
    detail: str = ""
    process_id: int | None = None
    restarts: int = 0
    started_at: str | None = None
    exit_status: int | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """The bounds of supervision, in seconds; a test makes them small."""

    first_poll: float = 0.01
    poll_growth: float = 1.25
    longest_poll: float = 0.25
    probe: float = 2.0
    check_every: float = 2.0
    checks_failed: int = 3
    hung: float = 60.0
    backoff_first: float = FIRST_SECONDS
    backoff_longest: float = LONGEST_SECONDS
    steady: float = 60.0


@dataclass(frozen=True, slots=True)
class _Ending:
    """Why one run of the worker is over, and how long it had been healthy (seconds; None: it never was)."""

    reason: str
    exit_status: int | None
    healthy_seconds: float | None


class Supervision:
    """One worker under supervision.

    `prepare` gives what to start, anew for each start, because the port may change. `changed` is called after each
    change of `status`. `chance` gives numbers in [0, 1) for the delays.
    """

    def __init__(
        self,
        prepare: Callable[[], Launch],
        log: LogFile,
        *,
        changed: Callable[[], None],
        chance: Callable[[], float],
        pace: Pace | None = None,
    ) -> None:
        self.status = Status()
        self.log = log
        self.launch: Launch | None = None
        """What was started last."""
        self._prepare = prepare
        self._changed = changed
        self._chance = chance
        self._pace = pace or Pace()
        self._keep = False
        self._task: asyncio.Task[None] | None = None
        self._process: Subprocess | None = None
        self._moved = asyncio.Event()

    def start(self, *, keep: bool) -> None:
        """Begin; nothing when it runs already. `keep`: start again even when the first start fails."""
        self._keep = self._keep or keep
        if self._task is None or self._task.done():
            self._set(Status(State.STARTING))
            self._task = asyncio.create_task(self._run())

    @property
    def tail(self) -> list[str]:
        """The last lines of this run."""
        return self.log.tail()

    async def settled(self) -> Status:
        """Wait until it is no longer starting: healthy, backing off or failed."""
        return await self.wait(*(state for state in State if state is not State.STARTING))

    async def wait(self, *states: State) -> Status:
        """Wait until it is in one of `states`."""
        while self.status.state not in states:
            await self._moved.wait()
        return self.status

    async def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """End the worker: SIGTERM, then SIGKILL after `grace_seconds`. Fine when it was never there."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._end(grace_seconds)
        self._keep = False
        self.log.close()
        self._set(Status())

    def kill(self) -> None:
        """SIGKILL at once, for a supervisor that has no time left."""
        if self._process is not None:
            self._process.kill()

    def _set(self, status: Status) -> None:
        self.status = status
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        self._changed()

    async def _run(self) -> None:
        attempt = restarts = 0
        while True:
            try:
                ending = await self._once(restarts)
            except Exception as error:  # whoever waits is told, whatever it was
                ending = _Ending(f"it cannot be supervised: {type(error).__name__}: {error}", None, None)
            self._keep = self._keep or ending.healthy_seconds is not None
            if not self._keep:
                self._set(Status(State.FAILED, ending.reason, exit_status=ending.exit_status))
                return
            if ending.healthy_seconds is not None and ending.healthy_seconds >= self._pace.steady:
                attempt = 0
            seconds = delay(attempt, self._chance(), self._pace.backoff_first, self._pace.backoff_longest)
            detail = f"{ending.reason}; next start in {seconds:.1f} s"
            self._set(Status(State.BACKING_OFF, detail, restarts=restarts, exit_status=ending.exit_status))
            await asyncio.sleep(seconds)
            attempt += 1
            restarts += 1

    async def _once(self, restarts: int) -> _Ending:
        """One run, from spawning to its end."""
        self.log.forget()
        await self._end(0)  # what could not be ended before is no neighbour of its successor
        try:
            launch = self._prepare()
            process = await Subprocess.spawn(launch.argv, launch.environment, launch.directory, self.log)
        except GreenticError as error:
            return _Ending(error.message, None, None)
        self._process = process
        self.launch = launch
        status = Status(State.STARTING, "", process.pid, restarts, _now())
        self._set(status)
        ending = await self._until_healthy(process, launch)
        if ending is None:
            began = time.monotonic()
            self._set(_with(status, State.HEALTHY, ""))
            ending = await self._while_healthy(process, launch, status, began)
        await self._end()
        return ending

    async def _end(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """End the process, if there is one; it is known until it has ended."""
        if self._process is not None:
            await self._process.stop(grace_seconds)
            self._process = None

    async def _until_healthy(self, process: Subprocess, launch: Launch) -> _Ending | None:
        """Ask often at first, then less; None as soon as it is healthy."""
        deadline = time.monotonic() + launch.health_timeout
        pause = self._pace.first_poll
        answer = Answer(False, "it was not asked")
        while (left := deadline - time.monotonic()) > 0:
            checking = asyncio.create_task(probe(HOST, launch.port, launch.health_path, min(self._pace.probe, left)))
            if not await _either(checking, process):
                return await _ended(process, None)
            answer = checking.result()
            if answer.healthy:
                return None
            if not await _either(asyncio.create_task(asyncio.sleep(min(pause, max(left, 0)))), process):
                return await _ended(process, None)
            pause = min(pause * self._pace.poll_growth, self._pace.longest_poll)
        return _Ending(f"it was not healthy within {launch.health_timeout:g} s: {answer.detail}", None, None)

    async def _while_healthy(self, process: Subprocess, launch: Launch, status: Status, began: float) -> _Ending:
        """Ask now and then, until it ends or does not answer for long."""
        failed = 0
        last_healthy = time.monotonic()
        while await _either(asyncio.create_task(asyncio.sleep(self._pace.check_every)), process):
            checking = asyncio.create_task(probe(HOST, launch.port, launch.health_path, self._pace.probe))
            if not await _either(checking, process):
                break
            answer = checking.result()
            failed = 0 if answer.healthy else failed + 1
            if answer.healthy:
                last_healthy = time.monotonic()
                if self.status.state is not State.HEALTHY:
                    self._set(_with(status, State.HEALTHY, ""))
            elif failed == self._pace.checks_failed:
                self._set(_with(status, State.UNHEALTHY, answer.detail))
            silent = time.monotonic() - last_healthy
            if failed >= self._pace.checks_failed and silent > self._pace.hung:
                return _Ending(f"it was ended, not having been healthy for {silent:.0f} s", None, last_healthy - began)
        return await _ended(process, time.monotonic() - began)


async def _ended(process: Subprocess, healthy_seconds: float | None) -> _Ending:
    status = await process.exit()
    return _Ending(f"it {describe(status)}", status, healthy_seconds)


async def _either(task: asyncio.Task[object], process: Subprocess) -> bool:
    """Wait for `task` or the end of `process`; whether it was the task. It is never left running."""
    exit_ = asyncio.create_task(process.exit())
    try:
        await asyncio.wait({task, exit_}, return_when=asyncio.FIRST_COMPLETED)
        return not process.ended
    finally:
        for one in (task, exit_):
            one.cancel()
        await asyncio.gather(task, exit_, return_exceptions=True)


def _with(status: Status, state: State, detail: str) -> Status:
    return Status(state, detail, status.process_id, status.restarts, status.started_at)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
