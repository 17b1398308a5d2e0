"""The idle connections to one worker.

Which request may ride a used connection: GET, HEAD and OPTIONS without a body ride any that is idle for less
than the pool's timeout, since they can be sent again. Everything else rides one only when it has been idle
for less than half the timeout and the kernel, asked at that moment, knows of no close by the worker;
otherwise it gets a fresh one. The pool's timeout (`Limits.upstream_idle_seconds`, 30 s) is far below the
worker's own (75 s), so that the router closes first.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from greentic.router.known import KnownResponses
from greentic.router.upstream import UpstreamConnection

IDLE_LIMIT: Final = 512
"""Idle connections kept per worker."""


class UpstreamPool:
    """Connections to one address. The most recently used one is taken first, so that the surplus ages and is
    closed.
    """

    __slots__ = ("_idle", "address", "known", "retired")

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)
        self.known = KnownResponses()
        self.retired = False
        self._idle: list[UpstreamConnection] = []

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
            elif age >= idle_seconds / 2:
                return None
            else:
                idle.pop()
                if connection.seems_open():
                    return connection
            connection.abort()
        return None

    def put(self, connection: UpstreamConnection, now: float) -> None:
        """Keep a connection whose response is complete."""
        if self.retired or len(self._idle) >= IDLE_LIMIT or connection.transport.is_closing():
            connection.abort()
            return
        connection.resume_reading()
        connection.reused = True
        connection.idle_since = now
        self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection is gone."""
        if connection in self._idle:
            self._idle.remove(connection)

    def sweep(self, now: float, idle_seconds: float) -> None:
        """Close what has been idle for too long; the oldest are at the front."""
        idle = self._idle
        while idle and now - idle[0].idle_since >= idle_seconds:
            idle.pop(0).abort()

    def retire(self) -> None:
        """No request will come to this address any more."""
        self.retired = True
        while self._idle:
            self._idle.pop().abort()

    async def open(self) -> UpstreamConnection:
        """A fresh connection. Raises OSError."""
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
