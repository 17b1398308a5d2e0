"""After `101 Switching Protocols`: bytes both ways, with back-pressure and half-closes passed on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from greentic.router.websocket import CLOSE_RESTART, FrameBoundary, close_away

if TYPE_CHECKING:
    from greentic.router.client import ClientConnection
    from greentic.router.forwarding import Exchange
    from greentic.router.upstream import UpstreamConnection

LAST_FRAME_SECONDS: Final = 1.0
"""How long a WebSocket that is cut may take to finish the frame that is on its way."""


class Tunnel:
    """One upgraded exchange. It counts as in flight until both ends are closed."""

    __slots__ = (
        "_client_done",
        "_from_client",
        "_from_upstream",
        "_last_frame",
        "_over",
        "_upstream",
        "_upstream_done",
        "client",
        "exchange",
    )

    def __init__(self, exchange: Exchange, upstream: UpstreamConnection, *, websocket: bool) -> None:
        self.client: ClientConnection = exchange.client
        self.exchange = exchange
        self._upstream = upstream
        self._from_client = FrameBoundary() if websocket else None
        self._from_upstream = FrameBoundary() if websocket else None
        self._last_frame: asyncio.TimerHandle | None = None
        self._client_done = False
        self._upstream_done = False
        self._over = False

    def from_client(self, data: bytes) -> None:
        """Bytes of the client."""
        if not self._over:
            self.exchange.received += len(data)
            self.client.touch()
            if self._from_client is not None:
                self._from_client.feed(data)
            self._upstream.transport.write(data)

    def from_upstream(self, data: bytes) -> None:
        """Bytes of the worker."""
        if self._over:
            return
        self.client.touch()
        boundary = self._from_upstream
        if boundary is None:
            self.client.write(data)
        elif self._last_frame is None:
            boundary.feed(data)
            self.client.write(data)
        else:
            self.client.write(data[: boundary.feed(data, one=True)])
            if boundary.between_frames:
                self._say_goodbye()

    def note_upstream(self, data: bytes) -> None:
        """Bytes of the worker that went to the client together with the 101."""
        if self._from_upstream is not None:
            self._from_upstream.feed(data)

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

    @property
    def half_closed(self) -> bool:
        """Whether one of the two sends no more."""
        return self._client_done or self._upstream_done

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
        """End it for a drain. A WebSocket's client is told to come back (1012) after the frame that is on its way, when
        that is complete within LAST_FRAME_SECONDS, and its worker that the client goes away (1001).
        """
        if self._from_upstream is None or self._upstream_done:
            self._end()
        elif self._last_frame is None and not self._over:
            loop = asyncio.get_running_loop()
            self._last_frame = loop.call_later(LAST_FRAME_SECONDS, self._end)
            if self._from_upstream.between_frames:
                self._say_goodbye()

    def _say_goodbye(self) -> None:
        self.client.write(CLOSE_RESTART)
        self._end(gently=True)

    def _half_closed(self) -> None:
        if self._client_done and self._upstream_done:
            self._end()

    def _end(self, *, gently: bool = False) -> None:
        if self._over:
            return
        self._over = True
        if self._last_frame is not None:
            self._last_frame.cancel()
            if self._from_client is not None and self._from_client.between_frames and not self._client_done:
                self._upstream.transport.write(close_away())
        self._upstream.tunnel = None
        # Graceful: what was received is still flushed to the worker.
        self._upstream.transport.close()
        self.client.tunnel_ended(gently=gently)
        self.exchange.tunnel_ended()
