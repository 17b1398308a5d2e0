"""A store server on a real socket, in a thread of this process."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from greentic.server.app import StoreServer
from greentic.server.desk import Desk
from greentic.server.doors import OpenDoor
from greentic.server.serving import Settings, configured
from greentic.store.files import FilesStore
from greentic.store.remote import Origin, RemoteStore


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
def served(root: Path, door=None, store=None, settings: Settings | None = None, wrap=lambda app: app):
    desk = Desk(store or FilesStore(root / "environments"), door or OpenDoor())
    server = uvicorn.Server(configured(wrap(StoreServer(desk)), settings or Settings()))
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
