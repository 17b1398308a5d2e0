"""After `101 Switching Protocols`: bytes both ways, with back-pressure and half-closes passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greentic.router.websocket import CLOSE_RESTART, FrameBoundary

if TYPE_CHECKING:
    from greentic.router.client import ClientConnection
    from greentic.router.forwarding import Exchange
    from greentic.router.upstream import UpstreamConnection


class Tunnel:
    """One upgraded exchange. It counts as in flight until both ends are closed."""

    __slots__ = ("_boundary", "_client_done", "_over", "_upstream", "_upstream_done", "client", "exchange")

    def __init__(self, exchange: Exchange, upstream: UpstreamConnection, *, websocket: bool) -> None:
        self.client: ClientConnection = exchange.client
        self.exchange = exchange
        self._upstream = upstream
        self._boundary = FrameBoundary() if websocket else None
        self._client_done = False
        self._upstream_done = False
        self._over = False

    def from_client(self, data: bytes) -> None:
        """Bytes of the client."""
        if not self._over:
            self.exchange.received += len(data)
            self.client.touch()
            self._upstream.transport.write(data)

    def from_upstream(self, data: bytes) -> None:
        """Bytes of the worker."""
        if not self._over:
            if self._boundary is not None:
                self._boundary.feed(data)
            self.client.touch()
            self.client.write(data)

    def note_upstream(self, data: bytes) -> None:
        """Bytes of the worker that went to the client together with the 101."""
        if self._boundary is not None:
            self._boundary.feed(data)

    def client_eof(self) -> None:
        """The client will send no more."""
        self._client_done = True
        self._half_closed()
        if not self._over:
            self._upstream.transport.write_eof()

    def upstream_eof(self) -> None:
        """The worker will send no more."""
        self._upstream_done = True
        self._half_closed()
        if not self._over:
            self.client.write_eof()

    def pause_upstream(self) -> None:
        """The client does not keep up."""
        self._upstream.pause_reading()

    def resume_upstream(self) -> None:
        """The client keeps up again."""
        self._upstream.resume_reading()

    def client_lost(self) -> None:
        """The client's connection is gone."""
        self._end()

    def upstream_lost(self) -> None:
        """The worker's connection is gone: let the client read what is on its way, then close."""
        self._end()

    def cut(self) -> None:
        """End it for a drain; a WebSocket between two frames is told to come back (1012)."""
        if self._boundary is not None and self._boundary.between_frames and not self._over:
            self.client.write(CLOSE_RESTART)
        self._end()

    def _half_closed(self) -> None:
        if self._client_done and self._upstream_done:
            self._end()

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        self._upstream.tunnel = None
        # Graceful: what was received is still flushed to the worker.
        self._upstream.transport.close()
        self.client.tunnel_ended()
        self.exchange.tunnel_ended()
