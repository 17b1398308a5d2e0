"""A request's head after every check: what the rest of the router knows of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from greentic.router.caller import Caller


class RequestHead:
    """A request head that passed every check. Nothing changes it once it is read, save that `caller` and
    `onward` are filled in when they are first needed; requests that repeat it share it.
    """

    __slots__ = (
        "between",
        "caller",
        "chunked",
        "claims",
        "expects",
        "gap",
        "has_body",
        "host",
        "host_field",
        "idempotent",
        "keep_alive",
        "length",
        "lines",
        "method",
        "modern",
        "onward",
        "onward_behind",
        "onward_of",
        "own_cookies",
        "path",
        "plain",
        "preview_token",
        "recurring",
        "request_id",
        "said",
        "target",
        "traceparent",
        "tracestate",
        "trailers_welcome",
        "upgrade",
        "via",
    )

    method: bytes
    target: bytes
    """The origin-form target to send on (or `*`), without a preview parameter."""
    path: bytes
    """The path alone, for matching."""
    host: bytes
    """Normalised; empty when an HTTP/1.0 client named none."""
    host_field: bytes
    lines: list[bytes]
    """The fields that go on as they came, and the visitor's cookies without ours. Unset where the head has `recurring`
    lines.
    """
    recurring: RequestHead | None
    """What the lines say that this head has in common with others (`greentic.router.recurring`), and holds for all of
    them; None when this head was read as a whole.
    """
    between: bytes
    """Between the recurring lines: those that go on, each with the end of the line before it."""
    gap: int
    """Of recurring lines: behind so many of `lines` those in between have their place."""
    own_cookies: dict[bytes, bytes | None]
    """The router's cookies by name; None for one that came twice, since nobody can say which is meant."""
    length: int
    """Declared body length in bytes; 0 when there is no body or it is chunked."""
    chunked: bool
    has_body: bool
    """Whether a body follows."""
    plain: bool
    """Neither Content-Length, Transfer-Encoding, Upgrade nor Expect was said: after this head comes the next one."""
    modern: bool
    """HTTP/1.1, as opposed to 1.0."""
    keep_alive: bool
    idempotent: bool
    """GET, HEAD or OPTIONS without a body: may be sent again when a reused connection turns out closed."""
    expects: bool
    upgrade: bytes
    """The protocols asked for, or empty."""
    preview_token: bytes | None
    said: dict[bytes, bytes | None] | None
    """What the caller says of itself (`CALLER_FIELDS`), whether it is believed or not; None when it said nothing. A
    field that came twice is None, as is a trust token that is none.
    """
    request_id: bytes
    trailers_welcome: bool
    via: bytes
    traceparent: bytes
    """The caller's trace context (W3C) as it came; empty when there was none or it was malformed."""
    tracestate: list[bytes]
    """The values that belong to it, as they came."""
    claims: Mapping[bytes, bytes] | None
    """What the request says of those who passed it on, by field name; for `greentic.router.caller` to judge."""
    caller: Caller | None
    """Who asks by those claims; None until first needed."""
    onward: bytes
    """What follows the request target on the way to the worker, up to the request id; empty until it is first asked
    for. Of recurring lines, up to those in between.
    """
    onward_behind: bytes
    """Of recurring lines: what follows those in between; otherwise empty."""
    onward_of: Caller | None
    """For whom `onward` was written."""

    def __init__(self) -> None:
        """A plain one: HTTP/1.1, nothing said of framing, and nothing that is read besides."""
        self.own_cookies = _NO_COOKIES
        self.length = 0
        self.chunked = self.has_body = self.expects = self.trailers_welcome = False
        self.plain = self.modern = self.keep_alive = self.idempotent = True
        self.upgrade = self.request_id = self.via = self.traceparent = self.onward = self.between = b""
        self.onward_behind = b""
        self.preview_token = self.said = self.claims = self.caller = self.onward_of = self.recurring = None
        self.gap = -1
        self.tracestate = _NO_STATE


_NO_COOKIES: dict[bytes, bytes | None] = {}
_NO_STATE: list[bytes] = []
