"""The access log: one JSON object per line, for whoever asked for it with a flag."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from greentic.router.forwarding import Exchange


class AccessLog:
    """Writes one line per exchange to `stream`."""

    __slots__ = ("_stream",)

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, exchange: Exchange) -> None:
        """Write the line of an exchange that is over; a reader that has gone away stops nobody."""
        try:
            self._stream.write(json.dumps(_record(exchange)) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return


def _record(exchange: Exchange) -> dict[str, Any]:
    """No query, no cookie and no header of the client: any of them may hold a secret."""
    decision = exchange.decision
    head = exchange.head if hasattr(exchange, "head") else None
    return {
        "time": round(time.time(), 3),
        "request_id": exchange.request_id.decode(),
        "peer": exchange.client.peer.decode(),
        "method": head.method.decode() if head else None,
        "host": head.host.decode("latin-1") if head else None,
        "path": head.path.decode("latin-1") if head else None,
        "status": exchange.status,
        "deployment": exchange.deployment.deployment_id if exchange.deployment else None,
        "revision": decision.revision.revision_id if decision else None,
        "reason": decision.reason if decision else None,
        "milliseconds": round((time.monotonic() - exchange.began) * 1000, 3),
    }
