"""One router process: started, fed with tables, asked for signs of life, and ended.

Every table that is newer than what it has is given to it for as long as it lives, also while it finishes: whoever still
reaches it must not be routed by an older generation than anybody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from greentic.envpacks import calls
from greentic.router.balance import Places
from greentic.router.control import ANSWER_SECONDS, Acknowledgement, DrainReport, InFlight, RouterControl
from greentic.router.lease import Readiness
from greentic.spec.errors import GreenticError, InputOutput, SpecViolation, TimedOut
from greentic.worker.logfile import LogFile
from greentic.worker.process import Subprocess, describe

_T = TypeVar("_T")

LEASE_SECONDS = 10.0
"""How long a router may claim to be ready without a word of its runtime."""
BEATS_PER_LEASE = 5
_SILENT_LEASES = 1.5
"""A process that has not answered for that many leases hangs and is replaced."""
REPORT_SECONDS = 1.0
_KEPT_REPORT_BEATS = 5
_STOP_MARGIN_SECONDS = 2.0
_EXIT_SECONDS = 0.5
_SECOND_CHANCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every router process of an environment is started with. `changed` is called when one has changed."""

    environment: Mapping[str, str]
    directory: Path
    log: LogFile
    places: Places
    event: Callable[..., None]
    changed: Callable[[], None]
    lease_seconds: float = LEASE_SECONDS


class Change:
    """Something has changed: whoever waits for a condition looks again."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Wake everybody who waits."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self) -> None:
        """Until the next change. Nothing is missed between a condition that was looked at and this call."""
        await self._event.wait()


class Tables:
    """The newest table, and the newest one that a router has taken."""

    def __init__(self) -> None:
        self.newest: dict[str, Any] | None = None
        self.good: dict[str, Any] | None = None
        self._change = Change()

    @property
    def version(self) -> int:
        """Of the newest table, -1 before there is one."""
        return -1 if self.newest is None else int(self.newest["version"])

    def offer(self, table: dict[str, Any]) -> None:
        """A table; an older one than the newest is forgotten."""
        if int(table["version"]) > self.version:
            self.newest = table
            self._change.tell()

    def taken(self, table: dict[str, Any]) -> None:
        """A router serves `table`. One that was held up may say so late: who begins must not begin behind a receipt."""
        if self.good is None or int(table["version"]) > int(self.good["version"]):
            self.good = table

    async def newer(self, version: int) -> dict[str, Any]:
        """Wait for a table newer than `version`."""
        while self.newest is None or self.version <= version:
            await self._change.wait()
        return self.newest


class Instance:
    """A router process. Made by `start`."""

    def __init__(
        self, name: str, process: Subprocess, control: RouterControl, place: int, surroundings: Surroundings
    ) -> None:
        self.name = name
        self.acknowledged: Acknowledgement | None = None
        self.refused: tuple[int, SpecViolation] | None = None
        self._warnings: tuple[str, ...] = ()
        self.finishing = False
        self._began = time.monotonic()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why, once the process is gone."""
        self._process = process
        self._control = control
        self._place = place
        self._given = surroundings
        self._claim = Readiness(False, "it is starting")
        self._granted_until = 0.0
        self._offered = -1
        self._heard = time.monotonic()
        self._beat_now = asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @classmethod
    async def start(
        cls,
        name: str,
        listener: socket.socket,
        tables: Tables,
        phase: Callable[[], dict[str, int]],
        surroundings: Surroundings,
    ) -> Instance:
        """A new process that accepts on `listener` as soon as it has the newest of `tables`.

        `phase` is asked for the `options.replica` of each table. ProviderError or OSError when it cannot be started.
        """
        place = surroundings.places.take()
        ours, theirs = socket.socketpair()
        try:
            descriptors = (listener.fileno(), theirs.fileno(), surroundings.places.descriptor)
            process = await Subprocess.spawn(
                (
                    *(sys.executable, "-P", "-m", "greentic.router"),
                    *("--listen-fd", str(descriptors[0]), "--control-fd", str(descriptors[1])),
                    *("--balance-fd", str(descriptors[2]), "--place", str(place)),
                ),
                surroundings.environment,
                surroundings.directory,
                surroundings.log,
                pass_fds=descriptors,
            )
        except BaseException:
            ours.close()
            surroundings.places.give_back(place)
            raise
        finally:
            theirs.close()
        try:
            control = await RouterControl.connect(ours)
        except BaseException:
            await process.stop(0)
            surroundings.places.give_back(place)
            raise
        instance = cls(name, process, control, place, surroundings)
        instance._run(tables, phase)
        return instance

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def report(self) -> dict[str, Any] | None:
        """What it reported last."""
        return self._control.last_report

    @property
    def version(self) -> int:
        """Of the table it serves, -1 before it has one."""
        return -1 if self.acknowledged is None else self.acknowledged.version

    @property
    def claim(self) -> Readiness:
        """Whether it is ready: what it said last, for as long as its lease is known to last."""
        if self.finishing:
            return Readiness(False, "it is finishing")
        if self._claim.ready and not self.leased:
            silence = time.monotonic() - self._heard
            return Readiness(False, f"it has not answered for {silence:.1f} s (lease: {self._given.lease_seconds:g} s)")
        return self._claim

    @property
    def leased(self) -> bool:
        """Whether its lease lasts for certain: counted from before it was asked to take it."""
        return time.monotonic() <= self._granted_until

    @property
    def uptime_seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._began

    @property
    def lease_seconds_left(self) -> float:
        """Until its lease may have lapsed."""
        return max(0.0, self._granted_until - time.monotonic())

    @property
    def accepts(self) -> bool:
        """Whether it may answer requests: it was given a table and has not ended."""
        return self._offered >= 0 and not self.ended.done()

    def serves(self, version: int) -> bool:
        """Whether it is known to serve that table or a newer one now, with a living lease.

        One that does not finish must claim to be ready, too.
        """
        if self.version < version or self.ended.done():
            return False
        if not self.leased:
            self._beat_now.set()
            return False
        return self._claim.ready or self.finishing

    async def fresh_report(self) -> None:
        """Ask for a report, which is `report` then; the last one stays when it does not answer in time."""
        with contextlib.suppress(GreenticError):
            await self._control.report(timeout=REPORT_SECONDS)

    async def explain(self, request_id: str) -> list[dict[str, Any]]:
        """See `RouterControl.explain`; nothing when it does not answer."""
        with contextlib.suppress(GreenticError):
            return await self._control.explain(request_id, timeout=REPORT_SECONDS)
        return []

    async def drain(self, revision_id: str, seconds: float, told: Callable[[InFlight], None]) -> DrainReport:
        """See `RouterControl.drain`. What is in flight on a router that dies is cut."""
        last = InFlight()

        def heard(in_flight: InFlight) -> None:
            nonlocal last
            last = in_flight
            told(in_flight)

        try:
            with calls.making("router.control", f"{self.name} drain {revision_id}"):
                return await self._control.drain(revision_id, seconds, told=heard)
        except InputOutput:
            return DrainReport(0, last)
        finally:
            told(InFlight())

    async def finish(self, grace_seconds: float, idle_seconds: float | None) -> InFlight:
        """Accept no more, finish what is in flight within the grace, and end; what had to be cut.

        May be called again for a sooner end.
        """
        self.finishing = True
        with contextlib.suppress(GreenticError), calls.making("router.control", f"{self.name} end"):
            await self._control.stop(
                grace_seconds, timeout=grace_seconds + _STOP_MARGIN_SECONDS, idle_seconds=idle_seconds
            )
        if not (await asyncio.wait({self.ended}, timeout=_EXIT_SECONDS))[0]:
            await self.discard()
        return self._control.cut

    async def discard(self) -> None:
        """End it now."""
        for task in self._tasks:
            task.cancel()
        self._control.close()
        await self._process.stop()
        await asyncio.shield(self.ended)

    def _run(self, tables: Tables, phase: Callable[[], dict[str, int]]) -> None:
        self._tasks = (
            asyncio.create_task(self._feed(tables, phase)),
            asyncio.create_task(self._beat()),
        )
        self._watch = asyncio.create_task(self._end())

    async def _end(self) -> None:
        """The end of the process, whoever brought it about; and its beginning, when talking to it fails."""
        exit_ = asyncio.create_task(self._process.exit())
        await asyncio.wait({exit_, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        if exit_.done():
            # The news of its end may overtake its last words.
            with contextlib.suppress(TimedOut):
                await self._control.wait_closed(_EXIT_SECONDS)
        self._control.close()
        # One that ends by itself closes its control socket a moment before.
        if not (await asyncio.wait({exit_}, timeout=_EXIT_SECONDS))[0]:
            await self._process.stop(REPORT_SECONDS)
        status = await exit_
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        said = [error.message for error in results if isinstance(error, GreenticError)]
        self._control.close()
        self._given.places.give_back(self._place)
        self.ended.set_result("; ".join([describe(status), *said]))
        self._given.changed()

    async def _feed(self, tables: Tables, phase: Callable[[], dict[str, int]]) -> None:
        """Give it every new table, the newest one before it listens to anybody."""
        given = -1
        while True:
            table = await tables.newer(given)
            given = int(table["version"])
            try:
                await self._configure(table, phase())
                tables.taken(table)
            except SpecViolation as error:
                self.refused = (given, error)
                self._given.event("table-refused", router=self.name, version=given, reason=error.message)
                if self.acknowledged is None and tables.good is not None:
                    # What the others serve on is served again.
                    await self._configure(tables.good, phase())
            self._given.changed()

    async def _configure(self, table: dict[str, Any], replica: dict[str, int]) -> None:
        options = {**table.get("options", {}), "replica": replica}
        message = {**table, "options": options}
        self._offered = max(self._offered, int(table["version"]))
        with calls.making("router.control", f"{self.name} table"):
            self.acknowledged = await _patiently(
                lambda seconds: self._control.configure(message, seconds), ANSWER_SECONDS
            )
        if self.acknowledged.warnings != self._warnings:
            self._warnings = self.acknowledged.warnings
            self._given.event("router-warns", router=self.name, warnings=list(self._warnings))
        if not self._claim.ready:
            self._beat_now.set()

    async def _beat(self) -> None:
        """Renew its lease, again and again; InputOutput or TimedOut when it does not answer."""
        lease = self._given.lease_seconds
        beats = 0
        while True:
            self._beat_now.clear()
            asked = time.monotonic()
            claim = await _patiently(
                lambda seconds: self._control.lease(self._offered, lease, seconds), lease * _SILENT_LEASES
            )
            self._heard = time.monotonic()
            self._granted_until = asked + lease
            if claim.ready is not self._claim.ready and self.acknowledged is not None and not self.finishing:
                self._given.event(
                    "router-ready" if claim.ready else "router-unready", router=self.name, reason=claim.reason
                )
            self._claim = claim
            self._given.changed()
            beats += 1
            if beats % _KEPT_REPORT_BEATS == 0:
                # What it has counted until now is not lost when it is killed.
                await self.fresh_report()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(lease / BEATS_PER_LEASE):
                    await self._beat_now.wait()


async def _patiently(ask: Callable[[float], Awaitable[_T]], seconds: float) -> _T:
    """What is answered within `seconds`, or a moment after asking again.

    When this process itself was held up, its timers are over before it has read the answers that came meanwhile.
    """
    try:
        return await ask(seconds)
    except TimedOut:
        return await ask(_SECOND_CHANCE_SECONDS)
