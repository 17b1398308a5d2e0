"""The bench of the local deployer: the real runtime, in a folder of its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from greentic.envpacks import witnessed
from greentic.envpacks.bench import Bench
from greentic.envpacks.deployer import Deployer, DeployerContext
from greentic.envpacks.processes import ProcessBench
from greentic.providers.local.background import RUNTIME
from greentic.providers.local.credentials import PERMISSIONS
from greentic.providers.local.deployer import LocalProcessDeployer

_LAST = ("run/runtime.lock", "run/listening.json")
"""What may stay after the end: a lock that nobody holds, and the port to take again."""
_KEYS = "router-keys.json"


def open_bench(folder: Path) -> Bench:
    """A clean place in `folder`."""
    return ProcessBench(folder, PERMISSIONS, _deployer, traces=_LAST, kept=(_KEYS,), shown=_keys)


def _deployer(context: DeployerContext, operator: Mapping[str, str], recording: Path) -> Deployer:
    return LocalProcessDeployer(context, operator, witnessed.command(recording, RUNTIME))


def _keys(folder: Path) -> tuple[str, ...]:
    with contextlib.suppress(OSError):
        ring = json.loads((folder / _KEYS).read_bytes())
        return (ring["slots"], *(key["secret"] for key in ring["ring"]))
    return ()
