"""Where Prometheus and probes read: `/metrics`, `/livez` and `/readyz` over HTTP/1.1, a request per connection.

Small on purpose: GET and HEAD only, a bounded head, a bounded time and a bounded number of readers. It tells names and
numbers of the environment to whoever reaches the address, so bind it where only your monitoring does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from prometheus_client.exposition import choose_encoder

from greentic.providers.local import listening
from greentic.providers.local.metrics import Families, Listing, Snapshot
from greentic.spec.environment import split_address
from greentic.spec.errors import ProviderError

HEAD_BYTES: Final = 16 * 1024
SECONDS: Final = 10.0
"""For one request, from its first byte to its last answer byte."""
READERS: Final = 32
"""Connections served at once; those beyond it are closed."""
_TEXT: Final = "text/plain; charset=utf-8"


class Endpoint:
    """Answers on one address. `snapshot` takes a reading."""

    def __init__(self, snapshot: Callable[[], Awaitable[Snapshot]]) -> None:
        self._snapshot = snapshot
        self._listing = Listing()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.asked: str | None = None
        self.address: str | None = None

    async def follow(self, asked: str | None, environment_id: str) -> None:
        """Answer on `asked` (`ip:port`) from now on, nowhere for None.

        ProviderError with the next step when the address cannot be had; the old one is answered on then.
        """
        if asked == self.asked:
            return
        server = address = None
        if asked is not None:
            host, port = split_address(asked)
            try:
                server = await asyncio.start_server(self._accept, host, port, limit=HEAD_BYTES)
            except OSError as error:
                raise ProviderError(
                    f"metrics cannot be served on {asked}: {listening.reason(error)}",
                    details={"metrics_addr": asked},
                    next_step="stop what uses it, or choose another: "
                    f"gtc op config set --env {environment_id} --router metrics_addr=127.0.0.1:{_another(port)}",
                ) from None
            address = listening.address_of(server.sockets[0])
        await self.close()
        self._server, self.asked, self.address = server, asked, address

    async def close(self) -> None:
        """Answer nobody any more."""
        server, self._server, self.asked, self.address = self._server, None, None, None
        if server is not None:
            server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def text(self, accept: str = "") -> tuple[bytes, str]:
        """A reading in the format that `accept` asks for (Prometheus text or OpenMetrics), and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(Families(await self._snapshot(), self._listing)), content_type

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if len(self._connections) <= READERS:
                async with asyncio.timeout(SECONDS):
                    await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the reader is gone, too slow, or no reader at all
        except asyncio.CancelledError:
            pass  # the endpoint is closed
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        method, _, rest = line.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        accept = ",".join(
            value for name, _, value in (field.partition(":") for field in fields) if name.lower() == "accept"
        )
        status, content_type, body = await self._answer(method, path, accept)
        told = (
            f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        writer.write(told.encode("latin-1") + (b"" if method == "HEAD" else body))
        await writer.drain()

    async def _answer(self, method: str, path: str, accept: str) -> tuple[str, str, bytes]:
        if method not in {"GET", "HEAD"}:
            return "405 Method Not Allowed\r\nAllow: GET, HEAD", _TEXT, b"only GET and HEAD\n"
        if path == "/metrics":
            body, content_type = await self.text(accept)
            return "200 OK", content_type, body
        if path == "/livez":
            return "200 OK", _TEXT, b"ok\n"
        if path == "/readyz":
            reasons = (await self._snapshot()).unready
            if reasons:
                return "503 Service Unavailable", _TEXT, ("\n".join(reasons) + "\n").encode()
            return "200 OK", _TEXT, b"ok\n"
        return "404 Not Found", _TEXT, b"there is /metrics, /livez and /readyz\n"


def _another(port: int) -> int:
    return port + 1 if 1024 <= port < 65_535 else 9464
