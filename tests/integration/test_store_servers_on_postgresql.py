"""Two store servers on one PostgreSQL: each sees what the other did, and both live through a crash of the database."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time

import httpx2
import pytest
from tests.integration import databases


@pytest.fixture
def killable():
    running = databases.server()
    yield running
    running.remove()


@pytest.fixture
def servers(killable, tmp_path):
    """Two clients, one of each server."""
    url, environ = killable.fresh(), {**os.environ, "GTC_OPERATOR_KEY_PATH": str(tmp_path / "operator" / "key.pem")}
    command = [sys.executable, "-m", "greentic.cli.main", "store", "serve", "--db", url, "--bind", "127.0.0.1:0"]
    started = [subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    threads, clients = [], []
    try:
        for process in started:
            address = next(line.split(" at ")[1].strip() for line in process.stderr if "serving" in line)
            threads.append(threading.Thread(target=process.stderr.read))  # nobody waits for a full pipe
            threads[-1].start()
            clients.append(httpx2.Client(base_url=address, trust_env=False, timeout=30))
        yield clients
    finally:
        for client in clients:
            client.close()
        for process in started:
            process.terminate()
        assert [process.wait(30) for process in started] == [0, 0]
        for thread in threads:
            thread.join()
        for process in started:
            process.stderr.close()


def rename(client, name):
    return client.patch("/environments/prod", json={"name": name}, headers={"idempotency-key": name})


def test_they_are_one_store(servers, killable):
    one, other = servers
    body = {"env_id": "prod", "name": "prod", "host_config": {"env_id": "prod"}}
    assert one.post("/environments", json=body, headers={"idempotency-key": "create"}).json()["generation"] == 1
    assert other.get("/environments/prod").json()["generation"] == 1
    heard: list[str] = []
    ready = threading.Event()

    def watch():
        """As any client of server-sent events: where a stream ends, go on from its last event."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            since = {"last-event-id": heard[-1].removeprefix("id: ")} if heard else {}
            with (
                contextlib.suppress(httpx2.HTTPError),
                other.stream("GET", "/environments/prod/watch", headers=since) as stream,
            ):
                for line in stream.iter_lines():
                    if line.startswith("id:"):
                        heard.append(line)
                        ready.set()
                    if line == "id: 3":
                        return

    watching = threading.Thread(target=watch)
    watching.start()
    assert ready.wait(30)
    assert rename(one, "n2").json()["generation"] == 2
    told = []
    killable.crash()
    away = one.get("/environments/prod")
    assert (away.status_code, away.json()["kind"]) == (503, "busy")
    assert "127.0.0.1" not in away.text
    writing = threading.Thread(target=lambda: told.append(rename(other, "n3")))
    writing.start()
    killable.start()
    writing.join()
    assert (told[0].status_code, told[0].json()["generation"]) == (200, 3)
    deadline = time.monotonic() + 30
    while rename(one, "n3").status_code != 200:  # its connections may still be those that broke
        assert time.monotonic() < deadline
    assert rename(one, "n3").json()["idempotency"] == {"idempotency": "replayed"}
    assert one.get("/environments/prod").json()["etag"] == other.get("/environments/prod").json()["etag"]
    watching.join(60)
    assert heard[-1] == "id: 3", "who watches one server hears what another one did"
