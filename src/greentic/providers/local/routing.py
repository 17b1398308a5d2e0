"""The routers of an environment: as many processes as are asked for on one listening socket, all serving one table.

Each replica is kept alive by a task of its own. Everybody else offers a table and waits until every process that lives
has acknowledged it, so tables never overtake each other, and those that nobody waits for any more are skipped. A
process that is replaced finishes what it has begun while its successor accepts already.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greentic.envpacks.deployer import RouterObservation, RouterRestart
from greentic.providers.local.instance import LEASE_SECONDS, Change, Instance, Surroundings, Tables
from greentic.router.balance import Places
from greentic.router.control import STOP_IDLE_SECONDS, DrainReport, InFlight
from greentic.router.merging import merge, past
from greentic.spec.errors import Conflict, GreenticError, ProviderError, TimedOut
from greentic.worker.backoff import delay
from greentic.worker.logfile import LogFile

ACKNOWLEDGE_SECONDS = 5.0
START_SECONDS = 20.0
STOP_SECONDS = 10.0
"""How long requests in flight may take when everything ends."""
FINISH_SECONDS = 60.0
"""How long a router that is replaced may take to finish."""
_HURRIED_SECONDS = 2.0
_LONGEST_DELAY_SECONDS = 5.0
_MOST_FINISHING = 16
"""Of more processes that finish, the oldest is hurried: restarts that follow each other must not fill the machine."""

Event = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Served:
    """What every router serves: at least table `version`, and at least these generations of the deployments."""

    version: int
    generations: Mapping[str, int]
    routers: tuple[str, ...]


class Replica:
    """One of the routers: a process, and another one when that ends."""

    def __init__(
        self,
        name: str,
        start: Callable[[], Awaitable[Instance]],
        part: Callable[[Instance], None],
        change: Change,
        event: Event,
    ) -> None:
        """`start` makes a process, `part` lets one finish that is not wanted any more."""
        self.name = name
        self.current: Instance | None = None
        self.restarts = 0
        """How often its process had to be replaced because it ended."""
        self._start = start
        self._part = part
        self._change = change
        self._event = event
        self._starting = asyncio.Lock()
        self._closed = False
        self._task = asyncio.create_task(self._run())

    async def replace(self, version: int) -> tuple[Instance, Instance | None]:
        """Have a new process accept and serve table `version`; (it, the one that it replaces, which accepts still).

        The old one stays, and ProviderError or TimedOut is raised, when the new one does not come to that.
        """
        async with self._starting:
            new = await self._launch()
            try:
                await self._until_serving(new, version)
            except BaseException:
                self._part(new)  # it may have begun to serve
                raise
            old, self.current = self.current, new
        self._change.tell()
        return new, old

    async def _until_serving(self, new: Instance, version: int) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                while not (new.serves(version) or new.ended.done() or self._closed):
                    await self._change.wait()
        except TimeoutError:
            raise TimedOut(
                f"the new {self.name} does not serve within {START_SECONDS:g} s; the old one serves on",
                next_step="gtc op router list",
            ) from None
        if self._closed:
            raise Conflict(f"{self.name} is not wanted any more")
        if new.ended.done():
            raise ProviderError(
                f"the new {self.name} {new.ended.result()}; the old one serves on", next_step="read logs/router.log"
            )

    async def give_up(self) -> Instance | None:
        """Keep no process any more; the one that there is."""
        self._closed = True
        self._change.tell()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        async with self._starting:
            instance, self.current = self.current, None
        return instance

    async def _launch(self) -> Instance:
        instance = await self._start()
        self._event("router-started", router=self.name, pid=instance.pid)
        return instance

    async def _run(self) -> None:
        attempt = 0
        while True:
            instance, reason = self.current, ""
            if instance is None:
                try:
                    async with self._starting:
                        self.current = self.current or await self._launch()
                    self._change.tell()
                    continue
                except (GreenticError, OSError) as error:
                    reason = str(error)
            else:
                while not instance.ended.done() and self.current is instance:
                    await self._change.wait()
                if self.current is not instance:
                    continue
                self.current = None
                reason = instance.ended.result()
            self.restarts += 1
            self._event("router-ended", router=self.name, reason=reason, restarts=self.restarts)
            # One that has served is replaced at once: connections are waiting. One that cannot begin is not hurried.
            attempt = 0 if instance is not None and instance.version >= 0 else attempt + 1
            if attempt:
                await asyncio.sleep(delay(attempt - 1, 1.0, longest=_LONGEST_DELAY_SECONDS))


class Routers:
    """The routers of one environment, on `listener`, a listening socket that stays open whatever becomes of them.

    `event` is told what happens, for the log.
    """

    def __init__(
        self,
        listener: socket.socket,
        environment: Mapping[str, str],
        directory: Path,
        log: LogFile,
        event: Event,
        *,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self.listener = listener
        self._log = log
        self._event = event
        self._tables = Tables()
        self._change = Change()
        self._places = Places()
        self._given = Surroundings(environment, directory, log, self._places, event, self._change.tell, lease_seconds)
        self._count = 1
        self._replicas: list[Replica] = []
        self._living: list[Instance] = []
        self._past: dict[str, Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._restarting = asyncio.Lock()
        self._closed = False
        self._restarts = 0

    @property
    def restarts(self) -> int:
        """How often a process had to be replaced because it ended."""
        return self._restarts + sum(replica.restarts for replica in self._replicas)

    @property
    def process_ids(self) -> list[int]:
        """Of every router process that lives."""
        return [instance.pid for instance in self._living]

    @property
    def names(self) -> list[str]:
        """Of the routers that are kept."""
        return [replica.name for replica in self._replicas]

    # The table

    async def publish(self, table: dict[str, Any], seconds: float = ACKNOWLEDGE_SECONDS) -> Served:
        """Have every router serve `table` or a newer one; they are started when they are not there.

        ProviderError when one refuses the table (it then serves the old one on). TimedOut after `seconds`, which names
        in `missing` those that do not serve it.
        """
        version = int(table["version"])
        self._tables.offer(table)
        self.start()
        try:
            async with asyncio.timeout(seconds):
                while (served := self.served(version)) is None:
                    self._refuse(version)
                    await self._change.wait()
                return served
        except TimeoutError:
            missing = self._missing(version)
            count = len(self._replicas)
            absent = sum(name in missing for name in self.names)
            raise TimedOut(
                f"{', '.join(missing)} did not take the new table within {seconds:g} s; the record stands",
                details={"missing": missing, "acknowledged": count - absent, "expected": count},
                next_step="gtc op router list",
            ) from None

    def served(self, version: int) -> Served | None:
        """What all routers serve, when that is table `version` at least and each of them has a living lease."""
        if not self._replicas or self._missing(version):
            return None
        answering = [instance for instance in self._living if not instance.ended.done()]
        acknowledged = [one.acknowledged for one in answering if one.acknowledged is not None]
        generations = merge({"version": 0, "generations": one.generations} for one in acknowledged)["generations"]
        return Served(min(one.version for one in acknowledged), generations, tuple(self.names))

    def _missing(self, version: int) -> list[str]:
        """Who is not known to serve the table: replicas, and whoever answers requests beside them (a process that
        finishes, or one that is about to replace another)."""
        missing = [
            replica.name for replica in self._replicas if replica.current is None or not replica.current.serves(version)
        ]
        current = {replica.current for replica in self._replicas}
        return missing + [
            f"{instance.name} (process {instance.pid}, {'finishing' if instance.finishing else 'starting'})"
            for instance in self._living
            if instance not in current and instance.accepts and not instance.serves(version)
        ]

    def _refuse(self, version: int) -> None:
        for instance in self._living:
            if instance.refused is not None and instance.refused[0] >= version:
                error = instance.refused[1]
                raise ProviderError(f"{instance.name} refuses the table: {error.message}", details=error.details)

    # How many

    def start(self) -> None:
        """Have processes that wait for their first table; connections wait until then."""
        if not self._replicas and not self._closed:
            self._fill()

    def resize(self, count: int) -> None:
        """Have `count` routers. Further ones accept when they have a table; of those that go, each finishes first."""
        self._count = count
        if self._replicas:
            self._fill()
            for replica in self._replicas[count:]:
                self._background(self._dismiss(replica))
            del self._replicas[count:]

    def _fill(self) -> None:
        for index in range(len(self._replicas), self._count):
            name = f"router-{index}"
            self._replicas.append(Replica(name, self._starter(name, index), self._part, self._change, self._event))

    def _starter(self, name: str, index: int) -> Callable[[], Awaitable[Instance]]:
        def phase() -> dict[str, int]:
            return {"index": index, "count": max(self._count, index + 1)}

        async def start() -> Instance:
            if self._closed:
                raise Conflict("the routers are being ended")
            instance = await Instance.start(name, self.listener, self._tables, phase, self._given)
            self._living.append(instance)
            instance.ended.add_done_callback(lambda _: self._ended(instance))
            return instance

        return start

    def _ended(self, instance: Instance) -> None:
        self._living.remove(instance)
        if instance.report is not None:
            self._past = past(self._past, instance.report)

    def _part(self, instance: Instance, grace_seconds: float = FINISH_SECONDS) -> None:
        self._background(self._finish(instance, grace_seconds))

    async def _dismiss(self, replica: Replica) -> None:
        self._restarts += replica.restarts
        instance = await replica.give_up()
        if instance is not None:
            await self._finish(instance, FINISH_SECONDS)

    async def _finish(self, instance: Instance, grace_seconds: float) -> None:
        self._event("router-finishing", router=instance.name, pid=instance.pid, at_most_seconds=grace_seconds)
        finishing = [other for other in self._living if other.finishing]
        if len(finishing) >= _MOST_FINISHING:
            self._background(finishing[0].finish(_HURRIED_SECONDS, STOP_IDLE_SECONDS))
        cut = await instance.finish(grace_seconds, None)
        self._event("router-finished", router=instance.name, pid=instance.pid, cut=cut.total)

    # The life

    async def restart(
        self, told: Callable[[str], None], grace_seconds: float = FINISH_SECONDS
    ) -> tuple[RouterRestart, ...]:
        """Replace every process, one after the other, without a moment in which nobody accepts.

        Returns when the new ones serve. The old ones finish in the background, at most for `grace_seconds`.
        """
        restarted = []
        async with self._restarting:
            for replica in tuple(self._replicas):
                try:
                    restarted.append(await self._replace(replica, told, grace_seconds))
                except Conflict:
                    if replica in self._replicas or self._closed:
                        raise  # otherwise it was let go meanwhile
        return tuple(restarted)

    async def _replace(self, replica: Replica, told: Callable[[str], None], grace_seconds: float) -> RouterRestart:
        told(f"starting a new {replica.name}")
        new, old = await replica.replace(self._tables.version)
        if old is not None:
            self._part(old, grace_seconds)
        return RouterRestart(replica.name, new.pid, None if old is None else old.pid)

    async def move(self, listener: socket.socket) -> None:
        """Serve on `listener` from now on; what is in flight on the old one is finished."""
        self.listener = listener
        await self.restart(lambda _: None)

    async def explain(self, request_id: str) -> list[dict[str, Any]]:
        """What the routers know of requests with that id, each with `router`, the name of whoever served it."""
        living = tuple(self._living)
        told = await asyncio.gather(*(instance.explain(request_id) for instance in living))
        return [{**one, "router": by.name} for by, found in zip(living, told, strict=True) for one in found]

    async def drain(self, revision_id: str, seconds: float, told: Callable[[InFlight], None]) -> DrainReport:
        """Wait until nothing is in flight to the revision on any router, at most `seconds`, then have the rest cut.

        `told` hears the sum of what is in flight whenever it changes.
        """
        now: dict[int, InFlight] = {}

        def hear(pid: int, in_flight: InFlight) -> None:
            before = sum(now.values(), InFlight())
            now[pid] = in_flight
            if (after := sum(now.values(), InFlight())) != before and (after.total or after.pins):
                told(after)

        def listen(pid: int) -> Callable[[InFlight], None]:
            return lambda in_flight: hear(pid, in_flight)

        drains = [instance.drain(revision_id, seconds, listen(instance.pid)) for instance in tuple(self._living)]
        return sum(await asyncio.gather(*drains), DrainReport(0))

    async def stop(self, told: Callable[[str], None], grace_seconds: float) -> None:
        """Finish what is in flight within `grace_seconds` and end every process.

        `told` hears every second what is waited for, and what was cut.
        """
        self._closed = True
        replicas, self._replicas = self._replicas, []
        await asyncio.gather(*(replica.give_up() for replica in replicas))
        telling = asyncio.create_task(self._tell_stopping(told, grace_seconds))
        cut = InFlight()
        try:
            while self._living:
                endings = (instance.finish(grace_seconds, STOP_IDLE_SECONDS) for instance in tuple(self._living))
                cut = sum(await asyncio.gather(*endings), cut)
            if cut.total:
                told(f"after {grace_seconds:g} s cut {cut}")
        finally:
            telling.cancel()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(telling, *self._tasks, return_exceptions=True)
        self._places.close()
        self._log.close()

    async def _tell_stopping(self, told: Callable[[str], None], grace_seconds: float) -> None:
        ends = time.monotonic() + grace_seconds
        while True:
            await asyncio.sleep(1.0)
            rows = (await self.report())["revisions"].values()
            tunnels = sum(row.get("upgraded", 0) for row in rows)
            going = InFlight(sum(row.get("in_flight", 0) for row in rows) - tunnels, tunnels=tunnels)
            left = math.ceil(ends - time.monotonic())
            if going.total and left > 0:
                told(f"waiting for {going}, at most {left} s")

    # What is

    async def report(self) -> dict[str, Any]:
        """The reports of all routers as one, with what those that have ended had counted."""
        await asyncio.gather(*(instance.fresh_report() for instance in tuple(self._living)))
        reports = [instance.report for instance in self._living if instance.report is not None]
        return merge([*([self._past] if self._past is not None else []), *reports])

    def states(self) -> tuple[RouterObservation, ...]:
        """Every router as it is known; those that finish come last."""
        named = {replica.current: replica for replica in self._replicas if replica.current is not None}
        seen = [
            _absent(replica) if replica.current is None else _state(replica.current, replica.restarts)
            for replica in self._replicas
        ]
        return (*seen, *(_state(instance, 0) for instance in self._living if instance not in named))

    def _background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _absent(replica: Replica) -> RouterObservation:
    return RouterObservation(replica.name, False, "it is being started", state="starting", restarts=replica.restarts)


def _state(instance: Instance, restarts: int) -> RouterObservation:
    report: Mapping[str, Any] = instance.report or {}
    claim = instance.claim
    acknowledged = instance.acknowledged
    return RouterObservation(
        name=instance.name,
        state="finishing" if instance.finishing else "serving" if acknowledged is not None else "starting",
        ready=claim.ready,
        reason=claim.reason or "",
        process_id=instance.pid,
        version=acknowledged.version if acknowledged is not None else None,
        generations=dict(acknowledged.generations) if acknowledged is not None else {},
        connections=report.get("connections", 0),
        uptime_seconds=round(instance.uptime_seconds, 3),
        lease_seconds=round(instance.lease_seconds_left, 3),
        lapses=report.get("lease", {}).get("lapses", 0),
        restarts=restarts,
    )
