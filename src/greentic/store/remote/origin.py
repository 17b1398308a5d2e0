"""Which server is meant, and which token goes with it (reference 02, sections 7.1 and 7.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from greentic.spec.errors import InvalidArgument

URL = "GREENTIC_STORE_URL"
TOKEN = "GREENTIC_STORE_TOKEN"  # noqa: S105 - the name of a variable
CA = "GREENTIC_STORE_CA"
CERTIFICATE = "GREENTIC_STORE_CERT"
KEY = "GREENTIC_STORE_KEY"


@dataclass(frozen=True, slots=True)
class Origin:
    """A server and what is shown to it. `url` ends with a slash; a path in it goes before every route.

    `ca` are the authorities that vouch for the server (None: those of the system), `certificate` and `key` show who
    calls.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def place(self) -> str:
        """A short name of the server for a folder."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:12]


def chosen(url: str | None, token: str | None, environ: Mapping[str, str]) -> Origin | None:
    """The server that was asked for; None for the files of this machine.

    A token of the surroundings goes to the server of the surroundings only: one that was named by hand must not be
    handed it (origin pairing). InvalidArgument for a URL that is none, and for a token that would travel in the clear.
    """
    found = url or environ.get(URL) or None
    if found is None:
        if token:
            raise InvalidArgument("a store token needs the server that it is for", next_step="add --store-url URL")
        return None
    shown = token or (None if url else environ.get(TOKEN)) or None
    paths = {name: Path(environ[variable]) if environ.get(variable) else None for name, variable in _FILES.items()}
    return checked(Origin(found if found.endswith("/") else f"{found}/", shown, **paths))


def checked(origin: Origin) -> Origin:
    """`origin` when it can be called safely; InvalidArgument otherwise."""
    try:
        parts = urlsplit(origin.url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidArgument(f"the store URL cannot be read: {error}") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise InvalidArgument("a store URL begins with https:// (or http:// on this machine) and names a host")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InvalidArgument("a store URL holds no user, query or fragment; a token goes into --store-token")
    if any(set(segment.replace("%2e", ".").replace("%2E", ".")) == {"."} for segment in parts.path.split("/")):
        raise InvalidArgument("the path of a store URL holds no '.' or '..'")
    if origin.token is not None:
        if not origin.token.isascii() or not origin.token.isprintable() or " " in origin.token:
            raise InvalidArgument("a store token is printable ASCII without blanks")
        if parts.scheme == "http" and not _loopback(host):
            raise InvalidArgument(
                f"the token would travel to {host} in the clear", next_step="use https:// in the store URL"
            )
    if (origin.certificate is None) != (origin.key is None):
        raise InvalidArgument(f"a client certificate needs its key: set both {CERTIFICATE} and {KEY}")
    return origin


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


_FILES = {"ca": CA, "certificate": CERTIFICATE, "key": KEY}
