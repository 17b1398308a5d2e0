"""What is remembered of heads is used for exactly the same bytes and for nothing else."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from httptools import HttpParserError, HttpParserUpgrade

from greentic.router import plain_head
from greentic.router.caller import CallerRules
from greentic.router.fields import REQUEST_FIELDS
from greentic.router.heads import request_bytes
from greentic.router.known import REMEMBERED_BYTES, RESPONSES_LIMIT, KnownRequest, KnownResponses
from greentic.router.limits import Limits
from greentic.router.lines import LINE_BYTES, LINES_LIMIT, KnownLines
from greentic.router.matching import Matcher
from greentic.router.refusal import Refusal
from greentic.router.request import RequestReader
from greentic.router.request_head import RequestHead

FIELDS = b"\r\nHost: a.example\r\nX-A: one\r\nCookie: a=1; _gt_rev_D1=x\r\nVia: 1.0 b\r\n\r\n"
CALLER = CallerRules().of_connection(b"192.0.2.1", secure=False, proven=False)
WARM = b"GET /path?x=1 HTTP/1.1" + FIELDS


class Sink:
    """Keeps the heads, and what else was said."""

    def __init__(self) -> None:
        self.heads: list[RequestHead] = []
        self.events: list[Any] = []

    def request_started(self, head: RequestHead) -> None:
        self.heads.append(head)
        self.events.append(facts(head))

    def request_body(self, data: bytes) -> None:
        self.events.append(("body", data))

    def request_finished(self, trailers: list[bytes]) -> None:
        # A request without a body is complete with its head, and a recalled one is not reported twice.
        if self.heads[-1].has_body:
            self.events.append(("end", trailers))


def facts(head: RequestHead) -> dict[str, Any]:
    """All that a head says, however it was read; of its lines, what a worker is told."""
    how = {"onward", "onward_of", "onward_behind", "lines", "recurring", "between", "gap"}
    said = {name: getattr(head, name) for name in RequestHead.__slots__ if name not in how}
    return {**said, "worker is told": request_bytes(head, b"id", CALLER)}


def read(*chunks: bytes, limits: Limits | None = None) -> tuple[Sink, str]:
    """What a connection's reader says of `chunks`, and the kind of its refusal, if any."""
    sink = Sink()
    reader = RequestReader(sink, limits or Limits())
    try:
        for chunk in chunks:
            reader.feed(chunk)
    except Refusal as refusal:
        return sink, refusal.kind
    except HttpParserUpgrade:
        return sink, "upgrade"
    except HttpParserError as error:
        return sink, error.__context__.kind if isinstance(error.__context__, Refusal) else "bad"
    return sink, ""


def parsed(*chunks: bytes, limits: Limits | None = None) -> tuple[Sink, str]:
    """What the parser says of them."""
    with mock.patch.object(KnownRequest, "recall", return_value=None):
        return read(*chunks, limits=limits)


def test_a_repeated_head_is_recalled() -> None:
    sink, refused = read(WARM, WARM, WARM)
    assert not refused
    assert sink.heads[0] is sink.heads[1] is sink.heads[2]


def test_the_same_fields_under_another_line() -> None:
    sink, refused = read(WARM, b"HEAD /other HTTP/1.1" + FIELDS, WARM)
    assert not refused
    alone, _ = parsed(b"HEAD /other HTTP/1.1" + FIELDS)
    assert sink.events[1] == alone.events[0]
    assert (sink.heads[1].method, sink.heads[1].target, sink.heads[1].path) == (b"HEAD", b"/other", b"/other")
    assert sink.events[2] == sink.events[0]


def test_any_changed_byte_is_parsed_anew() -> None:
    for at in range(len(WARM)):
        for byte in (0, 9, 10, 13, 32, 35, 43, 58, 92, 127, 200, WARM[at] ^ 1, WARM[at] ^ 32):
            changed = WARM[:at] + bytes((byte,)) + WARM[at + 1 :]
            warm, refused = read(WARM, WARM, changed)
            alone, refused_alone = parsed(changed)
            assert refused == refused_alone, changed
            assert warm.events[2:] == alone.events, changed
            if changed != WARM and len(warm.heads) == 3:
                assert warm.heads[2] is not warm.heads[0]


@pytest.mark.parametrize(
    "variant",
    [
        b"GET / HTTP/1.1\r\nContent-Length: 5" + FIELDS,
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked" + FIELDS,
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked" + FIELDS,
        b"GET / HTTP/1.1\r\nHost: b" + FIELDS,
        b"GET / HTTP/1.1\r\n folded" + FIELDS,
        b"GET / HTTP/1.1\nX: y" + FIELDS,
        b"GET / HTTP/1.1\rX: y" + FIELDS,
        b"GET / HTTP/1.0" + FIELDS,
        b"GET / HTTP/1.2" + FIELDS,
        b"GET / HTTP/2.0" + FIELDS,
        b"GET / HTTP/1.1 " + FIELDS,
        b"GET  / HTTP/1.1" + FIELDS,
        b" GET / HTTP/1.1" + FIELDS,
        b"GET /a b HTTP/1.1" + FIELDS,
        b"GET /\x00 HTTP/1.1" + FIELDS,
        b"GET /#x HTTP/1.1" + FIELDS,
        b"GET /\\x HTTP/1.1" + FIELDS,
        b"GET x HTTP/1.1" + FIELDS,
        b"GET http://other/ HTTP/1.1" + FIELDS,
        b"GET /?gt_preview=x HTTP/1.1" + FIELDS,
        b"CONNECT a:1 HTTP/1.1" + FIELDS,
        b"TRACE / HTTP/1.1" + FIELDS,
        b"POST / HTTP/1.1" + FIELDS,
        b"OPTIONS * HTTP/1.1" + FIELDS,
        b"get / HTTP/1.1" + FIELDS,
        b"\r\n" + WARM,
        b"\r\n\r\n" + WARM,
        WARM + b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
        WARM + WARM,
        WARM + b"\r\n",
        WARM + b"x",
        WARM[:-1],
        WARM[:-2],
        WARM[:-4] + b"\r\nX-B: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1" + FIELDS,
    ],
)
def test_a_warm_connection_reads_as_a_cold_one(variant: bytes) -> None:
    warm, refused = read(WARM, WARM, variant, WARM)
    alone, refused_alone = parsed(variant, WARM)
    assert refused == refused_alone
    assert warm.events[2:] == alone.events


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 0",
        b"Connection: close",
        b"Connection: Upgrade\r\nUpgrade: websocket",
        b"Upgrade: websocket",
    ],
)
def test_what_frames_or_ends_a_connection_is_left_to_the_parser(fields: bytes) -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n\r\n"
    (head,) = parsed(request)[0].heads
    memory = KnownRequest(Limits())
    assert memory.recall(request) is None
    assert not memory.remember(request, head)
    assert memory.recall(request) is None


@pytest.mark.parametrize("fields", [b"X-Greentic-Preview: token", b"X-A: " + b"a" * REMEMBERED_BYTES])
def test_what_is_long_or_previews_is_not_kept(fields: bytes) -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n\r\n"
    (head,) = parsed(request)[0].heads
    memory = KnownRequest(Limits())
    assert memory.remember(request, head)
    assert memory.recall(request) is not head
    assert memory.recall(request) is not memory.recall(request) or memory.recall(request) is None


def test_a_body_between_two_equal_heads_is_not_taken_for_one() -> None:
    """Bytes that look like the known request are a body when a length says so, whole or in part."""
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(WARM)
    sink, refused = read(WARM, post, WARM, WARM)
    assert not refused
    assert sink.events[2:4] == [("body", WARM), ("end", [])]
    assert len(sink.heads) == 3
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(WARM)
    sink, refused = read(WARM, chunked, WARM, b"\r\n0\r\n\r\n", WARM)
    assert not refused
    assert sink.events[2:4] == [("body", WARM), ("end", [])]
    partial = b"GET / HTTP/1.1\r\nX-Split: "
    sink, refused = read(WARM, partial, WARM)
    assert len(sink.heads) == 2, "the second is one request whose field begins in the first chunk"


def test_limits_hold_for_a_known_head() -> None:
    limits = Limits(max_url_bytes=20, max_header_bytes=200)
    long = b"GET /" + b"a" * 30 + b" HTTP/1.1" + FIELDS
    assert read(WARM, long, limits=limits)[1] == "url-too-long"
    assert read(long, limits=limits)[1] == "url-too-long"


def test_a_response_head_is_known_by_its_bytes() -> None:
    responses = KnownResponses()
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    known = responses.recall(raw + b"abc")
    assert known is not None
    assert known[0].length == 3
    assert responses.recall(raw + b"xyz") == known
    assert responses.recall(raw) == known
    for at in range(len(raw)):
        other = responses.recall(raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :] + b"abc")
        assert other is None or other[0] is not known[0]
    assert responses.recall(b"\r\n" + raw) is None
    assert responses.recall(raw[:-1]) is None


def test_response_heads_are_kept_up_to_a_bound() -> None:
    responses = KnownResponses()
    for number in range(1000):
        assert responses.recall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: %d\r\n\r\n" % number) is not None
        assert 0 < len(responses._heads) <= RESPONSES_LIMIT
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: " + b"a" * REMEMBERED_BYTES + b"\r\n\r\n"
    assert responses.recall(long) is not None
    assert all(len(head) <= REMEMBERED_BYTES for head in responses._heads)


def test_routes_are_remembered_up_to_a_bound() -> None:
    matcher = Matcher([("root", (), ()), ("api", (), ("/api",))])
    for _ in range(2):
        for number in range(3000):
            route = matcher.match(b"h", b"/api/%d" % number)
            assert route is not None
            assert route.target == "api"
    assert len(matcher._found) <= 1024
    kept = len(matcher._found)
    assert matcher.match(b"h", b"/" + b"a" * 5000) is not None
    assert len(matcher._found) == kept


def test_the_line_takes_no_more_than_the_parser() -> None:
    for byte in range(256):
        for place in (
            b"GET /%b HTTP/1.1",
            b"GET /?%b HTTP/1.1",
            b"GET %b HTTP/1.1",
            b"GET /%bHTTP/1.1",
            b"%b / HTTP/1.1",
        ):
            line = place % bytes((byte,))
            taken = plain_head.plain_line(line, Limits())
            if taken is not None:
                sink, refused = parsed(line + b"\r\nHost: a\r\n\r\n")
                assert not refused
                (head,) = sink.heads
                assert taken == (head.method, head.target, head.path)


NAMES = (
    *sorted(REQUEST_FIELDS),
    *(b"X-Other", b"Accept", b"Range", b"Authorization", b"X_Forwarded_For", b"Trailer", b"Content-Encoding"),
)
VALUES = (
    *(b"a", b"a, b", b"close", b"keep-alive", b"Keep-Alive", b"0", b"100-continue", b"chunked", b"websocket"),
    *(b"trailers", b"192.0.2.7", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"_gt_x"),
    *(b"a=1; _gt_rev_D1=x; _gt_rev_D1=y", b"a b", b"a\tb", b"\xe9", b"", b" a", b"a ", b"a:80", b"[::1]:80"),
    *(b"a,b@c", b'for="[::1]"', b"a" * 300),
)


@pytest.mark.parametrize("name", NAMES)
def test_each_field_means_the_same_without_the_parser(name: bytes) -> None:
    """Alone, in other letters, twice, and after another of its kind."""
    for value in VALUES:
        for again in (b"", b"\r\n%b: %b" % (name, value), b"\r\n%b: b" % name.upper()):
            for host in (b"", b"\r\nHost: a.example"):
                request = b"GET /p?q HTTP/1.1%b\r\n%b: %b%b\r\n\r\n" % (host, name.title(), value, again)
                plain, refused = read(request, request, WARM)
                other, refused_other = parsed(request, request, WARM)
                assert (plain.events, refused) == (other.events, refused_other), request


VARYING = (
    *(b"", b"Referer: /1", b"X-Greentic-Session: s", b"X-Greentic-Client: c", b"x-greentic-session: t", b"X-Other: o"),
    *(
        b"X-Request-Id: mine",
        b"X-Request-Id: a b",
        b"Referer:/",
        b"Referer: ",
        b"Referer:  a",
        b"Referer: a ",
        b"Referer",
    ),
    *(b"Referer: \xe9", b"Referer: a\tb", b"Referer: a\rb", b"Referer: a\nb", b" folded", b"Content-Length: 0"),
    *(b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Connection: close", b"Connection: X-A", b"Host: b"),
    *(b"Cookie: b=2", b"X_Greentic_User: u", b"X-Greentic-User: u", b"X-Forwarded-For: 6.6.6.6", b"Expect: x"),
    *(b"X-Greentic-Session: " + b"s" * 256, b"X-Greentic-Session: " + b"s" * 257, b"Referer: /2\r\nX-Other: o"),
    *(
        b"X-Greentic-Session: s\r\nX-Greentic-Session: s",
        b"Referer: /3\r\n",
        b"\r\nReferer: /3",
        b"Accept: y\r\nAccept: z",
    ),
    *(b"X-Request-Id: a\r\nX-Request-Id: a", b"X-Request-Id: a\r\nReferer: /4", b"Referer: " + b"a" * 5000),
)


@pytest.mark.parametrize("before", [b"Host: a.example", b"Host: a.example\r\nX-A: one", b"X-A: one\r\nHost: a.example"])
@pytest.mark.parametrize(
    "behind", [b"", b"Cookie: a=1; _gt_rev_D1=x", b"Accept: x\r\nVia: 1.0 b", b"X-Greentic-Session: z"]
)
@pytest.mark.parametrize(
    "usual", [b"Referer: /%d", b"X-Greentic-Session: %d", b"X-Request-Id: %d", b"Accept: q\r\nReferer: /%d"]
)
def test_what_varies_between_lines_that_recur_is_read_as_ever(before: bytes, behind: bytes, usual: bytes) -> None:
    def request(between: bytes, line: bytes = b"GET /p HTTP/1.1", end: bytes = b"\r\n\r\n") -> bytes:
        return line + b"\r\n" + b"\r\n".join(part for part in (before, between, behind) if part) + end

    learned = [request(usual % number) for number in range(3)]
    for between in VARYING:
        for line in (
            b"GET /p HTTP/1.1",
            b"HEAD /q?x HTTP/1.1",
            b"POST / HTTP/1.1",
            b"GET / HTTP/1.0",
            b"GET /?gt_preview=x HTTP/1.1",
        ):
            for end in (b"\r\n\r\n", b"\r\n", b"\r\n\r\nabc", b"\r\n\r\n" + WARM):
                chunks = (*learned, request(between, line, end), learned[0])
                told, refused = read(*chunks)
                expected, refused_as_expected = parsed(*chunks)
                assert (told.events, refused) == (expected.events, refused_as_expected), chunks


def test_a_head_whose_lines_recur_is_not_read_as_a_whole() -> None:
    requests = [WARM.replace(b"one", b"%d" % number).replace(b"x=1", b"x=%d" % number) for number in range(8)]
    with mock.patch("greentic.router.known.plain_head", wraps=plain_head.plain_head) as whole:
        sink, refused = read(*requests)
    assert not refused
    assert whole.call_count == 2
    assert sink.events == parsed(*requests)[0].events


def test_limits_hold_between_lines_that_recur() -> None:
    def request(target: bytes, value: bytes, more: bytes = b"") -> bytes:
        return b"GET %b HTTP/1.1\r\nHost: a\r\nReferer: %b\r\n%bX-A: b\r\n\r\n" % (target, value, more)

    limits = Limits(max_headers=4, max_url_bytes=10, max_header_bytes=100)
    for last in (
        *(request(b"/" + b"a" * number, b"3") for number in range(8, 12)),
        *(request(b"/", b"3" * number) for number in range(30, 70)),
        *(request(b"/", b"3", b"B: c\r\n" * number) for number in range(4)),
    ):
        chunks = (request(b"/", b"1"), request(b"/", b"2"), last)
        told, refused = read(*chunks, limits=limits)
        expected, refused_as_expected = parsed(*chunks, limits=limits)
        assert (told.events, refused) == (expected.events, refused_as_expected), last


@pytest.mark.parametrize(
    "method", [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"post", b"PROPFIND"]
)
def test_a_body_is_read_the_same_without_the_parser(method: bytes) -> None:
    """All at once or not, as long as it says or not, and whatever stands in it."""
    for body in (b"", b"a", b"abc", b"\r\n", b"\r\n\r\n", b"abc\r\n\r\n", b"\r\n\r\nabc", WARM, b"x" * 70_000):
        exact = b"%d" % len(body)
        for length in (None, exact, b"0" + exact, b"+" + exact, exact + b" ", b"%d" % (len(body) + 1), b"0", exact * 2):
            fields = b"" if length is None else b"\r\nContent-Length: " + length
            for more in (fields, fields + b"\r\nExpect: 100-continue", fields * 2, fields + b"\r\nUpgrade: h2c"):
                head = method + b" /p HTTP/1.1\r\nHost: a" + more + b"\r\n\r\n"
                for chunks in (
                    (head + body, WARM),
                    (WARM, head + body),
                    (head, body, WARM),
                    (head + body + WARM, WARM),
                ):
                    plain, refused = read(*(chunk for chunk in chunks if chunk))
                    other, refused_other = parsed(*(chunk for chunk in chunks if chunk))
                    assert (plain.events, refused) == (other.events, refused_other), chunks


def test_limits_hold_without_the_parser() -> None:
    for limits in (Limits(max_headers=3), Limits(max_header_bytes=100), Limits(max_url_bytes=6)):
        for fields in (
            b"",
            b"\r\nA: b",
            b"\r\nA: b\r\nCookie: c",
            b"\r\nA: b\r\nC: d\r\nE: f",
            b"\r\nA: " + b"b" * 200,
        ):
            for target in (b"/", b"/12345", b"/123456", b"/?23456"):
                request = b"GET %b HTTP/1.1\r\nHost: a%b\r\n\r\n" % (target, fields)
                plain, refused = read(request, limits=limits)
                other, refused_other = parsed(request, limits=limits)
                assert (plain.events, refused) == (other.events, refused_other), request


def test_lines_are_kept_up_to_a_bound() -> None:
    lines = KnownLines(REQUEST_FIELDS)
    for number in range(3 * LINES_LIMIT):
        assert lines.reserved([b"X: %d" % number, b"Host: a%d" % number, b"X: y"]) == [
            (b"Host: a%d" % number, b"host", b"a%d" % number)
        ]
        assert len(lines._passing) + len(lines._reserved) <= LINES_LIMIT
    for name in (b"X", b"Via"):
        assert lines.reserved([name + b": " + b"a" * LINE_BYTES]) is not None
        assert all(len(line) <= LINE_BYTES for line in (*lines._passing, *lines._reserved))
