"""The bench: how greentic's driving test looks at what the deployer makes (see `greentic.envpacks.bench`; Linux).

    gtc conformance run --deployer acme.deployer.example

It believes neither the deployer nor the scheduler: processes and sockets are what the kernel lists, files what lies
there.
On a real platform this is what the platform lists.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from acme_example.deployer import RECORDING, ExampleDeployer
from acme_example.scheduler import ROUTER_MARK
from greentic.envpacks import calls
from greentic.envpacks.bench import Fault, Kind, Recording, Thing, operator_with
from greentic.envpacks.deployer import Deployer, DeployerContext

PERMISSIONS = frozenset({"file.write", "process.end", "process.start", "router.control", "socket.listen"})
"""What the deployer needs to be allowed: every call of it and of the scheduler is made under one of these."""
_LISTENING = "0A"
_STAYS = ("logs/", "run/acme_example/keys.json", "run/acme_example/lock")
"""What may stay after the end: logs, the keys of visitors' cookies, a lock that nobody holds."""


@dataclass(frozen=True, slots=True)
class Process:
    """What the kernel says of one process."""

    number: int
    started: str
    leads: bool
    arguments: tuple[str, ...]
    variables: dict[str, str]


class ExampleBench:
    """See `greentic.envpacks.bench.Bench`."""

    environment_id = "conformance"
    permissions = PERMISSIONS

    def __init__(self, folder: Path) -> None:
        self._root = folder.absolute()
        self.folder = self._root / self.environment_id
        self._run = self.folder / "run" / "acme_example"
        self._calls = self._root / "calls"
        self._recording = Recording(self._calls)
        self._canary = f"canary-{secrets.token_hex(16)}"

    async def deployer(self) -> Deployer:
        """A deployer as a new command would make it, for an operator who has a secret among the variables."""
        self._recording.revive()
        calls.observe(self._recording)
        operator = {**operator_with(self._canary), RECORDING: str(self._calls)}
        return ExampleDeployer(DeployerContext(self.environment_id, self.folder), operator)

    async def world(self) -> tuple[Thing, ...]:
        """What exists now."""
        processes = list(self._processes())
        return (*map(self._running, processes), *_sockets(processes), *self._files())

    def secrets(self) -> tuple[str, ...]:
        """What may stand nowhere."""
        with contextlib.suppress(OSError):
            keys = json.loads((self._run / "keys.json").read_bytes())
            return (self._canary, keys["slots"], *(key["secret"] for key in keys["ring"]))
        return (self._canary,)

    def calls(self) -> tuple[calls.Call, ...]:
        """The calls so far, of the deployer and of the scheduler."""
        return self._recording.calls()

    def inject(self, fault: Fault | None) -> None:
        """Have a call fail."""
        self._recording.inject(fault)

    async def close(self) -> None:
        """Leave nothing."""
        self.inject(None)
        calls.observe(None)
        while found := list(self._processes()):
            for process in sorted(found, key=self._is_scheduler, reverse=True):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.number, signal.SIGKILL)
        shutil.rmtree(self._root, ignore_errors=True)

    def _processes(self) -> Iterator[Process]:
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    process = _read(entry)
                    worker = process.variables.get("GREENTIC_CONFIG_FILE", "").startswith(f"{self._run}/workers/")
                    router = process.variables.get(ROUTER_MARK) == str(self._run)
                    if worker or router or self._is_scheduler(process):
                        yield process

    def _is_scheduler(self, process: Process) -> bool:
        return "acme_example.scheduler" in process.arguments and str(self.folder) in process.arguments

    def _running(self, process: Process) -> Thing:
        owner = None if self._is_scheduler(process) else process.variables.get("GREENTIC_REVISION_ID")
        kind: Kind = "process"
        if process.leads and not self._is_scheduler(process):
            kind = "worker" if owner else "router"
        text = "\n".join((*process.arguments, *(f"{name}={value}" for name, value in process.variables.items())))
        return Thing(kind, f"{kind} {process.number}", owner, f"{process.number}@{process.started}", text)

    def _files(self) -> Iterator[Thing]:
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if name.startswith("revisions/"):
                continue  # the record's, not the deployer's
            with contextlib.suppress(OSError):
                found = path.lstat()
                owner = re.search(r"(?:workers|revisions)/([0-9A-Z]{26})", name)
                named = owner[1] if owner else None
                if stat.S_ISSOCK(found.st_mode):
                    yield Thing("socket", name, named, str(found.st_ino))
                elif stat.S_ISREG(found.st_mode):
                    data = path.read_bytes()
                    trace = name.startswith(_STAYS)
                    hidden = name.endswith("keys.json") and not found.st_mode & 0o077
                    digest = "" if trace else hashlib.sha256(data).hexdigest()[:16]
                    text = "" if hidden else data.decode(errors="replace")
                    yield Thing("trace" if trace else "record", name, named, digest, text)


def _read(entry: Path) -> Process:
    status = (entry / "stat").read_text().rpartition(")")[2].split()
    if status[0] in "ZX":
        raise ValueError("it has ended")
    arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    pairs = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
    variables = dict(pair.partition("=")[::2] for pair in pairs if pair)
    return Process(int(entry.name), status[19], status[3] == entry.name, tuple(arguments), variables)


def _sockets(processes: list[Process]) -> Iterator[Thing]:
    """What they listen on, each socket once, whoever has inherited it."""
    listening: dict[str, str] = {}
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTENING:
                    listening[columns[9]] = f"{table} port {int(columns[1].rpartition(':')[2], 16)}"
    for process in processes:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{process.number}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inode = str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]")
                    if name := listening.pop(inode, None):
                        yield Thing("socket", name, process.variables.get("GREENTIC_REVISION_ID"), inode)
