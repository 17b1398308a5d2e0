"""Selection through real routers: who is believed, where sessions stay, and the cookie on every kind of response."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis_server import redis_server
from router_process import (
    SECRET,
    Handler,
    Reader,
    Response,
    Stage,
    answering,
    deployment,
    echo,
    revision,
    staged,
    table,
)

from greentic.router import trust
from greentic.router.compiled import compile_table
from greentic.router.keys import KeyRing, SigningKey
from greentic.router.table import RoutingTable

RING = KeyRing((SigningKey("k1", SECRET),))


@pytest.fixture
def stage() -> Iterator[Stage]:
    with staged() as stage:
        stage.start_router()
        yield stage


def halves(stage: Stage, generation: int = 1, handler: Handler = echo, *, share: int = 5_000, **more: Any) -> Any:
    """R1 and R2 with one worker, R3 ready without traffic."""
    worker = more.pop("worker", None) or stage.worker(handler)
    rows = [revision("R1", worker.port), revision("R2", worker.port), revision("R3", worker.port)]
    rows[2]["name"] = "v3"
    slots = [run for run in ([share, 0], [10_000 - share, 1]) if run[0]]
    document = table(deployment(rows, slots, generation=generation), version=generation)
    document["options"] |= more.pop("options", {})
    document |= more
    stage.configure(document)
    return worker


def served(response: Response) -> tuple[str | None, str | None]:
    return response.one("x-greentic-revision"), response.one("x-greentic-reason")


def other(name: str | None) -> str:
    return {"R1": "R2", "R2": "R1"}[name or ""]


# Who is believed


def test_strangers_name_nothing_and_no_worker_is_told(stage: Stage) -> None:
    halves(stage)
    response = stage.get("/", "X-Greentic-Revision: v3", "X-Greentic-User: ann", "X-Greentic-Trust: forged")
    assert served(response)[1] == "sequence"
    for word in (b"ann", b"greentic-user", b"greentic-revision", b"greentic-trust", b"forged"):
        assert word not in response.body.lower()


def test_a_network_of_trusted_callers_names_revisions_and_users(stage: Stage) -> None:
    halves(stage, options={"trusted_callers": ["127.0.0.0/8"]})
    for name in ("v3", "R3"):
        response = stage.get("/", f"X-Greentic-Revision: {name}")
        assert served(response) == ("R3", "header")
        assert response.all("set-cookie") == []
        assert b"greentic-revision" not in response.body.lower()
    missing = stage.get("/", "X-Greentic-Revision: v9")
    assert (missing.status, json.loads(missing.body)["error"]["kind"]) == (404, "revision-not-served")
    users = [stage.get("/", f"X-Greentic-User: user-{number}") for number in range(12)]
    assert {served(user)[1] for user in users} == {"key"}
    assert len({served(user)[0] for user in users}) == 2
    for number, user in enumerate(users):
        assert b"\r\nX-Greentic-User: user-%d\r\n" % number in user.body
        assert served(stage.get("/", f"X-Greentic-User: user-{number}")) == served(user)


def test_a_trust_token_until_it_ends_also_on_one_connection(stage: Stage) -> None:
    halves(stage)
    end = int(time.time()) + 3
    good = trust.mint(RING, "local", "D1", end)
    for token in (trust.mint(RING, "local", "D2", end), trust.mint(RING, "other", None, end), good[:-2]):
        response = stage.get("/", f"X-Greentic-Trust: {token}", "X-Greentic-Revision: R3", "X-Greentic-User: ann")
        assert served(response)[1] == "sequence"
        assert b"ann" not in response.body
    request = f"GET / HTTP/1.1\r\nHost: a\r\nX-Greentic-Trust: {good}\r\nX-Greentic-User: ann\r\n\r\n".encode()
    with stage.connect() as client:
        reader = Reader(client)
        reasons = []
        deadline = time.monotonic() + 20
        # The very same bytes, which the router recalls: believed until the end, and not a request longer.
        while "sequence" not in reasons and time.monotonic() < deadline:
            client.sendall(request)
            response = reader.response()
            reasons.append(served(response)[1])
            assert (b"X-Greentic-User: ann" in response.body) == (reasons[-1] == "key")
            assert good.encode() not in response.body
            time.sleep(0.02)
    assert reasons[0] == "key"
    assert reasons[-1] == "sequence"
    assert time.time() >= end


# Keys and sessions


def test_a_session_has_one_place_on_every_router() -> None:
    """Two routers that share nothing but the table."""
    places = []
    for _ in range(2):
        with staged() as stage:
            stage.start_router()
            halves(stage)
            places.append([served(stage.get("/", f"X-Greentic-Session: s{number}"))[0] for number in range(20)])
    assert places[0] == places[1]
    assert set(places[0]) == {"R1", "R2"}


def test_the_slot_follows_from_the_secret_of_the_slots(stage: Stage) -> None:
    document = halves_document(stage)
    document["keys"] = {**document["keys"], "slots": base64.b64encode(bytes(range(7, 39))).decode()}
    stage.configure(document)
    compiled = compile_table(RoutingTable.parse(document)).deployments["D1"]
    for number in range(10):
        owner = compiled.revisions[compiled.slots[compiled.slot_of(b"cc%d" % number)]]
        assert served(stage.get("/", f"X-Greentic-Client: c{number}")) == (owner.revision_id, "key")


def halves_document(stage: Stage) -> dict[str, Any]:
    worker = stage.worker(echo)
    rows = [revision("R1", worker.port), revision("R2", worker.port)]
    return table(deployment(rows, [[5_000, 0], [5_000, 1]]))


def test_a_session_stays_when_the_dial_moves_and_leaves_with_its_revision(stage: Stage) -> None:
    worker = halves(stage)
    first = stage.get("/", "X-Greentic-Session: s")
    name, reason = served(first)
    assert reason == "key"
    keeps = 100 if name == "R1" else 9_900
    halves(stage, 2, worker=worker, share=keeps)
    again = stage.get("/", "X-Greentic-Session: s")
    assert served(again)[0] == name
    # Without the pin most sessions would have moved with the slots: this one is held by its pin, or by its slot.
    moved = [number for number in range(200) if served(stage.get("/", f"X-Greentic-Client: {number}"))[0] != name]
    assert len(moved) > 180
    halves(stage, 3, worker=worker, share=0 if name == "R1" else 10_000)
    assert served(stage.get("/", "X-Greentic-Session: s")) == (other(name), "key")


def pinned_session(stage: Stage, worker: Any, generation: int) -> tuple[str, str]:
    """A session whose pin is to R1 although its slot is R2's."""
    compiled = compile_table(RoutingTable.parse(halves_document(stage))).deployments["D1"]
    session = next(f"s{number}" for number in range(1000) if compiled.slot_of(b"ss%d" % number) >= 5_000)
    halves(stage, generation, worker=worker, share=10_000)
    assert served(stage.get("/", f"X-Greentic-Session: {session}")) == ("R1", "key")
    halves(stage, generation + 1, worker=worker, share=5_000)
    return session, f"X-Greentic-Session: {session}"


def test_a_session_pin_is_told_as_such_and_its_cookie_prolongs_nothing(stage: Stage) -> None:
    worker = stage.worker(echo)
    _, field = pinned_session(stage, worker, 1)
    response = stage.get("/", field)
    assert served(response) == ("R1", "session")
    payload = response.cookie().partition("=")[2].partition(".")[0]
    said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert (said["r"], said["g"]) == ("R1", 1)
    assert said["s"] >= 5_000
    report = stage.report()["revisions"]
    assert report["R1"]["pins"]["session"] == 1
    assert report["R1"]["selections"]["session"] == 1


@pytest.mark.parametrize(
    ("status", "pins"),
    [
        (b"200 OK", True), (b"204 No Content", True), (b"304 Not Modified", True), (b"302 Found", False),
        (b"400 Bad Request", False), (b"401 Unauthorized", False), (b"403 Forbidden", False),
        (b"429 Too Many Requests", False), (b"500 Internal Server Error", False),
    ],
)  # fmt: skip
def test_a_strangers_session_is_pinned_once_a_worker_accepted_it(stage: Stage, status: bytes, pins: bool) -> None:
    body = b"" if status[:3] in (b"204", b"304") else b"x"
    halves(stage, handler=answering(body, status=status))
    stage.get("/", "X-Greentic-Session: s")
    counted = sum(row["pins"]["session"] for row in stage.report()["revisions"].values())
    assert counted == int(pins)


def test_a_trusted_callers_session_is_pinned_at_once(stage: Stage) -> None:
    halves(stage, handler=answering(b"x", status=b"401 Unauthorized"), options={"trusted_callers": ["127.0.0.1"]})
    stage.get("/", "X-Greentic-Session: s")
    assert sum(row["pins"]["session"] for row in stage.report()["revisions"].values()) == 1


# The cookie on every kind of response


def raw(head: bytes, body: bytes = b"") -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: bytes) -> bool:
        writer.write(head + b"\r\n\r\n" + body)
        await writer.drain()
        return False

    return handler


@pytest.mark.parametrize(
    ("name", "request_head", "response"),
    [
        ("plain", "GET / HTTP/1.1", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1", b"x")),
        ("head", "HEAD / HTTP/1.1", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1")),
        ("no content", "GET / HTTP/1.1", raw(b"HTTP/1.1 204 No Content")),
        ("not modified", "GET / HTTP/1.1", raw(b"HTTP/1.1 304 Not Modified\r\nETag: x")),
        ("redirect", "GET / HTTP/1.1", raw(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0")),
        ("client error", "GET / HTTP/1.1", raw(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0")),
        ("server error", "GET / HTTP/1.1", raw(b"HTTP/1.1 500 Oops\r\nContent-Length: 0")),
        ("chunked", "GET / HTTP/1.1", raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"1\r\nx\r\n0\r\n\r\n")),
        ("until the end", "GET / HTTP/1.1", raw(b"HTTP/1.1 200 OK", b"x")),
        ("to 1.0", "GET / HTTP/1.0", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1", b"x")),
        ("after early hints", "GET / HTTP/1.1",
         raw(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1", b"x")),
        ("events", "GET / HTTP/1.1",
         raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked",
             b"9\r\ndata: x\n\n\r\n0\r\n\r\n")),
        ("post", "POST / HTTP/1.1\r\nContent-Length: 0", raw(b"HTTP/1.1 201 Created\r\nContent-Length: 0")),
        ("upgrade", "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket",
         raw(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket")),
        ("refused upgrade", "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket",
         raw(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0")),
        ("a worker's own cookies", "GET / HTTP/1.1",
         raw(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("secure", [False, True])
def test_the_cookie_is_set_on_every_kind_of_response(
    stage: Stage, name: str, request_head: str, response: Handler, secure: bool
) -> None:
    halves(stage, handler=response, options={"secure_cookies": secure})
    with stage.connect() as client:
        client.sendall(f"{request_head}\r\nHost: a\r\n\r\n".encode())
        answer = Reader(client).response(head_only=request_head.startswith("HEAD"))
        (line,) = [value for value in answer.all("set-cookie") if value.startswith("_gt_rev_D1=")]
    attributes = line.split("; ")[1:]
    assert attributes[:3] == ["Path=/", "HttpOnly", "SameSite=Lax"]
    assert ("Secure" in attributes) == secure
    assert len(answer.all("set-cookie")) == (3 if name == "a worker's own cookies" else 1)


def test_the_cookie_is_secure_behind_a_proxy_that_speaks_tls(stage: Stage) -> None:
    halves(stage, options={"trusted_proxies": ["127.0.0.1"]})
    fields = ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https")
    assert "Secure" in stage.get("/", *fields).all("set-cookie")[0].split("; ")
    assert "Secure" not in stage.get("/").all("set-cookie")[0].split("; ")


# Live pins and drains


def test_cookie_pins_are_counted_once_per_visitor(stage: Stage) -> None:
    worker = halves(stage)
    cookies = [stage.get("/").cookie() for _ in range(10)]
    for cookie in cookies:
        assert served(stage.get("/", f"Cookie: {cookie}"))[1] == "cookie"
    counted = {name: row["pins"]["cookie"] for name, row in stage.report()["revisions"].items()}
    assert counted == {"R1": 5, "R2": 5, "R3": 0}
    # R2 leaves: its pins hold no more, and its visitors get others in their place.
    halves(stage, 2, worker=worker, share=10_000)
    assert stage.report()["revisions"]["R2"]["pins"]["cookie"] == 0
    for cookie in cookies:
        stage.get("/", f"Cookie: {cookie}")
    assert stage.report()["revisions"]["R1"]["pins"]["cookie"] == 10


def test_a_drain_waits_for_honoured_pins_and_says_which_were_cut(stage: Stage) -> None:
    worker = stage.worker(echo)

    def leaving(version: int, until: float) -> None:
        rows = [revision("R1", worker.port), {**revision("R2", worker.port, state="draining"), "honour_until": until}]
        row = {**deployment(rows, [[10_000, 0]], generation=2), "pin_seconds": 1}
        stage.configure(table(row, version=version))

    rows = [revision("R1", worker.port), revision("R2", worker.port)]
    stage.configure(table(deployment(rows, [[5_000, 0], [5_000, 1]])))
    visitors = [stage.get("/") for _ in range(6)]
    kept = [visitor.cookie() for visitor in visitors if served(visitor)[0] == "R2"]
    assert len(kept) == 3
    leaving(2, int(time.time()) + 1000)
    draining = stage.later(stage.control.drain("R2", 1.0))
    assert served(stage.get("/", f"Cookie: {kept[0]}")) == ("R2", "cookie")
    report = draining.result(20)
    assert (report.finished, report.cut.total, report.pins_cut) == (1, 0, 3)
    # The promise ends: the drain does, long before its deadline.
    end = int(time.time()) + 2
    leaving(3, end)
    began = time.time()
    report = stage.run(stage.control.drain("R2", 60), timeout=30)
    assert report.pins_cut == 0
    assert began < end <= time.time() < end + 5


# Redis


def shared(server: Any, **more: Any) -> dict[str, Any]:
    return {"pins": {"kind": "greentic.sessions.redis", "settings": server.settings(**more)}}


def test_fifty_first_requests_over_two_routers_land_on_one_revision(tmp_path: Path) -> None:
    """The routers disagree on the table, as they may while the dial moves: the first pin decides."""
    with redis_server(tmp_path) as redis, staged() as one, staged() as two:
        for stage, share in ((one, 10_000), (two, 0)):
            stage.start_router()
            rows = [revision("R1", stage.worker(echo).port), revision("R2", stage.worker(echo).port)]
            # A revision without a share is not routable, and its pins do not hold: give the other one slot.
            slots = [[9_999, 0], [1, 1]] if share else [[1, 0], [9_999, 1]]
            document = table(deployment(rows, slots))
            document["options"] |= {"trusted_callers": ["127.0.0.1"]}
            stage.configure(document | shared(redis))
        with ThreadPoolExecutor(16) as pool:
            for session in ("a", "b", "c"):
                field = f"X-Greentic-Session: {session}"
                asked = [pool.submit((one, two)[number % 2].get, "/", field) for number in range(50)]
                answers = [future.result(30) for future in asked]
                assert {answer.status for answer in answers} == {200}
                assert len({served(answer)[0] for answer in answers}) == 1
                assert {served(answer)[1] for answer in answers} == {"key", "session"}
        assert one.report()["sessions"]["failures"] == two.report()["sessions"]["failures"] == {}


def test_sessions_survive_their_router(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis:
        with staged() as stage:
            stage.start_router()
            worker = stage.worker(echo)
            session, field = "", ""
            compiled = compile_table(RoutingTable.parse(halves_document(stage))).deployments["D1"]
            session = next(f"s{number}" for number in range(1000) if compiled.slot_of(b"ss%d" % number) >= 5_000)
            field = f"X-Greentic-Session: {session}"
            halves(stage, 1, worker=worker, share=10_000, **shared(redis))
            assert served(stage.get("/", field)) == ("R1", "key")
            deadline = time.monotonic() + 10
            while not redis.ask("KEYS", "gt:pin:*") and time.monotonic() < deadline:
                pass  # nobody waits for the pin of a caller who proves nothing
            assert session not in redis.ask("KEYS", "*")
        with staged() as stage:
            stage.start_router()
            halves(stage, 2, share=5_000, **shared(redis))
            assert served(stage.get("/", field)) == ("R1", "session")


def test_an_outage_of_redis_fails_no_request(tmp_path: Path) -> None:
    with staged() as stage:
        stage.start_router()
        with redis_server(tmp_path) as redis:
            worker = halves(stage, **shared(redis, timeout_ms=50))
            place = served(stage.get("/", "X-Greentic-Session: s"))[0]
            port = redis.port
        for _ in range(30):
            assert served(stage.get("/", "X-Greentic-Session: s")) == (place, "key")
        sessions = stage.report()["sessions"]
        assert sessions["failures"]["connection"] >= 5
        assert sessions["interruptions"] == 1
        with redis_server(tmp_path, port) as redis:
            deadline = time.monotonic() + 20
            while stage.report()["sessions"]["failures"].get("interrupted", 0) >= 0 and time.monotonic() < deadline:
                stage.get("/", "X-Greentic-Session: s")
                if redis.ask("KEYS", "gt:pin:*"):
                    break
            assert redis.ask("KEYS", "gt:pin:*")
        halves(stage, 2, worker=worker)
        assert stage.report()["sessions"]["kind"] == "greentic.sessions.in-memory"


def test_a_body_that_comes_while_redis_is_asked_arrives_whole(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, staged() as stage:
        stage.start_router()
        halves(stage, **shared(redis, timeout_ms=500))
        stage.get("/", "X-Greentic-Session: warm")
        redis.ask("CLIENT", "PAUSE", "200", "ALL")
        body = bytes(range(256)) * 2_000
        with stage.connect() as client:
            head = f"POST / HTTP/1.1\r\nHost: a\r\nX-Greentic-Session: s\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            response = Reader(client).response()
        assert response.body.endswith(body)
        # And a client that leaves meanwhile leaves nothing behind.
        redis.ask("CLIENT", "PAUSE", "200", "ALL")
        with socket.create_connection(("127.0.0.1", stage.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Greentic-Session: gone\r\n\r\n")
            deadline = time.monotonic() + 10
            while not stage.report()["connections"] and time.monotonic() < deadline:
                pass
        while (report := stage.report())["connections"] and time.monotonic() < deadline:
            pass
        assert report["connections"] == 0
        assert all(row["in_flight"] == 0 for row in report["revisions"].values())


def test_no_request_goes_by_an_older_table_than_was_acknowledged_while_redis_was_asked(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, staged() as stage:
        stage.start_router()
        worker = halves(stage, share=10_000, **shared(redis, timeout_ms=500))
        stage.get("/", "X-Greentic-Session: warm")
        redis.ask("CLIENT", "PAUSE", "150", "ALL")
        with stage.connect() as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Greentic-Session: s\r\n\r\n")
            # The router has the request: it answers a question that came after it.
            assert stage.get("/").status == 200
            halves(stage, 2, worker=worker, share=0, **shared(redis, timeout_ms=500))
            response = Reader(client).response()
        assert served(response) == ("R2", "key")


def test_pins_of_all_routers_are_counted(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, staged() as stage:
        stage.start_router()
        halves(stage, options={"trusted_callers": ["127.0.0.1"]}, **shared(redis))
        for number in range(8):
            stage.get("/", f"X-Greentic-Session: s{number}")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            counted = {name: row["pins"]["session"] for name, row in stage.report()["revisions"].items()}
            if sum(counted.values()) == 8:
                break
        assert sum(counted.values()) == 8


def test_a_store_that_cannot_be_opened_stands_in_no_tables_way(stage: Stage) -> None:
    worker = stage.worker(echo)
    document = table(deployment([revision("R1", worker.port)]))
    secret = {"url": "nonsense://x", "namespace": "gt", "timeout_ms": 50, "password": "hunter2"}
    for kind in ("greentic.sessions.redis", "acme.sessions.nowhere"):
        acknowledged = stage.configure(document | {"pins": {"kind": kind, "settings": secret}})
        assert kind in acknowledged.warnings[0]
        assert "hunter2" not in repr(acknowledged)
        assert served(stage.get("/", "X-Greentic-Session: s")) == ("R1", "key")
