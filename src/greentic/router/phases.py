"""What a client connection is waiting for. Each phase has its own limit in time."""

from __future__ import annotations

from typing import Final

TICK_SECONDS: Final = 0.25
"""How often limits in time are checked: one timer for the process, none per request."""

IDLE: Final = 0
"""Between requests."""
HEADER: Final = 1
"""A request's head has begun."""
BODY: Final = 2
"""More of the request's body."""
WAITING: Final = 3
"""The worker's response head."""
RESPONDING: Final = 4
"""More of the response's body."""
STREAMING: Final = 5
"""An event stream or a tunnel, which may be silent for long."""
LINGERING: Final = 6
"""The client to close, after an answer that ended the connection early."""
HANDSHAKING: Final = 7
"""The client to complete the TLS handshake."""
