"""What a router remembers of requests: the access log and the explanations, over real processes."""

from __future__ import annotations

import fcntl
import json
import os
import re
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from router_process import KEYS, SECRET, Reader, Stage, answering, deployment, echo, revision, staged, table

from greentic.router import preview
from greentic.router.access_log import FILE_BYTES
from greentic.router.explaining import replay
from greentic.router.keys import KeyRing, SigningKey
from greentic.spec.errors import SpecViolation

RING = KeyRing((SigningKey("k1", SECRET),))


@pytest.fixture
def stage() -> Iterator[Stage]:
    with staged() as stage:
        stage.start_router()
        yield stage


def explain(stage: Stage, request_id: str) -> list[dict[str, Any]]:
    return stage.run(stage.control.explain(request_id))


def logged(document: dict[str, Any], path: Path) -> dict[str, Any]:
    document["options"]["access_log"] = str(path)
    return document


def lines_of(path: Path, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            break
        time.sleep(0.01)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_access_log_tells_what_happened_and_no_secret(stage: Stage, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "access.jsonl"
    worker = stage.worker(answering(b"hello"))
    served = table(deployment([revision("R1", worker.port)], path_prefixes=("/path",), generation=7))
    stage.configure(logged(served, log))
    head = "POST /path?secret=1 HTTP/1.1\r\nHost: a\r\nX-Request-Id: r1\r\nCookie: secret=2\r\n"
    body = head + "Content-Length: 4\r\n\r\nbody"
    with stage.connect() as client:
        client.sendall(body.encode())
        response = Reader(client).response()
    stage.get("/other")
    stage.ask(b"GET / HTTP/9.9\r\n\r\n")
    first, second, third = lines_of(log, 3)
    assert (first["request_id"], first["method"], first["path"], first["status"]) == ("r1", "POST", "/path", 200)
    assert (first["deployment"], first["bundle"], first["revision"], first["reason"]) == ("D1", "web", "R1", "sequence")
    assert (first["generation"], first["error"], first["received_bytes"]) == (7, None, 4)
    assert first["sent_bytes"] == len(response.raw_head) + 5
    assert 0 < first["upstream_milliseconds"] <= first["milliseconds"]
    assert (second["status"], second["error"], second["deployment"]) == (404, "no-route", None)
    assert (third["method"], third["path"], third["error"]) == (None, None, "bad-request")
    assert "secret" not in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and stage.report()["access_log"]["written"] < 3:
        pass
    assert stage.report()["access_log"] == {"written": 3, "dropped": 0}


def test_the_access_log_is_switched_by_the_table_and_complete_at_the_end(stage: Stage, tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    worker = stage.worker(answering(b"x"))
    served = deployment([revision("R1", worker.port)])
    stage.configure(logged(table(served), log))
    stage.get("/", "X-Request-Id: on")
    stage.configure(table(served, version=2))
    stage.get("/", "X-Request-Id: off")
    stage.configure(logged(table(served, version=3), log))
    stage.get("/", "X-Request-Id: again")
    stage.run(stage.control.stop(0))
    assert stage.process.wait(10) == 0
    assert [line["request_id"] for line in lines_of(log, 2)] == ["on", "again"]


def test_a_log_that_cannot_be_written_harms_no_request(stage: Stage, tmp_path: Path) -> None:
    worker = stage.worker(answering(b"x"))
    (tmp_path / "folder").mkdir()
    stage.configure(logged(table(deployment([revision("R1", worker.port)])), tmp_path / "folder"))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not stage.report().get("access_log", {}).get("dropped"):
        assert stage.get("/").status == 200
    assert stage.report()["access_log"]["dropped"]


def test_a_line_that_a_full_disk_tears_spoils_no_other(stage: Stage, tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    worker = stage.worker(answering(b"x"))
    stage.configure(logged(table(deployment([revision("R1", worker.port)])), log))
    stage.get("/", "X-Request-Id: before")
    lines_of(log, 1)
    _, hard = resource.prlimit(stage.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(stage.process.pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 100, hard))
    stage.get("/", "X-Request-Id: torn")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not stage.report()["access_log"]["dropped"]:
        pass
    resource.prlimit(stage.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    stage.get("/", "X-Request-Id: after")
    stage.run(stage.control.stop(0))
    assert stage.process.wait(10) == 0
    first, torn, last = log.read_text().splitlines()
    assert [json.loads(line)["request_id"] for line in (first, last)] == ["before", "after"]
    assert len(torn) == 100


def test_a_log_that_another_router_is_renaming_loses_nothing(stage: Stage, tmp_path: Path) -> None:
    """Who finds the file full waits for the other's lock, and then finds no file of that name."""
    log = tmp_path / "access.jsonl"
    worker = stage.worker(answering(b"x"))
    stage.configure(logged(table(deployment([revision("R1", worker.port)])), log))
    stage.get("/", "X-Request-Id: before")
    lines_of(log, 1)
    with log.open("r+b") as full:
        fcntl.flock(full, fcntl.LOCK_EX)
        os.truncate(log, FILE_BYTES)
        stage.get("/", "X-Request-Id: after")
        waits = re.compile(rf"-> FLOCK +ADVISORY +WRITE {stage.process.pid} ")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not waits.search(Path("/proc/locks").read_text()):
            pass
        log.rename(tmp_path / "access.jsonl.1")
    assert [line["request_id"] for line in lines_of(log, 1)] == ["after"]
    assert stage.report()["access_log"]["dropped"] == 0


def test_a_request_is_explained(stage: Stage) -> None:
    worker = stage.worker(echo)
    rows = [revision("R1", worker.port), revision("R2", worker.port, since=3)]
    stage.configure(table(deployment(rows, [[2_500, 0], [7_500, 1]], generation=3)))
    first = stage.get("/a/b?token=secret", "X-Request-Id: one")
    (told,) = explain(stage, "one")
    assert told["path"] == "/a/b"
    assert told["deployment"] == {"deployment_id": "D1", "bundle_id": "web", "customer_id": "acme", "generation": 3}
    assert (told["revision"]["revision_id"], told["reason"], told["status"]) == ("R2", "sequence", 200)
    assert told["revision"]["weight_bps"] == 7_500
    assert told["cookie"] is None
    assert told["cookie_set"] is True
    assert 2_500 <= told["slot"] < 10_000
    stage.get("/", "X-Request-Id: two", f"Cookie: {first.cookie()}")
    (told,) = explain(stage, "two")
    assert (told["reason"], told["cookie"]["held"], told["cookie"]["name"]) == ("cookie", True, "R2")
    assert told["cookie"]["generation"] == 3
    assert first.cookie().partition("=")[2] not in json.dumps(told)
    assert "secret" not in json.dumps(explain(stage, "one"))
    assert explain(stage, "nobody") == []


def test_ids_that_clients_repeat_are_all_told(stage: Stage) -> None:
    worker = stage.worker(answering(b"x"))
    stage.configure(table(deployment([revision("R1", worker.port)])))
    for path in ("/1", "/2", "/3"):
        stage.get(path, "X-Request-Id: same")
    assert [told["path"] for told in explain(stage, "same")] == ["/1", "/2", "/3"]


def test_every_kind_of_decision_replays_to_the_same(stage: Stage) -> None:
    worker = stage.worker(answering(b"x"))
    rows = [revision("R1", worker.port), revision("R2", worker.port), revision("R3", worker.port, state="draining")]
    stage.configure(table(deployment(rows, [[5_000, 0], [5_000, 1]], generation=1)))
    cookies = {stage.get("/").cookie() for _ in range(4)}
    token = preview.mint(RING, "D1", "R2", int(time.time()) + 60)
    asked = [
        [],
        ["Cookie: _gt_rev_D1=forged"],
        [f"X-Greentic-Preview: {token}"],
        ["X-Greentic-Preview: x"],
        [f"Cookie: _gt_preview_D1={token}"],
        *([f"Cookie: {cookie}"] for cookie in cookies),
    ]
    seen = set()
    for generation, since in ((1, 1), (2, 2)):
        rows = [{**row, "since": since} for row in rows]
        share = [[5_000, 0], [5_000, 1]] if generation == 1 else [[10_000, 1]]
        stage.configure(table(deployment(rows, share, generation=generation), version=generation + 1))
        for number, fields in enumerate(asked):
            request_id = f"r-{generation}-{number}"
            stage.get("/", f"X-Request-Id: {request_id}", *fields)
            (told,) = explain(stage, request_id)
            again = replay(json.loads(json.dumps(told["replay"])))
            assert again["reason"] == told["reason"], told
            assert again["revision_id"] == (told["revision"] or {}).get("revision_id"), told
            assert bool(again["refusal"]) == (told["error"] == "preview-refused")
            seen.add(told["reason"])
    assert seen == {None, "preview", "cookie", "slot", "sequence"}
    assert KEYS["ring"][0]["secret"] not in json.dumps(told)


@pytest.mark.parametrize("document", [{}, {"deployment": 1}, {"deployment": {}, "env_id": "x", "draw": None}])
def test_nonsense_does_not_replay(document: dict[str, Any]) -> None:
    with pytest.raises(SpecViolation):
        replay(document)
