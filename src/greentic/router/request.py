"""One request's head, read strictly.

llhttp parses; what it leaves open is decided here: RFC 9112 sections 3 (request line), 3.2 (Host), 6
(framing) and 11.2 (smuggling), RFC 9110 section 10.1.1 (Expect). When two readings are possible the request
is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from httptools import HttpRequestParser

from greentic.router.fields import (
    CALLER_FIELDS,
    CALLER_VALUE,
    CLAIMS,
    DIGITS,
    HINTS,
    NO_TRAILERS,
    REQUEST_FIELDS,
    REQUEST_ID,
    REQUEST_PREFIXES,
    ours,
    tokens,
    without_nominated,
)
from greentic.router.heads import sort_cookies
from greentic.router.known import KnownRequest
from greentic.router.matching import normalise_host
from greentic.router.preview import PARAMETER
from greentic.router.refusal import Refusal
from greentic.router.request_head import RequestHead
from greentic.router.trace import is_traceparent

if TYPE_CHECKING:
    from greentic.router.limits import Limits

_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_NOT_SERVED = frozenset((b"CONNECT", b"TRACE"))
_NOT_HTTP = frozenset(
    (
        b"SOURCE", b"DESCRIBE", b"ANNOUNCE", b"SETUP", b"PLAY", b"PAUSE", b"TEARDOWN", b"GET_PARAMETER",
        b"SET_PARAMETER", b"REDIRECT", b"RECORD", b"FLUSH",
    )
)  # fmt: skip
"""What llhttp takes of other protocols that look alike (ICE, RTSP)."""
_PARAMETER_START = PARAMETER + b"="
_SYNTHETIC = b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n"


class RequestSink(Protocol):
    """Who is told of requests as they are read."""

    def request_started(self, head: RequestHead) -> None:
        """A head is complete and fine."""

    def request_body(self, data: bytes) -> None:
        """Some bytes of its body."""

    def request_finished(self, trailers: list[bytes]) -> None:
        """The body, if any, is complete."""


class RequestReader:
    """Reads the requests of one client connection, one after the other."""

    __slots__ = (
        "_begun",
        "_between",
        "_body_follows",
        "_claims",
        "_connection",
        "_cookies",
        "_dropped",
        "_ended",
        "_expect",
        "_fed",
        "_host",
        "_in_head",
        "_known",
        "_latest",
        "_length",
        "_limits",
        "_lines",
        "_muted",
        "_parser",
        "_preview",
        "_request_id",
        "_said",
        "_sink",
        "_size",
        "_te",
        "_traceparents",
        "_tracestate",
        "_trailers",
        "_trailers_welcome",
        "_upgrade",
        "_url",
        "_via",
        "raw_bytes",
    )

    def __init__(self, sink: RequestSink, limits: Limits) -> None:
        self._sink = sink
        self._limits = limits
        self.raw_bytes = self._fed = 0
        self._in_head = False
        self._muted = False
        self._trailers: list[bytes] = []
        self._body_follows = b""
        self._known = KnownRequest(limits)
        self._latest: RequestHead | None = None
        self._between = True
        """Whether the parser stands between two messages."""
        self._begun = self._ended = 0
        self.on_message_begin()
        self._in_head = False
        self._parser: Any = HttpRequestParser(self)

    @property
    def in_head(self) -> bool:
        """Whether a head has begun and is not complete."""
        return self._in_head

    def limit(self, limits: Limits) -> None:
        """Hold what is read from now on to `limits`."""
        self._limits = limits
        self._known = KnownRequest(limits)

    def close(self) -> None:
        """Let go of the parser, which holds this object too."""
        self._parser = None
        self._between = False

    def feed(self, data: bytes) -> None:
        """Parse `data`. Raises what httptools raises, and Refusal when a bound is passed."""
        if self._between:
            head = self._known.recall(data)
            if head is not None:
                # The parser stands between two messages and would stand there again: it need not see this one.
                self._sink.request_started(head)
                if head.has_body:
                    self._sink.request_body(data[-head.length :])
                    self._sink.request_finished([])
                return
            self._between = False
        self._begun = self._ended = 0
        self.raw_bytes += len(data)
        self._fed = self.raw_bytes
        self._parser.feed_data(data)
        if self._begun == 1 and self._ended == 1 and self._latest is not None:
            self._between = self._known.remember(data, self._latest)
        if self.raw_bytes > self._limits.max_header_bytes:
            if self._in_head and not self._lines and not self._dropped:
                raise Refusal(414, "url-too-long", "the request target is too long")
            # In a body: this much without one byte of it is a chunk extension or a trailer without end.
            raise Refusal(431, "headers-too-large", "the request header is too large")

    def continue_with_body(self) -> bool:
        """After an upgrade request that has a body: read on as the body of a plain request.

        llhttp takes what follows an upgrade request for the new protocol; RFC 9110 section 7.8 says the body
        comes first. Returns False when there is no body.
        """
        framing, self._body_follows = self._body_follows, b""
        if not framing:
            return False
        self._muted = True
        self._parser = HttpRequestParser(self)
        self._parser.feed_data(_SYNTHETIC % framing)
        self._muted = False
        return True

    # What httptools calls

    def on_message_begin(self) -> None:
        if self._muted:
            return
        self._begun += 1
        self._in_head = True
        self._url = b""
        self._lines: list[bytes] = []
        self._cookies: list[bytes] = []
        self._host: bytes | None = None
        self._length: bytes | None = None
        self._te: bytes | None = None
        self._connection: set[bytes] | None = None
        self._expect = self._upgrade = self._via = b""
        self._request_id: bytes | None = None
        self._preview: bytes | None = None
        self._claims: dict[bytes, bytes] | None = None
        self._traceparents: list[bytes] = []
        self._tracestate: list[bytes] = []
        self._said: dict[bytes, bytes | None] | None = None
        self._dropped = self._size = 0
        self._trailers_welcome = False

    def on_url(self, url: bytes) -> None:
        if not self._muted:
            self._url += url
            if len(self._url) > self._limits.max_url_bytes:
                raise Refusal(414, "url-too-long", "the request target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.lower()
        if not self._in_head:
            self._trailer(key, name, value)
        elif key in REQUEST_FIELDS:
            if key in HINTS:
                self._lines.append(name + b": " + value)
                self._dropped -= 1
            self._field(key, value)
        elif key.startswith(REQUEST_PREFIXES):
            self._dropped += 1
            self._size += len(name) + len(value)
            self._claim(key, value.strip(b" \t"))
        elif b"_" in key and ours(key):
            self._dropped += 1
        else:
            self._lines.append(name + b": " + value)

    def on_headers_complete(self) -> None:
        if self._muted:
            return
        self._latest = head = self._head()
        self._in_head = False
        self.raw_bytes = self._size = 0
        self._trailers = []
        self._sink.request_started(head)

    def on_body(self, data: bytes) -> None:
        self.raw_bytes = 0
        self._sink.request_body(data)

    def on_message_complete(self) -> None:
        self._ended += 1
        if not self._body_follows:
            self.raw_bytes = 0
            self._sink.request_finished(self._trailers)

    # Fields

    def _trailer(self, key: bytes, name: bytes, value: bytes) -> None:
        if self._muted:
            return
        if len(self._trailers) >= self._limits.max_headers:
            raise Refusal(431, "headers-too-large", "too many trailer fields")
        self._size += len(name) + len(value)
        if self._size > self._limits.max_header_bytes:
            raise Refusal(431, "headers-too-large", "the trailer is too large")
        if key.replace(b"_", b"-") not in NO_TRAILERS and not ours(key):
            self._trailers.append(name + b": " + value)

    def _field(self, key: bytes, value: bytes) -> None:
        value = value.strip(b" \t")
        self._dropped += 1
        self._size += len(value)
        if key == b"host":
            if self._host is not None:
                raise _bad("more than one Host field")
            self._host = value
        elif key == b"cookie":
            self._cookies.append(value)
        elif key in (b"connection", b"proxy-connection"):
            # Nobody defines the second, and llhttp reads it as the first: what it keeps open or closes, so do we.
            self._connection = tokens(value) | (self._connection or set())
        elif key == b"content-length":
            if self._length is not None or not DIGITS.fullmatch(value):
                raise _bad("the Content-Length is malformed or repeated")
            self._length = value
        elif key == b"transfer-encoding":
            if self._te is not None:
                raise _bad("more than one Transfer-Encoding field")
            self._te = value.lower()
        elif key == b"x-request-id":
            if self._request_id is None and REQUEST_ID.fullmatch(value):
                self._request_id = value
        elif key == b"x-greentic-preview":
            self._preview = value
        elif key in CALLER_FIELDS:
            self._say(key, value)
        elif key == b"expect":
            self._expect = self._expect + b", " + value.lower() if self._expect else value.lower()
        elif key == b"upgrade":
            self._upgrade = self._upgrade + b", " + value if self._upgrade else value
        elif key == b"via":
            self._via = self._via + b", " + value if self._via else value
        elif key == b"te":
            self._trailers_welcome |= b"trailers" in tokens(value)
        elif key in CLAIMS:
            self._claim(key, value)
        elif key == b"traceparent":
            self._traceparents.append(value)
        elif key == b"tracestate":
            self._tracestate.append(value)

    def _claim(self, key: bytes, value: bytes) -> None:
        claims = self._claims = self._claims or {}
        claims[key] = claims[key] + b", " + value if key in claims else value

    def _say(self, key: bytes, value: bytes) -> None:
        if self._said is None:
            self._said = {}
        fits = key == b"x-greentic-trust" or CALLER_VALUE.fullmatch(value)
        self._said[key] = value if fits and key not in self._said else None

    # The head as a whole

    def _head(self) -> RequestHead:
        limits = self._limits
        lines = self._lines
        if len(lines) + self._dropped > limits.max_headers:
            raise Refusal(431, "headers-too-large", f"more than {limits.max_headers} header fields")
        # What was read at once may hold other heads and bodies: it says that this one is small, not that it is large.
        if self._fed > limits.max_header_bytes and self._size + sum(map(len, lines)) > limits.max_header_bytes:
            raise Refusal(431, "headers-too-large", "the request header is too large")
        head = RequestHead()
        head.method = method = self._parser.get_method()
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Refusal(505, "http-version", "this is not HTTP/1.1")
        head.modern = modern = version == "1.1"
        if method in _NOT_SERVED:
            raise Refusal(405, "method-not-allowed", f"{method.decode()} is not served here")
        if method in _NOT_HTTP:
            raise Refusal(501, "method-unknown", f"{method.decode()} is no method of HTTP")
        self._frame(head)
        head.has_body = head.chunked or head.length > 0
        # What frames a message in another way than "no body" is never remembered: see `KnownRequest`.
        head.plain = not (self._te is not None or self._length is not None or self._upgrade or self._expect)
        self._target(head)
        connection = self._connection
        if connection is None:
            head.keep_alive = modern
        else:
            head.keep_alive = b"close" not in connection and (modern or b"keep-alive" in connection)
            nominated = connection - {b"close", b"keep-alive", b"upgrade", b"te"}
            if nominated:
                lines = without_nominated(lines, nominated)
        cookie, head.own_cookies = sort_cookies(self._cookies)
        if cookie:
            lines.append(b"Cookie: " + cookie)
        head.lines = lines
        head.expects = False
        if self._expect:
            if tokens(self._expect) != {b"100-continue"}:
                raise Refusal(417, "expectation-failed", "the only expectation understood is 100-continue")
            head.expects = modern and head.has_body
        head.upgrade = b""
        if self._upgrade and self._parser.should_upgrade():
            if head.has_body:
                self._body_follows = (
                    b"Transfer-Encoding: chunked" if head.chunked else b"Content-Length: %d" % head.length
                )
            elif b"h2c" not in tokens(self._upgrade) and modern:
                # RFC 9113 section 3.1 withdrew h2c; a tunnel of it would carry requests past this router.
                head.upgrade = self._upgrade
        head.idempotent = method in _IDEMPOTENT and not head.has_body
        if self._preview is not None:
            head.preview_token = self._preview
        head.request_id = self._request_id or b""
        head.said = self._said
        head.trailers_welcome = self._trailers_welcome
        head.via = self._via
        head.claims = self._claims
        parents = self._traceparents
        # Two of them, or one that cannot be read, say nothing; nor does the state that belongs to them.
        head.traceparent = parents[0] if len(parents) == 1 and is_traceparent(parents[0]) else b""
        head.tracestate = self._tracestate if head.traceparent else []
        return head

    def _frame(self, head: RequestHead) -> None:
        head.length = 0
        head.chunked = False
        if self._te is not None:
            if self._te != b"chunked" or self._length is not None or not head.modern:
                raise _bad("the body's length is not clear: Transfer-Encoding must be exactly chunked, alone")
            head.chunked = True
        elif self._length is not None:
            head.length = int(self._length)

    def _target(self, head: RequestHead) -> None:
        url = self._url
        host_field = self._host
        if host_field is None and head.modern:
            raise _bad("the Host field is missing")
        if not url.startswith(b"/"):
            if url == b"*" and head.method == b"OPTIONS":
                pass
            else:
                scheme, separator, rest = url.partition(b"://")
                if not separator or scheme.lower() not in (b"http", b"https"):
                    raise _bad("the request target is neither a path nor an absolute URL")
                cut = min((at for mark in b"/?#" if (at := rest.find(mark)) >= 0), default=len(rest))
                authority, url = rest[:cut], rest[cut:]
                if not url.startswith(b"/"):
                    url = b"/" + url
                if host_field is not None and authority.lower() != host_field.lower():
                    raise _bad("the authority of the request target differs from Host")
                if not authority or b"@" in authority:
                    raise _bad("the authority of the request target is malformed")
                host_field = authority
        host = normalise_host(host_field) if host_field else b""
        if host is None:
            raise _bad("the Host field is malformed")
        if b"#" in url or b"\\" in url:
            raise _bad("the request target holds a character that must be encoded")
        path, mark, query = url.partition(b"?")
        head.preview_token = None
        if mark and _PARAMETER_START in query:
            kept = []
            for pair in query.split(b"&"):
                if pair.startswith(_PARAMETER_START):
                    head.preview_token = pair[len(_PARAMETER_START) :]
                else:
                    kept.append(pair)
            url = path + (b"?" + b"&".join(kept) if kept else b"")
        head.target = url
        head.path = b"/" if path == b"*" else path
        head.host = host
        head.host_field = host_field or b""


def _bad(message: str) -> Refusal:
    return Refusal(400, "bad-request", message)
