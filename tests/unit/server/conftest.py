"""One store server for all tests of the room; each gives it a store of its own."""

from __future__ import annotations

import contextlib

import pytest
from running import served

from greentic.server.doors import OpenDoor
from greentic.store.sql.store import open_store


@pytest.fixture(autouse=True)
def operator_key(tmp_path, monkeypatch):
    path = tmp_path / "operator" / "key.pem"
    monkeypatch.setenv("GTC_OPERATOR_KEY_PATH", str(path))
    return path


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    """The server."""
    with served(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture
def server(running, tmp_path):
    running.root = tmp_path
    running.desk.store = open_store(str(tmp_path / "store.db"))
    running.desk.doorkeeper = OpenDoor()
    with contextlib.ExitStack() as running.closing:
        running.closing.callback(running.desk.store.close)
        yield running


@pytest.fixture
def env(server):
    """A server with the environment `local`."""
    body = {"env_id": "local", "name": "local", "host_config": {"env_id": "local"}}
    assert server.ask("POST", "/environments", body, key="create-local").status_code == 200
    return server
