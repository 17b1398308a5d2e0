"""The doors of the server: who is let in, by which sign, and how often."""

from __future__ import annotations

import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from starlette.requests import Request

from greentic.server import tokens
from greentic.server.access import ANYBODY, CERTIFICATES, OPEN_DEV, STATIC_TOKENS, Grant, Principal
from greentic.server.failures import Throttled, Unauthenticated
from greentic.server.health_gate import DataPlanes
from greentic.server.oidc import Issuers
from greentic.server.wire import Peer
from greentic.spec.errors import Denied, GreenticError, InvalidArgument
from greentic.spec.identifiers import unix_seconds
from greentic.spec.store_access import CertificateEntry, Granted, StoreAccess, TokenEntry
from greentic.trust.public import PublicKey

LOG = logging.getLogger("greentic.server")
MISSING = "missing or unrecognized bearer token"
LOOK_SECONDS = 1.0
"""How often the token file is looked at."""
_QUIET_SECONDS = 10.0
"""Refusals of strangers are logged once in this time, with their number: a flood must not fill the log."""
_ADDRESSES = 10_000


class OpenDoor:
    """Lets everybody in: for one machine and its own user, but not the pages that this user looks at.

    A browser says by Origin that a page sends, and by Host under which name the page believes to reach us, which is
    somebody else's when a name was made to lead here (DNS rebinding). `any_name`: the server is there for other
    machines too, which may know it by a name.
    """

    def __init__(self, *, any_name: bool = False) -> None:
        self._any_name = any_name

    def slow(self, _request: Request) -> bool:
        """Never."""
        return False

    def admit(self, request: Request) -> Principal:
        """Anybody but a page in a browser; Denied."""
        host = request.headers.get("host", "localhost")
        if "origin" in request.headers or request.headers.get("sec-fetch-site", "none") != "none":
            raise _outside("a server that knows no callers takes no requests of pages in a browser")
        if not self._any_name and not _local(host):
            raise _outside(f"a server that knows no callers is not reached as '{host[:80]}'")
        return ANYBODY

    def data_planes(self, _environment_id: str) -> DataPlanes | None:
        """None: words count."""
        return None


@dataclass(slots=True)
class Bucket:
    """A rate: `burst` at once, `rate` each second; counted per name, for a bounded number of names."""

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, name: str) -> bool:
        """Whether one more is within the rate."""
        now = self.clock()
        left, since = self._left.pop(name, (self.burst, now))
        left = min(self.burst, left + (now - since) * self.rate)
        self._left[name] = (max(left - 1, 0.0), now)
        if len(self._left) > _ADDRESSES:
            self._left.popitem(last=False)
        return left >= 1


class GuardedDoor:
    """Lets in who the token file names: by bearer token, client certificate or a token of an issuer.

    The file is read again when it changes; one that cannot be read then changes nothing, loudly, so that a slip of the
    pen locks nobody out and lets nobody in.
    """

    def __init__(
        self,
        path: Path,
        *,
        strangers: Bucket | None = None,
        friends: Bucket | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        issuers: Callable[[StoreAccess], Issuers] = Issuers.of,
    ) -> None:
        self._path = path
        self._strangers = strangers or Bucket(20, 100)
        self._friends = friends
        self._clock = clock
        self._wall = wall
        self._make_issuers = issuers
        self._looked = clock()
        self._stamp = _stamp(path)
        self._refused, self._told = 0, float("-inf")
        self.reload_failures = 0
        self._take(tokens.read(path))

    def slow(self, request: Request) -> bool:
        """For tokens that look like those of an issuer, whose keys may have to be fetched."""
        self._look()  # not between this answer and `admit`, which would then wait where nobody may
        return self._issuers.any and request.headers.get("authorization", "").count(".") == 2

    def admit(self, request: Request) -> Principal:
        """Whoever the request's headers or its connection's certificate name."""
        self._look()
        principal = self._recognised(request)
        if isinstance(principal, str):
            return self._refuse(request, principal)
        if self._friends is not None and not self._friends.take(principal.name):
            raise Throttled("too many requests; slow down")
        return principal

    @property
    def takes_words(self) -> bool:
        """Whether the file names no data planes, not even an empty list of them."""
        return self._data_planes is None

    def data_planes(self, environment_id: str) -> DataPlanes | None:
        """Those whose evidence counts in the environment, as the file says now; None when it speaks of none at all."""
        self._look()
        if self._data_planes is None:
            return None
        return tuple((one.actor, key) for one, key in self._data_planes if environment_id in one.env_ids)

    def reload(self) -> bool:
        """Read the file again; whether it could be understood."""
        self._stamp = _stamp(self._path)
        try:
            self._take(tokens.read(self._path, nobody=True))
        except GreenticError as error:
            self.reload_failures += 1
            LOG.error("the token file was not taken over, the one before still counts: %s", error.message)
            return False
        LOG.info("the token file was read again")
        return True

    def _take(self, access: StoreAccess) -> None:
        # Each may refuse; then nothing of the file is taken.
        issuers = self._make_issuers(access)
        named = access.data_planes
        data_planes = None if named is None else [(one, PublicKey.from_pem(one.public_key_pem)) for one in named]
        certificates = {_written(one): one for one in access.certificates}
        self._tokens: Mapping[str, TokenEntry] = {one.token_sha256.lower(): one for one in access.tokens}
        self._certificates: Mapping[str, CertificateEntry] = certificates
        self._issuers = issuers
        self._data_planes = data_planes

    def _look(self) -> None:
        if self._clock() - self._looked < LOOK_SECONDS:
            return
        self._looked = self._clock()
        if _stamp(self._path) != self._stamp:
            self.reload()

    def _recognised(self, request: Request) -> Principal | str:
        """Who it is, or why nobody."""
        given = request.headers.getlist("authorization")
        if not given:
            return self._certified(request) or MISSING
        token = given[0].removeprefix("Bearer ").strip() if given[0].startswith("Bearer ") else ""
        if not token or len(given) > 1 or len(token) > 16_384 or not token.isascii():
            return MISSING
        digest = tokens.digest_of(token)
        entry = self._tokens.get(digest)
        if entry is None or not hmac.compare_digest(entry.token_sha256.lower(), digest):
            return self._issuers.recognise(token) or MISSING
        now = self._wall()
        if entry.not_before is not None and now < unix_seconds(entry.not_before):
            return "the bearer token does not count yet"
        if entry.expires_at is not None and now >= unix_seconds(entry.expires_at):
            return "the bearer token has expired"
        return Principal("bearer-token", entry.actor, STATIC_TOKENS, granted(entry))

    def _certified(self, request: Request) -> Principal | None:
        peer: Peer = request.scope.get("state", {}).get("peer") or Peer()
        if self._wall() >= peer.until:
            return None  # it was valid when the connection began
        for wanted, entry in self._certificates.items():
            if wanted in peer.names:
                return Principal("client-certificate", entry.actor, CERTIFICATES, granted(entry))
        return None

    def _refuse(self, request: Request, why: str) -> Principal:
        address = request.client.host if request.client else "unknown"
        self._refused += 1
        if self._clock() - self._told > _QUIET_SECONDS:
            LOG.warning("refused %d requests of strangers, the last from %s: %s", self._refused, address, why)
            self._told, self._refused = self._clock(), 0
        if not self._strangers.take(address):
            raise Throttled("too many requests without a valid token; slow down")
        raise Unauthenticated(
            why,
            details={"policy": STATIC_TOKENS, "reason": why},
            next_step="show who you are: --store-token TOKEN, $GREENTIC_STORE_TOKEN, or a client certificate",
        )


def _written(entry: CertificateEntry) -> str:
    """The name of an entry as a connection writes it; InvalidArgument for a subject that is none."""
    if entry.subject is None:
        return f"san {entry.san}"
    from cryptography import x509

    try:
        return x509.Name.from_rfc4514_string(entry.subject).rfc4514_string()
    except ValueError:
        raise InvalidArgument(
            f"'{entry.subject[:200]}' is not the subject of a certificate as RFC 4514 writes it",
            next_step="openssl x509 -noout -subject -nameopt RFC2253 -in FILE",
        ) from None


def granted(entry: Granted) -> Grant:
    """The grant that an entry of the file describes."""
    return Grant(
        entry.role,
        None if entry.env_ids is None else frozenset(entry.env_ids),
        None if entry.customer_ids is None else frozenset(entry.customer_ids),
        None if entry.verbs is None else frozenset(entry.verbs),
        entry.vouches_for_health,
    )


def _outside(reason: str) -> Denied:
    return Denied(
        reason,
        details={"policy": OPEN_DEV, "reason": reason},
        next_step="call it as 127.0.0.1 or localhost, or serve with --rbac-tokens FILE",
    )


def _local(host: str) -> bool:
    """Whether a Host header names an address, or this machine: names that nobody can make lead elsewhere."""
    name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost" or name.lower().endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ctime_ns, found.st_ino, found.st_size
