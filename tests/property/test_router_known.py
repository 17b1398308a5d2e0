"""Remembering heads changes nothing: whatever comes, with the memory and without it the same bytes go on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from httptools import HttpParserError, HttpParserUpgrade
from hypothesis import example, given, settings
from hypothesis import strategies as st

from greentic.router.caller import CallerRules
from greentic.router.fields import RESPONSE_FIELDS
from greentic.router.heads import facts_of, request_bytes, response_onward
from greentic.router.known import KnownRequest, KnownResponses
from greentic.router.limits import Limits
from greentic.router.pool import UpstreamPool
from greentic.router.refusal import Refusal
from greentic.router.request import RequestReader
from greentic.router.request_head import RequestHead
from greentic.router.response_head import ResponseHead
from greentic.router.upstream import UpstreamConnection

CALLER = CallerRules().of_connection(b"192.0.2.1", secure=False, proven=False)
DEPLOYMENT: Any = SimpleNamespace(cookie_name=b"_gt_rev_D1", preview_cookie_name=b"_gt_preview_D1")

LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"GET /a?b=c HTTP/1.1",
        b"GET /a%2Fb//../c HTTP/1.1",
        b"GET /?gt_preview=t HTTP/1.1",
        b"HEAD / HTTP/1.1",
        b"POST / HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET http://a/ HTTP/1.1",
        b"GET / HTTP/1.0",
    ]
)
FIELDS = st.lists(
    st.sampled_from(
        [
            b"Host: a",
            b"Host: b",
            b"Cookie: a=1; _gt_rev_D1=x",
            b"Cookie: _gt_rev_D1=y; b=2",
            b"X-A:  spaced ",
            b"X-Request-Id: mine",
            b"X_Forwarded_For: 6.6.6.6",
            b"Via: 1.0 x",
            b"TE: trailers",
            b"X-Forwarded-For: 192.0.2.7",
            b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            b"traceparent: 00-0",
            b"tracestate: a=b",
            b"Connection: X-A, keep-alive",
            b"Connection: close",
            b"Content-Length: 3",
            b"Content-Length: 0",
            b"Transfer-Encoding: chunked",
            b"Expect: 100-continue",
            b"Upgrade: websocket",
            b"Referer: /1",
            b"Referer: /2",
            b"X-Greentic-Session: s",
            b"X-Greentic-Session: t",
        ]
    ),
    max_size=5,
).map(lambda fields: b"".join(b"\r\n" + field for field in [b"Host: a", *fields]) + b"\r\n\r\n")


def changed(data: bytes, at: int, byte: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes((byte,)) + data[at + 1 :]


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """What a client sends in one connection: few heads, often again, under other lines, with a byte changed, cut, or
    several at once.
    """
    fields = draw(st.lists(FIELDS, min_size=1, max_size=2))
    chunks = []
    for _ in range(draw(st.integers(2, 8))):
        data = draw(LINES) + draw(st.sampled_from(fields))
        kind = draw(st.sampled_from(["whole", "whole", "whole", "changed", "cut", "twice", "body", "stray"]))
        if kind == "changed":
            data = changed(data, draw(st.integers(0, 400)), draw(st.integers(0, 255)))
        elif kind == "twice":
            data += draw(LINES) + draw(st.sampled_from(fields))
        elif kind == "body":
            data += draw(st.sampled_from([b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\n"]))
        elif kind == "stray":
            data = draw(st.sampled_from([b"\r\n", b"\r", b"\n", b"abc", b"G", b"\r\n\r\n"]))
        if kind == "cut":
            at = draw(st.integers(1, len(data) - 1))
            chunks += [data[:at], data[at:]]
        else:
            chunks.append(data)
    return chunks


class Forwarding:
    """Writes down what would go to a worker."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self._body = False

    def request_started(self, head: RequestHead) -> None:
        self._body = head.has_body
        self.said.append(request_bytes(head, b"id", CALLER))
        self.said.append((facts_of(head, DEPLOYMENT), head.host, head.path, head.keep_alive, head.idempotent))
        self.said.append((head.has_body, head.length, head.chunked, head.expects, head.upgrade))

    def request_body(self, data: bytes) -> None:
        self.said.append(data)

    def request_finished(self, trailers: list[bytes]) -> None:
        if self._body:
            self.said.append(trailers)


def forwarded(chunks: list[bytes]) -> tuple[list[Any], str]:
    sink = Forwarding()
    reader = RequestReader(sink, Limits(max_headers=6, max_url_bytes=64, max_header_bytes=400))
    for chunk in chunks:
        try:
            reader.feed(chunk)
        except Refusal as refusal:
            return sink.said, refusal.kind
        except HttpParserUpgrade:
            return sink.said, "upgrade"
        except HttpParserError as error:
            return sink.said, str(error.__context__ or "bad")
    return sink.said, ""


WARM = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n"


@settings(max_examples=500, deadline=None)
@given(conversations())
@example([WARM, WARM, b"GET /x HTTP/1.1\r\nContent-Length: 3\r\nHost: a\r\nX-A: b\r\n\r\n", WARM])
@example([WARM, b"GET /\r\nHost: a\r\nX-A: b\r\n\r\n", WARM])
def test_requests_are_forwarded_the_same_with_and_without_memory(chunks: list[bytes]) -> None:
    with mock.patch.object(KnownRequest, "recall", return_value=None):
        expected = forwarded(chunks)
    assert forwarded(chunks) == expected


RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: y\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: y\r\n\r\nxyz",
    b"HTTP/1.1 404 No\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: u\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: y\r\n\r\nabc",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: X\r\nX: y\r\n\r\nabc",
    b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-type: Text/HTML\r\nDate: x\r\nconnection: keep-alive\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nVia: 1.0 x\r\nTE: trailers\r\nX-Request-Id: own\r\nX-Empty:\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nVia: 1.0 x\r\nX-Greentic-Revision: r\r\nKeep-Alive: 5\r\n\r\nabc",
    b"HTTP/1.1 503 Busy\r\nContent-Length: 3\r\nSet-Cookie: a=b\r\nSet-Cookie: a=b\r\nProxy-Connection: x\r\n\r\nabc",
    b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"a" * 20_000,
]


class Transport:
    def __init__(self, said: list[Any]) -> None:
        self.said = said

    def write(self, data: bytes) -> None:
        self.said.append(data)

    def abort(self) -> None:
        self.said.append("aborted")

    def is_closing(self) -> bool:
        return False


class FakeExchange:
    """An exchange as far as the reading of responses sees it."""

    def __init__(self, method: bytes, said: list[Any]) -> None:
        self.head = SimpleNamespace(method=method, upgrade=b"")
        self.client = SimpleNamespace(
            transport=Transport(said),
            write=said.append,
            write_lines=lambda pieces: said.append(b"".join(pieces)),
            touch=lambda: None,
        )
        self.request_complete = True
        self.rechunks = False
        self.said = said
        self.over = False

    def informational(self, head: ResponseHead) -> bytes:
        return b"info %d\n" % head.status

    def response_head(self, head: ResponseHead) -> bytes:
        self.rechunks = head.length is None and self.head.method != b"HEAD"
        return response_onward(head) + head.content_type + b"\n"

    def response_tail(self, trailers: list[bytes]) -> bytes:
        return b"tail" + b",".join(trailers)

    def response_end(self, upstream: UpstreamConnection | None) -> None:
        self.over = True
        self.said.append("reusable" if upstream is not None else "not reusable")

    def upstream_lost(self, upstream: UpstreamConnection) -> None:
        self.said.append("lost")

    def fail(self, refusal: Refusal) -> None:
        self.over = True
        self.said.append(refusal.kind)


def answered(script: list[tuple[bytes, list[bytes]]]) -> list[Any]:
    """What clients are told, as bytes without regard to how they were cut into writes."""
    pool = UpstreamPool("192.0.2.1", 80)
    told: list[Any] = []
    upstream: UpstreamConnection | None = None
    for method, chunks in script:
        said: list[Any] = []
        if upstream is None:
            upstream = UpstreamConnection(pool, mock.Mock())
            upstream.transport = Transport(said)  # type: ignore[assignment]
        exchange: Any = FakeExchange(method, said)
        upstream.serve(exchange)
        for chunk in chunks:
            if upstream.exchange is not None:
                upstream.data_received(chunk)
        if not exchange.over:
            upstream.connection_lost(None)
        if said[-1] != "reusable":
            upstream = None
        told.append((b"".join(part for part in said if isinstance(part, bytes)), said[-1]))
    return told


@st.composite
def answers(draw: st.DrawFn) -> list[tuple[bytes, list[bytes]]]:
    script = []
    for _ in range(draw(st.integers(1, 8))):
        data = draw(st.sampled_from(RESPONSES[:2] if draw(st.booleans()) else RESPONSES))
        kind = draw(st.sampled_from(["whole", "whole", "whole", "changed", "cut", "short", "more"]))
        if kind == "changed":
            data = changed(data, draw(st.integers(0, 90)), draw(st.integers(0, 255)))
        elif kind == "short":
            data = data[: -draw(st.integers(1, 3))]
        elif kind == "more":
            data += draw(st.sampled_from([b"x", b"\r\n", *RESPONSES]))
        chunks = [data]
        if kind == "cut":
            at = draw(st.integers(1, min(len(data) - 1, 60)))
            chunks = [data[:at], data[at:]]
        script.append((draw(st.sampled_from([b"GET", b"GET", b"POST", b"HEAD"])), chunks))
    return script


@settings(max_examples=300, deadline=None)
@given(answers())
def test_responses_are_the_same_with_and_without_memory(script: list[tuple[bytes, list[bytes]]]) -> None:
    with mock.patch.object(KnownResponses, "recall", return_value=None):
        expected = answered(script)
    assert answered(script) == expected


VALUES = (
    b"a",
    b"a, b",
    b"close",
    b"keep-alive",
    b"Keep-Alive",
    b"0",
    b"3",
    b"03",
    b"+3",
    b"3, 3",
    b"9" * 19,
    b"chunked",
)
VALUES += (
    b"text/html",
    b"Text/Event-Stream",
    b"trailers",
    b"websocket",
    b"X",
    b"1.1 x",
    b"",
    b" a",
    b"a ",
    b"\xe9",
    b"a\tb",
)


@pytest.mark.parametrize(
    "name", [*sorted(RESPONSE_FIELDS), b"X", b"Set-Cookie", b"Trailer", b"Content-Encoding", b"X_Y", b"Date"]
)
def test_each_response_field_means_the_same_without_the_parser(name: bytes) -> None:
    """Alone, in other letters, twice, with and without a length."""
    for value in VALUES:
        for again in (b"", b"\r\n%b: %b" % (name, value), b"\r\n%b: 3" % name.upper()):
            for status in (
                b"200 OK",
                b"204 No",
                b"304 Not",
                b"100 Continue",
                b"101 Up",
                b"599 x",
                b"600 x",
                b"200",
                b"99 x",
            ):
                for length in (b"", b"\r\nContent-Length: 3"):
                    head = b"HTTP/1.1 %b%b\r\n%b: %b%b\r\n\r\n" % (status, length, name.title(), value, again)
                    script = [(b"GET", [head + b"abc"]), (b"HEAD", [head]), (b"GET", [head, b"abc"])]
                    with mock.patch.object(KnownResponses, "recall", return_value=None):
                        expected = answered(script)
                    assert answered(script) == expected, head
