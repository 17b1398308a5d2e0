"""The router process of an environment: kept alive, and kept serving the newest table.

One task owns it: it starts the process, gives it the newest table, and starts another one when it dies. Everybody else
sets the table and waits until it is acknowledged, so tables never overtake each other, and those that nobody waits for
any more are skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greentic.router.control import Acknowledgement, DrainReport, RouterControl
from greentic.spec.errors import GreenticError, InputOutput, ProviderError, SpecViolation, TimedOut
from greentic.worker.backoff import delay
from greentic.worker.logfile import LogFile
from greentic.worker.process import Subprocess, describe

NAME = "router-0"
ACKNOWLEDGE_SECONDS = 5.0
STOP_SECONDS = 2.0
REPORT_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 5.0


@dataclass(slots=True)
class _Instance:
    process: Subprocess
    control: RouterControl


class Router:
    """The router of one environment, on `listener`, a listening socket that stays open whatever becomes of it.

    `event` is told what happens, for the log.
    """

    def __init__(
        self,
        listener: socket.socket,
        environment: Mapping[str, str],
        directory: Path,
        log: LogFile,
        event: Callable[..., None],
    ) -> None:
        self._listener = listener
        self._environment = environment
        self._directory = directory
        self._log = log
        self._event = event
        self._instance: _Instance | None = None
        self._task: asyncio.Task[None] | None = None
        self._table: dict[str, Any] | None = None
        self._good: dict[str, Any] | None = None
        self._acknowledged: Acknowledgement | None = None
        self._refused: tuple[int, SpecViolation] | None = None
        self._moved = asyncio.Event()
        self.restarts = 0

    @property
    def listener(self) -> socket.socket:
        """The listening socket."""
        return self._listener

    @property
    def process_id(self) -> int | None:
        """Of the process that serves now."""
        return self._instance.process.pid if self._instance is not None else None

    @property
    def acknowledged(self) -> Acknowledgement | None:
        """What the living router serves; None when there is none that has a table."""
        return self._acknowledged

    async def publish(self, table: dict[str, Any], seconds: float = ACKNOWLEDGE_SECONDS) -> Acknowledgement:
        """Have the router serve `table` or a newer one; it is started when it is not there.

        ProviderError when it refuses the table (it then serves the old one on), TimedOut after `seconds`.
        """
        version = int(table["version"])
        if self._table is None or version > int(self._table["version"]):
            self._table = table
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        self._move()
        try:
            async with asyncio.timeout(seconds):
                return await self._until(version)
        except TimeoutError:
            raise TimedOut(
                f"the router did not take the new table within {seconds:g} s",
                details={"missing": [NAME], "acknowledged": 0, "expected": 1},
                next_step=f"look into {self._log.path}",
            ) from None

    async def report(self) -> dict[str, Any] | None:
        """The router's own report; None when it does not answer in time."""
        if self._instance is not None:
            with contextlib.suppress(GreenticError):
                return await self._instance.control.report(timeout=REPORT_SECONDS)
        return None

    async def explain(self, request_id: str) -> list[dict[str, Any]]:
        """What the router knows of requests with that id; nothing when it does not answer in time."""
        if self._instance is not None:
            with contextlib.suppress(GreenticError):
                return await self._instance.control.explain(request_id, timeout=REPORT_SECONDS)
        return []

    async def drain(self, revision_id: str, seconds: float) -> DrainReport:
        """Wait until nothing is in flight to the revision, at most `seconds`, then have the rest cut."""
        if self._instance is not None:
            # A router that dies takes what was in flight with it: there is nothing left to wait for.
            with contextlib.suppress(InputOutput):
                return await self._instance.control.drain(revision_id, seconds)
        return DrainReport(0, 0)

    async def stop(self, grace_seconds: float = STOP_SECONDS) -> None:
        """Finish what is in flight within `grace_seconds` and end the process."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        instance, self._instance = self._instance, None
        self._acknowledged = None
        if instance is not None:
            with contextlib.suppress(GreenticError):
                await instance.control.stop(grace_seconds, timeout=grace_seconds + 2)
            await self._discard(instance)
        self._log.close()

    async def move(self, listener: socket.socket) -> None:
        """Serve on `listener` from now on; what is in flight on the old one gets STOP_SECONDS."""
        running = self._task is not None
        await self.stop()
        self._listener = listener
        if running and self._table is not None:
            await self.publish(self._table)

    def _move(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _until(self, version: int) -> Acknowledgement:
        while True:
            if self._acknowledged is not None and self._acknowledged.version >= version:
                return self._acknowledged
            if self._refused is not None and self._refused[0] >= version:
                raise ProviderError(
                    f"the router refuses the table: {self._refused[1].message}", details=self._refused[1].details
                )
            await self._moved.wait()

    async def _run(self) -> None:
        attempt = 0
        while True:
            reason, served = await self._once()
            self.restarts += 1
            self._event("router-ended", reason=reason, restarts=self.restarts)
            # One that has served is replaced at once: connections are waiting. One that cannot begin is not hurried.
            attempt = 0 if served else attempt + 1
            if attempt:
                await asyncio.sleep(delay(attempt - 1, 1.0, longest=_LONGEST_DELAY_SECONDS))

    async def _once(self) -> tuple[str, bool]:
        """One router process, from its start to its end: why it ended, and whether it had taken a table."""
        try:
            instance = await self._start()
        except (GreenticError, OSError) as error:
            return str(error), False
        self._instance = instance
        self._event("router-started", pid=instance.process.pid)
        ended = asyncio.create_task(instance.process.exit())
        serving = asyncio.create_task(self._serve(instance.control))
        try:
            await asyncio.wait({ended, serving}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done() and not ended.done():
                with contextlib.suppress(GreenticError):
                    serving.result()
        finally:
            ended.cancel()
            serving.cancel()
            await asyncio.gather(ended, serving, return_exceptions=True)
        self._instance = None
        served, self._acknowledged = self._acknowledged is not None, None
        return describe(await self._discard(instance)), served

    async def _start(self) -> _Instance:
        ours, theirs = socket.socketpair()
        try:
            process = await Subprocess.spawn(
                (
                    *(sys.executable, "-P", "-m", "greentic.router"),
                    *("--listen-fd", str(self._listener.fileno()), "--control-fd", str(theirs.fileno())),
                ),
                self._environment,
                self._directory,
                self._log,
                pass_fds=(self._listener.fileno(), theirs.fileno()),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        try:
            return _Instance(process, await RouterControl.connect(ours))
        except BaseException:
            await process.stop(0)
            raise

    async def _serve(self, control: RouterControl) -> None:
        """Give it every new table, the first one before it listens to anybody."""
        given = -1
        if self._good is not None and self._good is not self._table:
            # The newest may be one that was refused: what was served before is served again first.
            self._acknowledged = await control.configure(self._good)
        while True:
            moved, table = self._moved, self._table
            if table is not None and int(table["version"]) > given:
                given = int(table["version"])
                try:
                    self._acknowledged = await control.configure(table)
                    self._good = table
                except SpecViolation as error:
                    self._refused = (given, error)
                    self._event("table-refused", version=given, reason=error.message)
                self._move()
                continue
            await moved.wait()

    async def _discard(self, instance: _Instance) -> int:
        instance.control.close()
        return await instance.process.stop()
