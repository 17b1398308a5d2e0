"""The control socket between a router process and its parent: the messages and the parent's side.

Parent to router: `configure`, `lease`, `report`, `explain`, `drain`, `cancel` (a drain) and `stop`; each carries a
number in `request`, and answers carry it back, so that they may come in any order. Router to parent: `ready` once, then
`acknowledged`, `refused`, `leased`, `report`, `explained`, any number of `draining` before a `drained`, and `stopped`
with the last report and what had to be cut before it exits. The socket is an inherited, connected Unix stream socket;
nothing on it is secret to its two ends, and nothing else can open it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from greentic.router.frames import FrameReader, encode_frame
from greentic.router.lease import Readiness
from greentic.spec.errors import GreenticError, InputOutput, InvalidArgument, SpecViolation, TimedOut

_T = TypeVar("_T")

ANSWER_SECONDS = 10.0
"""How long the parent waits for an answer that needs no work in flight to end."""
STOP_IDLE_SECONDS = 1.0
"""When everything ends: a connection that has been silent for this long is unlikely to be written to at this very
moment.
"""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The router serves table `version`: the generation of each deployment, and what compiling took (milliseconds).

    `warnings` names routes that can never match because an earlier deployment has the same host and prefix, and
    settings that cannot be had.
    """

    version: int
    generations: Mapping[str, int]
    compile_ms: float
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class InFlight:
    """What is in flight: requests that wait for their answer or read it, event streams, and upgraded connections.

    `pins` counts promises to stay that are honoured still: nothing is in flight for them, but a drain waits.
    """

    requests: int = 0
    streams: int = 0
    tunnels: int = 0
    pins: int = 0

    @property
    def total(self) -> int:
        """Everything in flight."""
        return self.requests + self.streams + self.tunnels

    def __str__(self) -> str:
        """`3 requests and 1 stream in flight`."""
        kinds = ((self.requests, "request"), (self.streams, "stream"), (self.tunnels, "tunnel"))
        going = " and ".join(_several(count, kind) for count, kind in kinds if count)
        pins = _several(self.pins, "honoured pin") if self.pins else ""
        return " and ".join(part for part in (f"{going} in flight" if going else "", pins) if part)

    def __add__(self, other: InFlight) -> InFlight:
        return InFlight(
            self.requests + other.requests,
            self.streams + other.streams,
            self.tunnels + other.tunnels,
            self.pins + other.pins,
        )


@dataclass(frozen=True, slots=True)
class DrainReport:
    """How a drain ended: what was in flight and finished by itself, what was cut at the deadline, and pins that were
    honoured still.
    """

    finished: int
    cut: InFlight = InFlight()
    pins_cut: int = 0

    def __add__(self, other: DrainReport) -> DrainReport:
        return DrainReport(self.finished + other.finished, self.cut + other.cut, self.pins_cut + other.pins_cut)


class RouterControl(asyncio.Protocol):
    """The parent's end of one router's control socket. Made by `RouterControl.connect`."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._told: dict[int, Callable[[InFlight], None]] = {}
        self.last_report: dict[str, Any] | None = None
        """What it reported last; complete when it has ended in order."""
        self.cut = InFlight()
        """What it had to cut at its end."""
        self._ready: asyncio.Future[int] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()

    @classmethod
    async def connect(cls, connection: socket.socket) -> RouterControl:
        """Speak over `connection`, the parent's end of a socket pair; it is owned by the returned object."""
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        _, control = await loop.create_unix_connection(cls, sock=connection)
        return control

    # What the parent asks

    async def ready(self, timeout: float = ANSWER_SECONDS) -> int:
        """Wait until the router accepts connections; its process id. Raises TimedOut or InputOutput."""
        return await self._bounded(asyncio.shield(self._ready), timeout, "ready")

    async def configure(self, table: Mapping[str, Any], timeout: float = ANSWER_SECONDS) -> Acknowledgement:
        """Have the router serve `table` (the document of `RoutingTable.parse`).

        Raises SpecViolation (`routing-table`) with the router's reason when it refuses, in which case it
        serves the old table on; TimedOut; InputOutput when the router is gone.
        """
        answer = await self._ask({"type": "configure", "table": table}, timeout)
        return Acknowledgement(
            version=answer["version"],
            generations=answer["generations"],
            compile_ms=answer["compile_ms"],
            warnings=tuple(answer.get("warnings", ())),
        )

    async def report(self, timeout: float = ANSWER_SECONDS) -> dict[str, Any]:
        """What the router has counted since its start; the shape is that of
        `greentic.router.report.build_report`.
        """
        return _report(await self._ask({"type": "report"}, timeout))

    async def lease(self, newest: int, seconds: float, timeout: float = ANSWER_SECONDS) -> Readiness:
        """Say that the newest table is `newest`, and let the router claim to be ready for `seconds`; its claim.

        See `greentic.router.lease`.
        """
        answer = await self._ask({"type": "lease", "newest": newest, "seconds": seconds}, timeout)
        return Readiness(answer["ready"], answer["reason"])

    async def explain(self, request_id: str, timeout: float = ANSWER_SECONDS) -> list[dict[str, Any]]:
        """Why the requests with that id went where they went, as far as the router still knows them; the shape is that
        of `greentic.router.explaining.explanation`.
        """
        matches: list[dict[str, Any]] = (await self._ask({"type": "explain", "request_id": request_id}, timeout))[
            "matches"
        ]
        return matches

    async def drain(
        self,
        revision_id: str,
        deadline_seconds: float,
        timeout: float | None = None,
        told: Callable[[InFlight], None] | None = None,
    ) -> DrainReport:
        """Wait until nothing is in flight to the revision, and no pin to it is honoured, at most
        `deadline_seconds`, then cut the rest.

        `told` hears what is in flight whenever that has changed. `timeout` bounds the answer itself and is the deadline
        plus ANSWER_SECONDS when not given. A cancelled call ends the drain, and nothing is cut.
        """
        message = {"type": "drain", "revision_id": revision_id, "deadline_seconds": deadline_seconds}
        bound = deadline_seconds + ANSWER_SECONDS if timeout is None else timeout
        answer = await self._ask(message, bound, told, cancel=True)
        return DrainReport(answer["finished"], InFlight(**answer["cut"]), answer.get("pins_cut", 0))

    async def stop(
        self, grace_seconds: float, timeout: float | None = None, *, idle_seconds: float | None = STOP_IDLE_SECONDS
    ) -> None:
        """Have the router accept no more, finish what is in flight within `grace_seconds`, and exit; wait for
        that.

        It obeys everything else meanwhile. `idle_seconds`: see `Gateway.stop_within`.
        """
        self._send({"type": "stop", "grace_seconds": grace_seconds, "idle_seconds": idle_seconds})
        await self.wait_closed(grace_seconds + ANSWER_SECONDS if timeout is None else timeout)

    async def wait_closed(self, timeout: float = ANSWER_SECONDS) -> None:
        """Wait until the router has said its last words or is gone. Raises TimedOut."""
        await self._bounded(asyncio.shield(self._closed), timeout, "closed")

    def close(self) -> None:
        """Close this end. A router whose parent's end is closed stops."""
        if self._transport is not None:
            self._transport.close()

    # The wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._frames.feed(data)
        except SpecViolation as error:
            self._end(InputOutput(f"the router sent a broken control message: {error.message}"))
            self.close()
            return
        for message in messages:
            self._receive(message)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._end(InputOutput("the router closed its control socket"))
        if not self._closed.done():
            self._closed.set_result(None)

    def _receive(self, message: dict[str, Any]) -> None:
        if message["type"] == "ready":
            if not self._ready.done():
                self._ready.set_result(int(message["pid"]))
            return
        if message["type"] == "stopped":
            self.last_report = _report(message)
            self.cut = InFlight(**message["cut"])
            self.close()  # which it waits for
            return
        number = message.get("request", -1)
        if message["type"] == "draining":
            if number in self._told:
                self._told[number](InFlight(**message["in_flight"]))
            return
        if message["type"] == "report":
            self.last_report = _report(message)
        future = self._waiting.pop(number, None)
        if future is None or future.done():
            return
        if message["type"] == "refused":
            future.set_exception(SpecViolation("routing-table", str(message.get("reason", "refused"))))
        else:
            future.set_result(message)

    def _end(self, error: GreenticError) -> None:
        waiting, self._waiting = self._waiting, {}
        futures: list[asyncio.Future[Any]] = [*waiting.values(), self._ready]
        for future in futures:
            if not future.done():
                future.set_exception(error)
                future.exception()  # seen: nobody has to be waiting

    def _send(self, message: dict[str, Any]) -> None:
        if self._transport is None or self._transport.is_closing():
            raise InputOutput("the router closed its control socket")
        self._transport.write(encode_frame(message))

    async def _ask(
        self,
        message: dict[str, Any],
        timeout: float,
        told: Callable[[InFlight], None] | None = None,
        *,
        cancel: bool = False,
    ) -> dict[str, Any]:
        if timeout <= 0:
            raise InvalidArgument("a timeout must be greater than 0 seconds")
        self._number += 1
        number = self._number
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        if told is not None:
            self._told[number] = told
        try:
            self._send({**message, "request": number})
            return await self._bounded(future, timeout, str(message["type"]))
        except asyncio.CancelledError:
            if cancel:
                with contextlib.suppress(InputOutput):
                    self._send({"type": "cancel", "request": number})
            raise
        finally:
            self._waiting.pop(number, None)
            self._told.pop(number, None)

    @staticmethod
    async def _bounded(awaitable: asyncio.Future[_T], timeout: float, what: str) -> _T:
        try:
            async with asyncio.timeout(timeout):
                return await awaitable
        except TimeoutError as error:
            raise TimedOut(f"the router did not answer '{what}' within {timeout:g} s") from error


def _report(message: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key not in ("type", "request", "cut")}


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
