"""One client connection: its requests in order, its answers in order, its pace and its patience."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import socket
import struct
import sys
import termios
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from httptools import HttpParserError, HttpParserUpgrade

from greentic.router.forwarding import Exchange
from greentic.router.phases import BODY, HANDSHAKING, HEADER, IDLE, LINGERING, STREAMING, TICK_SECONDS, WAITING
from greentic.router.refusal import Refusal
from greentic.router.request import RequestReader

if TYPE_CHECKING:
    from greentic.router.caller import Caller
    from greentic.router.gateway import Gateway
    from greentic.router.limits import Limits
    from greentic.router.request_head import RequestHead
    from greentic.router.tunnel import Tunnel

_log = logging.getLogger(__name__)

PIPELINE_LIMIT: Final = 64
"""Requests read ahead of their turn. A client that sends more is answered that many and closed; it sends the
rest again.
"""
_HELD_LIMIT: Final = 64 * 1024

LINGER_SECONDS: Final = 2.0
"""After an answer that closes early: time to read on, so that a reset does not destroy the answer on its way.
"""
_HALF_CLOSED_SECONDS: Final = 30.0
"""A client that has half-closed may also be gone; a silent stream to it is not kept for an hour."""


class ClientConnection(asyncio.Protocol):
    """A connection accepted from the listening socket."""

    __slots__ = (
        "_body_ticks",
        "_caller",
        "_current",
        "_eof",
        "_gateway",
        "_held",
        "_last",
        "_queue",
        "_read_pauses",
        "_reader",
        "_receiving",
        "_stalled_since",
        "_stalled_size",
        "_surplus",
        "_tunnel",
        "peer",
        "phase",
        "proven",
        "secure",
        "sent",
        "since",
        "stale",
        "transport",
        "trusted",
        "write_paused",
    )

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._reader = RequestReader(self, gateway.limits)
        self._current: Exchange | None = None
        self._receiving: Exchange | None = None
        self._queue: deque[Exchange] = deque()
        self._tunnel: Tunnel | None = None
        self._held: bytearray | None = None
        self._last = False
        self._eof = False
        self._surplus = False
        """Whether more came than is answered."""
        self._read_pauses = 0
        self._body_ticks = 0
        """How many ticks this connection has waited for more of the present body."""
        self._stalled_since = 0.0
        self._stalled_size = -1
        self.write_paused = False
        self.sent = 0
        """Bytes given to this client so far."""
        self.phase = IDLE
        self.since = gateway.now
        self.peer = b"unknown"
        self.secure = False
        self.proven = False
        """Whether a client certificate of one of the authorities was shown."""
        self.stale = False
        """Whether it was accepted under settings that hold no more: it ends with its next answer."""
        self._caller: Caller | None = None
        self.transport: asyncio.Transport

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if peer:
            self.peer = str(peer[0]).removeprefix("::ffff:").partition("%")[0].encode()
        if not self._gateway.admit(self):
            self._refuse_outright(Refusal(503, "connection-limit", "the router has no room for another connection"))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._gateway.leave(self)
        self._last = True
        tunnel, current = self._tunnel, self._current
        self._tunnel = None
        self._current = None
        self._receiving = None
        self._queue.clear()
        if tunnel is not None:
            tunnel.client_lost()
        elif current is not None:
            current.client_lost()
        self._reader.close()

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.from_client(data)
        elif self._held is not None:
            self._held += data
            if len(self._held) > _HELD_LIMIT:
                self.pause_reading()
        elif not self._last or self._receiving is not None:
            if self.phase == IDLE:
                self.enter(HEADER)
            elif self.phase == BODY:
                self.since = self._gateway.now
            self._feed(data)
        else:
            self._surplus = True

    def eof_received(self) -> bool:
        self._eof = True
        if self._tunnel is not None:
            self._tunnel.client_eof()
            return True
        if self._receiving is not None and not self._receiving.request_complete:
            # The rest of the request will never come: a worker must not take the part for the whole.
            if self._receiving is self._current:
                self._receiving.client_lost()
                return False
            self._queue.remove(self._receiving)
            self._receiving = None
        if self._held:
            return True  # requests behind an upgrade: should it be refused, they are read first
        self._last = True
        return self._current is not None

    def pause_writing(self) -> None:
        self.write_paused = True
        self._stalled_size = -1
        self._stalled_since = self._gateway.now
        if self._tunnel is not None:
            self._tunnel.pause_upstream()
        elif self._current is not None:
            self._current.pause_upstream()

    def resume_writing(self) -> None:
        self.write_paused = False
        self.touch()
        if self._tunnel is not None:
            self._tunnel.resume_upstream()
        elif self._current is not None:
            self._current.resume_upstream()
        else:
            self.resume_reading()

    # Reading requests

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self._reader.feed(data)
            except HttpParserUpgrade as upgrade:
                data = self._after_upgrade_request(data[upgrade.args[0] :])
                continue
            except Refusal as refusal:
                self._refuse(refusal)
            except HttpParserError as error:
                cause = error.__context__
                if isinstance(cause, Refusal):
                    self._refuse(cause)
                elif cause is not None:
                    _log.error("a request could not be handled", exc_info=cause)
                    self._refuse(Refusal(500, "internal", "the router failed on this request"))
                elif not self._last or self._receiving is not None:
                    self._refuse(Refusal(400, "bad-request", f"this is not valid HTTP/1.1: {error}"))
            return

    def _after_upgrade_request(self, rest: bytes) -> bytes:
        """What of `rest` is to be read as HTTP now; what a tunnel may be about to take is held."""
        if self._reader.continue_with_body() or self._held is None:
            return rest
        self._held += rest
        return b""

    def request_started(self, head: RequestHead) -> None:
        """A head is complete (called by the reader)."""
        if self._last:
            raise Refusal(400, "bad-request", "a request after the last one")
        exchange = Exchange(self._gateway, self, head)
        if not head.keep_alive or self.stale or len(self._queue) >= PIPELINE_LIMIT:
            self._last = True
            exchange.closes = True
        if head.upgrade:
            self._held = bytearray()
        # A request without a body is complete with its head.
        self._receiving = None
        if head.has_body:
            self._receiving = exchange
            self._body_ticks = 0
        if self._current is None:
            self._current = exchange
            self.enter(BODY if head.has_body else WAITING)
            exchange.start()
            if self.write_paused and self.idle:
                # Answered at once, and its client does not take the answers: they are not to pile up here.
                self.pause_reading()
        else:
            self._queue.append(exchange)
            self.pause_reading()

    def request_body(self, data: bytes) -> None:
        """Bytes of the body (called by the reader)."""
        if self._receiving is not None:
            self._receiving.request_body(data)

    def request_finished(self, trailers: list[bytes]) -> None:
        """The request is complete (called by the reader)."""
        exchange, self._receiving = self._receiving, None
        if exchange is not None:
            exchange.request_finished(trailers)
            if exchange is self._current and self.phase == BODY:
                self.enter(WAITING)

    def _refuse(self, refusal: Refusal) -> None:
        """The bytes on this connection cannot be trusted on: answer in turn, then close."""
        receiving, self._receiving = self._receiving, None
        if self._last and receiving is None:
            self._surplus = True
            return  # nothing after the last request is answered
        self._last = True
        if receiving is not None:
            receiving.fail(refusal)
            return
        exchange = Exchange(self._gateway, self, None)
        exchange.refusal = refusal
        exchange.closes = True
        if self._current is None:
            self._current = exchange
            exchange.start()
        else:
            self._queue.append(exchange)

    def _refuse_outright(self, refusal: Refusal) -> None:
        self._last = True
        self._gateway.unrouted(refusal.kind)
        if self.secure or self._gateway.crowded:
            self.transport.close()
            return
        self.write(
            refusal.answer(request_id=self._gateway.new_request_id().decode(), revision_id=None, close=True, body=True)
        )
        # Its request is on its way: see there.
        self._close_gently(unread=True)

    def secured(self, *, proven: bool) -> None:
        """The TLS handshake is complete, and a good client certificate was shown or not."""
        self.proven = proven
        self.enter(IDLE)

    def outdate(self, *, unproven: bool) -> None:
        """The settings of TLS changed: no request after the next on this connection; `unproven`: no more trust in its
        certificate either.
        """
        self.stale = True
        if unproven:
            self.proven = False
            self._caller = None

    def limit(self, limits: Limits) -> None:
        """Read under `limits` from now on."""
        self._reader.limit(limits)

    def caller_of(self, head: RequestHead | None) -> Caller:
        """Who asks with `head`; who holds the connection when it is None."""
        rules = self._gateway.callers
        caller = self._caller
        if caller is None or caller.rules is not rules:
            self._caller = caller = rules.of_connection(self.peer, secure=self.secure, proven=self.proven)
        if head is None or head.claims is None or not caller.proxy:
            return caller
        shared = head.recurring or head
        if shared.caller is None or shared.caller.via is not caller:
            shared.caller = rules.of_request(caller, head.claims)
        return shared.caller

    # Answering

    def write(self, data: bytes) -> None:
        """Send `data` to the client."""
        self.sent += len(data)
        self.transport.write(data)

    def write_lines(self, pieces: list[bytes | memoryview]) -> None:
        """Send `pieces`, one behind the other."""
        self.sent += sum(map(len, pieces))
        self.transport.writelines(pieces)

    def write_eof(self) -> None:
        """Send no more."""
        if not self.transport.is_closing():
            self.transport.write_eof()

    def pause_reading(self) -> None:
        """Take no more from the client for now; pauses are counted by `resume_reading` undoing them all."""
        if not self._read_pauses and not self.transport.is_closing():
            self._read_pauses = 1
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take more from the client, unless requests wait for their turn."""
        if self._read_pauses and not self._queue and not self.transport.is_closing():
            self._read_pauses = 0
            self.since = self._gateway.now
            self.transport.resume_reading()

    def exchange_over(self, exchange: Exchange, *, close: bool) -> None:
        """The response of the current exchange is complete; the next may go."""
        if exchange is not self._current:
            return
        self._current = None
        if close:
            self._last = True
            self._queue.clear()
            unread = not exchange.request_complete or self._surplus or self._read_pauses > 0 or bool(self._held)
            self._close_gently(unread=unread)
            return
        if self._queue:
            following = self._queue.popleft()
            self._current = following
            self.enter(WAITING if following.request_complete else BODY)
            following.start()
        elif self._last:
            self._close_gently(unread=False)
            return
        else:
            self.enter(HEADER if self._reader.in_head else IDLE)
        if self._read_pauses:
            self.resume_reading()
        if self._held is not None and self._current is None:
            held, self._held = self._held, None
            if held:
                self.enter(HEADER)
                self._feed(bytes(held))
                if self._eof and not self.eof_received():
                    self.transport.close()

    def abort(self, *, reset: bool = False) -> None:
        """Cut the connection, so that what was begun cannot look complete; with a `reset` at once, whatever the client
        has not taken."""
        self._last = True
        file = self.transport.get_extra_info("socket") if reset else None
        if file is not None:
            with contextlib.suppress(OSError):
                file.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _close_gently(self, *, unread: bool) -> None:
        if not unread or self._eof:
            self.transport.close()
            return
        # Closing with unread bytes makes the kernel send a reset, which may overtake the answer (RFC 9112
        # section 9.6).
        self.write_eof()
        self.enter(LINGERING)
        self._receiving = None
        self.resume_reading()

    # Tunnels

    def become_tunnel(self, tunnel: Tunnel) -> bytes:
        """Pass bytes on as they are from now on; returns those that came early."""
        held, self._held = self._held or bytearray(), None
        self._tunnel = tunnel
        self._current = None
        self.enter(STREAMING)
        self.resume_reading()
        if self.write_paused:
            tunnel.pause_upstream()
        return bytes(held)

    def tunnel_ended(self, *, gently: bool = False) -> None:
        """The tunnel is over: flush and close; `gently`: after what the client still has to say."""
        self._tunnel = None
        self._last = True
        self._close_gently(unread=gently)

    # Time

    @property
    def _serving(self) -> Exchange | None:
        return self._tunnel.exchange if self._tunnel is not None else self._current

    @property
    def half_closed(self) -> bool:
        """Whether the client has said that it sends no more."""
        return self._eof

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight on this connection."""
        return self._current is None and self._tunnel is None

    @property
    def more_asked(self) -> bool:
        """Whether further requests have come already, which a close would leave unanswered."""
        return bool(self._queue) or self._reader.in_head

    def serves(self, revision_id: str) -> bool:
        """Whether something of that revision is in flight here."""
        return self._serving is not None and self._serving.revision_id == revision_id

    @property
    def kind(self) -> str:
        """What is in flight here, as a field of `greentic.router.control.InFlight`."""
        if self._tunnel is not None:
            return "tunnels"
        return "streams" if self.phase == STREAMING else "requests"

    def cut(self) -> None:
        """End what is in flight, or the connection when nothing is."""
        if self._serving is not None:
            self._serving.cut()
        else:
            self.transport.abort()

    def enter(self, phase: int) -> None:
        """Begin to wait for something else."""
        self.phase = phase
        self.since = self._gateway.now

    def touch(self) -> None:
        """Something moved."""
        self.since = self._gateway.now

    def sweep(self, now: float) -> None:
        """Enforce the limit of the present phase."""
        limits = self._gateway.limits
        if self.write_paused:
            self._check_stall(now, limits)
            return
        phase = self.phase
        waited = now - self.since
        if phase == IDLE:
            if waited > limits.keep_alive_seconds:
                self._last = True
                self.transport.close()
        elif phase == HEADER:
            if waited > limits.header_seconds:
                self._refuse(Refusal(408, "slow-header", "the request header took too long"))
        elif phase == HANDSHAKING:
            if waited > limits.handshake_seconds:
                self._gateway.unrouted("tls-handshake")
                self.transport.abort()
        elif phase == LINGERING:
            if waited > LINGER_SECONDS:
                self.transport.abort()
        elif phase == BODY and not self._read_pauses:
            self._body_ticks += 1
            if waited > limits.body_idle_seconds or self._sends_slowly(limits):
                self._fail_current(Refusal(408, "slow-body", "the request body took too long"))
        elif phase in (BODY, WAITING):
            if waited > limits.response_head_seconds:
                self._fail_current(Refusal(504, "response-timeout", "the worker did not answer in time"))
        else:
            allowed = limits.stream_idle_seconds if phase == STREAMING else limits.response_idle_seconds
            if self._tunnel is not None and self._tunnel.half_closed:
                allowed = min(allowed, limits.response_idle_seconds)
            elif self._tunnel is None and self._eof:
                allowed = min(allowed, _HALF_CLOSED_SECONDS)
            if waited > allowed:
                self._fail_current(Refusal(504, "response-idle", "the worker stopped in the middle of its response"))

    def _sends_slowly(self, limits: Limits) -> bool:
        seconds = self._body_ticks * TICK_SECONDS
        if seconds <= limits.body_idle_seconds or self._current is None:
            return False
        return self._current.received < seconds * limits.client_bytes_per_second

    def _fail_current(self, refusal: Refusal) -> None:
        if self._tunnel is not None:
            self._tunnel.cut()
        elif self._current is not None:
            self._current.fail(refusal)

    def _check_stall(self, now: float, limits: Limits) -> None:
        """End a connection whose client takes next to nothing of what waits for it, here and in the kernel."""
        waiting = self.transport.get_write_buffer_size() + _unacknowledged(self.transport)
        seconds = now - self._stalled_since
        if self._stalled_size < 0 or waiting > self._stalled_size:
            self._stalled_size, self._stalled_since = waiting, now
        elif seconds > limits.write_stall_seconds:
            if self._stalled_size - waiting < seconds * limits.client_bytes_per_second:
                if self._current is not None:
                    self._current.client_lost("client-stalled")
                self.abort(reset=True)
            else:
                self._stalled_size, self._stalled_since = waiting, now


def _unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the kernel has of what was written, and the client has not (tcp(7), SIOCOUTQ). It asks for more only
    when it is rid of a good part, which takes a slow client long.
    """
    file = transport.get_extra_info("socket")
    if file is None:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(file.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0
