"""HTTP/1.1 through a real router process, byte for byte."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator

import pytest
from router_process import Closed, Reader, Stage, answering, deployment, echo, revision, saying, staged, table


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged() as stage:
        stage.start_router()
        yield stage


@pytest.fixture
def echoing(stage: Stage) -> Stage:
    worker = stage.worker(echo)
    stage.configure(table(deployment([revision("R1", worker.port)])))
    return stage


def serve(stage: Stage, handler: object, **limits: float) -> object:
    worker = stage.worker(handler)  # type: ignore[arg-type]
    stage.configure(table(deployment([revision("R1", worker.port)]), **limits))
    return worker


def test_a_request_is_reserialised_and_a_response_stamped(echoing: Stage) -> None:
    response = echoing.get(
        "/a%20b?x=1&gt_other=2",
        "X-Custom:  kept",
        "Connection: close, X-Nominated",
        "X-Nominated: gone",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic x",
        "X-Forwarded-For: 6.6.6.6",
        "X_Forwarded_For: 6.6.6.6",
        "X-Forwarded-Proto: https",
        "Forwarded: for=6.6.6.6",
        "X-Real-IP: 6.6.6.6",
        "X-Greentic-Revision: R9",
        "X-Greentic-Reason: header",
        "X-Request-Id: my.request-1",
        "Via: 1.0 before",
        "Cookie: a=1; _gt_rev_D9=x; b=2; _gt_preview_D1=y",
        host="Example.org:8080",
    )
    assert response.status == 200
    lines = response.body.decode().split("\r\n")
    assert lines[0] == "GET /a%20b?x=1&gt_other=2 HTTP/1.1"
    assert sorted(lines[1:-2]) == sorted(
        [
            "Host: Example.org:8080",
            "X-Custom: kept",
            "Cookie: a=1; b=2",
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: Example.org:8080",
            'Forwarded: for=127.0.0.1;host="Example.org:8080";proto=http',
            "Via: 1.0 before, 1.1 greentic",
            "X-Request-Id: my.request-1",
        ]
    )
    assert response.one("x-request-id") == "my.request-1"
    assert response.one("x-greentic-revision") == "R1"
    assert response.one("x-greentic-reason") == "sequence"
    assert response.one("connection") == "close"
    assert response.one("via") == "1.1 greentic"
    assert response.cookie().startswith("_gt_rev_D1=")
    assert "Path=/; HttpOnly; SameSite=Lax; Max-Age=2592000" in response.all("set-cookie")[0]


def test_a_worker_cannot_stamp(stage: Stage) -> None:
    serve(stage, answering(b"", b"X-Greentic-Revision: fake", b"X-Request-Id: fake", b"Connection: x-hop", b"X-Hop: 1"))
    response = stage.get()
    assert response.one("x-greentic-revision") == "R1"
    assert response.one("x-request-id") != "fake"
    assert response.one("x-hop") is None


def test_an_insane_request_id_is_replaced(echoing: Stage) -> None:
    response = echoing.get("/", "X-Request-Id: a b")
    assert response.one("x-request-id") != "a b"
    assert f"X-Request-Id: {response.one('x-request-id')}" in response.body.decode()


GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
SMUGGLING = {
    "length and chunked": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN, 400),
    "chunked and length": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + HIDDEN, 400),
    "two lengths": (POST + b"Content-Length: 0\r\nContent-Length: 40\r\n\r\n" + HIDDEN, 400),
    "two equal lengths": (POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + HIDDEN, 400),
    "a list of lengths": (POST + b"Content-Length: 0, 0\r\n\r\n" + HIDDEN, 400),
    "a signed length": (POST + b"Content-Length: +0\r\n\r\n" + HIDDEN, 400),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\n" + HIDDEN, 400),
    "a hexadecimal length": (POST + b"Content-Length: 0x10\r\n\r\n" + HIDDEN, 400),
    "a huge length": (POST + b"Content-Length: 99999999999999999999999\r\n\r\n" + HIDDEN, 400),
    "an empty length": (POST + b"Content-Length:\r\n\r\n" + HIDDEN, 400),
    "a space before the colon": (POST + b"Content-Length : 0\r\n\r\n" + HIDDEN, 400),
    "gzip, chunked": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked, identity": (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    "chunked twice": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "an unknown coding": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked with a vertical tab": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked to 1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a folded field": (GET + b"X-A: b\r\n c\r\n\r\n", 400),
    "a folded first field": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "bare line feeds": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "one bare line feed": (GET + b"X-A: b\nX-B: c\r\n\r\n", 400),
    "a bare carriage return": (GET + b"X-A: b\rX-B: c\r\n\r\n", 400),
    "a NUL in a value": (GET + b"X-A: b\x00c\r\n\r\n", 400),
    "a control character in a value": (GET + b"X-A: b\x01c\r\n\r\n", 400),
    "a delete in a value": (GET + b"X-A: b\x7fc\r\n\r\n", 400),
    "a NUL in a name": (GET + b"X\x00A: b\r\n\r\n", 400),
    "an empty name": (GET + b": b\r\n\r\n", 400),
    "two Hosts": (GET + b"Host: b\r\n\r\n", 400),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "a malformed Host": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "a Host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "an absolute URL to another host": (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an absolute URL with a user": (b"GET http://u@a/ HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    "a target without a slash": (b"GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a fragment": (b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a backslash": (b"GET /\\x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an unknown method": (b"FROB / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "CONNECT": (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400),
    "a chunk size that is no number": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400),
    "a chunk size that overflows": (POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n", 400),
    "a chunk ended by a line feed": (POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 400),
    "a chunk without its end": (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400),
    "a signed chunk size": (POST + b"Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n", 400),
    "a trailer without end": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: " + b"a" * 200_000, 431),
    "a chunk extension without end": (POST + b"Transfer-Encoding: chunked\r\n\r\n3;" + b"a" * 200_000, 431),
    "an expectation": (GET + b"Expect: 200-maybe\r\nContent-Length: 1\r\n\r\n", 417),
    "a long target": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "a target without end": (b"GET /" + b"a" * 200_000, 414),
    "a long header": (GET + b"X-A: " + b"a" * 70_000 + b"\r\n\r\n", 431),
    "a header without end": (GET + b"X-A: " + b"a" * 200_000, 431),
    "many fields": (GET + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"\r\n", 431),
    "a large declared body": (POST + b"Content-Length: 99999999999\r\n\r\n", 413),
}  # fmt: skip


@pytest.mark.parametrize("name", SMUGGLING)
def test_an_unclear_request_is_refused_and_nothing_of_it_is_served(stage: Stage, name: str) -> None:
    worker = serve(stage, echo)
    request, status = SMUGGLING[name]
    with stage.connect() as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR) if not request.endswith(b"a") else None
        reader = Reader(client)
        response = reader.response()
        assert response.status == status, response.body
        assert response.one("connection") == "close"
        assert json.loads(response.body)["error"]["request_id"] == response.one("x-request-id")
        assert reader.closed(), "something was answered after the refusal"
    for head in worker.requests:  # type: ignore[attr-defined]
        assert b"/hidden" not in head


@pytest.mark.parametrize("name", SMUGGLING)
def test_an_unclear_request_is_refused_on_a_connection_whose_heads_are_known(stage: Stage, name: str) -> None:
    """Two equal heads first, which the router then knows; what follows is judged as if it came first."""
    worker = serve(stage, echo)
    request, status = SMUGGLING[name]
    for warm in (GET + b"\r\n", GET + b"X-A: b\r\nX-B: c\r\n\r\n"):
        with stage.connect() as client:
            reader = Reader(client)
            for _ in range(2):
                client.sendall(warm)
                assert reader.response().status == 200
            client.sendall(request)
            client.shutdown(socket.SHUT_WR) if not request.endswith(b"a") else None
            response = reader.response()
            assert response.status == status, response.body
            assert reader.closed(), "something was answered after the refusal"
    for head in worker.requests:  # type: ignore[attr-defined]
        assert b"/hidden" not in head


def test_known_heads_are_forwarded_anew_each_time(echoing: Stage) -> None:
    """Line, request id, cookie and stamps belong to the request, whatever is remembered of its fields."""
    fields = b" HTTP/1.1\r\nHost: a\r\nX-A: b\r\nCookie: c=d\r\n\r\n"
    with echoing.connect() as client:
        reader = Reader(client)
        ids = set()
        cookies = set()
        for target in (b"/", b"/", b"/x?y=z", b"/x?y=z", b"/"):
            client.sendall(b"GET " + target + fields)
            response = reader.response()
            assert response.body.startswith(b"GET %b HTTP/1.1\r\nHost: a\r\nX-A: b\r\nCookie: c=d\r\n" % target)
            assert f"X-Request-Id: {response.one('x-request-id')}" in response.body.decode()
            ids.add(response.one("x-request-id"))
            cookies.add(response.cookie())
        assert len(ids) == len(cookies) == 5
        client.sendall(b"HEAD /" + fields + b"GET /last" + fields)
        assert reader.response(head_only=True).body == b""
        assert reader.response().body.startswith(b"GET /last ")
        pinned = f"GET / HTTP/1.1\r\nHost: a\r\nCookie: c=d; {cookies.pop()}\r\n\r\n".encode()
        for _ in range(3):
            client.sendall(pinned)
            response = reader.response()
            assert response.one("x-greentic-reason") == "cookie"
            assert b"_gt_rev" not in response.body


def test_a_known_response_head_brings_each_response_its_own_body(stage: Stage) -> None:
    said = iter(
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n|a|bc",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsix\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nsevHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nfin",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        ]
    )

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        response = next(said)
        for part in response.split(b"|"):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)
        return not response.endswith(b"\nab")

    serve(stage, handler)
    with stage.connect() as client:
        reader = Reader(client)
        bodies = []
        for _ in range(8):
            client.sendall(GET + b"\r\n")
            bodies.append(reader.response().body)
        assert bodies == [b"one", b"two", b"four", b"abc", b"six", b"sev", b"end", b"fin"]
        client.sendall(GET + b"\r\n")
        with pytest.raises(Closed):
            reader.response()


def test_a_length_hides_nothing(echoing: Stage) -> None:
    with echoing.connect() as client:
        client.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN + GET + b"\r\n")
        reader = Reader(client)
        assert reader.response().body.endswith(HIDDEN)
        assert reader.response().body.startswith(b"GET / HTTP/1.1")


def test_a_body_of_an_upgrade_request_is_a_body(echoing: Stage) -> None:
    for framing, body in (
        (b"Content-Length: %d\r\n\r\n" % len(HIDDEN), HIDDEN),
        (b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(HIDDEN), HIDDEN + b"\r\n0\r\n\r\n"),
    ):
        with echoing.connect() as client:
            client.sendall(POST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + framing + body + GET + b"\r\n")
            reader = Reader(client)
            assert reader.response().body.endswith(HIDDEN)
            assert reader.response().body.startswith(b"GET / HTTP/1.1")


def test_h2c_is_not_passed_on(echoing: Stage) -> None:
    with echoing.connect() as client:
        client.sendall(
            GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n" + HIDDEN
        )
        reader = Reader(client)
        first = reader.response().body.lower()
        assert b"h2c" not in first
        assert b"http2" not in first
        assert b"/hidden" in reader.response().body


def test_pipelined_requests_are_answered_in_order(echoing: Stage) -> None:
    with echoing.connect() as client:
        requests = [GET.replace(b"/ ", b"/%d " % number, 1) + b"\r\n" for number in range(20)]
        requests[7] = POST.replace(b"/ ", b"/7 ", 1) + b"Content-Length: 3\r\n\r\nabc"
        client.sendall(b"".join(requests))
        reader = Reader(client)
        for number in range(20):
            assert reader.response().body.split(b" ")[1] == b"/%d" % number


def test_a_bad_request_behind_a_good_one_is_refused_in_its_turn(echoing: Stage) -> None:
    with echoing.connect() as client:
        client.sendall(GET + b"\r\n" + b"GET / HTTP/1.1\r\n\r\n" + HIDDEN)
        reader = Reader(client)
        assert reader.response().status == 200
        assert reader.response().status == 400
        assert reader.closed()


def test_a_half_closed_client_is_answered(stage: Stage) -> None:
    gate = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        await gate.wait()
        return await answering(b"late")(reader, writer, head)

    worker = serve(stage, slow)
    with stage.connect() as client:
        client.sendall(GET + b"\r\n")
        client.shutdown(socket.SHUT_WR)
        while not worker.requests:  # type: ignore[attr-defined]
            stage.report()
        stage.run(asyncio.sleep(0))
        stage._loop.call_soon_threadsafe(gate.set)
        reader = Reader(client)
        assert reader.response().body == b"late"
        assert reader.closed()


def test_half_a_request_is_never_taken_for_a_whole(stage: Stage) -> None:
    seen: list[bytes] = []

    async def recording(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        seen.append(head + await reader.read())
        return False

    serve(stage, recording)
    for framing in (b"Content-Length: 10\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"):
        with stage.connect() as client:
            client.sendall(POST + framing)
            client.shutdown(socket.SHUT_WR)
            assert Reader(client).rest() == b""
    assert all(b"\r\n0\r\n" not in request and not request.endswith(b"0\r\n\r\n") for request in seen)


def test_chunks_and_trailers_go_both_ways(stage: Stage) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        from router_process import read_body

        body = await read_body(reader, head)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
        for at in range(0, len(body), 7):
            writer.write(b"%x\r\n%b\r\n" % (len(body[at : at + 7]), body[at : at + 7]))
        writer.write(b"0\r\nX-Sum: 1\r\nSet-Cookie: a=b\r\n\r\n")
        return True

    serve(stage, handler)
    with stage.connect() as client:
        reader = Reader(client)
        for _ in range(3):
            client.sendall(POST + b"TE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n")
            client.sendall(b"6\r\n world\r\n0\r\nX-Up: 2\r\nHost: evil\r\n\r\n")
            response = reader.response()
            assert response.body == b"hello worldtrailer X-Up: 2\r\n"
            assert response.trailers == b"X-Sum: 1\r\n"


def test_an_http_1_0_client_gets_a_length_or_a_close(stage: Stage) -> None:
    serve(
        stage, saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", then_close=False)
    )
    with stage.connect() as client:
        client.sendall(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        reader = Reader(client)
        response = reader.response()
        assert response.one("transfer-encoding") is None
        assert response.one("connection") == "close"
        assert response.body == b"abc"
    serve(stage, answering(b"abc"))
    with stage.connect() as client:
        reader = Reader(client)
        for _ in range(2):
            client.sendall(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            response = reader.response()
            assert response.one("connection") == "keep-alive"
            assert response.body == b"abc"


@pytest.mark.parametrize(
    ("answer", "method"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"HEAD"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HEAD"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"GET"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: x\r\n\r\n", b"GET"),
    ],
)
def test_a_response_without_a_body_leaves_both_connections_usable(stage: Stage, answer: bytes, method: bytes) -> None:
    worker = serve(stage, saying(answer, then_close=False))
    with stage.connect() as client:
        reader = Reader(client)
        for _ in range(3):
            client.sendall(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
            response = reader.response(head_only=True)
            assert response.raw_head.startswith(answer.split(b" ")[0])
            assert response.cookie()
        assert (b"1000" in answer) == (response.one("content-length") == "1000")
    assert worker.connections == 1  # type: ignore[attr-defined]


def test_a_body_that_ends_with_the_connection(stage: Stage) -> None:
    serve(stage, saying(b"HTTP/1.1 200 OK\r\n\r\nall of it"))
    with stage.connect() as client:
        reader = Reader(client)
        for _ in range(2):
            client.sendall(GET + b"\r\n")
            response = reader.response()
            assert response.one("transfer-encoding") == "chunked"
            assert response.body == b"all of it"


def test_100_continue_comes_from_the_worker(stage: Stage) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        assert b"\r\nExpect: 100-continue\r\n" in head
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await echo(reader, writer, head)

    serve(stage, handler)
    with stage.connect() as client:
        reader = Reader(client)
        client.sendall(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert reader.response(informational=True).status == 100
        client.sendall(b"abc")
        assert reader.response().body.endswith(b"abc")


def test_an_early_refusal_saves_the_body(stage: Stage) -> None:
    serve(stage, saying(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", then_close=False))
    with stage.connect() as client:
        reader = Reader(client)
        client.sendall(POST + b"Content-Length: 300000\r\nExpect: 100-continue\r\n\r\n")
        response = reader.response()
        assert (response.status, response.body, response.one("connection")) == (403, b"no", "close")


def test_an_expectation_that_the_worker_does_not_meet_is_its_to_refuse(stage: Stage) -> None:
    serve(stage, saying(b"HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno", then_close=False))
    with stage.connect() as client:
        client.sendall(POST + b"Content-Length: 300000\r\nExpect: 100-continue\r\n\r\n")
        reader = Reader(client)
        response = reader.response()
        assert (response.status, response.body, response.one("connection")) == (417, b"no", "close")
        assert reader.closed()


def test_a_client_that_does_not_wait_for_100_is_served(stage: Stage) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        if b"/silent" not in head:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await echo(reader, writer, head)

    serve(stage, handler)
    with stage.connect() as client:
        reader = Reader(client)
        for target in (b"/", b"/silent", b"/"):
            expecting = b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"
            client.sendall(POST.replace(b"/ ", target + b" ", 1) + expecting)
            assert reader.response().body.endswith(b"abc")


def test_early_hints_pass(stage: Stage) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    serve(stage, saying(hints + b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", then_close=False))
    with stage.connect() as client:
        reader = Reader(client)
        client.sendall(GET + b"\r\n")
        assert reader.response(informational=True).raw_head == hints
        assert reader.response().body == b"x"
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert reader.response(informational=True).status == 200


def test_an_upgrade_becomes_a_tunnel(stage: Stage) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        assert b"\r\nUpgrade: shout\r\n" in head
        writer.write(b"HTTP/1.1 101 Sure\r\nConnection: upgrade\r\nUpgrade: shout\r\nX-Accept: 1\r\n\r\nhello ")
        while data := await reader.read(4096):
            writer.write(data.upper())
        writer.write(b" bye")
        return False

    serve(stage, handler)
    with stage.connect() as client:
        reader = Reader(client)
        client.sendall(GET + b"Connection: Upgrade\r\nUpgrade: shout\r\n\r\nearly ")
        response = reader.response()
        assert response.status == 101
        assert response.one("upgrade") == "shout"
        assert response.one("x-accept") == "1"
        assert response.cookie()
        assert sorted(reader.exactly(12)) == sorted(b"hello EARLY ")
        assert stage.report()["revisions"]["R1"]["upgraded"] == 1
        client.sendall(b"x" * 200_000)
        assert reader.exactly(200_000) == b"X" * 200_000
        client.shutdown(socket.SHUT_WR)
        assert reader.rest() == b" bye"
    assert stage.report()["revisions"]["R1"]["upgraded"] == 0


def test_a_refused_upgrade_leaves_http(stage: Stage) -> None:
    serve(stage, answering(b"no", status=b"426 Upgrade Required"))
    with stage.connect() as client:
        reader = Reader(client)
        client.sendall(GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + GET + b"\r\n")
        assert reader.response().status == 426
        assert reader.response().status == 426


UPGRADE = GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_what_is_pipelined_behind_refused_upgrades_is_answered_to_a_half_closed_client(echoing: Stage) -> None:
    with echoing.connect() as client:
        client.sendall(UPGRADE + UPGRADE + HIDDEN + POST + b"Content-Length: 3\r\n\r\nabc")
        client.shutdown(socket.SHUT_WR)
        reader = Reader(client)
        assert reader.response().body.startswith(b"GET / ")
        assert reader.response().body.startswith(b"GET / ")
        assert reader.response().body.startswith(b"GET /hidden ")
        assert reader.response().body.endswith(b"abc")
        assert reader.closed()


def test_any_number_of_upgrades_that_are_refused_at_once_is_answered(stage: Stage) -> None:
    stage.configure(table(deployment([revision("R1", 1)], hosts=("elsewhere",))))
    with stage.connect() as client:
        client.sendall(UPGRADE * 3000)
        reader = Reader(client)
        for _ in range(3000):
            assert reader.response().status == 404


def test_events_are_not_held_back(stage: Stage) -> None:
    steps: asyncio.Queue[None] = asyncio.Queue()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            writer.write(b"9\r\ndata: %d\n\n\r\n" % number)
            await writer.drain()
            await steps.get()
        writer.write(b"0\r\n\r\n")
        return True

    serve(stage, handler)
    with stage.connect() as client:
        reader = Reader(client)
        client.sendall(GET + b"\r\n")
        reader.head()
        for number in range(3):
            assert reader.until(b"\n\n").endswith(b"data: %d\n\n" % number)
            stage._loop.call_soon_threadsafe(steps.put_nowait, None)
        assert reader.until(b"0\r\n\r\n")


def test_options_of_the_whole_server(echoing: Stage) -> None:
    assert echoing.ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").body.startswith(b"OPTIONS * HTTP/1.1\r\n")


def test_an_absolute_url_is_sent_on_as_a_path(echoing: Stage) -> None:
    assert echoing.ask(b"GET http://A/x?y HTTP/1.1\r\nHost: a\r\n\r\n").body.startswith(b"GET /x?y HTTP/1.1\r\nHost: A")
    assert echoing.ask(b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n").body.startswith(b"GET / HTTP/1.1\r\nHost: a")


COMPLETE = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("framing", COMPLETE)
def test_a_worker_that_closes_at_any_byte_never_looks_complete(stage: Stage, framing: str) -> None:
    whole = COMPLETE[framing]
    said = whole

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(said)
        return False

    serve(stage, handler)
    for cut in range(len(whole) + 1):
        said = whole[:cut]
        try:
            response = stage.get()
        except Closed:
            assert b"\r\n\r\n" in said, "a response that has not begun is answered with 502"
            assert cut < len(whole)
            continue
        if cut == len(whole):
            assert response.body == b"0123456789"
        else:
            assert response.status == 502
            assert json.loads(response.body)["error"]["kind"] in ("worker-closed", "response-truncated")


@pytest.mark.parametrize(
    "garbage",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nboo",
        b"HTTP/1.1 999 Beyond\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_garbage_of_a_worker_is_a_bad_gateway(stage: Stage, garbage: bytes) -> None:
    serve(stage, saying(garbage))
    response = stage.get()
    assert response.status == 502
    assert b"127.0.0.1" not in response.body
    assert json.loads(response.body)["error"]["revision"] == "R1"


def test_what_follows_a_response_is_not_given_to_the_next_visitor(stage: Stage) -> None:
    once = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    worker = serve(stage, saying(once + once.replace(b"ok", b"no"), then_close=False))
    assert [stage.get().body for _ in range(4)] == [b"ok"] * 4
    assert worker.connections == 4  # type: ignore[attr-defined]
