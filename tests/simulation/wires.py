"""Wires between simulated processes: ordered, slow, sometimes held up, broken when an end dies."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.simulation.loop import Process, VirtualLoop, context_of, here

_END = object()
_RESET = object()
LEAST_SECONDS = 0.000_05


class Wire:
    """Two ends. `slowness` is the mean delay of what is sent, in seconds; nothing arrives while it is held."""

    def __init__(self, loop: VirtualLoop, chance: random.Random, slowness: float) -> None:
        self.loop = loop
        self.chance = chance
        self.slowness = slowness
        self.held = False
        self.ends: tuple[End, End] = (End(self), End(self))
        self.ends[0].peer, self.ends[1].peer = self.ends[1], self.ends[0]

    def hold(self) -> None:
        """Let nothing through until `release`."""
        self.held = True

    def release(self) -> None:
        """Let through what waited."""
        self.held = False
        for end in self.ends:
            end._call(end.arrive)


class End(asyncio.Transport):
    """One end: to the protocol a transport, to the code that opened it a socket."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self.wire = wire
        self.peer: End
        self.process: Process | None = None
        self.protocol: Any = None
        self.peername = ("127.0.0.1", 1)
        self._coming: deque[tuple[float, Any]] = deque()
        """What is on its way to this end, with the time of its arrival."""
        self._closing = False
        self._lost = False
        self._done_writing = False
        self._paused = False
        self._eof = False

    # A socket

    def setblocking(self, _: bool) -> None:
        pass

    def recv(self, *_: Any) -> bytes:
        """A look without reading, as a pool does it."""
        if self._coming and self._coming[0][0] <= self.wire.loop.time():
            return b""
        raise BlockingIOError

    def attach(self, protocol: Any) -> tuple[End, Any]:
        if self.process is not None and not self.process.alive:
            raise ConnectionResetError
        self.protocol = protocol
        protocol.connection_made(self)
        self.arrive()
        return self, protocol

    def belongs_to(self, process: Process | None) -> End:
        """Whose end this is: it breaks when the process dies."""
        self.process = process
        if process is not None:
            process.on_kill.append(self.die)
        return self

    def die(self) -> None:
        """The process is gone; the kernel closes what it had open."""
        if not self._lost:
            self._lost = self._closing = True
            self._send(_RESET if self._coming else _END)
            self._send(_RESET)
            if self.wire.held:
                self.wire.release()  # of a dead process' socket the kernel keeps nothing back

    # A transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.peername if name == "peername" else default

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_reading(self) -> bool:
        return not self._paused

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._call(self.arrive)

    def write(self, data: Any) -> None:
        if data and not self._closing and not self._done_writing:
            self._send(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._closing and not self._done_writing:
            self._done_writing = True
            self._send(_END)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._done_writing:
                self._send(_END)
            self._call(self._lose, None)

    def abort(self) -> None:
        if not self._lost:
            self._closing = True
            self._send(_RESET)
            self._call(self._lose, None)

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            if self.protocol is not None:
                self.protocol.connection_lost(error)

    # On its way

    def _call(self, callback: Callable[..., None], *arguments: Any) -> None:
        self.wire.loop.call_soon(callback, *arguments, context=context_of(self.process))

    def _send(self, what: Any) -> None:
        if self.process is not None and not self.process.alive and isinstance(what, bytes):
            return
        wire, peer = self.wire, self.peer
        if peer._lost:
            gone = ConnectionResetError("connection reset by peer")
            wire.loop.call_later(LEAST_SECONDS, self._lose, gone, context=context_of(self.process))
            return
        at = wire.loop.time() + LEAST_SECONDS + wire.chance.expovariate(1 / wire.slowness)
        if peer._coming:
            at = max(at, peer._coming[-1][0])
        peer._coming.append((at, what))
        wire.loop.call_at(at, peer.arrive, context=context_of(peer.process))

    def arrive(self) -> None:
        """Hand over what has come by now."""
        coming = self._coming
        while coming and self.protocol is not None and not self.wire.held and not self._lost:
            at, what = coming[0]
            if at > self.wire.loop.time() + 1e-9 or (self._paused and what is not _RESET):
                return
            coming.popleft()
            if what is _RESET:
                # A reset destroys what was not read yet; here nothing is left to read.
                self._lose(None if self._eof else ConnectionResetError("connection reset by peer"))
            elif what is _END:
                self._eof = True
                if not self._closing and not self.protocol.eof_received():
                    self.close()
            elif not self._closing:
                self.protocol.data_received(what)
        if coming and self._lost:
            coming.clear()


class Listener:
    """A listening socket: a queue that any number of processes take from."""

    def __init__(self, loop: VirtualLoop, chance: random.Random) -> None:
        self._loop = loop
        self._chance = chance
        self.queue: deque[End] = deque()
        self._readers: dict[Process | None, Callable[[], None]] = {}

    def connect(self, end: End) -> None:
        """A client's connection, seen from the server's side."""
        self.queue.append(end)
        self._tell()

    def watch(self, process: Process | None, callback: Callable[[], None]) -> None:
        if process is not None and process not in self._readers:
            process.on_kill.append(lambda: self._readers.pop(process, None))
        self._readers[process] = callback
        self._tell()

    def unwatch(self, process: Process | None) -> bool:
        return self._readers.pop(process, None) is not None

    def _tell(self) -> None:
        if self.queue:
            for process in list(self._readers):
                self._loop.call_later(
                    LEAST_SECONDS * (1 + self._chance.random()),
                    self._ready,
                    process,
                    context=context_of(process),
                )

    def _ready(self, process: Process | None) -> None:
        callback = self._readers.get(process)
        if callback is not None and self.queue and (process is None or process.alive):
            callback()
            if process in self._readers and self.queue:
                self._tell()

    # A socket

    def accept(self) -> tuple[End, tuple[str, int]]:
        while self.queue:
            end = self.queue.popleft()
            return end.belongs_to(here()), end.peername
        raise BlockingIOError

    def setblocking(self, _: bool) -> None:
        pass

    def fileno(self) -> int:
        return -2

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 8080)

    def close(self) -> None:
        pass
