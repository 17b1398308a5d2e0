"""The parser boundary under fire: streams of messages, cut anywhere and damaged anywhere.

The oracle is h11, a parser of another make that reads RFC 9112 strictly: where the router takes a message for complete,
h11 must have found the same message in the same bytes. The router may refuse more, never see another message.
"""

from __future__ import annotations

import re
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from unittest import mock

import h11
from httptools import HttpParserError, HttpParserUpgrade
from hypothesis import example, given, settings
from hypothesis import strategies as st

from greentic.router.heads import last_chunk, response_onward
from greentic.router.limits import Limits
from greentic.router.pool import UpstreamPool
from greentic.router.refusal import Refusal
from greentic.router.request import RequestReader
from greentic.router.request_head import RequestHead
from greentic.router.response_head import ResponseHead
from greentic.router.upstream import UpstreamConnection

REQUESTS = (
    b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: y\r\n\r\n",
    b"GET /b?c=d HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nCookie: e=f\r\nUser-Agent: x/1 (y; z)\r\n\r\n",
    b"HEAD /c HTTP/1.1\r\nhost: a\r\nConnection: keep-alive\r\n\r\n",
    b"POST /d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde",
    b"PUT /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\na;x=y\r\n0123456789\r\n0\r\n\r\n",
    b"POST /f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: u\r\n\r\n",
    b"POST /g HTTP/1.1\r\nHost: a\r\nContent-Length: 34\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n ",
    b"DELETE /h HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
)
RESPONSES = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: y\r\n\r\nabcde",
    b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\na;x=y\r\n0123456789\r\n0\r\nX-Sum: u\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nabcde",
    b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\r\n\r\nabcde",
)
SPICE = (
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\0", b"\x0b", b"\x0c", b"\x7f", b"\x85", b"\xff", b":", b";",
    b",", b"0", b"1", b"a", b"+", b"-", b"_", b'"', b"\\", b"0\r\n\r\n", b"chunked", b"HTTP/1.0", b"HTTP/1.1",
    b"Content-Length",
    b"Content-Length: 3\r\n", b"Content-Length: 50\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
    b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding : chunked\r\n", b"Host: b\r\n", b" folded\r\n",
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, messages: tuple[bytes, ...], most: int) -> bytes:
    """A few whole messages in a row, and up to three damages."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(messages), min_size=1, max_size=most))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["insert", "overwrite", "byte", "delete", "repeat"]))
        spice = draw(st.sampled_from(SPICE))
        if kind == "insert":
            data[at:at] = spice
        elif kind == "overwrite":
            data[at : at + len(spice)] = spice
        elif kind == "byte":
            data[at : at + 1] = bytes((draw(st.integers(0, 255)),))
        elif kind == "delete":
            del data[at : at + draw(st.integers(1, 6))]
        else:
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
    return bytes(data)


@st.composite
def cut(draw: st.DrawFn, messages: st.SearchStrategy[bytes]) -> list[bytes]:
    """The stream in the pieces in which it is read; often where messages end."""
    data = draw(messages)
    ends = [found.end() for found in re.finditer(rb"\r\n\r\n", data)]
    places = st.integers(0, len(data)) | st.sampled_from(ends) if ends else st.integers(0, len(data))
    cuts = sorted(draw(st.sets(places, max_size=8)) | {0, len(data)})
    return [data[start:end] for start, end in pairwise(cuts) if start < end]


class Requests:
    """What a client connection is told by the reader."""

    def __init__(self) -> None:
        self.told: list[list[Any]] = []

    def request_started(self, head: RequestHead) -> None:
        fields = (head.lines, head.host, head.own_cookies, head.keep_alive, head.length, head.chunked, head.said)
        self.told.append([head.method, head.target, b"", not head.has_body, fields, None])

    def request_body(self, data: bytes) -> None:
        self.told[-1][2] += data

    def request_finished(self, trailers: list[bytes]) -> None:
        self.told[-1][3] = True
        self.told[-1][5] = trailers or None


def requests_of(pieces: list[bytes]) -> tuple[list[list[Any]], bool]:
    """The requests that the reader tells of, and whether it refused what followed."""
    sink = Requests()
    reader = RequestReader(sink, Limits())
    for piece in pieces:
        try:
            reader.feed(piece)
        except (Refusal, HttpParserError, HttpParserUpgrade):
            return sink.told, True
    return sink.told, False


def requests_by_h11(data: bytes) -> tuple[list[list[Any]], str]:
    """Method, target, body and completeness of each request, and why there are no more."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    told: list[list[Any]] = []
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                return told, "wants more"
            if event is h11.PAUSED:
                if connection.their_state is not h11.DONE:
                    return told, "ended"
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
            elif isinstance(event, h11.Request):
                told.append([event.method, event.target, b"", False])
            elif isinstance(event, h11.Data):
                told[-1][2] += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                told[-1][3] = True
    except h11.RemoteProtocolError as error:
        return told, str(error)


def known_to_differ(why: str) -> bool:
    """What the router reads although h11 does not, each with one meaning only: empty lines between messages, and more
    than one space in a request line, both of which go on in their canonical form.
    """
    return why.startswith(("no request line received", "illegal request line: bytearray(b'\\r"))


@settings(max_examples=300, deadline=None)
@given(cut(damaged(REQUESTS, 4)))
@example([REQUESTS[0], b"\r\n", REQUESTS[0]])
@example([REQUESTS[1][:-1], REQUESTS[1][-1:] + REQUESTS[6]])
def test_requests_are_the_same_however_they_are_cut(pieces: list[bytes]) -> None:
    assert requests_of(pieces) == requests_of([b"".join(pieces)])


@settings(max_examples=500, deadline=None)
@given(damaged(REQUESTS, 3))
@example(REQUESTS[3].replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"))
@example(REQUESTS[3].replace(b" 5", b" 5, 5") + REQUESTS[0])
@example(REQUESTS[0].replace(b" y", b" \x0by"))
@example(REQUESTS[0].replace(b" y", b" y\x0b"))
@example(REQUESTS[0].replace(b" y", b" y\r"))
@example(REQUESTS[0].replace(b"X-A", b"X A"))
def test_no_request_is_seen_that_is_not_there(data: bytes) -> None:
    seen, _ = requests_of([data])
    there, why = requests_by_h11(re.sub(rb"(?<=[A-Z])  +(?=/)|(?<=[!-~])  +(?=HTTP/1)", b" ", data))
    for at, request in enumerate(seen):
        if at >= len(there):
            assert known_to_differ(why) or not request[3], (why, request)
            return
        if request[3]:
            assert there[at] == request[:4]


class Told:
    """An exchange as far as the reading of its response sees it."""

    def __init__(self, method: bytes) -> None:
        self.head = SimpleNamespace(method=method, upgrade=b"")
        self.client = SimpleNamespace(transport=self, write=self.write, touch=lambda: None)
        self.request_complete = True
        self.rechunks = False
        self.status = 0
        self.said = b""
        self.fate = ""

    def write(self, data: bytes) -> None:
        self.said += data

    def informational(self, head: ResponseHead) -> bytes:
        return b"%d|\n" % head.status

    def response_head(self, head: ResponseHead) -> bytes:
        self.status = head.status
        self.rechunks = head.length is None and self.head.method != b"HEAD" and head.status not in (204, 304)
        return response_onward(head) + head.content_type + b"|\n"

    def response_tail(self, trailers: list[bytes]) -> bytes:
        return last_chunk(trailers) if self.rechunks else b""

    def response_end(self, upstream: UpstreamConnection | None) -> None:
        self.fate = "complete"
        if upstream is not None:
            upstream.pool.put(upstream, 0.0)

    def upstream_lost(self, upstream: UpstreamConnection) -> None:
        self.fate = "lost"

    def fail(self, refusal: Refusal) -> None:
        self.fate = refusal.kind


class Socket:
    """The transport of a worker's connection."""

    def __init__(self) -> None:
        self.over = False

    def abort(self) -> None:
        self.over = True

    def is_closing(self) -> bool:
        return self.over

    def resume_reading(self) -> None: ...


def response_of(method: bytes, pieces: list[bytes], *, ends: bool = True) -> tuple[Told, bool]:
    """What comes of the pieces, and whether the connection would serve another request."""
    pool = UpstreamPool("192.0.2.1", 80)
    upstream = UpstreamConnection(pool, mock.Mock())
    upstream.transport = Socket()  # type: ignore[assignment]
    told = Told(method)
    upstream.serve(told)  # type: ignore[arg-type]
    for piece in pieces:
        if not upstream.transport.is_closing():
            upstream.data_received(piece)
    usable = told.fate == "complete" and not upstream.transport.is_closing()
    if ends and told.fate == "":
        upstream.connection_lost(None)
    return told, usable


def content(told: Told) -> tuple[bytes, bytes]:
    """The heads that were told, and the body as the client would read it."""
    heads, mark, framed = told.said.rpartition(b"|\n")
    if not told.rechunks:
        return heads, framed
    body = b""
    while size := int(framed.partition(b"\r\n")[0], 16):
        _, _, framed = framed.partition(b"\r\n")
        body, framed = body + framed[:size], framed[size + 2 :]
    return heads + mark + framed, body


def response_by_h11(method: bytes, data: bytes) -> tuple[int, bytes, bool, bool]:
    """Status, body, whether it is complete with the connection's end, and whether another may follow."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    status, version, body, ended = 0, b"", b"", False
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if ended:
                    return status, body, False, False
                ended = True
                connection.receive_data(b"")
            elif isinstance(event, h11.Response):
                status, version = event.status_code, event.http_version
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                # h11 knows no keep-alive of HTTP/1.0.
                stays = connection.their_state is h11.DONE or version == b"1.0"
                # Empty lines say nothing.
                more = connection.trailing_data[0].strip(b"\r\n")
                return status, body, True, stays and not more and not ended
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return status, body, False, False
    except h11.RemoteProtocolError:
        return status, body, False, False


METHODS = st.sampled_from([b"GET", b"HEAD", b"POST"])


@settings(max_examples=300, deadline=None)
@given(METHODS, cut(damaged(RESPONSES, 2)))
def test_a_response_is_the_same_however_it_is_cut(method: bytes, pieces: list[bytes]) -> None:
    whole, _ = response_of(method, [b"".join(pieces)])
    parts, _ = response_of(method, pieces)
    assert parts.fate == whole.fate
    if whole.fate == "complete":
        assert content(parts) == content(whole)


@settings(max_examples=500, deadline=None)
@given(METHODS, damaged(RESPONSES, 2))
@example(b"GET", RESPONSES[0] + RESPONSES[0])
@example(b"HEAD", RESPONSES[0])
def test_no_response_is_seen_that_is_not_there_and_no_connection_kept_that_has_more_to_say(
    method: bytes, data: bytes
) -> None:
    # The router drops a reason, whatever it holds, and empty lines behind a response 1xx; h11 minds both.
    data = re.sub(rb"(HTTP/1\.[01] [0-9]{3}) [^\r\n]*", rb"\1 ", data)
    data = re.sub(rb"(?<=\r\n\r\n)[\r\n]+(?=HTTP/1)", b"", data)
    told, usable = response_of(method, [data])
    status, body, complete, again = response_by_h11(method, data)
    if told.fate == "complete":
        assert complete
        assert told.status == status
        assert content(told)[1] == body
    if usable:
        assert again
