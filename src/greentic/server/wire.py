"""A connection of the server: HTTP by uvicorn, bounded where uvicorn bounds nothing, and the names of its certificate.

Whoever does not send a whole request head within some seconds, or sends a larger one than anybody needs, is let go:
they are not yet known, and must not hold a connection (RFC 9110, section 15.5.9: 408; RFC 6585, section 5: 431).
For the same reason an answer to nobody whom we know ends its connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
STRANGER_SECONDS = 20.0
"""How long a connection may last on which nobody was recognised."""
MAX_HEAD_BYTES = 64 * 1024
_QUIET = logging.getLogger("greentic.server.wire")
_QUIET.setLevel(logging.ERROR)


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 with a bounded head; `state.peer_names` of a request are the names of the client's certificate."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.logger = _QUIET  # what strangers send wrong must not fill the log
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._stranger_timer: asyncio.TimerHandle | None = None
        # Ours to answer: uvicorn's own is plain text.
        self._limit, self.limit_concurrency = self.limit_concurrency, None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "peer_names": _names(transport)}
        self._await_head()
        self._since = self.loop.time()
        self._stranger_timer = self.loop.call_later(STRANGER_SECONDS, self._let_go)
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._head_arrived()
        self._recognised()
        super().connection_lost(exc)

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

        def recognised() -> None:
            cycle.keep_alive = keep_alive
            self._recognised()

        # A body that is on its way must be let in: closing before it arrived could cost the client its answer.
        if not any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers):
            cycle.keep_alive = False
        self.scope["state"]["recognised"] = recognised

    def _recognised(self) -> None:
        if self._stranger_timer is not None:
            self._stranger_timer.cancel()
            self._stranger_timer = None

    def _let_go(self) -> None:
        """End the connection of somebody who showed in all this time no sign of who it is."""
        if self._idle:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def _make_room(self) -> None:
        """Let the longest idle stranger of this address go when there are too many: one address takes half of the
        places at most, and never the place of somebody who is known."""
        if self._limit is None or self.client is None:
            return
        strangers = [
            one
            for one in self.connections
            if isinstance(one, BoundedProtocol)
            and one._stranger_timer is not None
            and one.client is not None
            and one.client[0] == self.client[0]
            and not one.transport.is_closing()
        ]
        if len(strangers) > max(1, self._limit // 2):
            idle = [one for one in strangers if one._idle and one is not self]
            oldest = min(idle, key=lambda one: one._since, default=self)
            oldest.transport.close()

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


def _names(transport: asyncio.Transport) -> frozenset[str]:
    """The subject of the client's certificate (RFC 4514) and its alternative names as `san URI:…` and `san DNS:…`."""
    tls = transport.get_extra_info("ssl_object")
    data = None if tls is None else tls.getpeercert(binary_form=True)
    if not data:
        return frozenset()
    from cryptography import x509

    try:
        certificate = x509.load_der_x509_certificate(data)
        names = {certificate.subject.rfc4514_string()}
    except ValueError:
        return frozenset()
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset(names)
    names |= {f"san DNS:{name}" for name in alternative.get_values_for_type(x509.DNSName)}
    names |= {f"san URI:{name}" for name in alternative.get_values_for_type(x509.UniformResourceIdentifier)}
    return frozenset(names)
