"""One connection to a worker and the reading of its responses."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from greentic.router.fields import DIGITS, NO_TRAILERS, RESPONSE_FIELDS, tokens, without_nominated
from greentic.router.refusal import Refusal
from greentic.router.response_head import ResponseHead

if TYPE_CHECKING:
    from greentic.router.forwarding import Exchange
    from greentic.router.pool import UpstreamPool
    from greentic.router.tunnel import Tunnel

_DIRECT_BYTES = 16 * 1024
_COPIED_BYTES = 16 * 1024
"""More is given to the kernel as it lies: copying it behind its head would cost more than a second piece."""
_TRAILERS = 128
_FIELDS = 1024
_HEAD_BYTES = 256 * 1024
"""Of a response's fields, of its trailers, and of what comes in a row without anything that goes on to the client."""
_INFORMATIONAL = 32
"""Responses 1xx before the final one."""
_START = b"HTTP/1."
"""llhttp would take the versions 0.9 and 2.0 too, and what other protocols answer (ICE, RTSP)."""


class UpstreamConnection(asyncio.Protocol):
    """A connection to one worker. It serves one exchange at a time and belongs to its pool in between."""

    __slots__ = (
        "_complete",
        "_connection",
        "_direct",
        "_dirty",
        "_head",
        "_in_body",
        "_informed",
        "_informing",
        "_keeps",
        "_out",
        "_parser",
        "_paused",
        "_socket",
        "_trailer_bytes",
        "_trailers",
        "_unanswered",
        "answered",
        "exchange",
        "idle_since",
        "pool",
        "reused",
        "transport",
        "tunnel",
        "write_paused",
    )

    def __init__(self, pool: UpstreamPool, connection: socket.socket) -> None:
        self.pool = pool
        self._socket = connection
        self.transport: asyncio.Transport
        self.exchange: Exchange | None = None
        self.tunnel: Tunnel | None = None
        self.reused = False
        self.answered = False
        self.idle_since = 0.0
        self.write_paused = False
        self._paused = False
        self._parser: Any = None
        self._out: list[bytes] = []
        self._head = ResponseHead()
        self._reset()

    def _reset(self) -> None:
        self._complete = False
        self._dirty = False
        self._in_body = False
        self._informing = False
        self._keeps = False
        self._direct = -1
        self._trailers: list[bytes] = []
        self._trailer_bytes = 0
        self._informed = 0
        self._unanswered = 0
        self._connection: set[bytes] = set()

    # The pool and the exchange

    def serve(self, exchange: Exchange) -> None:
        """Take an exchange; its request is written next."""
        self.exchange = exchange
        self.answered = False

    def seems_open(self) -> bool:
        """Whether the worker has neither closed nor spoken out of turn, asked of the kernel just now."""
        if self.transport.is_closing():
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def become_tunnel(self, tunnel: Tunnel) -> None:
        """Pass bytes on as they are from now on."""
        self.exchange = None
        self.tunnel = tunnel

    def abort(self) -> None:
        """Drop the connection now; nobody is told."""
        self.exchange = None
        self.tunnel = None
        self._parser = None
        self.transport.abort()

    def pause_reading(self) -> None:
        """Stop reading: the client does not keep up."""
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, tunnel = self.exchange, self.tunnel
        self.exchange = None
        self.tunnel = None
        self._parser = None
        self.pool.closed(self, unanswered=self.reused and exchange is not None and not self.answered)
        if tunnel is not None:
            tunnel.upstream_lost()
        elif exchange is not None:
            head = self._head
            ends_at_eof = self._in_body and head.length is None and not head.chunked
            if ends_at_eof and exc is None:
                exchange.client.write(exchange.response_tail([]))
                exchange.response_end(None)
            else:
                exchange.upstream_lost(self)

    def eof_received(self) -> bool:
        if self.tunnel is not None:
            self.tunnel.upstream_eof()
            return True
        return False

    def pause_writing(self) -> None:
        self.write_paused = True
        if self.tunnel is not None:
            self.tunnel.client.pause_reading()
        elif self.exchange is not None:
            self.exchange.client.pause_reading()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.tunnel is not None:
            self.tunnel.client.resume_reading()
        elif self.exchange is not None:
            self.exchange.client.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel.from_upstream(data)
            return
        exchange = self.exchange
        if exchange is None:
            # A worker that speaks unasked would have its bytes taken for the next visitor's response.
            self.abort()
            self.pool.forget(self)
            return
        first = not self.answered
        self.answered = True
        out = self._out
        if self._direct > 0:
            if len(data) > self._direct:
                self._dirty = True
                data = data[: self._direct]
            self._direct -= len(data)
            exchange.client.write(data)
            exchange.client.touch()
            if not self._direct:
                self._parser = None
                self._finish(exchange)
            return
        if first:
            known = self.pool.known.recall(data)
            if known is not None and exchange.head.method != b"HEAD" and not exchange.head.upgrade:
                head, at = known
                missing = at + (head.length or 0) - len(data)
                if missing >= 0:  # the parser is to judge what follows a body
                    self._repeat(exchange, head, data, at, missing)
                    return
            if not _START.startswith(data[:7]):
                self._fail(exchange, _bad("the worker's response is not HTTP/1.1"))
                return
            if self._parser is None:
                self._parser = HttpResponseParser(self)
        self._unanswered += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._switch(exchange, data[upgrade.args[0] :])
            return
        except HttpParserError as error:
            if self._complete:
                self._dirty = True
            else:
                self._fail(exchange, error)
                return
        if out:
            exchange.client.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()
            exchange.client.touch()
            self._unanswered = 0
        elif self._unanswered > _HEAD_BYTES and not self._complete:
            # A head, a trailer or a chunk extension without end.
            self._fail(exchange, _bad("the worker's response header is too large"))
            return
        if self._complete:
            self._finish(exchange)
        elif self._direct < -1 - _DIRECT_BYTES:
            self._take_direct()

    def _repeat(self, exchange: Exchange, head: ResponseHead, data: bytes, at: int, missing: int) -> None:
        """A plain head; its body is in `data` from `at` on, of which `missing` bytes are still to come."""
        answer = exchange.response_head(head)
        client = exchange.client
        if len(data) > _COPIED_BYTES:
            client.write_lines([answer, memoryview(data)[at:]])
        else:
            client.write(answer + data[at:])
        if not missing and exchange.request_complete and not self.write_paused:
            # Nothing was parsed, so that there is nothing to reset.
            self.exchange = None
            exchange.response_end(self)
            return
        self._head = head
        self._keeps = True
        if missing:
            self._in_body = True
            self._direct = missing
            client.touch()
        else:
            self._finish(exchange)

    def _take_direct(self) -> None:
        # Past the head of a long body of known length there is nothing left to parse, only bytes to count and
        # pass on.
        self._direct = -1 - self._direct
        self._keeps = self._parser.should_keep_alive()

    def _fail(self, exchange: Exchange, error: Exception) -> None:
        cause = error if isinstance(error, Refusal) else error.__context__
        self._out.clear()
        self.abort()
        self.pool.forget(self)
        message = cause.message if isinstance(cause, Refusal) else "the worker's response is not valid HTTP"
        exchange.fail(Refusal(502, "bad-response", message))

    def _switch(self, exchange: Exchange, rest: bytes) -> None:
        head = self._head
        self._out.clear()
        if head.status != 101 or not exchange.head.upgrade:
            self._fail(exchange, _bad("the worker switched protocols unasked"))
            return
        self._parser = None
        exchange.switch_protocols(self, head, rest)

    def _finish(self, exchange: Exchange) -> None:
        """The response is complete and handed to the client: part, then tell the exchange."""
        reusable = (
            self._keeps
            and not self._dirty
            and b"close" not in self._connection
            and exchange.request_complete
            and not self.write_paused
        )
        if exchange.head.method == b"HEAD":
            self._parser = None
        self._reset()
        self.exchange = None
        exchange.response_end(self if reusable else None)
        if not reusable:
            self.abort()
            self.pool.forget(self)

    # What httptools calls

    def on_message_begin(self) -> None:
        if self._complete:
            self._dirty = True
            return
        self._head = ResponseHead()
        self._connection = set()
        self._informing = False

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.lower()
        if self._in_body:
            if self._complete:
                return
            self._trailer_bytes += len(name) + len(value)
            if len(self._trailers) >= _TRAILERS or self._trailer_bytes > _HEAD_BYTES:
                raise _bad("the worker's trailer is too large")
            if key not in NO_TRAILERS:
                self._trailers.append(name + b": " + value)
        elif key in RESPONSE_FIELDS:
            self._field(self._head, key, value)
        else:
            self._head.lines.append(name + b": " + value)

    def _field(self, head: ResponseHead, key: bytes, value: bytes) -> None:
        value = value.strip(b" \t")
        if key == b"content-length":
            if head.length is not None or not DIGITS.fullmatch(value):
                raise _bad("the worker's Content-Length is malformed or repeated")
            head.length = int(value)
        elif key == b"content-type":
            head.content_type = value.lower()
            head.lines.append(b"Content-Type: " + value)
        elif key == b"transfer-encoding":
            if head.chunked or value.lower() != b"chunked":
                raise _bad("the worker's Transfer-Encoding is not exactly chunked")
            head.chunked = True
        elif key == b"connection":
            if value != b"keep-alive":
                self._connection |= tokens(value)
        elif key == b"upgrade":
            head.upgrade = value
        elif key == b"via":
            head.via = head.via + b", " + value if head.via else value

    def on_headers_complete(self) -> None:
        if self._dirty:
            return
        head, exchange = self._head, self.exchange
        if exchange is None:
            return
        head.status = self._parser.get_status_code()
        if len(head.lines) > _FIELDS:
            raise _bad("the worker's response has too many header fields")
        if self._unanswered > _HEAD_BYTES and sum(map(len, head.lines)) > _HEAD_BYTES:
            raise _bad("the worker's response header is too large")
        if head.status < 100 or head.status > 599 or (head.chunked and head.length is not None):
            raise _bad("the worker's response is not valid HTTP")
        if head.chunked and self._parser.get_http_version() == "1.0":
            # RFC 9112 section 6.1: its framing is not to be relied upon for what comes after.
            self._connection.add(b"close")
        nominated = self._connection - {b"close", b"keep-alive", b"upgrade"}
        if nominated:
            head.lines = without_nominated(head.lines, nominated)
        if head.status < 200:
            self._informing = True
            self._informed += 1
            if self._informed > _INFORMATIONAL:
                raise _bad("the worker sent too many responses 1xx before the final one")
            if head.status != 101:
                self._out.append(exchange.informational(head))
            return
        self._in_body = True
        self._out.append(exchange.response_head(head))
        if exchange.head.method == b"HEAD":
            self._complete = True
            self._keeps = self._parser.get_http_version() == "1.1"
        elif head.status in (204, 304):
            head.length = 0
        elif head.length is not None and head.length > _DIRECT_BYTES:
            self._direct = -1 - head.length

    def on_body(self, data: bytes) -> None:
        if self._complete:
            self._dirty = True
            return
        exchange = self.exchange
        if exchange is None:
            return
        if self._direct < -1:
            self._direct += len(data)
        if exchange.rechunks:
            self._out += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._out.append(data)

    def on_message_complete(self) -> None:
        if self._informing:
            self._informing = False
            return
        if self._complete:
            return
        self._complete = True
        # Asked here, because llhttp forgets the response's flags once it is complete.
        self._keeps = self._parser.should_keep_alive()
        if self.exchange is not None and self.exchange.rechunks:
            self._out.append(self.exchange.response_tail(self._trailers))


def _bad(message: str) -> Refusal:
    return Refusal(502, "bad-response", message)
