"""Who asks, request by request: the client's address, whether it came over TLS, and whether it is trusted.

A connection speaks for its peer. When the peer is one of `trusted_proxies`, each of its requests speaks for whom the
proxy says: the right-most address that is no trusted proxy itself, since everything left of it was written by somebody
who is not trusted (RFC 7239 section 8.1). A client certificate proves who holds the connection, and so never the
client behind a proxy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any, Final

from greentic.router import forwarded
from greentic.router.forwarded import HTTP, HTTPS, NOBODY, UNKNOWN, Address, Hop
from greentic.spec.errors import SpecViolation

_CONTINUED: Final = frozenset((b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"))
"""What of a trusted proxy's words the router adds its own to; the others go on as they came.
"""


class Caller:
    """Who asks, and the fields that tell a worker."""

    __slots__ = ("_chain", "_claims", "_host", "_lines", "address", "proxy", "rules", "secure", "trusted", "via")

    def __init__(
        self,
        rules: CallerRules,
        chain: Sequence[Hop],
        *,
        address: bytes,
        secure: bool,
        trusted: bool,
        proxy: bool = False,
        via: Caller | None = None,
        claims: Mapping[bytes, bytes] | None = None,
    ) -> None:
        self.rules = rules
        self.address = address
        """The client's address as text; `unknown` or a hidden name when a trusted proxy does not tell it."""
        self.secure = secure
        """Whether the client came over TLS, to this router or to a trusted proxy that says so."""
        self.trusted = trusted
        """Whether it may name a revision and a user: a client certificate, or one of `trusted_callers`."""
        self.proxy = proxy
        """Whether what it says of others is believed."""
        self.via = via
        """The connection's own caller, when this one speaks through it."""
        self._chain = chain
        self._claims = claims if claims is not None else {}
        self._host: bytes | None = None
        self._lines: list[bytes] = []

    def lines(self, host_field: bytes) -> list[bytes]:
        """The forwarded fields for the worker (RFC 7239 and its forerunners).

        What a trusted proxy said is continued by the proxy itself; anybody else's words are replaced.
        """
        if self._host != host_field:
            self._host = host_field
            claims = self._claims
            own = forwarded.field(self._chain[-1:], host_field)
            said = claims.get(b"forwarded") if self._chain[0] is not NOBODY else None
            host = claims.get(b"x-forwarded-host", host_field)
            self._lines = [
                b"X-Forwarded-For: " + b", ".join(hop.node for hop in self._chain),
                b"X-Forwarded-Proto: " + (HTTPS if self.secure else HTTP),
                b"X-Forwarded-Host: " + host,
                b"Forwarded: " + (forwarded.field(self._chain, host_field) if said is None else said + b", " + own),
                *(name.title() + b": " + value for name, value in claims.items() if name not in _CONTINUED),
            ]
        return self._lines


class Networks:
    """A set of networks, asked quickly."""

    __slots__ = ("_ranges",)

    def __init__(self, texts: Sequence[str]) -> None:
        """Raises ValueError on what is no network."""
        networks = [ip_network(text, strict=False) for text in texts]
        self._ranges = [(one.version, int(one.netmask), int(one.network_address)) for one in networks]

    def holds(self, address: Address) -> bool:
        """Whether `address` is in one of them."""
        version, number = address.version, int(address)
        return any(version == kind and number & mask == base for kind, mask, base in self._ranges)


class CallerRules:
    """Whom an environment trusts: the options `trusted_callers` and `trusted_proxies` of a table."""

    __slots__ = ("_callers", "_proxies", "_source")

    def __init__(self, callers: Sequence[str] = (), proxies: Sequence[str] = ()) -> None:
        """Raises ValueError on what is no network."""
        self._callers = Networks(callers)
        self._proxies = Networks(proxies)
        self._source = (tuple(callers), tuple(proxies))

    @staticmethod
    def parse(options: Mapping[str, Any]) -> CallerRules:
        """The rules in a table's options. SpecViolation (`caller-networks`) on what is no list of networks."""
        found: dict[str, list[str]] = {}
        for name in ("trusted_callers", "trusted_proxies"):
            value = options.get(name, [])
            if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
                raise SpecViolation("caller-networks", f"options.{name} must be a list of networks")
            found[name] = value
        try:
            return CallerRules(found["trusted_callers"], found["trusted_proxies"])
        except ValueError as error:
            raise SpecViolation("caller-networks", f"a network of trusted callers or proxies: {error}") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CallerRules) and other._source == self._source

    def __hash__(self) -> int:
        return hash(self._source)

    def of_connection(self, peer: bytes, *, secure: bool, proven: bool) -> Caller:
        """The caller of a connection from `peer`, over TLS (`secure`), which showed a good certificate (`proven`)."""
        address = forwarded.address_of(peer)
        return Caller(
            self,
            (Hop(peer if address is not None else UNKNOWN, address, HTTPS if secure else HTTP),),
            address=peer,
            secure=secure,
            trusted=proven or (address is not None and self._callers.holds(address)),
            proxy=address is not None and self._proxies.holds(address),
        )

    def of_request(self, via: Caller, claims: Mapping[bytes, bytes]) -> Caller:
        """The caller for whom the proxy `via` speaks with the forwarded fields in `claims`."""
        chain = forwarded.hops(claims)
        if not chain:
            schemes = {forwarded.scheme(part) for part in claims.get(b"x-forwarded-proto", b"").split(b",")}
            secure = via.secure if schemes == {b""} else schemes == {HTTPS}
            return Caller(
                self, via._chain, address=via.address, secure=secure, trusted=via.trusted, via=via, claims=claims
            )
        client = self._client(chain)
        return Caller(
            self,
            (*chain, *via._chain),
            address=client.node,
            secure=client.scheme == HTTPS if client.scheme else via.secure,
            trusted=client.address is not None and self._callers.holds(client.address),
            via=via,
            claims=claims,
        )

    def _client(self, chain: Sequence[Hop]) -> Hop:
        for hop in reversed(chain):
            if hop.address is None or not self._proxies.holds(hop.address):
                return hop
        return chain[0]
