"""Host and path to a deployment.

Rule: among the routes of the request's host and those of any host, the longest path prefix that ends on a
segment boundary wins; on equal length the exact host wins. Of two deployments with the same host and prefix
the first of the table wins (reference 04 section 1.6), and the second is reported as shadowed.

Paths are read twice: as they stand, and with percent-encoding decoded, empty segments dropped and dot
segments resolved (RFC 3986 section 5.2.4). A worker may take either reading, so a path whose two readings
match different routes is refused instead of guessed; any other is forwarded as it came. `%2F` in a path is
therefore fine wherever it cannot lead elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

T = TypeVar("T")

_HOST = re.compile(rb"(?:\[([0-9a-f:.]+)\]|([a-z0-9._~!$&'()*+,;=%-]*))(?::[0-9]{0,5})?")
_RESOLVED = re.compile(rb"[%\\]|//|/\.")
"""Where the two readings of a path can differ."""
_REMEMBERED = 1024
_REMEMBERED_BYTES = 256


class AmbiguousPath(ValueError):
    """A path that two honest readers would take to different routes."""


@lru_cache(1024)
def normalise_host(value: bytes) -> bytes | None:
    """The host of a Host header: lower case, no port, no final dot, an IPv6 address without brackets and in its
    one spelling (RFC 5952). None when it is malformed.
    """
    found = _HOST.fullmatch(value.lower())
    if found is None:
        return None
    if found[1] is None:
        return found[2].removesuffix(b".")
    try:
        return str(IPv6Address(found[1].decode())).encode()
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Route(Generic[T]):
    """What a request matched: the deployment and the prefix, which is `/` or has no slash at its end."""

    target: T
    prefix: bytes


@dataclass(slots=True)
class _Prefixes(Generic[T]):
    routes: dict[bytes, Route[T]] = field(default_factory=dict)
    depth: int = 0
    """Segments of the longest prefix: a deeper path is not looked at beyond it."""

    def longest(self, path: bytes) -> Route[T] | None:
        depth = self.depth
        if depth:
            segments = path.split(b"/", depth + 1)
            for count in range(min(depth, len(segments) - 1), 0, -1):
                route = self.routes.get(b"/".join(segments[: count + 1]))
                if route is not None:
                    return route
        return self.routes.get(b"/")


class Matcher(Generic[T]):
    """The routes of a table by host. Its cost depends on the depth of prefixes, not on the number of
    deployments.
    """

    __slots__ = ("_any_host", "_found", "_hosts", "shadowed")

    def __init__(self, bindings: Iterable[tuple[T, Iterable[str], Iterable[str]]]) -> None:
        """`bindings`: (deployment, hosts or empty for any, path prefixes or empty for `/`) in table order."""
        self._hosts: dict[bytes, _Prefixes[T]] = {}
        self._any_host: _Prefixes[T] = _Prefixes()
        self._found: dict[tuple[bytes, bytes], Route[T]] = {}
        self.shadowed: list[tuple[T, str, str]] = []
        for target, hosts, prefixes in bindings:
            for host in list(dict.fromkeys(hosts)) or [""]:
                table = self._hosts.setdefault(host.encode(), _Prefixes()) if host else self._any_host
                for prefix in list(dict.fromkeys(prefixes)) or ["/"]:
                    key = prefix.encode()
                    if key in table.routes:
                        self.shadowed.append((target, host, prefix))
                        continue
                    table.routes[key] = Route(target, key)
                    if key != b"/":
                        table.depth = max(table.depth, key.count(b"/"))

    def match(self, host: bytes, path: bytes) -> Route[T] | None:
        """The route of a normalised `host` (empty when there was none) and a path that begins with `/`.

        Raises AmbiguousPath.
        """
        asked = (host, path)
        route = self._found.get(asked)
        if route is None:
            route = self._match(host, path)
            if route is not None and len(host) + len(path) <= _REMEMBERED_BYTES:
                # Routes of a table never change, and a new table has a new matcher.
                if len(self._found) >= _REMEMBERED:
                    self._found.clear()
                self._found[asked] = route
        return route

    def _match(self, host: bytes, path: bytes) -> Route[T] | None:
        plain = self._lookup(host, path)
        if _RESOLVED.search(path):
            resolved = self._lookup(host, resolve(path))
            if resolved is not plain:
                raise AmbiguousPath("the path can be read in two ways that lead to different routes")
        return plain

    def _lookup(self, host: bytes, path: bytes) -> Route[T] | None:
        table = self._hosts.get(host)
        if table is None:
            return self._any_host.longest(path)
        exact = table.longest(path)
        general = self._any_host.longest(path)
        if general is None or (exact is not None and len(exact.prefix) >= len(general.prefix)):
            return exact
        return general


def resolve(path: bytes) -> bytes:
    """`path` decoded once, with `\\` as `/`, without empty segments and with dot segments resolved."""
    segments: list[bytes] = []
    for segment in unquote_to_bytes(path).replace(b"\\", b"/").split(b"/"):
        if segment == b"..":
            if segments:
                segments.pop()
        elif segment not in (b"", b"."):
            segments.append(segment)
    return b"/" + b"/".join(segments)
