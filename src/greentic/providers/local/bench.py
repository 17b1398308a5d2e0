"""The bench of the local deployer: a folder of its own, the real runtime, and the kernel's account of it (Linux)."""

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
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from greentic.envpacks import calls
from greentic.envpacks.bench import Fault, Recording, Thing, operator_with
from greentic.envpacks.deployer import Deployer, DeployerContext
from greentic.providers.local import lock
from greentic.providers.local.credentials import PERMISSIONS
from greentic.providers.local.deployer import LocalProcessDeployer
from greentic.providers.local.layout import Layout
from greentic.providers.local.survivors import ROUTER_MARK
from greentic.providers.local.witnessed import MODULE, recording_of
from greentic.spec.errors import ProviderError

_PROC = Path("/proc")
_LISTENING = "0A"
"""The state of a listening socket in /proc/net/tcp."""
_TRACES = frozenset({"run/runtime.lock", "run/listening.json", "router-keys.json"})
"""What may stay after the end: a lock that nobody holds, the port to take again, the keys of visitors' cookies."""
_END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    started: str
    leads: bool
    arguments: tuple[str, ...]
    variables: dict[str, str]


class LocalBench:
    """See `greentic.envpacks.bench.Bench`. `folder` is the bench's own, empty or not there yet."""

    environment_id = "conformance"
    permissions = PERMISSIONS

    def __init__(self, folder: Path) -> None:
        if sys.platform != "linux":
            raise ProviderError("the bench of local-process looks into /proc, which is Linux's own")
        self._root = folder.absolute()
        self.folder = self._root / self.environment_id
        self._layout = Layout(self.folder)
        self._recording = Recording(recording_of(self.folder))
        self._canary = f"canary-{secrets.token_hex(16)}"

    async def deployer(self) -> Deployer:
        """The deployer of this machine, for an operator whose own variables hold a secret."""
        self._recording.revive()
        calls.observe(self._recording)
        operator = operator_with(self._canary)
        return LocalProcessDeployer(DeployerContext(self.environment_id, self.folder), operator, MODULE)

    async def world(self) -> tuple[Thing, ...]:
        """Processes and sockets as the kernel lists them, files as they lie there."""
        processes = list(self._processes())
        return (*(_running(one, self._layout) for one in processes), *_sockets(processes), *self._files())

    def secrets(self) -> tuple[str, ...]:
        """The keys of cookies and previews, and what stood in the operator's variables."""
        with contextlib.suppress(OSError):
            ring = json.loads(self._layout.keys.read_bytes())
            return (self._canary, ring["slots"], *(key["secret"] for key in ring["ring"]))
        return (self._canary,)

    def calls(self) -> tuple[calls.Call, ...]:
        """The calls made so far, by the deployer and by its runtime."""
        return self._recording.calls()

    def inject(self, fault: Fault | None) -> None:
        """Have a call fail."""
        self._recording.inject(fault)

    async def close(self) -> None:
        """Kill what runs, the runtime first, and remove the folder."""
        self.inject(None)
        calls.observe(None)
        while found := list(self._processes()):
            for process in sorted(found, key=lambda one: _is_runtime(one, self._layout), reverse=True):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            await lock.released(self._layout.lock, _END_SECONDS)
        shutil.rmtree(self._root, ignore_errors=True)

    def _processes(self) -> Iterator[_Process]:
        run = str(self._layout.run)
        for entry in _PROC.iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    process = _read(entry)
                    worker = process.variables.get("GREENTIC_CONFIG_FILE", "").startswith(f"{run}/workers/")
                    router = process.variables.get(ROUTER_MARK) == run
                    if worker or router or _is_runtime(process, self._layout):
                        yield process

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
                    # The key ring is the one place where its keys may stand, as long as it is its owner's alone.
                    shown = b"" if name == "router-keys.json" and not found.st_mode & 0o077 else data
                    trace = name.startswith("logs/") or name in _TRACES
                    yield Thing(
                        "trace" if trace else "record",
                        name,
                        named,
                        "" if trace else hashlib.sha256(data).hexdigest()[:16],
                        shown.decode(errors="replace"),
                    )


def _read(entry: Path) -> _Process:
    status = (entry / "stat").read_text().rpartition(")")[2].split()
    if status[0] in "ZX":
        raise ValueError("it has ended")
    arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    pairs = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
    variables = dict(pair.partition("=")[::2] for pair in pairs if pair)
    return _Process(int(entry.name), status[19], status[3] == entry.name, tuple(arguments), variables)


def _is_runtime(process: _Process, layout: Layout) -> bool:
    return str(layout.folder) in process.arguments and "--environment-id" in process.arguments


def _running(process: _Process, layout: Layout) -> Thing:
    """A worker or a router is what leads its session; what those have started is `process`, and so is the runtime."""
    owner = None
    kind: str = "process"
    if not _is_runtime(process, layout):
        owner = process.variables.get("GREENTIC_REVISION_ID")
        if process.leads:
            kind = "worker" if owner else "router"
    return Thing(
        kind,  # type: ignore[arg-type]
        f"{kind} {process.pid}",
        owner,
        f"{process.pid}@{process.started}",
        "\n".join((*process.arguments, *(f"{name}={value}" for name, value in process.variables.items()))),
    )


def _sockets(processes: list[_Process]) -> Iterator[Thing]:
    """What the processes listen on, each socket once, whoever has inherited it."""
    listening: dict[str, str] = {}
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTENING:
                    listening[columns[9]] = f"{table} port {int(columns[1].rpartition(':')[2], 16)}"
    seen: set[str] = set()
    for process in processes:
        for link in _links(process.pid):
            inode = link.removeprefix("socket:[").removesuffix("]")
            if inode in listening and inode not in seen:
                seen.add(inode)
                yield Thing("socket", listening[inode], process.variables.get("GREENTIC_REVISION_ID"), inode)


def _links(pid: int) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(str(descriptor.readlink()))
    return found
