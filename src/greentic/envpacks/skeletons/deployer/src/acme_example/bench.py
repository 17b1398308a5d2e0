"""The bench: how greentic's driving test looks at what the deployer makes (see `greentic.envpacks.bench`; Linux).

    gtc conformance run --deployer acme.deployer.example

It believes neither the deployer nor the scheduler: processes and sockets are what the kernel lists, files what lies
there. On a real platform this is what the platform lists.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from greentic.envpacks.bench import Bench
from greentic.envpacks.deployer import Deployer, DeployerContext
from greentic.envpacks.processes import ProcessBench

from acme_example.deployer import RECORDING, ExampleDeployer

PERMISSIONS = frozenset({"file.write", "process.end", "process.start", "router.control", "socket.listen"})
"""What the deployer needs to be allowed: every call of it and of the scheduler is made under one of these."""
_KEYS = "run/acme_example/keys.json"
_LAST = ("run/acme_example/lock", "run/acme_example/listening.json")


def open_bench(folder: Path) -> Bench:
    """A clean place in `folder`. What may stay: a lock that nobody holds, the port to take again, the keys."""
    return ProcessBench(folder, PERMISSIONS, _deployer, traces=_LAST, kept=(_KEYS,), shown=_keys)


def _deployer(context: DeployerContext, operator: Mapping[str, str], recording: Path) -> Deployer:
    """As a new command would make it; the scheduler is told where its calls are written down."""
    return ExampleDeployer(context, {**operator, RECORDING: str(recording)})


def _keys(folder: Path) -> tuple[str, ...]:
    with contextlib.suppress(OSError):
        keys = json.loads((folder / _KEYS).read_bytes())
        return (keys["slots"], *(key["secret"] for key in keys["ring"]))
    return ()
