"""Where the routers send spans: what the environment's binding in the slot `telemetry` comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from greentic.envpacks.registry import Registry
from greentic.envpacks.telemetry import TelemetryContext
from greentic.providers.local.sessions import answers_of, secrets_of
from greentic.spec.capabilities import Slot
from greentic.spec.environment import Environment


def spans(environment: Environment, folder: Path, registry: Registry | None = None) -> dict[str, Any] | None:
    """The `spans` of a router's table; None for none. There may be a secret in it.

    GreenticError when the binding cannot be followed: its env-pack, its answers or its secret is missing or broken.
    """
    binding = environment.binding(Slot.TELEMETRY)
    if binding is None:
        return None
    registry = registry if registry is not None else Registry.installed()
    pack = registry.resolve(binding.kind, Slot.TELEMETRY)
    if pack.telemetry is None:
        return None
    secret = secrets_of(environment, folder, registry)
    context = TelemetryContext(environment.environment_id, answers_of(binding, folder), secret)
    return {"kind": pack.path, "settings": dict(pack.telemetry().settings(context))}
