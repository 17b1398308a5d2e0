"""The parser boundary under fire: streams of messages, cut anywhere and damaged anywhere.

The oracle is h11, which reads RFC 9112 strictly: where the router takes a message for complete, h11 must have found the
same message in the same bytes. The router may refuse more, never see another message.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any
from unittest import mock

import h11
from http_streams import REQUESTS, RESPONSES, cut, damaged, known_to_differ, requests_by_h11
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
