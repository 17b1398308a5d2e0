"""Streams of HTTP/1.1 messages, damaged and cut anywhere, and what a parser of another make (h11) finds in them."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import h11
from hypothesis import strategies as st

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
