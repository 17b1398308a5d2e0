"""What a mutant is, and how one is declared."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from greentic.conformance.plain.bench import PlainBench
from greentic.conformance.plain.deployer import PlainDeployer
from greentic.conformance.plain.machine import PERMISSIONS, Machine
from greentic.envpacks.bench import Bench

_Wrong = TypeVar("_Wrong", bound=type[PlainDeployer] | type[Machine])


@dataclass(frozen=True, slots=True)
class Mutant:
    """One wrong deployer: what is wrong with it, the check that names its fault, and a bench with it."""

    name: str
    fault: str
    caught_by: str
    bench: Callable[[Path], Bench]


_ZOO: Final[list[Mutant]] = []


def mutants() -> tuple[Mutant, ...]:
    """All of them."""
    return tuple(_ZOO)


def caught_by(check: str, permissions: frozenset[str] = PERMISSIONS) -> Callable[[_Wrong], _Wrong]:
    """Declare a class as a mutant that `check` must catch. Its docstring says what is wrong."""

    def declare(wrong: _Wrong) -> _Wrong:
        def bench(folder: Path) -> Bench:
            if issubclass(wrong, Machine):
                return PlainBench(folder, machine=wrong, permissions=permissions)
            return PlainBench(folder, make=wrong, permissions=permissions)

        name = re.sub(r"(?<!^)(?=[A-Z])", "-", wrong.__name__).lower()
        _ZOO.append(Mutant(name, (wrong.__doc__ or "").strip(), check, bench))
        return wrong

    return declare
