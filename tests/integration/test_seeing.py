"""Metrics, explanations and the access log as an operator meets them: a real runtime, real requests, real commands."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from command_line import CommandLine, build, free_port, write_worker
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def gtc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    folder = tmp_path_factory.mktemp("seeing")
    line = CommandLine(folder / "root")
    line.init()
    bundles = [build(write_worker(folder / name, name), folder / f"{name}.gtbundle") for name in ("0.1.0", "0.2.0")]
    assert line("op", "deploy", "--bundle", str(bundles[0]), "web").status == 0
    assert line("op", "deploy", "--bundle", str(bundles[1]), "web", "--traffic", "25%").status == 0
    yield line
    line("stop")


def samples(text: str) -> Samples:
    found = {}
    for family in parse_text(text):
        for sample in family.samples:
            found[(sample.name, tuple(sorted(sample.labels.items())))] = sample.value
    return found


def pick(found: Samples, name: str, **labels: str) -> float:
    return sum(value for (n, have), value in found.items() if n == name and labels.items() <= dict(have).items())


def read(port: int, path: str, accept: str = "", method: str = "GET") -> tuple[int, str, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Accept": accept} if accept else {})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, response.getheader("content-type") or "", body


def metrics(gtc: CommandLine) -> Samples:
    return samples(gtc("op", "metrics").result["text"])


def test_metrics_say_what_happened(gtc: CommandLine) -> None:
    before = metrics(gtc)
    for _ in range(40):
        assert gtc.get("/")[0] == 200
    gtc.get("/", Accept="text/html")
    after = metrics(gtc)

    def grown(name: str, **labels: str) -> float:
        return pick(after, name, **labels) - pick(before, name, **labels)

    assert grown("greentic_requests_total") == 41
    assert grown("greentic_requests_total", revision="v2") in (10, 11)
    assert grown("greentic_requests_total", deployment="web", revision="v1", environment="local") in (30, 31)
    assert grown("greentic_responses_total", **{"class": "2xx"}) == 41
    assert grown("greentic_responses_total", **{"class": "5xx"}) == 0
    assert grown("greentic_selections_total", reason="sequence") == 41
    assert grown("greentic_request_duration_seconds_count") == 41
    assert grown("greentic_request_duration_seconds_bucket", le="+Inf") == 41
    assert 0 < grown("greentic_request_duration_seconds_sum") < 41
    assert pick(after, "greentic_revision_share_ratio", revision="v2") == 0.25
    assert pick(after, "greentic_worker_state", state="healthy") == 2
    assert pick(after, "greentic_split_generation") == pick(after, "greentic_split_generation_served")
    assert pick(after, "greentic_router_up") == pick(after, "greentic_router_ready") >= 1
    assert pick(after, "greentic_receipt_seconds_count") >= 2


def test_prometheus_reads_what_the_setting_says(gtc: CommandLine, tmp_path: Path) -> None:
    port, taken = free_port(), socket.socket()
    with taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = gtc("op", "config", "set", "--router", f"metrics_addr=127.0.0.1:{taken.getsockname()[1]}")
        assert "in use by another process" in refused.error["message"]
        assert "metrics_addr=" in refused.error["next_step"]
    assert gtc("op", "config", "set", "--router", f"metrics_addr=127.0.0.1:{port}").status == 0
    status, kind, body = read(port, "/metrics")
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    assert pick(samples(body), "greentic_router_up") >= 1
    status, kind, body = read(port, "/metrics", "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert any(family.name == "greentic_requests" for family in parse_openmetrics(body))
    assert read(port, "/livez")[::2] == (200, "ok\n")
    assert read(port, "/readyz")[::2] == (200, "ok\n")
    assert read(port, "/readyz", method="HEAD")[::2] == (200, "")
    assert read(port, "/nothing")[0] == 404
    assert read(port, "/metrics", method="POST")[0] == 405
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /" + b"x" * 100_000)
        client.settimeout(10)
        with contextlib.suppress(ConnectionError):
            assert client.recv(1000) == b""
    another = free_port()
    assert gtc("op", "config", "set", "--router", f"metrics_addr=127.0.0.1:{another}").status == 0
    assert read(another, "/livez")[0] == 200
    with pytest.raises(ConnectionError):
        read(port, "/livez")
    assert gtc("op", "config", "set", "--clear", "router").status == 0
    with pytest.raises(ConnectionError):
        read(another, "/livez")


def test_a_request_is_explained_to_people_and_machines(gtc: CommandLine, tmp_path: Path) -> None:
    gtc.get("/hello?token=secret", **{"X-Request-Id": "ask-1"})
    told = gtc("op", "explain", "ask-1").result
    (match,) = told["matches"]
    assert (match["path"], match["status"], match["reason"]) == ("/hello", 200, "sequence")
    assert match["deployment"]["bundle_id"] == "web"
    assert match["router"].startswith("router-")
    assert match["replayed"]["agrees"]
    text = gtc("op", "explain", "ask-1", as_json=False).out
    assert "a new visitor" in text
    assert "the same facts give the same decision" in text
    assert "secret" not in text + json.dumps(told)
    record = tmp_path / "record.json"
    record.write_text(json.dumps(told))
    offline = gtc("op", "explain", "--record", str(record)).result
    assert offline["matches"][0]["replayed"] == match["replayed"]
    other = told["matches"][0]["replay"]["deployment"]["revisions"]
    told["matches"][0]["replay"]["deployment"]["revisions"] = other[::-1]
    record.write_text(json.dumps(told))
    assert not gtc("op", "explain", "--record", str(record)).result["matches"][0]["replayed"]["agrees"]
    unknown = gtc("op", "explain", "nobody")
    assert unknown.error["kind"] == "not-found"
    assert "remembers its last" in unknown.error["message"]
    record.write_text("[]")
    assert gtc("op", "explain", "--record", str(record)).error["kind"] == "spec"
    assert gtc("op", "explain").status == 2


def test_what_routers_forgot_is_explained_from_the_access_log(gtc: CommandLine) -> None:
    assert gtc("op", "config", "set", "--router", "access_log=true").status == 0
    gtc.get("/logged", **{"X-Request-Id": "ask-2"})
    assert gtc("stop").status == 0
    (match,) = gtc("op", "explain", "ask-2").result["matches"]
    assert (match["source"], match["path"], match["revision"]["name"][0]) == ("access-log", "/logged", "v")
    assert match["replayed"] is None
    assert "not known any more" in gtc("op", "explain", "ask-2", as_json=False).out
    stopped = gtc("op", "metrics")
    assert stopped.error["kind"] == "conflict"
    assert gtc("start", "--background").status == 0
    assert gtc("op", "config", "set", "--clear", "router").status == 0


def watching(gtc: CommandLine, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "greentic.cli.main", "op", "watch", "--interval", "0.2", *words]
    return subprocess.Popen(command, env=gtc.environment, stdout=subprocess.PIPE, text=True)


def test_watching_tells_shares_rates_and_routers_until_interrupted(gtc: CommandLine) -> None:
    process = watching(gtc, "local", "--json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())["result"]
    assert first["deployments"][0]["requests_per_second"] is None
    for _ in range(8):
        gtc.get("/")
    while not (picture := json.loads(process.stdout.readline())["result"])["deployments"][0]["requests_per_second"]:
        pass
    (deployment,) = picture["deployments"]
    assert deployment["lagging"] == []
    assert sum(revision["seen_bps"] for revision in deployment["revisions"]) == 10_000
    assert picture["router_states"][0]["ready"]
    assert gtc("stop").status == 0
    while json.loads(process.stdout.readline())["result"]["running"]:
        pass
    assert gtc("start", "--background").status == 0
    while not json.loads(process.stdout.readline())["result"]["running"]:
        pass
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    assert process.wait(10) == 0
    process.stdout.close()


def test_watching_without_a_terminal_prints_lines(gtc: CommandLine) -> None:
    process = watching(gtc, "web")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert " web v1  asked 75%  seen -" in line
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    assert process.wait(10) == 0
    process.stdout.close()
    once = gtc("op", "watch", "--once", "--interval", "0.2", as_json=False)
    assert "ASKED" in once.out
    assert "ready" in once.out
    assert gtc("op", "watch", "nosuch", "--once").status == 5
    assert gtc("op", "watch", "--interval", "0").error["kind"] == "invalid-argument"


def test_a_narrow_terminal_keeps_names_and_shares(gtc: CommandLine) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 30))
    command = [sys.executable, "-m", "greentic.cli.main", "op", "watch", "--once", "--interval", "0.2"]
    process = subprocess.Popen(command, env=gtc.environment | {"TERM": "xterm", "NO_COLOR": "1"}, stdout=theirs)
    os.close(theirs)
    told = b""
    with contextlib.suppress(OSError):  # how Linux says that nobody holds the other end any more
        while data := os.read(ours, 65536):
            told += data
    os.close(ours)
    assert process.wait(10) == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", told.decode())
    assert re.search(r"ASKED +SEEN", plain), plain
    assert re.search(r"v1 +75%", plain), plain
    assert "STATE" not in plain


def test_a_low_terminal_says_that_there_is_more(gtc: CommandLine) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (3, 80))
    command = [sys.executable, "-m", "greentic.cli.main", "op", "watch", "--interval", "0.2"]
    process = subprocess.Popen(command, env=gtc.environment | {"TERM": "xterm", "NO_COLOR": "1"}, stdout=theirs)
    os.close(theirs)
    told = b""
    while b"lines more; one deployment: gtc op watch NAME" not in told:
        told += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):
        while os.read(ours, 65536):
            pass
    os.close(ours)
    assert process.wait(10) == 0
    assert b"router-0" not in told


def test_counters_outlive_a_router(gtc: CommandLine) -> None:
    for _ in range(20):
        gtc.get("/")
    before = metrics(gtc)
    pid = next(
        int(line["pid"])
        for line in map(json.loads, reversed((gtc.root / "local/logs/runtime.log").read_text().splitlines()))
        if line["event"] == "router-started"
    )
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while pick(after := metrics(gtc), "greentic_router_restarts_total") == 0:
        assert time.monotonic() < deadline
    gtc.get("/")
    after = metrics(gtc)
    for key, value in before.items():
        if key[0].endswith(("_total", "_count", "_sum", "_bucket")):
            assert after[key] >= value, key
