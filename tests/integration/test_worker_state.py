"""A real worker keeps values in what the environment is bound to, across versions, crashes and another binding."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from tests.integration.command_line import CommandLine, build, request, write_worker

from greentic.providers.local.sqlite_state import FILE

COUNTER = """
import asyncio, json, os, urllib.error, urllib.request

VERSION = {version!r}

def ask(method, query, body=None, **headers):
    named = {{name.replace("_", "-"): value for name, value in headers.items()}}
    named["Authorization"] = "Bearer " + os.environ["GREENTIC_STATE_TOKEN"]
    url = os.environ["GREENTIC_STATE_URL"] + "?" + query
    call = urllib.request.Request(url, data=body, method=method, headers=named)
    try:
        with urllib.request.urlopen(call, timeout=15) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()

def counted():
    while True:
        status, headers, body = ask("GET", "key=visits")
        if status not in (200, 404):
            return {{"status": status, "error": json.loads(body)["error"]}}
        condition = {{"If_None_Match": "*"}} if status == 404 else {{"If_Match": headers["etag"]}}
        count = 1 + (0 if status == 404 else int(body))
        status, headers, body = ask("PUT", "key=visits", str(count).encode(), **condition)
        if status != 412:
            return {{"version": VERSION, "count": count, "status": status, "pid": os.getpid()}}

async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"].endswith("/exit"):
        os._exit(3)
    told = {{}} if scope["path"] == "/healthz" else await asyncio.to_thread(counted)
    body = json.dumps(told).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})
"""


@pytest.fixture(scope="module")
def counters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("counters")
    return [
        build(
            write_worker(place / version, version, application=COUNTER.format(version=version)),
            place / f"{version}.gtbundle",
        )
        for version in ("1.0.0", "2.0.0")
    ]


def visit(gtc: CommandLine, path: str = "/") -> Any:
    return json.loads(request(gtc.port, path)[1])


def test_a_worker_counts_its_visitors(gtc: CommandLine, counters: list[Path], tmp_path: Path) -> None:
    gtc.init()
    assert gtc("op", "deploy", "--bundle", str(counters[0]), "web", "--path-prefix", "/web").result
    assert [visit(gtc, "/web/")["count"] for _ in range(2)] == [1, 2]
    # Another deployment of the same bundle has values of its own.
    assert gtc(
        "op", "deploy", "--bundle", str(counters[0]), "other", "--path-prefix", "/other", "--customer-id", "c2"
    ).result
    assert visit(gtc, "/other/")["count"] == 1
    # The next version goes on where this one was, and so does a worker that has been started again.
    assert gtc("op", "deploy", "--bundle", str(counters[1]), "web").result
    found = visit(gtc, "/web/")
    assert (found["version"], found["count"]) == ("2.0.0", 3)
    request(gtc.port, "/web/exit")
    deadline = time.monotonic() + 30
    while "count" not in (again := visit(gtc, "/web/")):  # the router's own answer, until it is back
        assert time.monotonic() < deadline, again
        time.sleep(0.05)
    assert (again["count"], again["pid"] != found["pid"]) == (4, True)

    # Another store, at once and with no worker started for it; a file outlives the data plane.
    answers = tmp_path / "answers.yaml"
    answers.write_text("scope_mib: 1\n")
    assert gtc("op", "env-packs", "update", "state", "greentic.state.sqlite", "--config", str(answers)).result
    first = visit(gtc, "/web/")
    assert (first["count"], first["pid"]) == (1, again["pid"])
    assert gtc("stop").result["stopped"]
    assert gtc("start", "--background").result["running"]
    assert visit(gtc, "/web/")["count"] == 2
    assert visit(gtc, "/other/")["count"] == 1
    database = sqlite3.connect(gtc.root / "local" / FILE)
    assert sorted(database.execute("SELECT key, data FROM entry")) == [("visits", b"1"), ("visits", b"2")]
    database.close()

    # Without one a worker is told so, and goes on.
    assert gtc("op", "env-packs", "remove", "state").result
    refused = visit(gtc, "/web/")
    assert refused["status"] == 503
    assert "no store of state" in refused["error"]["message"]
    assert "state-failed" in (gtc.root / "local" / "logs" / "runtime.log").read_text()
    assert gtc("op", "env-packs", "rollback", "state").result
    assert visit(gtc, "/web/")["count"] == 3


def test_a_token_stands_nowhere_but_in_its_worker(gtc: CommandLine, counters: list[Path]) -> None:
    gtc.init()
    assert gtc("op", "deploy", "--bundle", str(counters[0]), "web").result
    process = gtc("op", "status").result["deployments"][0]["revisions"][0]["process_id"]
    variables = dict(
        pair.partition(b"=")[::2] for pair in Path(f"/proc/{process}/environ").read_bytes().split(b"\0") if pair
    )
    token = variables[b"GREENTIC_STATE_TOKEN"]
    files = [path for path in gtc.root.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if token in path.read_bytes()] == []
