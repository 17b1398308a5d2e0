"""The newest recorded state that the runtime was given, kept for when it comes back after a crash."""

from __future__ import annotations

import json
from pathlib import Path

from greentic.envpacks.deployer import DesiredState
from greentic.providers.local import wire
from greentic.providers.local.layout import write_private
from greentic.spec.errors import GreenticError


def save(path: Path, desired: DesiredState) -> None:
    """Replace what is kept at `path`."""
    write_private(path, wire.encode(wire.desired_document(desired)))


def load(path: Path) -> DesiredState | None:
    """What is kept at `path`; None when there is nothing that can be read: the store has it too."""
    try:
        return wire.desired_from(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError, GreenticError):
        return None
