"""Taking connections from a listening socket that other processes take from, too.

Whoever is told first of new connections could take all of them, and the event loop's own server does (see
docs/decisions/0013). Here the router that has the most connections lets the others go first: it looks away for
DEFER_SECONDS and then takes what is still waiting, so that a process which does not take its turn costs a moment and
never a connection. The queue stays one: what one router cannot take, another one does.

Clients that keep their connections would stay where they are when routers come, go or are replaced. So a router that
has too many for a while lets some leave with their next response; whoever has the fewest takes them when they return.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from typing import TYPE_CHECKING, Final

from greentic.router.secure import accepted

if TYPE_CHECKING:
    from greentic.router.balance import Balance
    from greentic.router.gateway import Gateway

_log = logging.getLogger(__name__)

DEFER_SECONDS: Final = 0.001
BATCH: Final = 16
"""Connections taken at once: requests that are there already come before more visitors."""
LEVEL_SECONDS: Final = 0.5
_NO_ROOM_SECONDS: Final = 0.25
"""After the system had no descriptor or memory left for another connection."""


class Acceptor:
    """Takes connections for `gateway` from `listening` (which stays the caller's) between `start` and `stop`.

    Without a `balance` there is nobody to share with.
    """

    def __init__(self, listening: socket.socket, gateway: Gateway, balance: Balance | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._gateway = gateway
        self._balance = balance
        self._opening: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting_for_others = False
        self._active = False
        self._leveling: asyncio.TimerHandle | None = None
        self._surplus = 0
        listening.setblocking(False)

    def start(self) -> None:
        """Take connections from now on; may be repeated."""
        if not self._active:
            self._active = True
            self._gateway.on_leave = self._left
            self._tell()
            self._watch()
            if self._balance is not None:
                self._leveling = self._loop.call_later(LEVEL_SECONDS, self._level, self._balance)

    def stop(self) -> None:
        """Take no more, at once. Connections that are taken already are opened."""
        if self._active:
            self._active = False
            self._look_away()
        self._gateway.on_leave = None
        if self._leveling is not None:
            self._leveling.cancel()
        if self._balance is not None:
            self._balance.leave()

    async def opened(self) -> None:
        """Wait until every connection that was taken has begun or failed."""
        if self._opening:
            await asyncio.wait(tuple(self._opening))

    @property
    def _connections(self) -> int:
        return self._gateway.connections + len(self._opening)

    def _watch(self) -> None:
        self._loop.add_reader(self._listening, self._ready)

    def _look_away(self) -> None:
        self._loop.remove_reader(self._listening)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting_for_others = False

    def _ready(self) -> None:
        balance = self._balance
        fewest = min(balance.others(), default=None) if balance is not None else None
        for _ in range(BATCH):
            if fewest is not None and self._has_more_than(fewest):
                self._loop.remove_reader(self._listening)
                self._waiting_for_others = True
                self._timer = self._loop.call_later(DEFER_SECONDS, self._again)
                return
            if not self._take():
                return

    def _again(self) -> None:
        self._timer = None
        self._waiting_for_others = False
        # Nobody has taken them meanwhile.
        for _ in range(BATCH):
            if not self._take():
                break
        if self._timer is None:
            self._watch()

    def _has_more_than(self, fewest: int) -> bool:
        connections = self._connections
        return connections > fewest + 1 + (connections >> 4)

    def _level(self, balance: Balance) -> None:
        """Ask half of what is too many, seen twice, to leave: what comes and goes by itself is no reason."""
        others, mine = balance.others(), self._connections
        surplus = mine - math.ceil((mine + sum(others)) / (1 + len(others)))
        surplus = surplus if others and self._has_more_than(min(others)) else 0
        self._gateway.surplus = math.ceil(min(surplus, self._surplus) / 2)
        self._surplus = surplus
        self._leveling = self._loop.call_later(LEVEL_SECONDS, self._level, balance)

    def _left(self) -> None:
        """A connection is over."""
        self._tell()
        if self._waiting_for_others and self._balance is not None:
            fewest = min(self._balance.others(), default=None)
            if fewest is None or self._connections <= fewest:
                self._look_away()
                self._watch()

    def _tell(self) -> None:
        if self._balance is not None and self._active:
            self._balance.tell(self._connections)

    def _take(self) -> bool:
        """Take one connection; whether there may be more."""
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionError:
            return True  # gone before its turn came (accept(2))
        except OSError as error:
            _log.error("no connection can be taken: %s", error.strerror or error)
            self._loop.remove_reader(self._listening)
            self._timer = self._loop.call_later(_NO_ROOM_SECONDS, self._after_no_room)
            return False
        connection.setblocking(False)
        task: asyncio.Task[object] = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opened)
        self._tell()
        return True

    def _after_no_room(self) -> None:
        self._timer = None
        self._watch()

    async def _open(self, connection: socket.socket) -> object:
        try:
            return await self._loop.connect_accepted_socket(lambda: accepted(self._gateway), connection)
        except OSError:
            connection.close()
            return None

    def _opened(self, task: asyncio.Task[object]) -> None:
        self._opening.discard(task)
        self._tell()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a connection could not be opened", exc_info=error)
