"""The live state of a router process: the table in use, the connections, the counters, and the clock of its
limits.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import logging
import math
import os
import resource
import socket
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from greentic.router.access_log import AccessLog
from greentic.router.caller import CallerRules
from greentic.router.compiled import CompiledDeployment, CompiledRevision, CompiledTable, compile_table
from greentic.router.control import DrainReport, InFlight
from greentic.router.dates import date_line
from greentic.router.ended import Ended, ring
from greentic.router.forwarding import waited_too_long
from greentic.router.lease import Lease, Readiness
from greentic.router.limits import Limits
from greentic.router.phases import IDLE, TICK_SECONDS
from greentic.router.pins import Pin, PinSettings
from greentic.router.pool import UpstreamPool
from greentic.router.session_pins import SessionPins
from greentic.router.spans import Origin, SpanCounts, Spans
from greentic.router.table import RoutingTable
from greentic.router.tally import Tally
from greentic.router.tls import TlsMaterial, context_of
from greentic.router.tunnel import LAST_FRAME_SECONDS
from greentic.spec.errors import SpecViolation

if TYPE_CHECKING:
    from greentic.router.client import ClientConnection

_log = logging.getLogger(__name__)

_FLUSH_SECONDS: Final = LAST_FRAME_SECONDS + 0.25
"""At the very end, for what is cut to leave in order; most of it is gone at once."""
_PROMISE_SECONDS: Final = 0.5
"""How often a drain looks whether pins are honoured still: they end by the clock, no event tells."""
_TOLD_OF_NO_ROOM: Final = 16
_OWN_FILES: Final = 64
"""Of the process itself: control, logs, libraries, a store of pins."""
_KEPT_TALLIES: Final = 4096


class Gateway:
    """What every connection of this process shares."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time()
        """Seconds of the loop's clock, as of the last tick."""
        self.date = date_line()
        """The `Date` field for responses that have none, as of the last tick."""
        self.table: CompiledTable | None = None
        self.limits = Limits()
        self.callers = CallerRules()
        """Whom to trust; another object only when that changes."""
        self.tls: ssl.SSLContext | None = None
        """For connections accepted from now on; None: they speak HTTP."""
        self.stopping = False
        self.surplus = 0
        """So many connections are to leave with their next response, because other routers have fewer."""
        self.access_log: AccessLog | None = None
        self.spans: Spans | None = None
        """Where spans of sampled requests go; None: nobody wants them."""
        self._span_counts = SpanCounts()
        self.kept = ring()
        """The last requests that are over, for `explain`."""
        self.pins = SessionPins()
        """Where sessions are pinned."""
        self._most = self.limits.max_connections
        """How many clients may be connected."""
        self._clients: set[ClientConnection] = set()
        self._pools: dict[str, UpstreamPool] = {}
        self._tallies: dict[str, Tally] = {}
        self._unrouted: dict[str, int] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._began = self.now
        self._request_ids = itertools.count(1)
        self._request_prefix = os.urandom(6).hex().encode()
        self._emptied = asyncio.Event()
        self._ticker = self._loop.call_later(TICK_SECONDS, self._tick)
        self.lease = Lease()
        self.on_leave: Callable[[], None] | None = None
        """Called when a connection is over."""
        self._doubtful = False
        self._stop_by = math.inf
        self._idle_seconds = math.inf

    # For connections and exchanges

    def admit(self, client: ClientConnection) -> bool:
        """Count a connection in; False when there are too many."""
        self._clients.add(client)
        return len(self._clients) <= self._most

    @property
    def crowded(self) -> bool:
        """Whether even those that are only told so are too many."""
        return len(self._clients) > self._most + self._most // 8 + _TOLD_OF_NO_ROOM

    def leave(self, client: ClientConnection) -> None:
        """Count a connection out."""
        self._clients.discard(client)
        if self.on_leave is not None:
            self.on_leave()
        if not self._clients:
            self._emptied.set()

    def new_request_id(self) -> bytes:
        """An id that no other request has, here or on another router."""
        return b"%b-%x" % (self._request_prefix, next(self._request_ids))

    def tally(self, revision_id: str) -> Tally:
        """The counters of a revision."""
        tally = self._tallies.get(revision_id)
        if tally is None:
            tally = self._tallies[revision_id] = Tally(revision_id)
        return tally

    def unrouted(self, kind: str) -> None:
        """Count a request that no revision was chosen for."""
        self._unrouted[kind] = self._unrouted.get(kind, 0) + 1

    def pool(self, revision: CompiledRevision) -> UpstreamPool:
        """The connections to a revision, at its newest address; its last one when it has left the table."""
        pool = self._pools.get(revision.revision_id)
        if pool is None:
            pool = UpstreamPool(revision.host, revision.port)
            pool.retired = True
        return pool

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Run `work` beside; kept until it ends."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def pin(self, deployment: CompiledDeployment, hint: bytes, promise: Pin) -> None:
        """Keep `promise` for the session of `hint`, unless it has a pin by now; nobody waits for it."""
        pins = self.pins
        if pins.local is None:
            self.spawn(pins.ask(deployment, hint, promise))
        else:
            now = time.time()
            pins.local.put(deployment.scope, hint, promise, deployment.admissible(now), now)

    # For the control socket

    def configure(self, table: Any) -> dict[str, Any]:
        """Serve the table in the document `table` from the next request on; the fields of an acknowledgement.

        Raises SpecViolation or InvalidArgument, in which case the old table is served on.
        """
        began = time.perf_counter()
        compiled = compile_table(RoutingTable.parse(table), self.table)
        self._secure(compiled.source.tls)
        warnings = [*compiled.warnings(), *self._keep_pins_at(compiled.source.pins), *self._trace_to(compiled.source)]
        warnings += self._make_room(compiled.limits.max_connections)
        pools: dict[str, UpstreamPool] = {}
        for deployment in compiled.deployments.values():
            for revision in deployment.revisions:
                pool = self._pools.get(revision.revision_id)
                if pool is None or pool.address != (revision.host, revision.port):
                    pool = UpstreamPool(revision.host, revision.port)
                pool.limit = compiled.limits.max_worker_connections
                pools[revision.revision_id] = pool
                self.tally(revision.revision_id).pins.entered(revision.since, promised=revision.honour_until > 0)
        old, self._pools = self._pools, pools
        if compiled.limits != self.limits:
            self.limits = compiled.limits
            for client in self._clients:
                client.limit(self.limits)
        if compiled.source.callers != self.callers:
            self.callers = compiled.source.callers
        self.table = compiled
        for revision_id, pool in old.items():
            if pools.get(revision_id) is pool:
                pool.admit()
            else:
                pool.retire()
        self._forget_tallies()
        self._log_to(compiled.source.access_log)
        return {
            "version": compiled.source.version,
            "generations": self._generations(),
            "compile_ms": round((time.perf_counter() - began) * 1000, 3),
            "warnings": warnings,
        }

    def _make_room(self, clients: int) -> list[str]:
        """Let as many clients in as asked and as the system grants files for; what there is to say of it."""
        granted = _served_with(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        before, self._most = self._most, min(clients, granted)
        if clients <= granted:
            return []
        warning = (
            f"the system lets a router open files for {granted} clients, not for limits.max_connections={clients}: "
            "raise its limit of open files (ulimit -n) and restart the runtime"
        )
        if self._most != before:
            _log.warning("%s", warning)
        return [warning]

    def _secure(self, material: TlsMaterial | None) -> None:
        """Accept with `material` from now on; those that are connected stay, as long as what they rely on holds."""
        before = self.table.source.tls if self.table is not None else None
        if material == before:
            return
        self.tls = None if material is None else context_of(material)
        if before is None and self.table is None:
            return
        unproven = before is not None and (material is None or material.client_authorities != before.client_authorities)
        if unproven or before is None or material is None:
            for client in self._clients:
                client.outdate(unproven=unproven)

    def _keep_pins_at(self, settings: PinSettings) -> list[str]:
        """Open the store of session pins that a table names. One that cannot be opened stands in no table's way: pins
        stay where they are, a warning says why, and the next table tries again.
        """
        if settings == self.pins.settings:
            return []
        try:
            opened = SessionPins(settings)
        except SpecViolation as error:
            return [error.message]
        self.spawn(self.pins.close())
        self.pins = opened
        return []

    def _trace_to(self, table: RoutingTable) -> list[str]:
        """Send spans where a table says. What cannot be opened stands in no table's way: spans go where they went, a
        warning says why, and the next table tries again.
        """
        old, settings = self.spans, table.spans
        if settings == (old.settings if old is not None else None):
            return []
        try:
            origin = Origin(table.env_id, os.getpid())
            self.spans = Spans(settings, origin, self._span_counts) if settings is not None else None
        except SpecViolation as error:
            return [error.message]
        if old is not None:
            self.spawn(asyncio.to_thread(old.close))
        return []

    def report(self) -> dict[str, Any]:
        """Everything counted since the start; see `greentic.router.report`."""
        from greentic.router.report import build_report

        return build_report(
            version=self.table.source.version if self.table is not None else None,
            generations=self._generations(),
            uptime_seconds=self._loop.time() - self._began,
            connections=len(self._clients),
            unrouted=self._unrouted,
            tallies=self._tallies,
            pins=self._live_pins(),
            pools=self._pools,
            sessions=self.pins.document(),
            access_log=self.access_log,
            spans=self.spans,
            readiness=self._judge(),
            lease_seconds_left=self.lease.seconds_left(self._loop.time()),
            lease_lapses=self.lease.lapses,
        )

    def explain(self, request_id: bytes) -> list[dict[str, Any]]:
        """What is kept of the requests with that id, oldest first: clients may choose ids, so there can be several."""
        from greentic.router.explaining import explanation

        env_id = self.table.source.env_id if self.table is not None else ""
        return [explanation(Ended._make(kept), env_id) for kept in self.kept if kept[0] == request_id]

    async def drain(
        self, revision_id: str, deadline_seconds: float, told: Callable[[InFlight], None] | None = None
    ) -> DrainReport:
        """Wait until nothing is in flight to the revision and no pin to it is honoured any more, at most
        `deadline_seconds`; then cut the rest.

        `told` hears what is waited for, at most every TICK_SECONDS and only what is new.
        """
        tally = self._tallies.get(revision_id)
        if tally is None:
            return DrainReport(finished=0)
        deadline = self._loop.time() + max(deadline_seconds, 0)
        began = tally.in_flight
        requests = tally.requests
        telling = self._loop.create_task(self._tell_in_flight(revision_id, told)) if told is not None else None
        try:
            while (left := deadline - self._loop.time()) > 0:
                if tally.in_flight:
                    await self._until_idle(tally, left)
                elif self._promised(revision_id):
                    await asyncio.sleep(min(_PROMISE_SECONDS, left))
                else:
                    break
        finally:
            if telling is not None:
                telling.cancel()
        cut = self.in_flight(revision_id)
        for client in list(self._clients) if cut.total else ():
            if client.serves(revision_id):
                client.cut()
        finished = began + tally.requests - requests - cut.total
        if cut.tunnels and tally.in_flight:
            await self._until_idle(tally, LAST_FRAME_SECONDS)
        return DrainReport(finished, replace(cut, pins=0), pins_cut=cut.pins)

    async def _until_idle(self, tally: Tally, seconds: float) -> None:
        idle = asyncio.Event()
        tally.on_idle.append(idle.set)
        try:
            async with asyncio.timeout(seconds):
                await idle.wait()
        except TimeoutError:
            if idle.set in tally.on_idle:
                tally.on_idle.remove(idle.set)

    def _promised(self, revision_id: str) -> int:
        """How many pins to the revision are honoured still. At least one is supposed until every promise that an
        earlier process may have given has ended.
        """
        for deployment in self.table.deployments.values() if self.table is not None else ():
            revision = deployment.by_id.get(revision_id)
            if revision is not None:
                now = time.time()
                if now >= revision.honour_until:
                    return 0
                counted = sum(self._pins_of(deployment, revision, now).values())
                young = self._loop.time() - self._began < deployment.pin_seconds
                return max(counted, int(young))
        return 0

    def _live_pins(self) -> dict[str, dict[str, int]]:
        """Live pins of each revision in the table, by what keeps them."""
        now = time.time()
        return {
            revision.revision_id: self._pins_of(deployment, revision, now)
            for deployment in (self.table.deployments.values() if self.table is not None else ())
            for revision in deployment.revisions
        }

    def _pins_of(self, deployment: CompiledDeployment, revision: CompiledRevision, now: float) -> dict[str, int]:
        share, honoured = revision.weight > 0, now < revision.honour_until
        session = self.pins.counts(deployment, now).get(revision.revision_id, 0) if share or honoured else 0
        cookie = self.tally(revision.revision_id).pins.live(now, share=share, honoured=honoured)
        return {"cookie": cookie, "session": session}

    def in_flight(self, revision_id: str) -> InFlight:
        """What is in flight to the revision now, by kind, and the promises to it that are honoured."""
        going = _by_kind(client for client in self._clients if client.serves(revision_id))
        return replace(going, pins=self._promised(revision_id))

    async def _tell_in_flight(self, revision_id: str, told: Callable[[InFlight], None]) -> None:
        last = None
        while True:
            now = self.in_flight(revision_id)
            if now != last:
                told(now)
                last = now
            await asyncio.sleep(TICK_SECONDS)

    # The end

    def stop_within(self, grace_seconds: float, idle_seconds: float | None) -> None:
        """Finish what is in flight within `grace_seconds`; the soonest end that was asked for counts.

        Each response says `Connection: close` from now on. A connection that is silent for `idle_seconds` is closed
        before its keep-alive time is over; None: none is, because whoever holds it may be about to use it.
        """
        self.stopping = True
        self._stop_by = min(self._stop_by, self._loop.time() + max(grace_seconds, 0))
        if idle_seconds is not None:
            self._idle_seconds = min(self._idle_seconds, idle_seconds)

    async def stopped(self) -> InFlight:
        """Wait for the end that `stop_within` has begun, then cut the rest, which is returned. Nobody is accepted any
        more."""
        while self._clients and (left := self._stop_by - self._loop.time()) > 0:
            for client in list(self._clients):
                if client.phase == IDLE and self._loop.time() - client.since >= self._idle_seconds:
                    _close_unless_spoken_to(client)
            await self._until_empty(min(TICK_SECONDS, left))
        cut = _by_kind(client for client in self._clients if not client.idle)
        for client in list(self._clients):
            if client.phase == IDLE:
                _close_unless_spoken_to(client)
            else:
                client.cut()
        await self._until_empty(_FLUSH_SECONDS)
        self._ticker.cancel()
        for task in self._tasks:
            task.cancel()
        for pool in self._pools.values():
            pool.retire()
        await self.pins.close()
        if self.spans is not None:
            await asyncio.to_thread(self.spans.close)
        if self.access_log is not None:
            await asyncio.to_thread(self.access_log.close)
        return cut

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    def readiness(self) -> Readiness:
        """Whether this router claims to be ready: see `greentic.router.lease`."""
        if self.stopping:
            return Readiness(False, "it is finishing")
        return self.lease.readiness(self._loop.time(), self.table.source.version if self.table is not None else None)

    def renew_lease(self, seconds: float, newest: int) -> Readiness:
        """The parent is there and has table `newest`; the claim that follows from it."""
        self.lease.renew(self._loop.time(), seconds, newest)
        return self._judge()

    def _judge(self) -> Readiness:
        """The claim; a change for the worse, and back, is written down."""
        readiness = self.readiness()
        doubtful = not readiness.ready and self.table is not None and not self.stopping
        if doubtful is not self._doubtful:
            self._doubtful = doubtful
            _log.warning("not ready: %s", readiness.reason) if doubtful else _log.warning("ready again")
        return readiness

    def _log_to(self, path: str | None) -> None:
        """Write the access log at `path` from now on, none for None."""
        old = self.access_log
        if old is not None and old.path != path:
            self.access_log = None
            self._loop.run_in_executor(None, old.close)  # the disk may be slow
        if path is not None and self.access_log is None:
            self.access_log = AccessLog(path)

    async def _until_empty(self, seconds: float) -> None:
        if not self._clients:
            return
        self._emptied.clear()
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._emptied.wait()
        except TimeoutError:
            pass

    def _generations(self) -> dict[str, int]:
        if self.table is None:
            return {}
        return {name: deployment.generation for name, deployment in self.table.deployments.items()}

    def _forget_tallies(self) -> None:
        """Keep counters of revisions that left, so that a report loses nothing, but not for ever."""
        surplus = len(self._tallies) - len(self._pools) - _KEPT_TALLIES
        if surplus > 0:
            gone = [name for name, tally in self._tallies.items() if name not in self._pools and not tally.in_flight]
            for name in gone[:surplus]:
                del self._tallies[name]

    def _tick(self) -> None:
        self.now = now = self._loop.time()
        self.date = date_line()
        self._judge()
        for client in list(self._clients):
            client.sweep(now)
        limits = self.limits
        for pool in self._pools.values():
            pool.sweep(now, limits.upstream_idle_seconds)
            for exchange in pool.overdue(now, limits.waiting_seconds) if pool.waiting else ():
                exchange.fail(waited_too_long())
        if self.access_log is not None:
            self.access_log.flush()
        if self.spans is not None:
            self.spans.flush()
        if self.table is not None:
            self.pins.refresh(self.table.deployments.values(), now)
        self._ticker = self._loop.call_later(TICK_SECONDS, self._tick)


def _by_kind(clients: Iterable[ClientConnection]) -> InFlight:
    return InFlight(**collections.Counter(client.kind for client in clients))


def _served_with(files: int) -> int:
    """How many clients can be served with that many open files: two for each."""
    return max((files - _OWN_FILES) // 2, 1) if files != resource.RLIM_INFINITY else sys.maxsize


def _close_unless_spoken_to(client: ClientConnection) -> None:
    """Close a silent connection, unless bytes of it have come that the event loop has not read yet."""
    file = client.transport.get_extra_info("socket")
    if file is None or client.transport.is_closing():
        return
    with socket.socket(fileno=os.dup(file.fileno())) as peeked:
        try:
            peeked.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            client.transport.close()
        except OSError:
            pass  # broken already: the event loop is about to say so
