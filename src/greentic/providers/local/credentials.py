"""What the local deployer needs: a folder it can write durably and a port to listen on (reference 03, section 3)."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from pathlib import Path

from greentic.envpacks.credentials import Capability, CapabilityCheck, CredentialsContext
from greentic.providers.local import lock
from greentic.providers.local.layout import Layout
from greentic.spec.environment import split_address

WRITABLE = Capability("local-process.fs.writable", "the environment's folder can be written durably")
PORT = Capability("local-process.port.available", "the environment's address can be listened on")

PERMISSIONS = frozenset(
    {"file.remove", "file.write", "process.end", "process.start", "router.control", "socket.listen"}
)
"""Of the calls that this deployer makes (see `greentic.envpacks.calls`). Files need WRITABLE, sockets need PORT; the
processes are of the operator's own user, who needs no permission to start and end them."""


class LocalCredentials:
    """See `greentic.envpacks.credentials.DeployerCredentials`."""

    needs_material = False
    why_no_bootstrap: str | None = (
        "workers run as processes of your own user: there is no account to make and no permission to grant"
    )

    def capabilities(self) -> tuple[Capability, ...]:
        """What the deployer needs."""
        return WRITABLE, PORT

    def check(self, context: CredentialsContext) -> tuple[CapabilityCheck, ...]:
        """Look at each capability."""
        return _writable(context.folder), _port(context)


def _writable(folder: Path) -> CapabilityCheck:
    """Whether what is written there lasts: a file synced, renamed, its folder synced, and taken away again."""
    probe = folder / f".greentic-probe.{secrets.token_hex(8)}"
    renamed = probe.with_suffix(".renamed")
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"probe\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        probe.rename(renamed)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return CapabilityCheck(WRITABLE, "fail", f"{folder}: {error.strerror or error}")
    finally:
        for left in (probe, renamed):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)
    return CapabilityCheck(WRITABLE, "pass")


def _port(context: CredentialsContext) -> CapabilityCheck:
    address = context.environment.host_config.listen_address
    if lock.held(Layout(context.folder.absolute()).lock):
        return CapabilityCheck(PORT, "pass", f"the environment's own runtime listens on {address}")
    host, port = split_address(address)
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return CapabilityCheck(PORT, "fail", f"{address}: {error.strerror or error}")
    return CapabilityCheck(PORT, "pass")
