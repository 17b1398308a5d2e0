"""A store server on a real socket, in a thread of this process."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from greentic.server.desk import Desk
from greentic.server.doors import OpenDoor
from greentic.server.serving import Settings, configured
from greentic.store.files import FilesStore
from greentic.store.remote import Origin, RemoteStore
from greentic.store.sql.store import open_store


@dataclass
class Served:
    url: str
    desk: Desk
    root: Path
    closing: contextlib.ExitStack

    def client(self, token: str | None = None, folder: str = "client") -> RemoteStore:
        client = RemoteStore(Origin(self.url, token), self.root / folder)
        self.closing.callback(client.close)
        return client

    def ask(self, method: str, path: str, body: Any = None, *, key: str | None = "auto", token=None, **headers):
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if method not in {"GET", "HEAD"} and key is not None:
            self.keys = getattr(self, "keys", 0) + 1
            given["idempotency-key"] = f"k{self.keys}" if key == "auto" else key
        if token is not None:
            given["authorization"] = f"Bearer {token}"
        with httpx2.Client(base_url=self.url, trust_env=False, verify=False) as client:
            return client.request(method, path.lstrip("/"), json=body, headers=given)


@contextlib.contextmanager
def served(root: Path, door=None, store=None, settings: Settings | None = None):
    desk = Desk(store or FilesStore(root / "environments"), door or OpenDoor())
    server = uvicorn.Server(configured(desk, settings or Settings()))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with contextlib.ExitStack() as closing:
            yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}/", desk, root, closing)
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


@pytest.fixture(autouse=True)
def operator_key(tmp_path, monkeypatch):
    path = tmp_path / "operator" / "key.pem"
    monkeypatch.setenv("GTC_OPERATOR_KEY_PATH", str(path))
    return path


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    """One server for all tests; each gives it a store of its own."""
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
