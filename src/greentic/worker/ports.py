"""Choose a port of 127.0.0.1 for a worker to listen on.

Ports of the range from which the kernel takes those of outgoing connections are avoided: between choosing such a port
and the worker's binding it, any connection of the router could take it.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Collection
from pathlib import Path

from greentic.spec.errors import ProviderError

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 15_000
_USUAL_FIRST = 32_768
_ATTEMPTS = 200


def choose(taken: Collection[int], preferred: int | None = None, host: str = "127.0.0.1") -> int:
    """A port that is free now and not in `taken`: `preferred` when possible. ProviderError when none can be found."""
    if preferred is not None and preferred not in taken and _free(host, preferred):
        return preferred
    first = max(_first_ephemeral(), _LOWEST + 1_000)
    for _ in range(_ATTEMPTS):
        port = random.randrange(_LOWEST, first)  # noqa: S311 - nothing secret about it
        if port not in taken and _free(host, port):
            return port
    raise ProviderError(f"no free port was found on {host} between {_LOWEST} and {first}")


def _free(host: str, port: int) -> bool:
    # Without SO_REUSEADDR: a worker may be any program, and one that does not set it must be able to bind too.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _first_ephemeral() -> int:
    try:
        return int(_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _USUAL_FIRST
