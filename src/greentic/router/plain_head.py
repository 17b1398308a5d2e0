"""Request heads of the plainest kind, read without the parser: no body or all of it at once, nothing on the connection.

Most requests are of this kind, and what a parser does with every byte is most of what a request with a new head costs.
Nothing is read here that could be read in two ways: a head that is not exactly of this form is left to
`greentic.router.request`, whose reading of it would be the same.
"""

from __future__ import annotations

from typing import Final

from greentic.router.fields import CALLER_VALUE, CLAIMS, DIGITS, HINTS, REQUEST_FIELDS, REQUEST_ID, REQUEST_PREFIXES
from greentic.router.heads import END, sort_cookies
from greentic.router.limits import Limits
from greentic.router.lines import KnownLines, sorter
from greentic.router.matching import normalise_host
from greentic.router.preview import PARAMETER
from greentic.router.request_head import RequestHead
from greentic.router.trace import is_traceparent

_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE"))
"""Those that are framed alike."""
_SLASH: Final = 0x2F
_VERSION: Final = b"HTTP/1.1"
_TARGET: Final = sorter(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~!$&'()*+,;=:@%/-?")
"""Narrower than what the parser takes: RFC 3986 path and query characters."""
REPEATABLE: Final = frozenset((b"GET", b"HEAD"))
_PREVIEW: Final = PARAMETER + b"="
KNOWN_LINES: Final = KnownLines(REQUEST_FIELDS, REQUEST_PREFIXES)


def plain_line(line: bytes, limits: Limits) -> tuple[bytes, bytes, bytes] | None:
    """Method, target and path of a plain request line (without its end); None: the parser is to read it."""
    method, _, rest = line.partition(b" ")
    target, _, version = rest.partition(b" ")
    if (
        version != _VERSION
        or method not in _METHODS
        or not target.translate(_TARGET).isalpha()
        or target[0] != _SLASH
        or len(target) > limits.max_url_bytes
    ):
        return None
    path, _, query = target.partition(b"?")
    return None if query.partition(_PREVIEW)[1] else (method, target, path)


def plain_head(data: bytes, limits: Limits) -> RequestHead | None:
    """The head of `data` when that is one plain request as a whole, its body (the last `length` bytes) included; None:
    the parser is to read it.
    """
    # Where the end is not that of the head, there is an empty line in the middle, which is not plain.
    end = len(data) - len(END) if data.endswith(END) else data.find(END)
    if end < 0 or end + len(END) > limits.max_header_bytes:
        return None
    lines = data[:end].split(b"\r\n")
    first = plain_line(lines.pop(0), limits)
    if first is None or len(lines) > limits.max_headers:
        return None
    head = RequestHead()
    head.method, head.target, head.path = first
    body = len(data) - end - len(END)
    reserved = KNOWN_LINES.reserved(lines)
    if reserved is None:
        return None
    host = cookie = None
    for line, name, value in reserved:
        if name not in HINTS:
            lines.remove(line)
        if name == b"host" and host is None:
            host = normalise_host(value)
            if host is None:
                return None
            head.host_field = value
        elif name == b"cookie" and cookie is None:
            cookie, head.own_cookies = sort_cookies([value])
        elif name == b"content-length" and body and not head.length and DIGITS.fullmatch(value):
            head.length = int(value)
        elif name == b"x-request-id" and not head.request_id:
            if REQUEST_ID.fullmatch(value):
                head.request_id = value
        elif name in CLAIMS and (head.claims is None or name not in head.claims):
            head.claims = {**head.claims, name: value} if head.claims is not None else {name: value}
        elif name == b"traceparent" and not head.traceparent and is_traceparent(value):
            head.traceparent = value
        elif name in HINTS and (head.said is None or name not in head.said):
            said = value if CALLER_VALUE.fullmatch(value) else None
            head.said = {**head.said, name: said} if head.said is not None else {name: said}
        elif name == b"via" and not head.via:
            head.via = value
        elif name != b"connection" or value.lower() != b"keep-alive":
            return None  # a rare field, one that frames, or one that came twice
    if host is None or head.length != body:
        return None
    if body:
        head.has_body = True
        head.plain = head.idempotent = False
    elif head.method not in REPEATABLE:
        head.idempotent = False
    head.host = host
    if cookie:
        lines.append(b"Cookie: " + cookie)
    head.lines = lines
    return head
