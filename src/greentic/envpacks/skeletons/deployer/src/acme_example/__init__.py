"""The env-pack `acme.deployer.example`: what greentic finds by the entry point in pyproject.toml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from greentic.envpacks.bench import Bench
from greentic.envpacks.deployer import Deployer, DeployerContext
from greentic.envpacks.registry import EnvPack
from greentic.spec.capabilities import Slot


def pack() -> EnvPack:
    """Imported when somebody asks what is installed: heavy imports belong into the functions below."""
    return EnvPack(
        path="acme.deployer.example",
        slot=Slot.DEPLOYER,
        versions="^0.1.0",
        summary="runs each revision as a process group of a small scheduler on this machine",
        deployer=_deployer,
        answers=_answers,
        bench=_bench,
    )


def _deployer(context: DeployerContext) -> Deployer:
    from acme_example.deployer import ExampleDeployer

    return ExampleDeployer(context)


def _answers() -> Mapping[str, Any]:
    from acme_example.launching import ANSWERS

    return ANSWERS


def _bench(folder: Path) -> Bench:
    from acme_example.bench import open_bench

    return open_bench(folder)
