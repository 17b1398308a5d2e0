"""A router process over its life: tables, selection, limits, back-pressure, restarts of workers, drain and stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from router_process import (
    KEYS,
    Closed,
    Reader,
    Stage,
    answering,
    deployment,
    echo,
    read_body,
    resident_bytes,
    revision,
    saying,
    staged,
    table,
)

from greentic.router.preview import mint
from greentic.router.selection import REASONS
from greentic.router.table import RoutingTable
from greentic.spec.errors import SpecViolation

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with staged() as stage:
        stage.start_router()
        yield stage


def kind(response: Any) -> str:
    return str(json.loads(response.body)["error"]["kind"])


def two_versions(stage: Stage, slots: list[list[int]], **extra: Any) -> dict[str, Any]:
    if not hasattr(stage, "pair"):
        stage.pair = (stage.worker(answering(b"one")).port, stage.worker(answering(b"two")).port)  # type: ignore[attr-defined]
    first, second = stage.pair  # type: ignore[attr-defined]
    return table(deployment([revision("R1", first), revision("R2", second)], slots, **extra))


# Tables


def test_a_client_that_comes_before_the_first_table_waits_for_it(stage: Stage) -> None:
    worker = stage.worker(answering(b"x"))
    with stage.connect() as early:
        early.sendall(GET + b"\r\n")
        early.settimeout(0.3)
        with pytest.raises(TimeoutError):
            early.recv(1)
        early.settimeout(10)
        stage.configure(table(deployment([revision("R1", worker.port)])))
        assert Reader(early).response().status == 200


def test_a_refused_table_leaves_the_old_one(stage: Stage) -> None:
    worker = stage.worker(answering(b"x"))
    good = table(deployment([revision("R1", worker.port)]), version=7)
    acknowledgement = stage.configure(good)
    assert (acknowledgement.version, acknowledgement.generations) == (7, {"D1": 1})
    with pytest.raises(SpecViolation, match="total"):
        stage.configure(table(deployment([revision("R1", worker.port)], [[9_999, 0]]), version=8))
    assert stage.get().status == 200
    assert stage.report()["version"] == 7


def test_matching_by_host_and_path(stage: Stage) -> None:
    names = ["any", "api", "host"]
    ports = [stage.worker(answering(name.encode())).port for name in names]
    stage.configure(
        table(
            deployment([revision("R1", ports[0])], deployment_id="D1", hosts=("any.example",)),
            deployment([revision("R2", ports[1])], deployment_id="D2", path_prefixes=("/api",)),
            deployment([revision("R3", ports[2])], deployment_id="D3", hosts=("h.example",), path_prefixes=("/api",)),
        )
    )
    assert stage.get("/api/x", host="other").body == b"api"
    assert stage.get("/api/x", host="H.Example:80").body == b"host"
    assert stage.get("/apix", host="ANY.example.").body == b"any"
    missing = stage.get("/apix", host="other")
    assert (missing.status, kind(missing)) == (404, "no-route")
    tricky = stage.get("/api/../x", host="any.example")
    assert (tricky.status, kind(tricky)) == (400, "ambiguous-path")
    assert "Path=/api;" in stage.get("/api", host="other").all("set-cookie")[0]


# Selection


def test_shares_are_exact_for_new_visitors_and_cookies_hold(stage: Stage) -> None:
    stage.configure(two_versions(stage, [[9_900, 0], [100, 1]]))
    counts: Counter[bytes] = Counter()
    with stage.connect() as client:
        reader = Reader(client)
        for number in range(1, 401):
            client.sendall(GET + b"\r\n")
            response = reader.response()
            counts[response.body] += 1
            assert number // 100 <= counts[b"two"] <= -(-number // 100)
            if response.body == b"two":
                cookie = response.cookie()
    for _ in range(3):
        response = stage.get("/", f"Cookie: {cookie}")
        assert (response.body, response.one("x-greentic-reason")) == (b"two", "cookie")
        assert response.all("set-cookie") == []
    selections = stage.report()["revisions"]["R2"]["selections"]
    assert selections == {**dict.fromkeys(REASONS, 0), "cookie": 3, "sequence": 4}


def test_a_pin_ends_when_its_revision_leaves_and_the_slot_decides(stage: Stage) -> None:
    stage.configure(two_versions(stage, [[5_000, 0], [5_000, 1]]))
    cookies = {}
    while len(cookies) < 2:
        response = stage.get()
        cookies[response.body] = response.cookie()
    stage.configure(two_versions(stage, [[10_000, 0]], generation=2))
    moved = stage.get("/", f"Cookie: {cookies[b'two']}")
    assert (moved.body, moved.one("x-greentic-reason")) == (b"one", "slot")
    # The same slots again: the first visitor never moved, the second lands where the table says.
    stage.configure(two_versions(stage, [[5_000, 0], [5_000, 1]], generation=3))
    assert stage.get("/", f"Cookie: {moved.cookie()}").body == b"one"
    back = stage.get("/", f"Cookie: {cookies[b'two']}")
    assert (back.body, back.one("x-greentic-reason")) == (b"two", "cookie")


def test_a_reload_keeps_the_place_in_the_sequence(stage: Stage) -> None:
    counts: Counter[bytes] = Counter()
    for number in range(1, 101):
        stage.configure({**two_versions(stage, [[7_500, 0], [2_500, 1]], generation=number), "version": number})
        counts[stage.get().body] += 1
        assert number // 4 <= counts[b"two"] <= -(-number // 4)


def test_a_preview_reaches_a_revision_without_traffic(stage: Stage) -> None:
    document = two_versions(stage, [[10_000, 0]])
    document["options"]["stamp_revision"] = False
    stage.configure(document)
    keys = RoutingTable.parse(document).keys
    token = mint(keys, "D1", "R2", int(time.time()) + 60)
    for response in (
        stage.get("/", f"X-Greentic-Preview: {token}"),
        stage.get(f"/?a=1&gt_preview={token}"),
    ):
        assert (response.body, response.one("x-greentic-revision")) == (b"two", "R2")
        assert response.one("x-greentic-reason") == "preview"
        assert response.cookie() == f"_gt_preview_D1={token}"
        assert "Max-Age" not in response.all("set-cookie")[0]
    sticky = stage.get("/", f"Cookie: _gt_preview_D1={token}")
    assert (sticky.body, sticky.one("x-greentic-reason")) == (b"two", "preview")
    plain = stage.get()
    assert (plain.body, plain.one("x-greentic-revision")) == (b"one", None)
    old = mint(keys, "D1", "R2", int(time.time()) - 1)
    for wrong in (old, "x", "", mint(keys, "D2", "R2", int(time.time()) + 60), token[:-2]):
        refused = stage.get("/", f"X-Greentic-Preview: {wrong}")
        assert (refused.status, kind(refused)) == (403, "preview-refused")
    assert stage.get("/", f"Cookie: _gt_preview_D1={old}").body == b"one"


def test_a_preview_token_is_not_sent_on(stage: Stage) -> None:
    worker = stage.worker(echo)
    document = table(deployment([revision("R1", worker.port)]))
    stage.configure(document)
    token = mint(RoutingTable.parse(document).keys, "D1", "R1", int(time.time()) + 60)
    seen = stage.get(f"/p?gt_preview={token}&b=2", f"X-Greentic-Preview: {token}").body
    assert token.encode() not in seen
    assert seen.startswith(b"GET /p?b=2 HTTP/1.1\r\n")
    assert stage.get(f"/p?gt_preview={token}").body.startswith(b"GET /p HTTP/1.1\r\n")


def test_no_revision_for_new_visitors(stage: Stage) -> None:
    stage.configure(two_versions(stage, []))
    response = stage.get()
    assert (response.status, kind(response), response.one("retry-after")) == (503, "no-revision", "1")


# Limits


def configure(stage: Stage, handler: Any, **limits: float) -> Any:
    worker = stage.worker(handler)
    stage.configure(table(deployment([revision("R1", worker.port)]), **limits))
    return worker


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
    await reader.read()
    return False


def test_limits_in_time(stage: Stage) -> None:
    configure(
        stage, silent, header_seconds=0.3, body_idle_seconds=0.3, response_head_seconds=0.5, keep_alive_seconds=0.3
    )
    for begun, status, reason in (
        (b"GET / HT", 408, "slow-header"),
        (POST + b"Content-Length: 5\r\n\r\nab", 408, "slow-body"),
        (GET + b"\r\n", 504, "response-timeout"),
    ):
        with stage.connect() as client:
            client.sendall(begun)
            reader = Reader(client)
            response = reader.response()
            assert (response.status, kind(response)) == (status, reason)
            if status == 408:
                assert reader.closed()
    with stage.connect() as client:
        assert Reader(client).closed()  # idle from the start: closed without a word


def test_a_header_that_drips_is_cut(stage: Stage) -> None:
    configure(stage, silent, header_seconds=0.5)
    with stage.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        client.settimeout(0.05)
        answer = b""
        for _ in range(100):
            with contextlib.suppress(TimeoutError):
                answer = client.recv(1000)
                break
            client.sendall(b"X: y\r\n")
        assert answer.startswith(b"HTTP/1.1 408")


def test_a_response_that_stops_is_cut_and_a_stream_is_not(stage: Stage) -> None:
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Type: %b\r\n\r\nabc"
    configure(stage, saying(begun % b"text/plain", then_close=False), response_idle_seconds=0.3)
    with pytest.raises(Closed):
        stage.get()
    configure(stage, saying(begun % b"text/event-stream", then_close=False), response_idle_seconds=0.3)
    with stage.connect(timeout=1) as client:
        client.sendall(GET + b"\r\n")
        with pytest.raises(TimeoutError):
            Reader(client).response()


def test_a_body_without_declared_length_is_limited(stage: Stage) -> None:
    configure(stage, echo, max_body_bytes=1000)
    chunk = b"1f4\r\n" + b"x" * 500 + b"\r\n"
    assert stage.ask(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 2 + b"0\r\n\r\n").status == 200
    refused = stage.ask(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3 + b"0\r\n\r\n")
    assert (refused.status, kind(refused)) == (413, "body-too-large")


def test_a_cap_on_connections(stage: Stage) -> None:
    configure(stage, answering(b"x"), max_connections=3)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(stage.connect()) for _ in range(3)]
        for client in clients:
            client.sendall(GET + b"\r\n")
            assert Reader(client).response().status == 200
        response = Reader(stack.enter_context(stage.connect())).response()
        assert (response.status, kind(response)) == (503, "connection-limit")
    while stage.report()["connections"]:
        pass
    assert stage.get().status == 200


# Back-pressure


def test_a_client_that_does_not_read_costs_no_memory(stage: Stage) -> None:
    total = 96 * 1024 * 1024
    sent = 0

    async def generous(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        block = b"x" * (1024 * 1024)
        for _ in range(total // len(block)):
            writer.write(block)
            await writer.drain()
            sent += len(block)
        return True

    configure(stage, generous)
    before = resident_bytes(stage.process.pid)
    with stage.connect(receive_buffer=65536) as client:
        client.sendall(GET + b"\r\n")
        reader = Reader(client)
        reader.head()
        previous = -1
        while previous != sent:  # until nothing moves any more
            previous = sent
            stage.run(asyncio.sleep(0.2))
        assert sent < total / 2
        assert resident_bytes(stage.process.pid) - before < 12 * 1024 * 1024
        for _ in range(total >> 20):
            reader.exactly(1 << 20)
    assert resident_bytes(stage.process.pid) - before < 16 * 1024 * 1024


def test_answers_that_nobody_takes_do_not_pile_up(stage: Stage) -> None:
    """Those of the router itself too, which wait for no worker."""
    stage.configure(table(deployment([revision("R1", 1)], hosts=("elsewhere",))))
    request = GET + b"\r\n"
    before = resident_bytes(stage.process.pid)
    with stage.connect(receive_buffer=65536) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        client.settimeout(1)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 16 * 1024 * 1024:
                sent += client.send(request[sent % len(request) :] + request * 1000)
        assert sent < 12 * 1024 * 1024
        assert resident_bytes(stage.process.pid) - before < 12 * 1024 * 1024
        reader = Reader(client)
        for _ in range(sent // len(request)):
            assert reader.response().status == 404


def test_a_worker_that_does_not_read_stops_the_upload(stage: Stage) -> None:
    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        await asyncio.Event().wait()
        return False

    configure(stage, busy, response_head_seconds=1.5, body_idle_seconds=1)
    before = resident_bytes(stage.process.pid)
    with stage.connect() as client:
        client.sendall(POST + b"Content-Length: 60000000\r\n\r\n")
        client.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 60_000_000:
                sent += client.send(b"x" * 65536)
        assert sent < 40_000_000
        assert resident_bytes(stage.process.pid) - before < 12 * 1024 * 1024
        client.settimeout(10)
        response = Reader(client).response()
        assert (response.status, kind(response)) == (504, "response-timeout")


def test_a_large_upload_arrives_whole(stage: Stage) -> None:
    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        body = await read_body(reader, head)
        return await answering(b"%d" % len(body))(reader, writer, b"")

    configure(stage, counting)
    body = b"x" * 5_000_000
    assert stage.ask(POST + b"Content-Length: 5000000\r\n\r\n" + body).body == b"5000000"
    chunks = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    assert stage.ask(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks * 50 + b"0\r\n\r\n").body == b"3276800"


# Workers that come and go


def test_a_worker_that_closes_after_each_response_loses_no_get(stage: Stage) -> None:
    async def hostile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await asyncio.sleep(0.001 * (len(head) % 2))
        return False

    worker = configure(stage, hostile)
    with stage.connect() as client:
        reader = Reader(client)
        for number in range(500):
            client.sendall(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * (number % 2)))
            assert reader.response().status == 200
    assert worker.connections >= 500


def test_a_request_that_may_have_run_is_not_sent_twice(stage: Stage) -> None:
    posts = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        nonlocal posts
        if head.startswith(b"POST"):
            posts += 1
            return False
        return await answering(b"ok")(reader, writer, head)

    configure(stage, handler)
    with stage.connect() as client:
        reader = Reader(client)
        client.sendall(GET + b"\r\n")
        assert reader.response().status == 200
        client.sendall(POST + b"Content-Length: 0\r\n\r\n")
        response = reader.response()
        assert (response.status, kind(response)) == (502, "worker-closed")
    assert posts == 1


@pytest.mark.parametrize("request_bytes", [GET + b"\r\n", POST + b"Content-Length: 3\r\n\r\nabc"])
def test_a_worker_that_restarts_is_waited_for(stage: Stage, request_bytes: bytes) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    stage.configure(table(deployment([revision("R1", port)])))
    with stage.connect() as client:
        client.sendall(request_bytes)
        while not stage.report()["revisions"]["R1"]["in_flight"]:
            pass
        stage.worker(echo, port)
        assert Reader(client).response().status == 200


def test_a_worker_that_comes_back_elsewhere_is_found(stage: Stage) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    stage.configure(table(deployment([revision("R1", port)])))
    with stage.connect() as client:
        client.sendall(GET + b"\r\n")
        while not stage.report()["revisions"]["R1"]["in_flight"]:
            pass
        stage.configure(table(deployment([revision("R1", stage.worker(echo).port)])))
        assert Reader(client).response().status == 200


def test_a_worker_that_stays_away_is_named(stage: Stage) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        stage.configure(table(deployment([revision("R1", reserved.getsockname()[1])]), connect_retry_seconds=0.2))
        response = stage.get()
    assert (response.status, kind(response)) == (502, "worker-unreachable")
    assert json.loads(response.body)["error"]["revision"] == "R1"
    assert stage.report()["revisions"]["R1"]["errors"] == {"worker-unreachable": 1}


def test_a_failed_request_is_counted_once(stage: Stage) -> None:
    """As an answer 5xx, or as a response that broke off: a gate adds the two up."""
    worker = stage.worker(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"))
    rows = [revision("CUT", worker.port), revision("GONE", 1)]
    for index in range(2):
        stage.configure(table(deployment(rows, slots=[[10_000, index]]), connect_retry_seconds=0.1))
        if index:
            assert stage.get().status == 502
        else:
            with pytest.raises(Closed):
                stage.get()
    counted = stage.report()["revisions"]
    assert [(counted[name]["responses"]["5xx"], counted[name]["cut"]) for name in ("CUT", "GONE")] == [(0, 1), (1, 0)]


def test_a_client_that_leaves_frees_the_worker(stage: Stage) -> None:
    ended = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        await reader.read()
        ended.set()
        return False

    configure(stage, handler)
    with stage.connect() as client:
        client.sendall(GET + b"\r\n")
        Reader(client).head()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # close with a reset
    stage.run(asyncio.wait_for(ended.wait(), 10))
    while stage.report()["revisions"]["R1"]["in_flight"]:
        pass


# Reload, drain, stop


def test_moves_under_load_lose_nothing(stage: Stage) -> None:
    stage.configure(two_versions(stage, [[10_000, 0]]))
    failures: list[Any] = []
    served: Counter[bytes] = Counter()
    over = threading.Event()

    def visit(method: bytes) -> None:
        with stage.connect() as client:
            reader = Reader(client)
            while not over.is_set():
                client.sendall(method + b" / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
                try:
                    response = reader.response()
                except (Closed, OSError) as error:
                    failures.append(error)
                    return
                served[response.body] += 1
                if response.status != 200:
                    failures.append(response)

    threads = [threading.Thread(target=visit, args=(method,)) for method in (b"GET", b"POST") * 2]
    for thread in threads:
        thread.start()
    for generation in range(2, 102):
        share = [0, 100, 5_000, 10_000][generation % 4]
        runs = [[count, index] for count, index in ((10_000 - share, 0), (share, 1)) if count]
        stage.configure({**two_versions(stage, runs, generation=generation), "version": generation})
    over.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert min(served[b"one"], served[b"two"]) > 10


def test_a_request_keeps_the_revision_it_began_with(stage: Stage) -> None:
    gate = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        await gate.wait()
        return await answering(b"old")(reader, writer, head)

    old = stage.worker(slow)
    new = stage.worker(answering(b"new"))
    stage.configure(table(deployment([revision("R1", old.port)])))
    with stage.connect() as client:
        client.sendall(GET + b"\r\n")
        while not old.requests:
            stage.report()
        stage.configure(table(deployment([revision("R2", new.port)], generation=2)))
        assert stage.get().body == b"new"
        drain = stage.later(stage.control.drain("R1", 20))
        stage.report()
        assert not drain.done()
        stage._loop.call_soon_threadsafe(gate.set)
        assert Reader(client).response().body == b"old"
    report = drain.result(10)
    assert (report.finished, report.cut.total) == (1, 0)


def test_a_drain_cuts_what_is_left_at_its_deadline(stage: Stage) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        if b"Upgrade" in head:
            writer.write(b"HTTP/1.1 101 OK\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02hi")
        elif b"/stream" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        await reader.read()
        return False

    configure(stage, handler)
    with contextlib.ExitStack() as stack:
        socketed, streamed, waiting = (stack.enter_context(stage.connect()) for _ in range(3))
        socketed.sendall(GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        streamed.sendall(GET.replace(b"/ ", b"/stream ", 1) + b"\r\n")
        waiting.sendall(GET + b"\r\n")
        frames = Reader(socketed)
        assert frames.head().status == 101
        assert frames.exactly(4) == b"\x81\x02hi"
        assert Reader(streamed).head().status == 200
        while stage.report()["revisions"]["R1"]["in_flight"] < 3:
            pass
        report = stage.run(stage.control.drain("R1", 0.2))
        assert (report.finished, report.cut.total) == (0, 3)
        assert frames.rest() == b"\x88\x02\x03\xf4"
        with pytest.raises(Closed):
            Reader(streamed).until(b"0\r\n\r\n")
        assert kind(Reader(waiting).response()) == "drained"
    assert stage.report()["revisions"]["R1"]["in_flight"] == 0
    assert stage.run(stage.control.drain("R1", 1)).cut.total == 0


def test_a_websocket_that_is_cut_ends_between_two_frames_and_with_both_told(stage: Stage) -> None:
    heard: list[bytes] = []
    halfway = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(b"HTTP/1.1 101 OK\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        # A message of two frames and the next one at once, of which a part comes late.
        writer.write(b"\x02\x7e\x01\x00" + b"x" * 100)
        if b"/stuck" not in head:
            await halfway.wait()
            writer.write(b"x" * 156 + b"\x80\x03end")
        heard.append(await reader.read())
        return False

    configure(stage, handler)
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with stage.connect() as whole, stage.connect() as stuck:
        whole.sendall(GET + upgrade)
        stuck.sendall(GET.replace(b"/ ", b"/stuck ", 1) + upgrade)
        readers = [Reader(whole), Reader(stuck)]
        for reader in readers:
            assert reader.head().status == 101
            assert reader.exactly(104)[:2] == b"\x02\x7e"
        # Bytes that nobody will read must not make the close a reset, which would overtake the close frame.
        whole.sendall(b"\x81\x82maskhi")
        drain = stage.later(stage.control.drain("R1", 0))
        stage.report()  # answered after the drain has been heard
        stage._loop.call_soon_threadsafe(halfway.set)
        assert readers[0].exactly(156) == b"x" * 156
        assert readers[0].exactly(4) == b"\x88\x02\x03\xf4", "not one frame more"
        whole.sendall(b"\x88\x82\0\0\0\0\x03\xf4" * 2000)
        assert readers[0].rest() == b""
        assert readers[1].rest() == b"", "in the middle of a frame nothing can be said"
        report = drain.result(10)
    assert (report.finished, report.cut.tunnels, report.cut.total) == (0, 2, 2)
    while len(heard) < 2:
        stage.report()
    assert max(heard, key=len)[:8] == b"\x81\x82maskhi"
    for told in heard:
        last = told[-8:]
        assert last[:2] == b"\x88\x82"
        assert bytes(a ^ b for a, b in zip(last[6:], last[2:4], strict=True)) == (1001).to_bytes(2)


def test_what_a_client_still_sends_makes_the_end_of_its_websocket_no_reset(stage: Stage) -> None:
    over = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(b"HTTP/1.1 101 OK\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        await over.wait()  # and read nothing
        return False

    configure(stage, handler)
    with stage.connect() as client:
        client.sendall(GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        reader = Reader(client)
        assert reader.head().status == 101
        client.sendall(b"\x82\xff" + (1 << 40).to_bytes(8) + b"mask")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.sendall(b"x" * 64_000_000)  # more than anybody holds for a worker that does not read
        client.settimeout(10)
        assert stage.run(stage.control.drain("R1", 0)).cut.tunnels == 1
        assert reader.exactly(4) == b"\x88\x02\x03\xf4"
        assert client.recv(1) == b""
    stage._loop.call_soon_threadsafe(over.set)


def test_a_stop_finishes_what_is_in_flight(stage: Stage) -> None:
    gate = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        await gate.wait()
        return await answering(b"late")(reader, writer, head)

    worker = configure(stage, slow)
    with stage.connect() as client:
        client.sendall(GET + b"\r\n")
        while not worker.requests:
            stage.report()
        stopping = stage.later(stage.control.stop(20))
        stage.report()
        stage._loop.call_soon_threadsafe(gate.set)
        reader = Reader(client)
        response = reader.response()
        assert (response.body, response.one("connection")) == (b"late", "close")
        assert reader.closed()
    stopping.result(10)
    assert stage.process.wait(10) == 0


def test_what_a_stop_cuts_is_told_so(stage: Stage) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        await asyncio.Event().wait()
        return False

    worker = configure(stage, never)
    with stage.connect() as client:
        client.sendall(GET + b"\r\n")
        while not worker.requests:
            stage.report()
        stopping = stage.later(stage.control.stop(0.1))
        response = Reader(client).response()
        assert (response.status, kind(response), response.one("connection")) == (503, "router-stopped", "close")
    stopping.result(10)


def test_a_successor_takes_over_the_socket_without_a_lost_connection(stage: Stage) -> None:
    worker = stage.worker(answering(b"x"))
    document = table(deployment([revision("R1", worker.port)]))
    stage.configure(document)
    first = stage.process
    assert first.stderr is not None
    first.kill()
    first.wait()
    first.stderr.close()
    with stage.connect() as client:
        client.sendall(GET + b"\r\n")
        stage.start_router()
        stage.configure(document)
        # Accepted by the successor: before its first table it may be told to wait, but it is answered.
        assert Reader(client).response().status in (200, 503)
    assert stage.get().status == 200


def test_the_router_ends_when_its_parent_is_killed(tmp_path: Any) -> None:
    parent = tmp_path / "parent.py"
    parent.write_text(
        textwrap.dedent("""
        import socket, subprocess, sys, time
        listening = socket.create_server(("127.0.0.1", 0))
        ours, theirs = socket.socketpair()
        child = subprocess.Popen(
            [sys.executable, "-m", "greentic.router", "--listen-fd", str(listening.fileno()),
             "--control-fd", str(theirs.fileno())], pass_fds=[listening.fileno(), theirs.fileno()])
        theirs.close()
        ours.recv(1000)
        print(child.pid, flush=True)
        time.sleep(60)
        """)
    )
    with subprocess.Popen([sys.executable, str(parent)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        descriptor = os.pidfd_open(child)
        process.send_signal(signal.SIGKILL)
        process.wait()
    try:
        import select

        ready, _, _ = select.select([descriptor], [], [], 10)
        assert ready, "the router outlived its parent"
    finally:
        os.close(descriptor)


def test_the_router_starts_without_heavy_imports() -> None:
    code = "import greentic.router.process, sys; print([m for m in ('pydantic', 'rich', 'click') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    assert KEYS


def test_an_answer_that_ends_with_its_connection_does_not_look_complete_when_it_is_cut(stage: Stage) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")
        await reader.read()
        return False

    configure(stage, handler)
    with stage.connect() as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        reader = Reader(client)
        assert reader.head().one("transfer-encoding") is None
        assert reader.exactly(4) == b"part"
        assert stage.run(stage.control.drain("R1", 0)).cut.total == 1
        with pytest.raises(ConnectionResetError):
            client.recv(1)
