"""The provider of the plain deployer: it starts, keeps and shows what it is told to, and decides nothing.

It outlives deployers, as a cluster does. What it has is told to whoever asks; each change of it is one provider call
(see `greentic.envpacks.calls`).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from greentic.envpacks import calls
from greentic.envpacks.bench import Thing
from greentic.router.accepting import Acceptor
from greentic.router.control import DrainReport
from greentic.router.gateway import Gateway
from greentic.spec.errors import Conflict
from greentic.worker.launch import HOST, Launch

PERMISSIONS = frozenset(
    {"process.start", "process.end", "record.write", "record.remove", "router.route", "router.drain", "router.end"}
)
_LOG_BYTES = 4096


@dataclass(slots=True)
class Process:
    """A running program, and what was written on it: `owner` is the revision that it is for."""

    name: str
    owner: str
    launch: Launch
    note: str
    child: asyncio.subprocess.Process


@dataclass(slots=True)
class Router:
    """The data path in this process, and the socket that it listens on."""

    gateway: Gateway
    acceptor: Acceptor
    listener: socket.socket


@dataclass(slots=True)
class Machine:
    """Processes, records and a router. `folder` takes the processes' logs."""

    folder: Path
    processes: dict[str, Process] = field(default_factory=dict)
    records: dict[str, str] = field(default_factory=dict)
    port: int = 0
    version: int = 0
    routed: tuple[Mapping[str, Any], ...] = ()
    """The deployments of the table that the router serves."""
    _router: Router | None = None
    _secrets: tuple[str, str] = field(
        default_factory=lambda: (_random(), _random()),
    )

    @property
    def keys(self) -> dict[str, Any]:
        """The keys that the router signs with. They are kept here and shown to nobody else."""
        return {"active": "k1", "ring": [{"kid": "k1", "secret": self._secrets[0]}], "slots": self._secrets[1]}

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may stand nowhere."""
        return self._secrets

    @property
    def url(self) -> str | None:
        """Where the router is reached; None when there is none."""
        return None if self._router is None else f"http://{HOST}:{self.port}"

    @property
    def gateway(self) -> Gateway | None:
        """The router, to be asked."""
        return None if self._router is None else self._router.gateway

    async def start(self, name: str, owner: str, launch: Launch, note: str = "") -> Process:
        """Start a process under a name that is free. Conflict otherwise."""
        with calls.making("process.start", name):
            if name in self.processes and self.processes[name].child.returncode is None:
                raise Conflict(f"there is a process '{name}' already")
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.log(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                child = await asyncio.create_subprocess_exec(
                    *launch.argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=descriptor,
                    stderr=descriptor,
                    env=dict(launch.environment),
                    cwd=launch.directory,
                    start_new_session=True,
                )
            finally:
                os.close(descriptor)
            process = self.processes[name] = Process(name, owner, launch, note, child)
        return process

    async def end(self, name: str) -> None:
        """End a process; fine when it is gone."""
        with calls.making("process.end", name):
            await self._end(name)

    def write(self, name: str, text: str) -> None:
        """Keep a record."""
        with calls.making("record.write", name):
            self.records[name] = text
            self.place(name).parent.mkdir(parents=True, exist_ok=True)
            self.place(name).write_text(text)

    def remove(self, name: str) -> None:
        """Keep it no more."""
        with calls.making("record.remove", name):
            self.records.pop(name, None)
            self.place(name).unlink(missing_ok=True)

    async def route(self, table: dict[str, Any]) -> Mapping[str, int]:
        """Have the router serve `table`, under the next version; the generation of each deployment then."""
        with calls.making("router.route", "router"):
            if self._router is None:
                self._router = self._listen()
            self.version += 1
            acknowledged = self._router.gateway.configure({**table, "version": self.version, "keys": self.keys})
            self._router.acceptor.start()
            self.routed = tuple(table["deployments"])
            generations: Mapping[str, int] = acknowledged["generations"]
        return generations

    async def drain(self, revision_id: str, seconds: float) -> DrainReport:
        """Wait until the router has nothing in flight to the revision, at most `seconds`; then cut the rest."""
        if self._router is None:
            return DrainReport(0)
        with calls.making("router.drain", revision_id):
            return await self._router.gateway.drain(revision_id, seconds)

    async def unroute(self) -> None:
        """End the router; fine when there is none."""
        if self._router is not None:
            with calls.making("router.end", "router"):
                await self._unroute()

    def place(self, name: str) -> Path:
        """The file of a record."""
        return self.folder / name

    def log(self, name: str) -> Path:
        """Where the output of a process goes."""
        return self.folder / f"{name}.log"

    def tail(self, name: str) -> str:
        """The last line of a process."""
        try:
            return self.log(name).read_bytes()[-_LOG_BYTES:].decode(errors="replace").strip().rpartition("\n")[2]
        except FileNotFoundError:
            return ""

    def things(self) -> tuple[Thing, ...]:
        """Everything that exists here."""
        found: list[Thing] = []
        for process in self.processes.values():
            if process.child.returncode is None:
                launch = process.launch
                shown = (*launch.argv, *(f"{name}={value}" for name, value in launch.environment.items()), process.note)
                identity = str(process.child.pid)
                found.append(Thing("worker", process.name, process.owner, identity, "\n".join(shown)))
                found.append(Thing("socket", f"{HOST}:{launch.port}", process.owner, identity))
        for name, text in self.records.items():
            owner = name.rpartition("/")[2] if "/" in name else None
            found.append(Thing("record", name, owner, text, text))
        if self._router is not None:
            found.append(Thing("router", "router", None, str(id(self._router.gateway))))
            found.append(Thing("socket", f"{HOST}:{self.port}", None, str(self._router.listener.fileno())))
        logs = sorted(self.folder.glob("*.log"))
        found += (Thing("trace", one.name, one.stem, "", one.read_text(errors="replace")) for one in logs)
        return tuple(found)

    async def clear(self) -> None:
        """Remove everything, calling nobody."""
        await self._unroute()
        for name in tuple(self.processes):
            await self._end(name)
        self.records.clear()

    async def _end(self, name: str) -> None:
        process = self.processes.get(name)
        if process is not None:
            if process.child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.child.pid, signal.SIGKILL)
                await process.child.wait()
            self.processes.pop(name, None)

    def _listen(self) -> Router:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, self.port))
        listener.listen(512)
        self.port = listener.getsockname()[1]
        gateway = Gateway()
        return Router(gateway, Acceptor(listener, gateway), listener)

    async def _unroute(self) -> None:
        router, self._router, self.routed = self._router, None, ()
        if router is not None:
            router.acceptor.stop()
            router.gateway.stop_within(0, 0)
            await router.acceptor.opened()
            await router.gateway.stopped()
            router.listener.close()


def _random() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()
