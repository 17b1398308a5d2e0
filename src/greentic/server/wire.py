"""A connection of the server: HTTP by uvicorn, bounded where uvicorn bounds nothing, and the names of its certificate.

Whoever does not send a whole request head within some seconds, or sends a larger one than anybody needs, is let go:
they are not yet known, and must not hold a connection (RFC 9110, section 15.5.9: 408; RFC 6585, section 5: 431).
For the same reason an answer to nobody whom we know ends its connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
STRANGER_SECONDS = 20.0
"""How long a connection may last on which nobody was recognised."""
STALL_SECONDS = 60.0
"""How long somebody who is known may leave an answer unread."""
CLOSING_SECONDS = 10.0
"""How long a connection that was let go may take for what was not yet sent."""
MAX_HEAD_BYTES = 64 * 1024
_QUIET = logging.getLogger("greentic.server.wire")
_QUIET.setLevel(logging.ERROR)


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 with a bounded head; `state.peer` of a request is whom the client's certificate names."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.logger = _QUIET  # what strangers send wrong must not fill the log
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._stranger_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        # Ours to answer: uvicorn's own is plain text.
        self._limit, self.limit_concurrency = self.limit_concurrency, None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._peer = peer(transport)
        self.app_state = {**self.app_state, "peer": self._peer}
        self._await_head()
        self._owner: tuple[str, str] | None = None if self.client is None else ("address", self.client[0])
        self._since = self.loop.time()
        self._stranger_timer = self.loop.call_later(STRANGER_SECONDS, self._let_go)
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._head_arrived()
        self._recognised()
        self._moving()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The other side does not read what it is sent."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        self._moving()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing was asked for long; nor may the end take long."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(CLOSING_SECONDS, self.transport.abort)

    def retire(self) -> None:
        """Whoever this is must show again who it is: the authorities of certificates were changed."""
        if self._peer.names:
            self._peer.names = frozenset()
            if self._idle:
                self.transport.close()
            else:
                self.cycle.keep_alive = False

    def _moving(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head that is not complete."""
        if self._head_timer is None and self._idle:
            self._await_head()  # a further request on this connection
        if self._head_timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, "the request's head is too large")

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._head_arrived()
        full = self._limit is not None and max(len(self.connections), len(self.tasks)) >= self._limit
        self.app = _full if full else self.config.loaded_app
        named, version = [name for name, _ in self.headers].count(b"host"), self.parser.get_http_version()
        if version not in {"1.0", "1.1"} or named > 1 or (named == 0 and version == "1.1"):
            self._refuse(400, "a request of HTTP/1.1 names its host once")  # RFC 9112, section 3.2
            return
        try:
            super().on_headers_complete()
            self._expect_somebody()
        except (UnicodeDecodeError, AttributeError):  # a target that is no path, such as `*` or bytes beyond ASCII
            self._refuse(400, "the request's target is not a path")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """What is not HTTP, in the shape of any other refusal."""
        self._refuse(400, "this is not HTTP/1.1")

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _expect_somebody(self) -> None:
        """End the connection with its answer, unless the request or one before it was somebody's whom we know."""
        if self._stranger_timer is None:
            return
        cycle, keep_alive = self.cycle, self.cycle.keep_alive

        def recognised(caller: str | None) -> bool:
            cycle.keep_alive = keep_alive
            self._recognised()
            self._owner = None if caller is None else ("caller", caller)
            return self._make_room()

        # A body that is on its way must be let in: closing before it arrived could cost the client its answer.
        if not any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers):
            cycle.keep_alive = False
        self.scope["state"]["recognised"] = recognised

    def _recognised(self) -> None:
        if self._stranger_timer is not None:
            self._stranger_timer.cancel()
            self._stranger_timer = None

    def _let_go(self) -> None:
        """End the connection of somebody who showed in all this time no sign of who it is, read or unread."""
        if self._idle:
            self.transport.close()
        else:
            self.cycle.keep_alive = False
        self._stranger_timer = self.loop.call_later(CLOSING_SECONDS, self.transport.abort)

    def _make_room(self) -> bool:
        """Let the longest idle connection of the same stranger's address, or of the same caller, go when there are too
        many: one of them takes half of the places at most, and never that of another. Whether there was one to go."""
        if self._limit is None or self._owner is None:
            return True
        same = [
            one
            for one in self.connections
            if isinstance(one, BoundedProtocol) and one._owner == self._owner and not one.transport.is_closing()
        ]
        if len(same) <= max(1, self._limit // 2):
            return True
        idle = [one for one in same if one._idle and one is not self]
        if idle:
            min(idle, key=lambda one: one._since).transport.close()
        elif self._owner[0] == "address":
            self.transport.close()
        else:
            self.cycle.keep_alive = False  # it is to hear that there is no place
        return bool(idle)

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._refuse, 408, "the request's head did not arrive")

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: int, detail: str) -> None:
        self._head_arrived()
        if self.transport.is_closing():
            return
        body = json.dumps({"kind": "invalid-request", "detail": detail}).encode()
        head = f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: application/json\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.close()


async def _full(_scope: Any, _receive: Any, send: Any) -> None:
    """The answer of a server that has no place left."""
    body = json.dumps({"kind": "busy", "detail": "too many connections; ask again"}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), "retry-after": "1"}
    headers |= {"cache-control": "no-store", "connection": "close"}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 503, "headers": encoded})
    await send({"type": "http.response.body", "body": body, "more_body": False})


_REASONS = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}


@dataclass(slots=True)
class Peer:
    """Whom a connection's certificate names, and the moment (seconds since 1970) from which it counts no more."""

    names: frozenset[str] = frozenset()
    until: float = float("inf")


def peer(transport: asyncio.Transport) -> Peer:
    """The subject of the client's certificate (RFC 4514) and its alternative names as `san URI:…` and `san DNS:…`.

    A session that was taken up again names nobody: its certificate was not looked at, and its authority may be gone.
    """
    tls = transport.get_extra_info("ssl_object")
    data = None if tls is None or tls.session_reused else tls.getpeercert(binary_form=True)
    if not data:
        return Peer()
    from cryptography import x509

    try:
        certificate = x509.load_der_x509_certificate(data)
        subject = certificate.subject.rfc4514_string()
        names = {subject} if subject else set()
        until = certificate.not_valid_after_utc.timestamp()
    except ValueError:
        return Peer()
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return Peer(frozenset(names), until)
    names |= {f"san DNS:{name}" for name in alternative.get_values_for_type(x509.DNSName)}
    names |= {f"san URI:{name}" for name in alternative.get_values_for_type(x509.UniformResourceIdentifier)}
    return Peer(frozenset(names), until)
