"""The listening socket of an environment: opened by the runtime, inherited by its routers."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
from pathlib import Path

from greentic.envpacks import calls
from greentic.providers.local.layout import write_private
from greentic.spec.environment import split_address
from greentic.spec.errors import ProviderError

BACKLOG = 4096


def listen(address: str, environment_id: str, kept: Path) -> socket.socket:
    """A socket that listens on `address` (`ip:port`).

    Port 0 lets the system choose; the choice is kept in the file `kept` and taken again next time when it is still
    free. ProviderError with the reason and the next step when the address cannot be had.
    """
    host, port = split_address(address)
    if port == 0:
        earlier = _recall(kept, address)
        if earlier:
            with contextlib.suppress(OSError):
                return _remember(kept, address, _open(host, earlier))
    try:
        return _remember(kept, address, _open(host, port))
    except OSError as error:
        raise ProviderError(
            f"the router cannot listen on {address}: {reason(error)}",
            details={"listen_addr": address, "errno": errno.errorcode.get(error.errno or 0, "")},
            next_step=f"stop what uses it, or choose another: "
            f"gtc op env update {environment_id} --listen-addr {_shown(host)}:{_another(port)}",
        ) from None


def address_of(listener: socket.socket) -> str:
    """Where `listener` listens: `ip:port`."""
    host, port = listener.getsockname()[:2]
    return f"{_shown(host)}:{port}"


def url_of(listener: socket.socket, *, secure: bool = False) -> str:
    """A URL that reaches `listener` from this machine; `secure`: over TLS."""
    host, port = listener.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not bound to
    return f"{'https' if secure else 'http'}://{_shown(reachable)}:{port}"


def _open(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with calls.making("socket.listen", f"{host}:{port}"):
            listener.bind((host, port))
            listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _recall(kept: Path, address: str) -> int | None:
    try:
        document = json.loads(kept.read_bytes())
        return int(document["port"]) if document["asked"] == address else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(kept: Path, address: str, listener: socket.socket) -> socket.socket:
    write_private(kept, json.dumps({"asked": address, "port": listener.getsockname()[1]}).encode())
    return listener


def reason(error: OSError) -> str:
    """Why an address cannot be listened on, in words."""
    if error.errno == errno.EADDRINUSE:
        return "the address is in use by another process"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    if error.errno == errno.EACCES:
        return "the port is reserved (below 1024) and you may not take it"
    return error.strerror or str(error)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _another(port: int) -> int:
    return port + 1 if 1024 <= port < 65_535 else 8081
