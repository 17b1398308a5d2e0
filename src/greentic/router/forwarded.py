"""What a proxy says of those before it: `Forwarded` (RFC 7239) and its forerunners `X-Forwarded-For` and
`X-Forwarded-Proto`.

Reading never fails: what cannot be understood is a hop nobody knows (`address` is None), which no rule trusts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

Address = IPv4Address | IPv6Address

UNKNOWN: Final = b"unknown"
HTTPS: Final = b"https"
HTTP: Final = b"http"

_PAIR = re.compile(
    rb"""[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)|"((?:[^"\\]|\\.)*)")[ \t]*"""
)
_ESCAPED = re.compile(rb"\\(.)")
_WITH_PORT = re.compile(rb"(?:\[([^\]]*)\]|([0-9.]+))(?::[0-9]{1,5})?")
_OBFUSCATED = re.compile(rb"_[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Hop:
    """One that asked the next: its address where it is known, and the scheme it asked with (empty: not told)."""

    node: bytes
    address: Address | None
    scheme: bytes = b""


NOBODY: Final = Hop(UNKNOWN, None)


def hops(claims: Mapping[bytes, bytes]) -> tuple[Hop, ...]:
    """Everybody who asked, the farthest first; `claims` are the fields of one request by name, repeated ones joined.

    `Forwarded` and `X-Forwarded-For` together must agree on the addresses. A proxy that writes only one of them passes
    the other on as a stranger wrote it, and nobody can say which is which: then it is one hop that nobody knows.
    """
    forwarded, listed = claims.get(b"forwarded"), claims.get(b"x-forwarded-for")
    schemes = tuple(scheme(part) for part in claims.get(b"x-forwarded-proto", b"").split(b","))
    if forwarded is None:
        chain = () if listed is None else _listed(listed)
        return _with_schemes(chain, schemes)
    told = _forwarded(forwarded)
    if listed is not None and [hop.address for hop in told] != [hop.address for hop in _listed(listed)]:
        return (NOBODY,)
    if schemes != (b"",) and {hop.scheme for hop in told if hop.scheme} - set(schemes):
        return tuple(Hop(hop.node, hop.address, HTTP) for hop in told)
    return told if any(hop.scheme for hop in told) else _with_schemes(told, schemes)


def _with_schemes(chain: tuple[Hop, ...], schemes: tuple[bytes, ...]) -> tuple[Hop, ...]:
    """`chain` with a scheme per hop; a list of another length speaks for all only when it says one thing."""
    if not chain or schemes == (b"",):
        return chain
    if len(schemes) != len(chain):
        schemes = (schemes[0] if len(set(schemes)) == 1 else HTTP,) * len(chain)
    return tuple(Hop(hop.node, hop.address, one) for hop, one in zip(chain, schemes, strict=True))


def _listed(value: bytes) -> tuple[Hop, ...]:
    return tuple(_hop(member) for part in value.split(b",") if (member := part.strip(b" \t")))


def _forwarded(value: bytes) -> tuple[Hop, ...]:
    """The elements of a `Forwarded` field; one unknown hop when it is malformed."""
    found: list[Hop] = []
    element: dict[bytes, bytes] = {}
    position, end = 0, len(value)
    while position < end:
        pair = _PAIR.match(value, position)
        if pair is not None:
            name = pair[1].lower()
            if name in element:
                return (NOBODY,)
            element[name] = pair[2] if pair[3] is None else _ESCAPED.sub(rb"\1", pair[3])
            position = pair.end()
        mark = value[position : position + 1]
        if mark == b"," or position >= end:
            if element:
                found.append(_hop(element.get(b"for", UNKNOWN), scheme(element.get(b"proto", b""))))
            element = {}
        elif mark not in (b";", b" ", b"\t"):
            return (NOBODY,)
        position += 1
    if element:
        found.append(_hop(element.get(b"for", UNKNOWN), scheme(element.get(b"proto", b""))))
    return tuple(found) or (NOBODY,)


def scheme(text: bytes) -> bytes:
    """`https` when that was said, empty when nothing was; everything else is not secure and is called `http`."""
    said = text.strip(b" \t").lower()
    return HTTPS if said == HTTPS else HTTP if said else b""


def _hop(node: bytes, told: bytes = b"") -> Hop:
    address = address_of(node)
    if address is not None:
        return Hop(str(address).encode(), address, told)
    return Hop(node if _OBFUSCATED.fullmatch(node) else UNKNOWN, None, told)


def address_of(node: bytes) -> Address | None:
    """The address of a node, with or without a port; None when it is a name, hidden or malformed."""
    found = _WITH_PORT.fullmatch(node)
    text = (found[1] or found[2] or b"") if found is not None else node
    if b"%" in text or len(text) > 45:
        return None
    try:
        address = ip_address(text.decode("ascii"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def field(chain: Sequence[Hop], host_field: bytes) -> bytes:
    """`chain` as a `Forwarded` field; the last hop is told the host that was asked for."""
    elements = []
    for hop in chain:
        node = b'"[%b]"' % hop.node if b":" in hop.node else hop.node
        asked = b';host="%b"' % host_field if hop is chain[-1] else b""
        elements.append(b"for=" + node + asked + (b";proto=" + hop.scheme if hop.scheme else b""))
    return b", ".join(elements)
