"""RFC 9112, and RFC 9110 where proxies trip, as a table over real sockets: what a client sends, what it is answered and
what the worker is told; what a worker answers, what the client is told and whether the connection is used again.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import pytest
from router_process import Closed, Reader, Stage, deployment, read_body, revision, staged, table


@dataclass
class Recording:
    """A worker that notes each whole request and answers it with its number."""

    seen: list[tuple[bytes, bytes]]

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        body = await read_body(reader, head)
        self.seen.append((head, body))
        answer = b"%d" % len(self.seen)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer))
        if not head.startswith(b"HEAD "):
            writer.write(answer)
        return True


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged() as stage:
        stage.start_router()
        yield stage


@pytest.fixture(scope="module")
def worker(stage: Stage) -> tuple[Recording, int]:
    recording = Recording([])
    return recording, stage.worker(recording).port


@dataclass(frozen=True)
class Case:
    """`saw`: for each request the worker is told, how it begins, what else it holds, what it must not hold, and its
    body. Trailers are part of a body here.
    """

    name: str
    sent: bytes
    statuses: tuple[int, ...]
    saw: tuple[tuple[bytes, bytes], ...] = ()
    holds: tuple[bytes, ...] = ()
    lacks: tuple[bytes, ...] = ()


GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GOT = (b"GET / HTTP/1.1\r\nHost: a\r\n", b"")
POSTED = b"POST / HTTP/1.1\r\nHost: a\r\n"
ABC = b"3\r\nabc\r\n0\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
GOT_NEXT = (b"GET /next HTTP/1.1\r\n", b"")

REQUESTS = [
    # 9112 section 2.2: message parsing
    Case("2.2 empty lines before a request", b"\r\n\r\n" + GET + b"\r\n", (200,), (GOT,)),
    Case("2.2 empty lines between requests", GET + b"\r\n\r\n\r\n" + NEXT, (200, 200), (GOT, GOT_NEXT)),
    Case("2.2 a space before a request", b" " + GET + b"\r\n", (400,)),
    Case("2.2 a space before the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", (400,)),
    Case("2.2 a bare line feed at the end", GET + b"\n", (400,)),
    Case("2.2 a bare carriage return at the end", GET + b"\r\r\n", (400,)),
    Case("2.2 binary", bytes(range(256)), (400,)),
    Case("2.2 a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (400,)),
    # 9112 section 2.3 and 3: version and request line
    Case("2.3 version 1.10", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", (400,)),
    Case("2.3 version 01.1", b"GET / HTTP/01.1\r\nHost: a\r\n\r\n", (400,)),
    Case("2.3 version 2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", (505,)),
    Case("2.3 version 0.9", b"GET /\r\n\r\n", (505,)),
    Case("2.3 a version in lower case", b"GET / http/1.1\r\nHost: a\r\n\r\n", (400,)),
    Case("3 spaces are written anew", b"GET   /  HTTP/1.1\r\nHost: a\r\n\r\n", (200,), (GOT,)),
    Case("3 tabs", b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    Case("3 a space after the version", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", (400,)),
    Case("3.1 a method in lower case", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    Case("3.1 a method of WebDAV", b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n", (200,), ((b"PROPFIND / ", b""),)),
    Case("3.1 a method of ICE", b"SOURCE / ICE/1.0\r\nHost: a\r\n\r\n", (501,)),
    Case("3.1 a method of RTSP", b"SETUP / RTSP/1.0\r\nHost: a\r\n\r\n", (501,)),
    Case("3.2 a control character in the target", b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    Case("3.2 a delete in the target", b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    Case("3.2 a byte beyond ASCII in the target", b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    Case(
        "3.2 an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", (200,), ((b"GET / HTTP/1.1\r\nHost: localhost", b""),)
    ),
    Case(
        "3.2 an IPv6 address",
        b"GET / HTTP/1.1\r\nHost: [0:0::1]:80\r\n\r\n",
        (200,),
        ((b"GET / HTTP/1.1\r\nHost: [0:0::1]:80", b""),),
    ),
    Case("3.2 no IPv6 address", b"GET / HTTP/1.1\r\nHost: [:::::...]\r\n\r\n", (400,)),
    Case("3.2 a list of Hosts", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", (400,)),
    Case("3.2 a Host with a user", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", (400,)),
    Case("3.2 a Host with a scheme", b"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", (400,)),
    Case("3.2 no Host in 1.0", b"GET / HTTP/1.0\r\n\r\n", (200,), ((b"GET / HTTP/1.1\r\nHost: localhost\r\n", b""),)),
    Case(
        "3.2.1 two slashes",
        b"GET //b/x HTTP/1.1\r\nHost: a\r\n\r\n",
        (200,),
        ((b"GET //b/x HTTP/1.1\r\nHost: a", b""),),
    ),
    Case(
        "3.2.2 absolute",
        b"GET hTTp://A/x?y HTTP/1.1\r\nHost: a\r\n\r\n",
        (200,),
        ((b"GET /x?y HTTP/1.1\r\nHost: A", b""),),
    ),
    Case("3.2.2 absolute, no Host", b"GET http://a/x HTTP/1.1\r\n\r\n", (400,)),
    Case("3.2.2 absolute, another port", b"GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    Case("3.2.2 absolute, another scheme", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    Case("3.2.2 absolute, no authority", b"GET http:///x HTTP/1.1\r\nHost:\r\n\r\n", (400,)),
    Case("3.2.3 authority", b"GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", (400,)),
    Case("3.2.4 an asterisk without OPTIONS", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    # 9112 section 5: fields
    Case("5 no colon", GET + b"XYZ\r\n\r\n", (400,)),
    Case("5.1 a space before the colon", GET + b"X : y\r\n\r\n", (400,)),
    Case("5.1 spaces around a value", GET + b"X-A: \t y z\t \r\n\r\n", (200,), (GOT,), (b"\r\nX-A: y z",)),
    Case("5.1 an empty value", GET + b"X-A:\r\nX-B: \r\n\r\n", (200,), (GOT,), (b"\r\nX-A: \r\n", b"\r\nX-B: \r\n")),
    Case(
        "5.1 bytes beyond ASCII in a value", GET + b"X-A: caf\xe9\r\n\r\n", (200,), (GOT,), (b"\r\nX-A: caf\xe9\r\n",)
    ),
    Case("5.1 bytes beyond ASCII in a name", GET + b"X\xe9: y\r\n\r\n", (400,)),
    Case("5.1 brackets in a name", GET + b"X(A): y\r\n\r\n", (400,)),
    Case(
        "5.1 fields keep their order",
        GET + b"X-A: 1\r\nX-B: 2\r\nx-a: 3\r\n\r\n",
        (200,),
        (GOT,),
        (b"X-A: 1\r\nX-B: 2\r\nx-a: 3\r\n",),
    ),
    Case("5.2 a folded value", GET + b"X-A: y\r\n\tz\r\n\r\n", (400,)),
    # 9112 section 6: framing
    Case(
        "6.1 chunked in upper case",
        POST + b"Transfer-Encoding: CHUNKED\r\n\r\n" + ABC,
        (200,),
        ((POSTED, b"abc"),),
        (b"\r\nTransfer-Encoding: chunked\r\n",),
    ),
    Case(
        "6.1 chunked behind a tab",
        POST + b"Transfer-Encoding:\tchunked \r\n\r\n" + ABC,
        (200,),
        ((POSTED, b"abc"),),
        (b"\r\nTransfer-Encoding: chunked\r\n",),
    ),
    Case("6.1 chunked with a comma", POST + b"Transfer-Encoding: chunked,\r\n\r\n" + ABC, (400,)),
    Case("6.1 chunked in quotes", POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + ABC, (400,)),
    Case("6.1 chunked with a parameter", POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + ABC, (400,)),
    Case("6.1 identity", POST + b"Transfer-Encoding: identity\r\n\r\n" + NEXT, (400,)),
    Case("6.1 an empty Transfer-Encoding", POST + b"Transfer-Encoding:\r\nContent-Length: 3\r\n\r\nabc", (400,)),
    Case(
        "6.1 a name with an underscore",
        POST + b"Transfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        (200,),
        ((POSTED, b"abc"),),
        (),
        (b"Transfer_Encoding",),
    ),
    Case(
        "6.2 a length with zeros",
        POST + b"Content-Length: 003\r\n\r\nabc",
        (200,),
        ((POSTED, b"abc"),),
        (b"\r\nContent-Length: 3\r\n",),
    ),
    Case("6.2 a length behind tabs", POST + b"Content-Length:\t3\t\r\n\r\nabc", (200,), ((POSTED, b"abc"),)),
    Case("6.2 a length in superscript", POST + b"Content-Length: \xb2\r\n\r\nab", (400,)),
    Case("6.2 a length in quotes", POST + b'Content-Length: "2"\r\n\r\nab', (400,)),
    Case(
        "6.2 a length with an underscore",
        POST + b"Content_Length: 50\r\n\r\n" + NEXT,
        (200, 200),
        ((POSTED, b""), GOT_NEXT),
        (b"\r\nContent-Length: 0\r\n",),
        (b"Content_Length",),
    ),
    Case(
        "6.3 no length, no body",
        POST + b"\r\n" + NEXT,
        (200, 200),
        ((POSTED, b""), GOT_NEXT),
        (b"\r\nContent-Length: 0\r\n",),
    ),
    Case("6.3 a body of GET", GET + b"Content-Length: 3\r\n\r\nabc" + NEXT, (200, 200), ((GOT[0], b"abc"), GOT_NEXT)),
    Case("6.3 a body that ends early", POST + b"Content-Length: 10\r\n\r\nabc", ()),
    # 9112 section 7: chunks
    Case("7.1 zeros before a size", CHUNKED + b"0" * 40 + b"3\r\nabc\r\n000\r\n\r\n", (200,), ((POSTED, b"abc"),)),
    Case(
        "7.1 a size in both cases",
        CHUNKED + b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
        (200,),
        ((POSTED, b"0123456789" * 2),),
    ),
    Case("7.1 a size of no digits", CHUNKED + b"\r\nabc\r\n0\r\n\r\n", (400,)),
    Case("7.1 a size with 0x", CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", (400,)),
    Case("7.1 a space before a size", CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n", (400,)),
    Case("7.1 a space behind a size", CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", (400,)),
    Case("7.1 an underscore in a size", CHUNKED + b"1_0\r\nabc\r\n0\r\n\r\n", (400,)),
    Case(
        "7.1.1 extensions are dropped", CHUNKED + b'3;a;b=c;d="e;f"\r\nabc\r\n0;x\r\n\r\n', (200,), ((POSTED, b"abc"),)
    ),
    Case("7.1.1 a bare line feed in an extension", CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n", (400,)),
    Case("7.1.1 a bare carriage return in an extension", CHUNKED + b"3;a\rb\r\nabc\r\n0\r\n\r\n", (400,)),
    Case("7.1.1 a NUL in an extension", CHUNKED + b"3;a\0\r\nabc\r\n0\r\n\r\n", (400,)),
    Case(
        "7.1.2 trailers",
        CHUNKED + b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-B: 2\r\n\r\n",
        (200,),
        ((POSTED, b"abctrailer X-Sum: 1\r\ntrailer X-B: 2\r\n"),),
    ),
    Case(
        "7.1.2 trailers that may not be",
        CHUNKED + b"0\r\nHost: b\r\nAuthorization: x\r\nX-Forwarded-Ssl: on\r\nX_Real_IP: 6\r\nX-A: 1\r\n\r\n",
        (200,),
        ((POSTED, b"trailer X-A: 1\r\n"),),
    ),
    Case("7.1.2 a length as trailer", CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n", (400,)),
    Case("7.1.2 an encoding as trailer", CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n", (400,)),
    Case("7.1.2 a folded trailer", CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n", (400,)),
    Case("7.1.2 a large trailer", CHUNKED + b"0\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", (431,)),
    Case("7.1.2 many trailers", CHUNKED + b"0\r\n" + b"X: a\r\n" * 200 + b"\r\n", (431,)),
    # 9112 section 9: connections
    Case(
        "9.3 keep-alive to 1.0",
        b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n" + NEXT,
        (200, 200),
        ((b"GET / HTTP/1.1\r\n", b""), GOT_NEXT),
        (),
        (b"Keep-Alive", b"keep-alive"),
    ),
    Case("9.3 no keep-alive to 1.0", b"GET / HTTP/1.0\r\n\r\n" + NEXT, (200,), ((b"GET / HTTP/1.1\r\n", b""),)),
    Case(
        "9.3.2 pipelining in order",
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + NEXT + CHUNKED + ABC + GET + b"\r\n",
        (200, 200, 200, 200),
        ((b"HEAD / ", b""), GOT_NEXT, (POSTED, b"abc"), GOT),
    ),
    Case("9.6 nothing after close", GET + b"Connection: close\r\n\r\n" + NEXT, (200,), (GOT,)),
    Case("9.6 close among others", GET + b"Connection: x, CLOSE ,y\r\n\r\n" + NEXT, (200,), (GOT,)),
    # 9110
    Case(
        "9110 7.6.1 nominated fields",
        GET + b"Connection: x-a\r\nConnection: X-B, te\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3\r\n\r\n",
        (200,),
        (GOT,),
        (b"\r\nX-C: 3\r\n",),
        (b"X-A:", b"X-B:", b"Connection"),
    ),
    Case(
        "9110 7.6.1 nominating what frames",
        POST + b"Connection: host, content-length\r\nContent-Length: 3\r\n\r\nabc",
        (200,),
        ((POSTED, b"abc"),),
        (b"\r\nContent-Length: 3\r\n",),
    ),
    Case(
        "9110 7.6.1 nominating what the router says",
        GET + b"Connection: x-forwarded-for, via\r\n\r\n",
        (200,),
        (GOT,),
        (b"\r\nX-Forwarded-For: 127.0.0.1\r\n", b"\r\nVia: 1.1 greentic\r\n"),
    ),
    Case(
        "9110 7.6.3 Via of 1.0",
        b"GET / HTTP/1.0\r\nHost: a\r\nVia: 1.1 x\r\nVia: 1.0 y\r\n\r\n",
        (200,),
        (GOT,),
        (b"\r\nVia: 1.1 x, 1.0 y, 1.0 greentic\r\n",),
    ),
    Case(
        "9110 7.8 Upgrade without Connection",
        GET + b"Upgrade: websocket\r\n\r\n" + NEXT,
        (200, 200),
        (GOT, GOT_NEXT),
        (),
        (b"Upgrade",),
    ),
    Case(
        "9110 7.8 Upgrade in 1.0",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        (200,),
        (GOT,),
        (),
        (b"Upgrade",),
    ),
    Case(
        "9110 10.1.1 one of two expectations",
        POST + b"Expect: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
        (417,),
    ),
    Case(
        "9110 10.1.4 TE, said twice",
        GET + b"TE: trailers\r\nTE: deflate\r\n\r\n",
        (200,),
        (GOT,),
        (b"\r\nConnection: TE\r\nTE: trailers\r\n",),
        (b"deflate",),
    ),
    Case(
        "what only the router or a trusted proxy may say",
        GET
        + b"X-Forwarded-Ssl: on\r\nX-FORWARDED-User: root\r\nx-forwarded_scheme: https\r\nX_Forwarded_Foo: 1\r\n"
        + b"X-Greentic-Flow: x\r\nX_Greentic-Flow: x\r\nX-Forwarded: 1\r\n\r\n",
        (200,),
        (GOT,),
        (b"X-Forwarded: 1\r\n",),
        (b"Ssl", b"root", b"https", b"Foo", b"Flow"),
    ),
    Case("9110 10.1.1 an expectation nobody knows", GET + b"Expect: 200-ok\r\n\r\n", (417,)),
    Case(
        "9110 10.1.1 an expectation without a body",
        GET + b"Expect: 100-continue\r\n\r\n" + NEXT,
        (200, 200),
        (GOT, GOT_NEXT),
        (),
        (b"Expect",),
    ),
    Case(
        "9110 10.1.1 an expectation of 1.0",
        b"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        (200,),
        ((POSTED, b"abc"),),
        (),
        (b"Expect",),
    ),
    Case(
        "9110 10.1.4 TE",
        GET + b"TE: trailers, deflate;q=0.5\r\n\r\n",
        (200,),
        (GOT,),
        (b"\r\nConnection: TE\r\nTE: trailers\r\n",),
        (b"deflate",),
    ),
    # sizes, wherever they are said
    Case("a large cookie", GET + b"Cookie: a=" + b"b" * 70_000 + b"\r\n\r\n", (431,)),
    Case("large words of a proxy", GET + b"X-Forwarded-For: " + b"1" * 70_000 + b"\r\n\r\n", (431,)),
    Case("a large list of proxies", GET + b"Via: " + b"b" * 70_000 + b"\r\n\r\n", (431,)),
    Case(
        "a large header behind a small request",
        GET + b"\r\n" + GET + b"X-A: " + b"b" * 70_000 + b"\r\n\r\n",
        (200, 431),
        (GOT,),
    ),
    Case(
        "a large header in front of a body",
        POST + b"Content-Length: 100000\r\nX-A: " + b"b" * 70_000 + b"\r\n\r\n" + b"c" * 100_000,
        (431,),
    ),
    Case(
        "a large body behind a small header",
        POST + b"Content-Length: 200000\r\n\r\n" + b"c" * 200_000,
        (200,),
        ((POSTED, b"c" * 200_000),),
    ),
    Case("a header just small enough", GET + b"X-A: " + b"b" * 60_000 + b"\r\n\r\n", (200,), (GOT,)),
]


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.name)
def test_what_a_client_sends(stage: Stage, worker: tuple[Recording, int], case: Case) -> None:
    recording, port = worker
    stage.configure(table(deployment([revision("R1", port)])))
    recording.seen.clear()
    with stage.connect() as client:
        client.sendall(case.sent)
        client.shutdown(1)
        reader = Reader(client)
        statuses = []
        for at in range(len(case.statuses)):
            response = reader.response(head_only=at == 0 and case.sent.startswith(b"HEAD"))
            statuses.append(response.status)
            if response.status != 200:
                assert response.one("connection") == "close"
                assert json.loads(response.body)["error"]["message"]
        assert tuple(statuses) == case.statuses
        assert reader.closed()
    assert len(recording.seen) == len(case.saw), recording.seen
    for (head, body), (beginning, expected) in zip(recording.seen, case.saw, strict=True):
        assert head.startswith(beginning), head
        assert body == expected
    first = recording.seen[0][0] if recording.seen else b""
    for part in case.holds:
        assert part in first
    for part in case.lacks:
        assert part not in first
    assert stage.get().status == 200


@dataclass(frozen=True)
class Answer:
    """`status` None: the client's connection is cut without an answer that looks whole. `again`: the worker's
    connection serves the next request too. `ends`: the worker closes behind its answer.
    """

    name: str
    said: bytes
    status: int | None
    body: bytes = b"ok"
    again: bool = True
    method: bytes = b"GET"
    ends: bool = False


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FIELDS = b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 2\r\n\r\nok"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

ANSWERS = [
    Answer("2.2 bare line feeds", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 502),
    Answer("2.2 one bare line feed", FIELDS % b"X: a\nY: b", 502),
    Answer("2.2 a bare carriage return", FIELDS % b"X: a\rY: b", 502),
    Answer("2.2 an empty line first", b"\r\n" + OK, 502),
    Answer("2.3 version 1.0", OK.replace(b"1.1", b"1.0"), 200, again=False),
    Answer("2.3 version 2.0", OK.replace(b"1.1", b"2.0"), 502),
    Answer("2.3 version 0.9", OK.replace(b"1.1", b"0.9"), 502),
    Answer("2.3 another protocol", OK.replace(b"HTTP", b"RTSP"), 502),
    Answer("4 no reason", OK.replace(b" OK", b""), 200),
    Answer("4 an empty reason", OK.replace(b"OK", b""), 200),
    Answer("4 a status of two digits", OK.replace(b"200", b"20"), 502),
    Answer("4 a status below 100", OK.replace(b"200", b"099"), 502),
    Answer("4 a status above 599", OK.replace(b"200", b"600"), 502),
    Answer("5 no colon", FIELDS % b"XY", 502),
    Answer("5 no name", FIELDS % b": y", 502),
    Answer("5.1 a space in a name", FIELDS % b"X Y: z", 502),
    Answer("5.1 a space before the colon", FIELDS % b"X : z", 502),
    Answer("5.1 bytes beyond ASCII", FIELDS % b"X: caf\xe9", 200),
    Answer("5.2 a folded value", FIELDS % b"X: a\r\n b", 502),
    Answer("5.5 a NUL", FIELDS % b"X: a\0b", 502),
    Answer("5.5 a control character", FIELDS % b"X: a\x01b", 502),
    Answer("6.1 an encoding twice", CHUNKS[:-2] + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 502),
    Answer("6.1 another encoding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok", 502),
    Answer(
        "6.1 chunked of 1.0",
        CHUNKS.replace(b"1.1", b"1.0")[:-2] + b"Connection: keep-alive\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        200,
        again=False,
    ),
    Answer("6.1 an encoding and a length", CHUNKS[:-2] + b"Content-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n", 502),
    Answer("6.1 an encoding of 204", CHUNKS.replace(b"200", b"204") + b"0\r\n\r\n", 204, b"", again=False),
    Answer("6.1 an encoding of 304", CHUNKS.replace(b"200", b"304"), 304, b""),
    Answer("6.2 two lengths", OK.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n"), 502),
    Answer("6.2 a list of lengths", OK.replace(b" 2", b" 2, 2"), 502),
    Answer("6.2 a negative length", OK.replace(b" 2", b" -2"), 502),
    Answer("6.2 a length of 204", OK.replace(b"200", b"204"), 204, b"", again=False),
    Answer("6.2 a length of 304", OK.replace(b"200", b"304")[:-2], 304, b""),
    Answer("6.3 a body to HEAD", OK, 200, b"", again=False, method=b"HEAD"),
    Answer("6.3 no length", b"HTTP/1.1 200 OK\r\n\r\nok", 200, again=False, ends=True),
    Answer("6.3 more than the length", OK + b"more", 200, again=False),
    Answer("6.3 another response behind", OK + OK, 200, again=False),
    Answer("6.3 less than the length", OK.replace(b" 2\r", b" 3\r"), None, ends=True),
    Answer("7.1 chunks", CHUNKS + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n", 200),
    Answer("7.1 a size that is no number", CHUNKS + b"2\r\nok\r\nzz\r\n", None),
    Answer("7.1 a size that overflows", CHUNKS + b"2\r\nok\r\nfffffffffffffffff\r\n", None),
    Answer("7.1 a chunk without its end", CHUNKS + b"2\r\nokay\r\n0\r\n\r\n", None),
    Answer("7.1 a chunk ended by a line feed", CHUNKS + b"2\nok\r\n0\r\n\r\n", None),
    Answer("7.1 no last chunk", CHUNKS + b"2\r\nok\r\n", None, ends=True),
    Answer("7.1.1 an extension without end", CHUNKS + b"2;" + b"x" * 600_000, None),
    Answer("7.1.2 trailers that may not be", CHUNKS + b"2\r\nok\r\n0\r\nSet-Cookie: a\r\n\r\n", 200),
    Answer("7.1.2 a length as trailer", CHUNKS + b"2\r\nok\r\n0\r\nContent-Length: 3\r\n\r\n", None),
    Answer("7.1.2 many trailers", CHUNKS + b"2\r\nok\r\n0\r\n" + b"X: y\r\n" * 500 + b"\r\n", None),
    Answer("7.1.2 a trailer without end", CHUNKS + b"2\r\nok\r\n0\r\nX: " + b"y" * 600_000, None),
    Answer("9.6 close", OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), 200, again=False),
    Answer("9110 15.2 responses 1xx", b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\n" + OK, 200),
    Answer("9110 15.2 a length of 1xx", b"HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\n" + OK, 200),
    Answer("9110 15.2 an encoding of 1xx", b"HTTP/1.1 103 E\r\nTransfer-Encoding: chunked\r\n\r\n" + OK, 200),
    Answer("9110 15.2 too many of 1xx", b"HTTP/1.1 103 E\r\n\r\n" * 40 + OK, 502),
    Answer("9110 15.2 too many of 100, which nobody asked for", b"HTTP/1.1 100 C\r\n\r\n" * 40 + OK, 502),
    Answer("9110 15.2.2 101 unasked", b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + OK, 502),
    Answer("9110 15.3.6 205", OK.replace(b"200", b"205").replace(b" 2\r\n", b" 0\r\n")[:-2], 205, b""),
    Answer("a large header", FIELDS % (b"X: " + b"a" * 300_000), 502),
    Answer("many fields", FIELDS % b"\r\n".join([b"X: a"] * 2000), 502),
    Answer("a header without end", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 600_000, 502),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.name)
def test_what_a_worker_answers(stage: Stage, answer: Answer) -> None:
    async def saying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(answer.said)
        await writer.drain()
        return not answer.ends

    worker = stage.worker(saying)
    stage.configure(table(deployment([revision("R1", worker.port)])))
    request = answer.method + b" / HTTP/1.1\r\nHost: a\r\n\r\n"
    for _ in range(2):
        with stage.connect() as client:
            client.sendall(request)
            reader = Reader(client)
            if answer.status is None:
                with pytest.raises(Closed):
                    reader.response()
                continue
            response = reader.response(head_only=answer.method == b"HEAD")
            assert response.status == answer.status, response.body
            if answer.status == 502:
                assert json.loads(response.body)["error"]["kind"] == "bad-response"
            else:
                assert response.body == answer.body
    assert worker.connections == (1 if answer.status not in (None, 502) and answer.again else 2)


def test_a_field_nominated_in_a_response_1xx_is_only_of_that(stage: Stage) -> None:
    hints = b"HTTP/1.1 103 E\r\nConnection: X-A\r\nX-A: 1\r\nLink: x\r\n\r\n"

    async def saying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(hints + FIELDS % b"X-A: 2\r\nConnection: X-B\r\nX-B: 3")
        return True

    stage.configure(table(deployment([revision("R1", stage.worker(saying).port)])))
    with stage.connect() as client:
        client.sendall(GET + b"\r\n")
        reader = Reader(client)
        first = reader.response(informational=True)
        assert (first.status, first.one("link"), first.one("x-a")) == (103, "x", None)
        second = reader.response()
        assert (second.one("x-a"), second.one("x-b")) == ("2", None)


def test_what_to_upgrade_to_is_said(stage: Stage) -> None:
    async def saying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(
            b"HTTP/1.1 426 Up\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n"
            if b"/must" in head
            else FIELDS % b"Connection: Upgrade\r\nUpgrade: websocket"
        )
        return True

    stage.configure(table(deployment([revision("R1", stage.worker(saying).port)])))
    must = stage.get("/must")
    assert (must.status, must.one("connection"), must.one("upgrade")) == (426, "Upgrade", "websocket")
    may = stage.get("/may")
    assert (may.status, may.one("connection"), may.one("upgrade")) == (200, None, None)


def test_every_response_says_when(stage: Stage) -> None:
    """RFC 9110 section 6.6.1: the worker's word, or the router's where it said nothing."""
    said = b"Date: Tue, 15 Nov 1994 08:12:31 GMT"

    async def saying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        if b"/upgrade" in head:
            writer.write(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n")
            return False
        writer.write(FIELDS % (said.lower() if b"/dated" in head else b"X: y"))
        return True

    stage.configure(table(deployment([revision("R1", stage.worker(saying).port)], path_prefixes=("/here",))))
    for path in ("/here/dated", "/here/dated", "/here/not", "/here/not", "/here/upgrade", "/elsewhere"):
        before = int(time.time())
        response = stage.get(path, *(("Connection: Upgrade", "Upgrade: websocket") if "up" in path else ()))
        date = response.one("date")
        if "dated" in path:
            assert date == "tue, 15 nov 1994 08:12:31 gmt"
            continue
        assert date is not None
        assert before - 1 <= parsedate_to_datetime(date).timestamp() <= time.time()
        if "up" in path:
            assert (response.status, response.one("content-length")) == (101, None)
