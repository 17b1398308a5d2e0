"""Header fields that the router reads, replaces or keeps to itself. Every other field passes as it came.

Names are in lower case. Sources: RFC 9110 section 7.6.1 (hop-by-hop), section 6.5.1 (what may not be a
trailer), RFC 7239.
"""

from __future__ import annotations

import re
from typing import Final

REQUEST_FIELDS: Final = frozenset(
    (
        # framing and routing
        b"host", b"content-length", b"transfer-encoding", b"expect", b"cookie", b"via",
        # hop by hop
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"upgrade", b"http2-settings",
        # said of the client, by us or a trusted proxy
        b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port",
        b"x-forwarded-prefix", b"x-forwarded-server", b"x-real-ip",
        # trace context
        b"traceparent", b"tracestate",
        # our own
        b"x-request-id", b"x-greentic-preview", b"x-greentic-revision", b"x-greentic-reason", b"x-greentic-deployment",
        b"x-greentic-user", b"x-greentic-session", b"x-greentic-client", b"x-greentic-trust",
    )
)  # fmt: skip

REQUEST_PREFIXES: Final = (b"x-forwarded-", b"x-greentic-")
"""Every other field of these families is for the router or a trusted proxy to say, too: frameworks believe some of them
(`X-Forwarded-Ssl`, `-Scheme`, `-User`).
"""

CLAIMS: Final = frozenset(
    (
        b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port",
        b"x-forwarded-prefix",
    )
)  # fmt: skip
"""What a proxy says of the request: kept aside, believed from trusted proxies."""

CALLER_FIELDS: Final = frozenset(
    (b"x-greentic-user", b"x-greentic-session", b"x-greentic-client", b"x-greentic-revision", b"x-greentic-trust")
)
"""What a caller says of itself and of where it wants to go. Session and client are hints that anybody may give, and go
on as they came; user and revision are believed from trusted callers only, and from others go nowhere.
"""
HINTS: Final = frozenset((b"x-greentic-session", b"x-greentic-client"))

RESPONSE_FIELDS: Final = frozenset(
    (
        b"content-length", b"transfer-encoding", b"content-type", b"via",
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"te", b"upgrade",
        b"x-request-id", b"x-greentic-revision", b"x-greentic-reason",
    )
)  # fmt: skip

NO_TRAILERS: Final = REQUEST_FIELDS | RESPONSE_FIELDS | {
    b"trailer", b"authorization", b"set-cookie", b"content-encoding", b"content-range", b"content-disposition",
    b"cache-control", b"max-forwards", b"range", b"location", b"date", b"expires", b"age", b"vary", b"retry-after",
    b"www-authenticate", b"pragma", b"warning",
}  # fmt: skip

STREAM_TYPES: Final = (b"text/event-stream", b"application/x-ndjson", b"application/grpc", b"multipart/x-mixed-replace")
"""Content types whose silence means nothing: the stream's idle limit holds, not the response's."""


def ours(name: bytes) -> bool:
    """Whether a stranger may not say the field `name` (lower case) to a worker; `_` counts as `-`, as a CGI-like worker
    would read it.
    """
    name = name.replace(b"_", b"-")
    return name in REQUEST_FIELDS or name.startswith(REQUEST_PREFIXES)


TCHAR: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
DIGITS: Final = re.compile(rb"[0-9]{1,18}")
REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
CALLER_VALUE: Final = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,254}[\x21-\x7e])?")
"""What a caller's word may be to count: printable ASCII, at most 256 bytes (reference 04 section 1.5)."""
FIELD_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


def tokens(value: bytes) -> set[bytes]:
    """The members of a comma-separated list of tokens, in lower case."""
    return {member for part in value.lower().split(b",") if (member := part.strip())}


def without_nominated(lines: list[bytes], nominated: set[bytes]) -> list[bytes]:
    """`lines` ("Name: value") without those a Connection field nominated as hop-by-hop."""
    return [line for line in lines if line.partition(b":")[0].lower() not in nominated]
