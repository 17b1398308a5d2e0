"""What every handler of the server is given: the store, who knows callers, and the way to a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import anyio
from anyio import to_thread
from starlette.requests import Request

from greentic.engine.command import Command
from greentic.envpacks.registry import Registry
from greentic.operations.context import Context
from greentic.server import exchange
from greentic.server.access import OPEN_DEV, Principal
from greentic.server.exchange import MAX_BODY_BYTES
from greentic.server.failures import Throttled
from greentic.server.health_gate import DataPlanes
from greentic.spec.errors import GreenticError
from greentic.store import contract
from greentic.store.clock import timestamp, wall_clock
from greentic.store.contract import Applied, ServedStore

Value = TypeVar("Value")
THREADS = 64
ASKING = 8
"""Threads in which callers may wait for an issuer, apart from the others: strangers can make anybody wait there."""
PROBE_SECONDS = 1.0
LARGE_BYTES = 64 * 1024
"""Bodies that are larger wait for each other."""
DENIALS_PER_MINUTE = 60
"""Denials of one principal that leave an audit entry each; the rest of a flood is counted only."""


class Doorkeeper(Protocol):
    """Who knows callers."""

    def slow(self, request: Request) -> bool:
        """Whether `admit` may have to ask somebody else first."""
        ...

    def admit(self, request: Request) -> Principal:
        """Whoever asks, by headers and certificate alone; Unauthenticated or Throttled otherwise."""
        ...

    def data_planes(self, environment_id: str) -> DataPlanes | None:
        """Whose evidence of health is demanded in an environment; None: words count, as in the reference."""
        ...


@dataclass(slots=True)
class Desk:
    """The surroundings of a request. Made once per server."""

    store: ServedStore
    doorkeeper: Doorkeeper
    max_body: int = MAX_BODY_BYTES
    clock: Callable[[], float] = time.monotonic
    _probed: float | None = None
    _probing: asyncio.Task[None] | None = None
    _large: asyncio.Lock | None = None
    _threads: anyio.CapacityLimiter | None = None
    _asking: anyio.CapacityLimiter | None = None
    _denials: dict[str, tuple[float, int]] = field(default_factory=dict)

    async def caller(self, request: Request) -> Principal:
        """Who asks."""
        if self.doorkeeper.slow(request):
            if self._asking is None:
                self._asking = anyio.CapacityLimiter(ASKING)
            principal = await to_thread.run_sync(lambda: self.doorkeeper.admit(request), limiter=self._asking)
        else:
            principal = self.doorkeeper.admit(request)
        recognised = request.scope.get("state", {}).get("recognised")
        known_as = None if principal.policy == OPEN_DEV else principal.name
        if recognised is not None and not recognised(known_as):  # its connection may stay, if there is a place
            raise Throttled("too many connections of yours are open")
        return principal

    async def in_thread(self, work: Callable[[], Value]) -> Value:
        """Run what may wait for a disk or a lock, in a thread; a client that leaves does not stop it half-way."""
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(THREADS)
        return await to_thread.run_sync(work, limiter=self._threads)

    async def applied(self, command: Command, **how: Any) -> Applied:
        """What `apply` of the store answers. A store that takes changes together is not given a thread for each."""
        submit: Callable[..., Future[Applied]] | None = getattr(self.store, "submit", None)
        if submit is None:
            return await self.in_thread(lambda: self.store.apply(command, **how))
        return await asyncio.shield(asyncio.wrap_future(submit(command, **how)))

    async def probed(self) -> None:
        """Show that the store can be written. Asked often, it is written once in a second: anybody may ask."""
        if self._probed is not None and self.clock() - self._probed < PROBE_SECONDS:
            return
        if self._probing is None or self._probing.done():  # else one is on its way, for everybody who asks meanwhile
            self._probing = asyncio.ensure_future(self._probe())
            self._probing.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._probing)

    async def _probe(self) -> None:
        await self.in_thread(self.store.probe)
        self._probed = self.clock()

    async def read(self, request: Request, work: Callable[[Any], Value], limit: int | None = None) -> Value:
        """What `work` makes of the JSON values of a body of `limit` bytes at most, `max_body` if None.

        Large ones are worked on in a thread, one after the other: nobody else waits for a second while that takes one.
        """
        data = await exchange.json_content(request, self.max_body if limit is None else limit)
        if len(data) <= LARGE_BYTES:
            return work(exchange.json_of(data))
        if self._large is None:
            self._large = asyncio.Lock()
        async with self._large:
            return await self.in_thread(lambda: work(exchange.json_of(data)))

    def context(self, principal: Principal) -> Context:
        """The surroundings of an operation on behalf of `principal`."""
        return Context(
            store=self.store,
            registry=_NO_PACKS,
            actor=principal.name,
            by=principal.name,
            now=lambda: timestamp(wall_clock()),
            mint=_no_mint,
        )

    async def record_denial(self, principal: Principal, command: Command, asked: contract.Request) -> None:
        """Leave an audit entry, as long as that cannot fill the disk. The denial stands, recorded or not."""
        since, count = self._denials.get(principal.name, (self.clock(), 0))
        if self.clock() - since > 60:
            since, count = self.clock(), 0
        self._denials[principal.name] = (since, count + 1)
        if count >= DENIALS_PER_MINUTE:
            return
        try:
            await self.in_thread(lambda: self.store.deny(command, asked))
        except GreenticError:
            return


_NO_PACKS = Registry({})


def _no_mint() -> str:
    raise AssertionError("the server mints identifiers from keys")
