"""Benches for deployers that are executables: who looks is never the process that deploys.

Two things can look: a program (`bench` of a manifest: the env-pack's own, or that of another one which the operator
names), or greentic itself, at the processes of this machine (`greentic.envpacks.processes`). Calls are written down by
the executable, where the variable `GREENTIC_RECORDING` says (`greentic.envpacks.bench.Recording`); the permissions that
it declares are the ids of its manifest's `capabilities`.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Any, Final

from greentic.envpacks.bench import CANARY, Bench, Fault, LookerContext, Recording, Thing, operator_with
from greentic.envpacks.calls import Call
from greentic.envpacks.contracts import DEPLOYER, LOOKER
from greentic.envpacks.deployer import Deployer, DeployerContext
from greentic.envpacks.executables import Executable
from greentic.envpacks.processes import ProcessBench
from greentic.envpacks.subprocess import client

_SHORTEST_SECRET: Final = 6


class ProgramBench:
    """See `greentic.envpacks.bench.Bench`. The program `bench` of the manifest of `looker` looks at what the deployer
    `executable` does. `folder` is the bench's own, empty or not there yet.
    """

    environment_id = "conformance"

    def __init__(self, looker: Executable, executable: Executable, folder: Path) -> None:
        self._root = folder.absolute()
        self.folder = self._root / self.environment_id
        self.folder.mkdir(mode=0o700, parents=True)
        self.permissions = declared(executable)
        self._executable = executable
        self._calls = self._root / "calls"
        self._recording = Recording(self._calls)
        self._operator = operator_with(f"canary-{secrets.token_hex(16)}")
        context = LookerContext(self.environment_id, self.folder)
        self._looker: Any = client(LOOKER)(looker, context, command=looker.manifest.bench)

    async def deployer(self) -> Deployer:
        """The executable, for an operator whose own variables hold a secret."""
        context = DeployerContext(self.environment_id, self.folder)
        made: Any = client(DEPLOYER)(self._executable, context, self._operator, recording=self._calls)
        found: Deployer = made
        return found

    async def world(self) -> tuple[Thing, ...]:
        """What the program sees."""
        things: tuple[Thing, ...] = await self._looker.world()
        return things

    def secrets(self) -> tuple[str, ...]:
        """What the program knows to be secret, and what of the operator's the deployer is given or could see."""
        return (self._operator[CANARY], *given(self._executable), *self._looker.secrets())

    def calls(self) -> tuple[Call, ...]:
        """The calls that the executable has written down."""
        return self._recording.calls()

    def inject(self, fault: Fault | None) -> None:
        """Have a call fail."""
        self._recording.inject(fault)

    async def close(self) -> None:
        """Have the program remove everything, and remove the folder."""
        self.inject(None)
        try:
            await self._looker.clear()
        finally:
            shutil.rmtree(self._root, ignore_errors=True)


def open_bench(looker: Executable, executable: Executable, folder: Path) -> Bench:
    """A bench on which a program looks: that of the manifest of `looker`."""
    return ProgramBench(looker, executable, folder)


def open_processes(executable: Executable, folder: Path) -> Bench:
    """A bench on which greentic looks, at the processes of this machine: what nobody but their owner can read of the
    executable's files may hold secrets, and nothing but logs may stay.
    """

    def make(context: DeployerContext, operator: Any, recording: Path) -> Deployer:
        made: Any = client(DEPLOYER)(executable, context, operator, recording=recording)
        found: Deployer = made
        return found

    return ProcessBench(folder, declared(executable), make, shown=lambda _: given(executable), private_is_kept=True)


def declared(executable: Executable) -> frozenset[str]:
    """The permissions that an executable declares."""
    return frozenset(one.id for one in executable.manifest.capabilities)


def given(executable: Executable) -> tuple[str, ...]:
    """The values of the operator's variables that the executable is given."""
    values = (os.environ.get(name, "") for name in executable.manifest.variables)
    return tuple(value for value in values if len(value) >= _SHORTEST_SECRET)
