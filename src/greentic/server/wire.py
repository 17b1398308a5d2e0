"""A connection of the server: HTTP by uvicorn, bounded where uvicorn bounds nothing, and the names of its certificate.

Whoever does not send a whole request head within some seconds, or sends a larger one than anybody needs, is let go:
they are not yet known, and must not hold a connection (RFC 9110, section 15.5.9: 408; RFC 6585, section 5: 431).
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
MAX_HEAD_BYTES = 64 * 1024
_QUIET = logging.getLogger("greentic.server.wire")


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 with a bounded head; `state.peer_names` of a request are the names of the client's certificate."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.logger = _QUIET  # what strangers send wrong must not fill the log
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "peer_names": _names(transport)}
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head that is not complete."""
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()  # a further request on this connection
        if self._head_timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, "the request's head is too large")

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._head_arrived()
        try:
            super().on_headers_complete()
        except (UnicodeDecodeError, AttributeError):  # a target that is no path, such as `*` or bytes beyond ASCII
            self._refuse(400, "the request's target is not a path")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """What is not HTTP, in the shape of any other refusal."""
        self._refuse(400, "this is not HTTP/1.1")

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
