"""Spans of a real router at a real receiver of OTLP: what they say, whom the worker has as its parent, and that a
collector which hangs, refuses or is not there costs no request anything.
"""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from collector import Collector
from router_process import Stage, deployment, revision, table

from greentic.router.spans import PENDING

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TOKEN = "Bearer not-for-eyes"
ERROR = 2


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    found = Stage()
    found.start_router()
    yield found
    found.close()


def spans(collector: Collector, **settings: Any) -> dict[str, Any]:
    endpoint = f"http://127.0.0.1:{collector.port}/v1/traces"
    given = {"endpoint": endpoint, "headers": {"authorization": TOKEN}, "timeout_ms": 1_000, "sample_ratio": 1.0}
    return {"kind": "greentic.telemetry.otlp", "settings": {**given, **settings}}


async def answer(reader: Any, writer: Any, head: bytes) -> bool:
    status = b"503 No" if b"/broken" in head else b"200 OK"
    writer.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nok" % status)
    return True


def ask(stage: Stage, path: str = "/a", **headers: str) -> int:
    client = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=10)
    try:
        client.request("GET", path, headers={"Host": "web.example", **headers})
        response = client.getresponse()
        response.read()
        return response.status
    finally:
        client.close()


def about_spans(acknowledgement: Any) -> list[str]:
    return [warning for warning in acknowledgement.warnings if "exporter" in warning]


def told(worker: Any) -> list[str]:
    """The traceparent of each request that reached the worker, empty where there was none."""
    found = [re.search(rb"\r\ntraceparent: ([^\r]*)\r\n", head) for head in worker.requests]
    assert all(head.count(b"traceparent") <= 1 for head in worker.requests)
    return [one[1].decode() if one is not None else "" for one in found]


def test_a_span_per_request(stage: Stage, collector: Collector) -> None:
    worker = stage.worker(answer)
    document = {**table(deployment([revision("R1", worker.port)], generation=7)), "spans": spans(collector)}
    assert not about_spans(stage.configure(document))
    began = time.time()
    assert ask(stage, "/a/b?token=secret") == 200
    assert ask(stage, "/broken", traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="x=y") == 503
    assert ask(stage, traceparent=f"00-{TRACE}-{PARENT}-00") == 200
    collector.wait(lambda now: len(now.spans) == 2)
    first, second = collector.spans
    said = first["attributes"]
    assert re.fullmatch(r"[0-9a-f]{12}-1", said.pop("greentic.request_id"))
    assert said == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/a/b",
        "server.address": "web.example",
        "greentic.deployment": "D1",
        "greentic.bundle": "web",
        "greentic.customer": "acme",
        "greentic.revision": "R1",
        "greentic.revision.name": "R1",
        "greentic.generation": 7,
        "greentic.reason": "sequence",
    }
    assert (first["name"], first["kind"], first["status"], first["parent_id"]) == ("GET", 2, 0, "")
    assert 0 < first["seconds"] < 5
    assert began - 1 < first["ended"] < time.time() + 1
    assert first["scope"] == "greentic.router"
    resource = first["resource"]
    assert resource["service.name"] == "greentic-router"
    assert resource["deployment.environment.name"] == "local"
    assert resource["process.pid"] == stage.process.pid
    assert (second["trace_id"], second["parent_id"], second["status"]) == (TRACE, PARENT, ERROR)
    assert (second["attributes"]["http.response.status_code"], second["attributes"]["error.type"]) == (503, "503")
    # The worker's parent is the router's span; what was not sampled is passed on as it came.
    assert told(worker) == [
        f"00-{first['trace_id']}-{first['span_id']}-01",
        f"00-{TRACE}-{second['span_id']}-01",
        f"00-{TRACE}-{PARENT}-00",
    ]
    assert b"tracestate: x=y\r\n" in worker.requests[1]
    assert stage.report()["spans"] == {"exported": 2, "dropped": 0}
    assert collector.paths == ["/v1/traces"] * len(collector.paths)
    assert all(headers["authorization"] == TOKEN for headers in collector.headers)
    assert "secret" not in str(collector.spans)


def test_what_the_router_answers_itself_has_its_reason(stage: Stage, collector: Collector) -> None:
    dead = revision("R1", 1)
    document = {
        **table(deployment([dead], path_prefixes=("/a",)), connect_retry_seconds=0.05),
        "spans": spans(collector),
    }
    stage.configure(document)
    assert ask(stage, "/nowhere") == 404
    assert ask(stage, "/a") == 502
    collector.wait(lambda now: len(now.spans) == 2)
    missed, dead_end = (one["attributes"] for one in collector.spans)
    assert (missed["error.type"], missed["http.response.status_code"]) == ("no-route", 404)
    assert "greentic.revision" not in missed
    assert (dead_end["error.type"], dead_end["greentic.revision"]) == ("worker-unreachable", "R1")
    assert [one["status"] for one in collector.spans] == [0, ERROR]
    (explained,) = stage.run(stage.control.explain(dead_end["greentic.request_id"]))
    assert explained["trace_id"] == collector.spans[1]["trace_id"]


def test_nothing_is_told_to_the_system_but_through_the_pipe(stage: Stage, collector: Collector) -> None:
    worker = stage.worker(answer)
    stage.configure({**table(deployment([revision("R1", worker.port)])), "spans": spans(collector)})
    ask(stage)
    collector.wait(lambda now: bool(now.spans))
    (sender,) = children(stage.process.pid)
    seen = [Path(f"/proc/{number}/{what}").read_bytes() for number in (sender, stage.process.pid) for what in PUBLIC]
    assert not any(TOKEN.encode() in one for one in seen)
    inherited = [str(entry.readlink()) for entry in Path(f"/proc/{sender}/fd").iterdir()]
    listening = str(Path(f"/proc/self/fd/{stage.listening.fileno()}").readlink())
    assert listening not in inherited, "a listening socket in another process would keep its queue alive"
    stage.configure(table(deployment([revision("R1", worker.port)]), version=2))
    wait_until(lambda: not children(stage.process.pid))
    ask(stage)
    assert told(worker)[-1] == ""


PUBLIC = ("cmdline", "environ")


@pytest.mark.parametrize("how", ["hangs", "refuses", "is not there"])
def test_a_collector_in_trouble_costs_no_request_anything(stage: Stage, collector: Collector, how: str) -> None:
    worker = stage.worker(answer)
    settings = spans(collector, timeout_ms=1_500)
    if how == "hangs":
        collector.hanging.set()
    elif how == "refuses":
        collector.status = 401
    else:
        collector.close()
    stage.configure({**table(deployment([revision("R1", worker.port)])), "spans": settings})
    client = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=10)
    longest = 0.0

    def lost() -> int:
        return int(stage.report()["spans"]["dropped"])

    end = time.monotonic() + 20
    while not lost() and time.monotonic() < end:
        for _ in range(20):
            began = time.monotonic()
            client.request("GET", "/a", headers={"Host": "web.example"})
            assert client.getresponse().read() == b"ok"
            longest = max(longest, time.monotonic() - began)
    client.close()
    assert lost() > 0
    assert longest < 1.0, "a request waited for the collector"
    if how != "is not there":
        collector.hanging.clear()
        collector.status = 200
        wait_until(lambda: ask(stage) == 200 and len(collector.spans) > 0)


def test_the_last_spans_are_sent_when_the_router_ends(stage: Stage, collector: Collector) -> None:
    worker = stage.worker(answer)
    stage.configure({**table(deployment([revision("R1", worker.port)])), "spans": spans(collector)})
    ask(stage)
    collector.wait(lambda now: len(now.spans) == 1)
    ask(stage)
    stage.run(stage.control.stop(2))
    assert len(collector.spans) == 2


def test_settings_may_change_at_any_time_and_counters_never_go_back(stage: Stage, collector: Collector) -> None:
    worker = stage.worker(answer)
    other = Collector()
    rows = deployment([revision("R1", worker.port)])
    for version, where in enumerate((collector, other, None, collector), start=1):
        given = table(rows, version=version)
        told = stage.configure({**given, "spans": spans(where)} if where is not None else given)
        assert not about_spans(told)
        ask(stage)
        if where is not None:
            wait_until(lambda where=where: len(where.spans) == (2 if version == 4 else 1))  # noqa: B023 - used at once
    other.close()
    wait_until(lambda: stage.report()["spans"] == {"exported": 3, "dropped": 0})


def test_what_cannot_be_opened_is_a_warning(stage: Stage, collector: Collector) -> None:
    worker = stage.worker(answer)
    good = table(deployment([revision("R1", worker.port)]))
    unknown = {"kind": "acme.telemetry.none", "settings": {"token": TOKEN}}
    (warning,) = about_spans(stage.configure({**good, "spans": unknown}))
    assert "acme.telemetry.none" in warning
    (warning,) = about_spans(stage.configure({**good, "version": 2, "spans": {**spans(collector), "settings": {}}}))
    assert "cannot be opened" in warning
    assert TOKEN not in warning
    assert ask(stage) == 200
    assert "spans" not in stage.report()


def test_a_share_is_sampled(stage: Stage, collector: Collector) -> None:
    worker = stage.worker(answer)
    settings = spans(collector, sample_ratio=0.25)
    stage.configure({**table(deployment([revision("R1", worker.port)])), "spans": settings})
    client = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=10)
    for _ in range(400):
        client.request("GET", "/a", headers={"Host": "web.example"})
        client.getresponse().read()
    client.close()
    sampled = [one for one in told(worker) if one]
    assert 50 < len(sampled) < 160
    collector.wait(lambda now: len(now.spans) == len(sampled))
    assert {one["trace_id"] for one in collector.spans} == {one.split("-")[1] for one in sampled}
    assert len(sampled) < PENDING


def children(process_id: int) -> list[int]:
    found = Path(f"/proc/{process_id}/task").glob("*/children")
    return [int(number) for entry in found for number in entry.read_text().split()]


def wait_until(holds: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
