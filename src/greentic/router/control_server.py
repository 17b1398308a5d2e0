"""The router's end of the control socket: does what the parent asks, and stops when the parent is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final, cast

from greentic.router.control import STOP_IDLE_SECONDS, InFlight
from greentic.router.ended import KEPT
from greentic.router.frames import FrameReader, encode_frame
from greentic.router.gateway import Gateway
from greentic.spec.errors import GreenticError, InvalidArgument, SpecViolation

_CONCLUDE_SECONDS: Final = 1.0
ORPHAN_GRACE_SECONDS: Final = 1.0
"""The parent is gone and its successor wants the port: end quickly."""


class ControlServer(asyncio.Protocol):
    """Answers the messages of `greentic.router.control`."""

    def __init__(
        self, gateway: Gateway, stop: Callable[[float, float | None], None], accept: Callable[[], None]
    ) -> None:
        """`stop(grace_seconds, idle_seconds)` begins the end of the process (see `Gateway.stop_within`), `accept()`
        lets clients in; both may be repeated."""
        self._gateway = gateway
        self._stop = stop
        self._accept = accept
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._drains: dict[Any, asyncio.Task[None]] = {}
        self._lost = asyncio.Event()

    def announce(self) -> None:
        """Tell the parent that a table is awaited; clients are let in with the first one."""
        self._send({"type": "ready", "pid": os.getpid()})

    async def conclude(self, cut: InFlight) -> None:
        """Tell the parent what was cut and all that was counted, for the last time; return when it has closed its end.

        Closed here, a message of the parent that crosses with the last words would make it lose them (EPIPE).
        """
        self._send({"type": "stopped", "cut": asdict(cut), **self._gateway.report()})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CONCLUDE_SECONDS):
                await self._lost.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._lost.set()
        self._stop(ORPHAN_GRACE_SECONDS, STOP_IDLE_SECONDS)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._frames.feed(data)
        except SpecViolation as error:
            self._send({"type": "refused", "request": -1, "reason": error.message})
            if self._transport is not None:
                self._transport.close()
            return
        for message in messages:
            try:
                self._handle(message, message.get("request"))
            except GreenticError as error:
                self._send({"type": "refused", "request": message.get("request"), "reason": error.message})

    def _handle(self, message: dict[str, Any], request: Any) -> None:
        match message["type"]:
            case "configure":
                acknowledged = self._gateway.configure(message.get("table"))
                self._accept()
                self._send({"type": "acknowledged", "request": request, **acknowledged})
            case "lease":
                newest = message.get("newest")
                if type(newest) is not int:
                    raise InvalidArgument("a lease names the newest table")
                claim = self._gateway.renew_lease(_seconds(message, "seconds"), newest)
                self._send({"type": "leased", "request": request, "ready": claim.ready, "reason": claim.reason})
            case "report":
                self._send({"type": "report", "request": request, **self._gateway.report()})
            case "explain":
                wanted = message.get("request_id")
                if not isinstance(wanted, str):
                    raise InvalidArgument("explain needs a request_id")
                matches = self._gateway.explain(wanted.encode())
                self._send({"type": "explained", "request": request, "kept": KEPT, "matches": matches})
            case "drain":
                revision_id = message.get("revision_id")
                if not isinstance(revision_id, str):
                    raise InvalidArgument("drain needs a revision_id")
                self._begin_drain(request, revision_id, _seconds(message, "deadline_seconds"))
            case "cancel":
                if (drain := self._drains.pop(request, None)) is not None:
                    drain.cancel()
            case "stop":
                idle = None if message.get("idle_seconds") is None else _seconds(message, "idle_seconds")
                self._stop(_seconds(message, "grace_seconds"), idle)
            case other:
                raise InvalidArgument(f"unknown message type {other!r}")

    def _begin_drain(self, request: Any, revision_id: str, deadline_seconds: float) -> None:
        task = asyncio.create_task(self._drain(request, revision_id, deadline_seconds))
        self._drains[request] = task
        task.add_done_callback(lambda _: self._drains.pop(request, None))

    async def _drain(self, request: Any, revision_id: str, deadline_seconds: float) -> None:
        def told(in_flight: InFlight) -> None:
            self._send({"type": "draining", "request": request, "in_flight": asdict(in_flight)})

        report = await self._gateway.drain(revision_id, deadline_seconds, told)
        self._send(
            {
                "type": "drained",
                "request": request,
                "finished": report.finished,
                "cut": asdict(report.cut),
                "pins_cut": report.pins_cut,
            }
        )

    def _send(self, message: dict[str, Any]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode_frame(message))


def _seconds(message: dict[str, Any], key: str) -> float:
    value = message.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise InvalidArgument(f"{key} must be a number of seconds of at least 0")
    return float(value)
