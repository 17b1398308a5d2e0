"""HTTPS through a real router: handshakes good and bad, reload, client certificates, closes and slow clients."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Identity, identity
from router_process import (
    Closed,
    Reader,
    Stage,
    answering,
    deployment,
    echo,
    resident_bytes,
    revision,
    saying,
    staged,
    table,
)

from greentic.spec.errors import SpecViolation

AUTHORITY = identity("authority")
SERVER = identity("localhost", AUTHORITY)
OTHER = identity("localhost", AUTHORITY)
CLIENTS = identity("clients")
GOOD = identity("operator", CLIENTS, client=True)
STRANGER = identity("stranger", identity("strangers"), client=True)
EXPIRED = identity("expired", CLIENTS, client=True, days=-1)
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged() as stage:
        stage.start_router()
        yield stage


def material(server: Identity = SERVER, clients: Identity | None = None) -> dict[str, str]:
    found = {"certificate": server.pem + AUTHORITY.pem, "private_key": server.key_pem}
    return found if clients is None else found | {"client_authorities": clients.pem}


def serve(stage: Stage, handler: Any, tls: Any, **limits: float) -> Any:
    worker = stage.worker(handler)
    configure(stage, worker, tls, **limits)
    return worker


def configure(stage: Stage, worker: Any, tls: Any, **limits: float) -> None:
    stage.configure(table(deployment([revision("R1", worker.port)]), **limits) | {"tls": tls})


def context(tmp_path: Path | None = None, client: Identity | None = None, **changes: Any) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(cadata=AUTHORITY.pem)
    made.set_alpn_protocols(["h2", "http/1.1"])
    for name, value in changes.items():
        setattr(made, name, value)
    if client is not None:
        assert tmp_path is not None
        path = tmp_path / "client.pem"
        path.write_text(client.pem + client.key_pem)
        made.load_cert_chain(path)
    return made


def connect(stage: Stage, using: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    raw = stage.connect()
    try:
        return (using or context()).wrap_socket(raw, server_hostname="localhost")
    except BaseException:
        raw.close()
        raise


def plain(client: ssl.SSLSocket) -> socket.socket:
    """The socket beneath."""
    raw = socket.socket(fileno=client.detach())
    raw.settimeout(10)
    return raw


def ask(stage: Stage, using: ssl.SSLContext) -> int:
    """The status of a GET on a connection of its own."""
    with connect(stage, using) as client:
        client.sendall(GET)
        return Reader(client).response().status


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_requests_over_tls(stage: Stage, version: ssl.TLSVersion) -> None:
    serve(stage, echo, material())
    with connect(stage, context(maximum_version=version)) as client:
        assert client.selected_alpn_protocol() == "http/1.1"
        reader = Reader(client)
        for _ in range(3):
            client.sendall(GET)
            response = reader.response()
            assert response.status == 200
            assert b"X-Forwarded-Proto: https\r\n" in response.body
            assert b";proto=https\r\n" in response.body
        body = bytes(range(256)) * 4096
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert reader.response().body.endswith(body)
        for number in range(20):
            client.sendall(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        for number in range(20):
            assert reader.response().body.startswith(b"GET /%d " % number)


def test_old_versions_are_refused(stage: Stage) -> None:
    serve(stage, echo, material())
    using = context()
    using.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the old versions
        using.minimum_version = ssl.TLSVersion.TLSv1_1
        using.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        connect(stage, using)


def test_a_bad_record_ends_the_connection(stage: Stage) -> None:
    serve(stage, echo, material())
    with connect(stage) as client:
        client.sendall(GET)
        assert Reader(client).response().status == 200
        with plain(client) as raw:
            raw.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
            Reader(raw).rest()  # an alert at most
    with stage.connect() as client:
        client.sendall(b"\x16\x03\x01\x00\x05hello")
        Reader(client).rest()


def test_plain_http_on_a_tls_port_is_told_so(stage: Stage) -> None:
    serve(stage, echo, material())
    with stage.connect() as client:
        client.sendall(GET * 3)
        reader = Reader(client)
        response = reader.response()
        assert response.status == 400
        assert response.one("connection") == "close"
        assert json.loads(response.body)["error"]["kind"] == "https-expected"
        assert reader.closed()
    with stage.connect() as client:
        client.sendall(b"\x00\x01rubbish")
        assert Reader(client).closed()


def test_an_unfinished_handshake_counts_and_is_bounded(stage: Stage) -> None:
    """Neither silence nor half a greeting holds a place for long, and places are counted from the first byte."""
    serve(stage, echo, material(), handshake_seconds=0.5, max_connections=20)
    silent = [stage.connect() for _ in range(20)]
    try:
        for number, client in enumerate(silent):
            if number % 2:
                client.sendall(b"\x16\x03\x01")
        while stage.report()["connections"] < 20:
            pass
        with pytest.raises((ssl.SSLError, ConnectionError)):
            connect(stage)
        for client in silent:
            assert Reader(client).closed()
    finally:
        for client in silent:
            client.close()
    with connect(stage) as client:
        client.sendall(GET)
        assert Reader(client).response().status == 200


def test_a_new_certificate_reaches_new_connections_and_drops_none(stage: Stage) -> None:
    worker = serve(stage, echo, material())
    first, second = SERVER.certificate.serial_number, OTHER.certificate.serial_number

    def serial(client: ssl.SSLSocket) -> int:
        found = client.getpeercert()
        assert found is not None
        return int(str(found["serialNumber"]), 16)

    with connect(stage) as old:
        assert serial(old) == first
        reader = Reader(old)
        old.sendall(GET)
        assert reader.response().status == 200
        configure(stage, worker, material(OTHER))
        with connect(stage) as new:
            assert serial(new) == second
        for _ in range(2):
            old.sendall(GET)
            response = reader.response()
            assert (response.status, response.one("connection")) == (200, None)


def test_a_broken_pair_is_refused_and_what_was_served_is_served_on(stage: Stage) -> None:
    worker = serve(stage, echo, material())
    for broken, words in (
        (material() | {"private_key": OTHER.key_pem}, "not the certificate's"),
        (material() | {"certificate": "nonsense"}, "not PEM"),
        (material() | {"private_key": ""}, "not PEM"),
        (material() | {"client_authorities": "nonsense"}, "authorities"),
        (material() | {"certificate": "x" * 40_000}, "longer"),
        ({"certificate": 1}, "not PEM text"),
        ("x", "must be an object"),
    ):
        with pytest.raises(SpecViolation, match=words) as caught:
            configure(stage, worker, broken)
        assert "BEGIN" not in caught.value.message
        with connect(stage) as client:
            client.sendall(GET)
            assert Reader(client).response().status == 200


def test_tls_can_be_turned_on_and_off_under_open_connections(stage: Stage) -> None:
    """Those that are connected get one more answer, which says that it is the last."""
    worker = serve(stage, echo, None)
    with stage.connect() as plain:
        plain_reader = Reader(plain)
        plain.sendall(GET)
        assert plain_reader.response().one("connection") is None
        configure(stage, worker, material())
        plain.sendall(GET)
        assert plain_reader.response().one("connection") == "close"
        assert plain_reader.closed()
        with connect(stage) as secure:
            reader = Reader(secure)
            secure.sendall(GET)
            assert reader.response().one("connection") is None
            configure(stage, worker, None)
            secure.sendall(GET)
            assert reader.response().one("connection") == "close"
    assert stage.get().status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("shown", [STRANGER, EXPIRED], ids=["stranger", "expired"])
def test_a_bad_client_certificate_is_refused(
    stage: Stage, tmp_path: Path, shown: Identity, version: ssl.TLSVersion
) -> None:
    worker = serve(stage, echo, material(clients=CLIENTS))
    using = context(tmp_path, shown, maximum_version=version)
    with pytest.raises((ssl.SSLError, ConnectionError, Closed)):
        ask(stage, using)
    assert not worker.requests


def test_a_client_without_a_certificate_is_served_and_one_with_it_too(stage: Stage, tmp_path: Path) -> None:
    serve(stage, echo, material(clients=CLIENTS))
    for using in (context(), context(tmp_path, GOOD)):
        with connect(stage, using) as client:
            client.sendall(GET)
            assert Reader(client).response().status == 200
            assert not client.session_reused
    sessions = context(tmp_path, GOOD)
    with connect(stage, sessions) as client:
        client.sendall(GET)
        Reader(client).response()
        assert client.session is None or not client.session.has_ticket


def test_a_half_closed_client_is_answered(stage: Stage) -> None:
    gate = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        await gate.wait()
        return await answering(b"late" * 1000)(reader, writer, head)

    worker = serve(stage, slow, material())
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with stage.connect() as raw:

        def drive(step: Any) -> Any:
            while True:
                try:
                    done = step()
                    break
                except ssl.SSLWantReadError:
                    if data := outgoing.read():
                        raw.sendall(data)
                    incoming.write(raw.recv(65536))
            if data := outgoing.read():
                raw.sendall(data)
            return done

        drive(tls.do_handshake)
        drive(lambda: tls.write(GET))
        while not worker.requests:
            stage.report()
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        raw.sendall(outgoing.read())
        raw.shutdown(socket.SHUT_WR)
        stage._loop.call_soon_threadsafe(gate.set)
        said = b""
        try:
            while len(said) < 4000:
                said += drive(lambda: tls.read(65536))
        except ssl.SSLZeroReturnError:
            pass
        assert said.endswith(b"late")


def test_a_cut_without_a_goodbye_is_not_an_end(stage: Stage) -> None:
    """A tunnel's bytes and a request's body are not passed off as complete when the socket just ends."""
    seen: list[bytes] = []

    async def recording(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        seen.append(head + await reader.read())
        return False

    serve(stage, recording, material())
    client = connect(stage)
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    with plain(client) as raw:
        raw.shutdown(socket.SHUT_WR)
        Reader(raw).rest()
    assert all(not request.endswith(b"0\r\n\r\n") for request in seen)


def test_a_tunnel_over_tls(stage: Stage) -> None:
    async def shouting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(b"HTTP/1.1 101 Sure\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n")
        while data := await reader.read(4096):
            writer.write(data.upper())
            if b"." in data:
                break
        writer.write(b" bye")
        return False

    serve(stage, shouting, material())
    with connect(stage) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n")
        reader = Reader(client)
        assert reader.response().status == 101
        client.sendall(b"x" * 100_000)
        assert reader.exactly(100_000) == b"X" * 100_000
        client.sendall(b"end.")
        assert reader.rest() == b"END. bye"


def test_a_websocket_over_tls_is_told_when_it_is_cut(stage: Stage) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(b"HTTP/1.1 101 OK\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        await asyncio.sleep(20)  # and read nothing
        return False

    serve(stage, handler, material())
    with connect(stage) as client:
        client.sendall(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        reader = Reader(client)
        assert reader.head().status == 101
        client.sendall(b"\x82\xff" + (1 << 40).to_bytes(8) + b"mask" + b"x" * 100_000)
        assert stage.run(stage.control.drain("R1", 0)).cut.tunnels == 1
        client.sendall(b"x" * 100_000)
        assert reader.exactly(4) == b"\x88\x02\x03\xf4"
        assert client.recv(1) == b"", "an end in order (close_notify), not a reset"


def test_a_response_that_breaks_off_never_looks_complete(stage: Stage) -> None:
    serve(stage, saying(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc"), material())
    with connect(stage) as client:
        client.sendall(GET)
        with pytest.raises((Closed, ssl.SSLError)):
            Reader(client).response()


def test_a_refusal_reaches_a_client_that_is_still_sending(stage: Stage) -> None:
    serve(stage, echo, material(), max_body_bytes=1000)
    with connect(stage) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 200_000)
        response = Reader(client).response()
        assert (response.status, response.one("connection")) == (413, "close")


def test_a_client_that_does_not_read_costs_no_memory(stage: Stage) -> None:
    size = 100 * 1024 * 1024
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()
        return True

    serve(stage, endless, material())
    before = resident_bytes(stage.process.pid)
    with connect(stage) as client:
        client.sendall(GET)
        seen = -1
        while seen != sent or sent == 0:  # it stands still once every buffer on the way is full
            seen = sent
            stage.run(asyncio.sleep(0.2))
        assert sent < 20 * 1024 * 1024
        assert resident_bytes(stage.process.pid) - before < 16 * 1024 * 1024
        reader = Reader(client)
        assert reader.head().status == 200
        left = size
        while left:
            left -= len(reader.exactly(min(left, 1 << 20)))
    assert resident_bytes(stage.process.pid) - before < 32 * 1024 * 1024


def test_a_client_certificate_makes_its_caller_trusted(stage: Stage, tmp_path: Path) -> None:
    """Only trusted callers may name a revision; trust ends when its authority is taken back."""
    workers = [stage.worker(answering(name)) for name in (b"one", b"two")]
    rows = deployment([revision(f"R{number}", worker.port) for number, worker in enumerate(workers, 1)])

    def offer(clients: Identity | None, proxies: list[str]) -> None:
        document = table(rows) | {"tls": material(clients=clients)}
        document["options"]["trusted_proxies"] = proxies
        stage.configure(document)

    def named(client: ssl.SSLSocket, *fields: bytes) -> bytes:
        client.sendall(b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", b"X-Greentic-Revision: R2", *fields, b"", b""]))
        return Reader(client).response().body

    offer(CLIENTS, [])
    with connect(stage) as client:
        assert named(client) == b"one"
    with connect(stage, context(tmp_path, GOOD)) as client:
        assert named(client) == b"two"
        offer(CLIENTS, ["127.0.0.1/32"])
        assert named(client) == b"two"
        assert named(client, b"X-Forwarded-For: 192.0.2.1") == b"one", "a proxy's certificate is not its client's"
        offer(identity("other authority"), [])
        assert named(client) == b"one"
        assert Reader(client).closed()
