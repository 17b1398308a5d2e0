"""The connections to one worker: those that are idle, how many there are, and who waits for one.

Which request may ride a used connection: GET, HEAD and OPTIONS without a body ride any that is idle for less
than the pool's timeout, since they can be sent again. Everything else rides one only while that is not a
connection the worker may be closing: the kernel, asked at that moment, knows of no close, and since the worker last
closed an idle connection it was seen to keep one for more than twice as long as this one has been idle. Otherwise
it gets a fresh one. The pool's timeout (`Limits.upstream_idle_seconds`, 30 s) is far below the worker's own (75 s), so
that the router closes first.

At most `Limits.max_worker_connections` are open; who comes then waits for one in turn (`Limits.max_waiting`,
`Limits.waiting_seconds`). Each router process counts for itself.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import TYPE_CHECKING, Final

from greentic.router.known import KnownResponses
from greentic.router.limits import Limits
from greentic.router.upstream import UpstreamConnection

if TYPE_CHECKING:
    from greentic.router.forwarding import Exchange

IDLE_LIMIT: Final = 512
"""Idle connections kept per worker."""


class UpstreamPool:
    """Connections to one address. The most recently used one is taken first, so that the surplus ages and is
    closed.
    """

    __slots__ = ("_idle", "_kept_seconds", "_seen", "_waiting", "address", "known", "limit", "opened", "retired")

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)
        self.known = KnownResponses()
        self.retired = False
        self.opened = 0
        """Connections there are, those that are being opened included."""
        self.limit = Limits().max_worker_connections
        """Connections that there may be."""
        self._idle: list[UpstreamConnection] = []
        self._waiting: deque[tuple[Exchange, float]] = deque()
        self._seen = 0.0
        """The tick before the present one: the clock of `idle_since` goes by ticks and may be late by one."""
        self._kept_seconds = 0.0
        """For how long the worker was seen to keep an idle connection since it last closed one."""

    def take(self, *, repeatable: bool, now: float, idle_seconds: float) -> UpstreamConnection | None:
        """A used connection fit for the request, or None: open a fresh one."""
        idle = self._idle
        while idle:
            connection = idle[-1]
            age = now - connection.idle_since
            if repeatable:
                idle.pop()
                if age < idle_seconds and not connection.transport.is_closing():
                    return connection
            elif 2 * age >= min(self._kept_seconds, idle_seconds):
                # The oldest stays: it shows how long the worker keeps one. The fresh one replaces another.
                if len(idle) > 1:
                    idle.pop().abort()
                return None
            else:
                idle.pop()
                if connection.seems_open():
                    return connection
            connection.abort()
        return None

    def put(self, connection: UpstreamConnection, now: float) -> None:
        """Keep a connection whose response is complete; who waits for one goes on."""
        if self.retired or len(self._idle) >= IDLE_LIMIT or connection.transport.is_closing():
            connection.abort()
            return
        connection.resume_reading()
        connection.reused = True
        connection.idle_since = now
        self._idle.append(connection)
        if self._waiting:
            self._next()

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection serves no more."""
        if connection in self._idle:
            self._idle.remove(connection)

    def closed(self, connection: UpstreamConnection, *, unanswered: bool) -> None:
        """The connection is gone; who waits for one goes on. `unanswered`: it was used, and served a request again that
        it left without a byte.
        """
        idle = connection in self._idle
        if idle:
            self._idle.remove(connection)
        if idle or unanswered:
            self._kept_seconds = 0.0
        self.release()

    def release(self) -> None:
        """One that was counted in `opened` is no more; who waits goes on."""
        self.opened -= 1
        self.admit()

    def sweep(self, now: float, idle_seconds: float) -> None:
        """Close what has been idle for too long; the oldest are at the front."""
        idle = self._idle
        while idle and now - idle[0].idle_since >= idle_seconds:
            idle.pop(0).abort()
        if idle:
            self._kept_seconds = max(self._kept_seconds, self._seen - idle[0].idle_since)
        self._seen = now

    def retire(self) -> None:
        """No request will come to this address any more; who waits goes where the revision is now."""
        self.retired = True
        while self._idle:
            self._idle.pop().abort()
        waiting, self._waiting = self._waiting, deque()
        for exchange, _ in waiting:
            exchange.reach()

    # Room

    def has_room(self) -> bool:
        """Whether another connection may be opened; an idle one makes room."""
        if self.opened < self.limit:
            return True
        if not self._idle:
            return False
        self._idle.pop(0).abort()
        return True

    @property
    def waiting(self) -> int:
        """How many wait for a connection."""
        return len(self._waiting)

    def wait(self, exchange: Exchange, now: float) -> None:
        """Have `exchange` go on (`Exchange.reach`) when a connection may be free."""
        self._waiting.append((exchange, now))

    def leave(self, exchange: Exchange) -> None:
        """`exchange` waits no more."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] is not exchange)

    def overdue(self, now: float, seconds: float) -> list[Exchange]:
        """Those that have waited for longer than `seconds`; they wait no more."""
        found: list[Exchange] = []
        while self._waiting and now - self._waiting[0][1] > seconds:
            found.append(self._waiting.popleft()[0])
        return found

    def admit(self) -> None:
        """Let those go on for whom there is room."""
        while self._waiting and self.opened < self.limit:
            self._next()

    def _next(self) -> None:
        self._waiting.popleft()[0].reach()

    async def open(self) -> UpstreamConnection:
        """A fresh connection, which the caller has counted in `opened`. Raises OSError."""
        host, port = self.address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        loop = asyncio.get_running_loop()
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(connection, (host, port))
            _, upstream = await loop.create_connection(lambda: UpstreamConnection(self, connection), sock=connection)
        except BaseException:
            connection.close()
            raise
        return upstream
