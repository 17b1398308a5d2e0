"""TLS between a client's socket and its `ClientConnection`, which sees a transport like any other.

OpenSSL (`ssl.SSLObject`) does the cryptography on two memory buffers; this moves the bytes. asyncio's own TLS transport
hands a connection over when the handshake is done, so that nothing counts or bounds those that never finish, cannot
pass a half-close on, answers plain HTTP with a reset, and ties a listening socket to one certificate; here every
connection counts from its first byte, and a context is chosen per connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any, Final, cast

from greentic.router.client import ClientConnection
from greentic.router.phases import HANDSHAKING, LINGERING
from greentic.router.refusal import Refusal

if TYPE_CHECKING:
    from greentic.router.gateway import Gateway

_HANDSHAKE_RECORD: Final = 0x16
_READ_BYTES: Final = 64 * 1024


def accepted(gateway: Gateway) -> asyncio.Protocol:
    """The protocol of a connection that was just accepted: over TLS when the table says so."""
    client = ClientConnection(gateway)
    return client if gateway.tls is None else SecureConnection(gateway, client, gateway.tls)


class SecureConnection(asyncio.Transport, asyncio.Protocol):
    """To the socket a protocol, to the client connection its transport."""

    def __init__(self, gateway: Gateway, client: ClientConnection, context: ssl.SSLContext) -> None:
        super().__init__()
        self._gateway = gateway
        self._client: ClientConnection | None = client
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._established = False
        self._heard = False
        self._closing = False
        self._done_writing = False
        self._peer_done = False
        self._kept = False
        self._raw: asyncio.Transport

    # To the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast("asyncio.Transport", transport)
        client = self._client
        assert client is not None
        client.secure = True
        client.connection_made(self)
        if not self._closing:
            client.enter(HANDSHAKING)

    def data_received(self, data: bytes) -> None:
        if self._closing or self._peer_done:
            return
        if not self._heard:
            self._heard = True
            if data[0] != _HANDSHAKE_RECORD:
                self._refuse_plain(data)
                return
        self._incoming.write(data)
        if self._established or self._handshake():
            self._read()

    def eof_received(self) -> bool:
        # Without a close_notify nobody can say whether this is the end or somebody cut the rest off (RFC 8446 section
        # 6.1): whatever is in flight is ended with it.
        return self._peer_done and self._kept

    def connection_lost(self, exc: Exception | None) -> None:
        client, self._client = self._client, None
        self._closing = True
        if client is not None:
            client.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._client is not None:
            self._client.pause_writing()

    def resume_writing(self) -> None:
        if self._client is not None:
            self._client.resume_writing()

    def _handshake(self) -> bool:
        """Whether the handshake is complete."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError:
            self._gateway.unrouted("tls-handshake")
            self._flush()  # the alert that says why
            self._closing = True
            self._raw.close()
            return False
        self._established = True
        self._flush()
        if self._client is not None:
            self._client.secured(proven=bool(self._tls.getpeercert()))
        return True

    def _read(self) -> None:
        """Hand on everything that has come, in one piece."""
        parts: list[bytes] = []
        try:
            while True:
                part = self._tls.read(_READ_BYTES)
                if not part:
                    self._peer_done = True
                    break
                parts.append(part)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._peer_done = True
        except ssl.SSLError:
            self._flush()
            self.abort()
            return
        self._flush()  # what TLS itself answers
        client = self._client
        if client is None:
            return
        if parts:
            client.data_received(parts[0] if len(parts) == 1 else b"".join(parts))
        if self._peer_done and not self._closing:
            self._kept = client.eof_received()
            if not self._kept:
                self.close()

    def _refuse_plain(self, data: bytes) -> None:
        """Plain HTTP came: say so in the language that was spoken, and close without a reset."""
        client = self._client
        self._closing = True
        if client is None or not data[:1].isupper():
            self._raw.close()
            return
        refusal = Refusal(400, "https-expected", "this port speaks HTTPS: begin the URL with https://")
        self._gateway.unrouted(refusal.kind)
        request_id = self._gateway.new_request_id().decode()
        self._raw.write(refusal.answer(request_id=request_id, revision_id=None, close=True, body=True))
        self._raw.write_eof()
        client.enter(LINGERING)

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._raw.write(data)

    # To the client connection

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._closing or self._done_writing or not self._established or not data:
            return
        written = self._tls.write(data)
        if written < len(data):  # a call takes one record
            rest = memoryview(data)[written:]
            while rest:
                rest = rest[self._tls.write(rest) :]
        self._flush()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._closing and not self._done_writing:
            self._notify_close()
            self._raw.write_eof()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if not self._done_writing:
            self._notify_close()
        self._raw.close()

    def abort(self) -> None:
        self._closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._closing or self._raw.is_closing()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._raw.get_extra_info(name, default)

    def _notify_close(self) -> None:
        self._done_writing = True
        if self._established:
            with contextlib.suppress(ssl.SSLError):  # the peer's own has not come, and nobody waits for it
                self._tls.unwrap()
            self._flush()
