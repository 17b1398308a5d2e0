"""A bench for providers whose workers are processes of this machine: the kernel's own account of them (Linux).

What belongs to the bench is what the kernel ties to the environment's folder: processes that name it in an argument or
a variable or stand in it, what they listen on, and the files in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from greentic.envpacks import calls
from greentic.envpacks.bench import Fault, Kind, Recording, Thing, operator_with
from greentic.envpacks.deployer import Deployer, DeployerContext
from greentic.spec.errors import ProviderError, TimedOut

Make = Callable[[DeployerContext, Mapping[str, str], Path], Deployer]
"""Makes the deployer, given the operator's variables, and the folder of the recording: where the provider starts a
process of its own that makes calls, that has to record them there (see `greentic.envpacks.witnessed`)."""

_PROC = Path("/proc")
_LISTENING = "0A"
"""The state of a listening socket in /proc/net/tcp."""
_REVISION = "GREENTIC_REVISION_ID"
_ROUTER = "greentic.router"
_A_PERSONS = frozenset({"PWD", "OLDPWD"})
"""Where a shell stands and stood: whoever looks around in the folder, at a terminal, is none of its processes."""
_END_SECONDS = 5.0
_POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    started: str
    leads: bool
    terminal: bool
    arguments: tuple[str, ...]
    variables: dict[str, str]


class ProcessBench:
    """See `greentic.envpacks.bench.Bench`. `folder` is the bench's own, empty or not there yet.

    `traces` are the files of the environment's folder, relative to it, that may stay after the end; logs may in any
    case. `kept` are those of them that hold secrets: they may, as long as they are their owner's alone, and `shown`
    tells the secrets from the environment's folder. `private_is_kept`: every file that is its owner's alone may hold
    secrets, but a log.
    """

    environment_id = "conformance"

    def __init__(
        self,
        folder: Path,
        permissions: Collection[str],
        make: Make,
        *,
        traces: Collection[str] = (),
        kept: Collection[str] = (),
        shown: Callable[[Path], tuple[str, ...]] = lambda _: (),
        private_is_kept: bool = False,
    ) -> None:
        if sys.platform != "linux":
            raise ProviderError("this bench looks into /proc, which is Linux's own")
        self._root = folder.absolute()
        self.folder = self._root / self.environment_id
        self.folder.mkdir(mode=0o700, parents=True)
        self.permissions = frozenset(permissions)
        self._make = make
        self._traces = frozenset((*traces, *kept))
        self._kept = frozenset(kept)
        self._shown = shown
        self._private_is_kept = private_is_kept
        self._calls = self._root / "calls"
        self._recording = Recording(self._calls)
        self._canary = f"canary-{secrets.token_hex(16)}"

    async def deployer(self) -> Deployer:
        """A deployer for an operator whose own variables hold a secret."""
        self._recording.revive()
        calls.observe(self._recording)
        context = DeployerContext(self.environment_id, self.folder)
        return self._make(context, operator_with(self._canary), self._calls)

    async def world(self) -> tuple[Thing, ...]:
        """Processes and sockets as the kernel lists them, files as they lie there."""
        processes = list(self._processes())
        return (*(_running(one) for one in processes), *_sockets(processes), *self._files())

    def secrets(self) -> tuple[str, ...]:
        """What the provider keeps secret, and what stood in the operator's variables."""
        return (self._canary, *self._shown(self.folder))

    def calls(self) -> tuple[calls.Call, ...]:
        """The calls made so far, in all processes."""
        return self._recording.calls()

    def inject(self, fault: Fault | None) -> None:
        """Have a call fail."""
        self._recording.inject(fault)

    async def close(self) -> None:
        """Kill what runs, those first that start others, and remove the folder."""
        self.inject(None)
        calls.observe(None)
        deadline = time.monotonic() + _END_SECONDS
        while found := list(self._processes()):
            for process in sorted(found, key=lambda one: _running(one).kind != "process"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise TimedOut(f"these processes cannot be ended: {', '.join(str(one.pid) for one in found)}")
            await asyncio.sleep(_POLL_SECONDS)
        shutil.rmtree(self._root, ignore_errors=True)

    def _processes(self) -> Iterator[_Process]:
        place = str(self.folder)
        for entry in _PROC.iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    process = _read(entry)
                    variables = (text for name, text in process.variables.items() if name not in _A_PERSONS)
                    stands = not process.terminal and str((entry / "cwd").readlink()).startswith(place)
                    if stands or any(place in text for text in (*process.arguments, *variables)):
                        yield process

    def _files(self) -> Iterator[Thing]:
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if name.startswith("revisions/"):
                continue  # the record's, not the deployer's
            with contextlib.suppress(OSError):
                found = path.lstat()
                owner = re.search(r"[0-9A-HJKMNP-TV-Z]{26}", name)
                named = owner[0] if owner else None
                if stat.S_ISSOCK(found.st_mode):
                    yield Thing("socket", name, named, str(found.st_ino))
                elif stat.S_ISREG(found.st_mode):
                    data = path.read_bytes()
                    log = name.startswith("logs/")
                    may = name in self._kept or (self._private_is_kept and not log)
                    own = may and not found.st_mode & 0o077
                    trace = log or name in self._traces
                    yield Thing(
                        "trace" if trace else "record",
                        name,
                        named,
                        "" if trace else hashlib.sha256(data).hexdigest()[:16],
                        "" if own else data.decode(errors="replace"),
                    )


def _read(entry: Path) -> _Process:
    status = (entry / "stat").read_text().rpartition(")")[2].split()
    if status[0] in "ZX":
        raise ValueError("it has ended")
    arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    pairs = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
    variables = dict(pair.partition("=")[::2] for pair in pairs if pair)
    return _Process(
        pid=int(entry.name),
        started=status[19],
        leads=status[3] == entry.name,
        terminal=status[4] != "0",
        arguments=tuple(arguments),
        variables=variables,
    )


def _running(process: _Process) -> Thing:
    """A worker or a router leads its session; what those have started is `process`, and so is all else."""
    owner = process.variables.get(_REVISION)
    kind: Kind = "process"
    if process.leads and (owner or _ROUTER in process.arguments):
        kind = "worker" if owner else "router"
    text = (*process.arguments, *(f"{name}={value}" for name, value in process.variables.items()))
    return Thing(kind, f"{kind} {process.pid}", owner, f"{process.pid}@{process.started}", "\n".join(text))


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
                yield Thing("socket", listening[inode], process.variables.get(_REVISION), inode)


def _links(pid: int) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(str(descriptor.readlink()))
    return found
