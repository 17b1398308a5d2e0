"""The bench of the plain deployer, and of every mutant of it."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from greentic.conformance.plain.deployer import PlainDeployer
from greentic.conformance.plain.machine import PERMISSIONS, Machine
from greentic.envpacks import calls
from greentic.envpacks.bench import Fault, Recording, Thing, operator_with
from greentic.envpacks.deployer import Deployer, DeployerContext

Make = Callable[[DeployerContext, Machine, Mapping[str, str]], PlainDeployer]

KIND = "greentic.conformance.plain@0.1.0"


class PlainBench:
    """See `greentic.envpacks.bench.Bench`. `make` makes the deployer, the plain one or a mutant."""

    environment_id = "conformance"

    def __init__(
        self,
        folder: Path,
        make: Make = PlainDeployer,
        machine: type[Machine] = Machine,
        permissions: frozenset[str] = PERMISSIONS,
    ) -> None:
        self._root = folder
        self.folder = folder / self.environment_id
        self.folder.mkdir(parents=True)
        self.permissions = permissions
        self._make = make
        self._machine = machine(folder / "machine")
        self._recording = Recording(folder / "calls")
        self._canary = f"canary-{secrets.token_hex(16)}"

    async def deployer(self) -> Deployer:
        """A new deployer on the same machine."""
        self._recording.revive()
        calls.observe(self._recording)
        operator = operator_with(self._canary)
        return self._make(DeployerContext(self.environment_id, self.folder), self._machine, operator)

    async def world(self) -> tuple[Thing, ...]:
        """What the machine has."""
        return self._machine.things()

    def secrets(self) -> tuple[str, ...]:
        """The router's keys, and what stood in the operator's variables."""
        return (self._canary, *self._machine.secrets)

    def calls(self) -> tuple[calls.Call, ...]:
        """The calls made so far."""
        return self._recording.calls()

    def inject(self, fault: Fault | None) -> None:
        """Have a call fail."""
        self._recording.inject(fault)

    async def close(self) -> None:
        """End everything."""
        calls.observe(None)
        await self._machine.clear()
        shutil.rmtree(self._root, ignore_errors=True)
