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
    registry = registry if registry is not None else Registry.installed()
    bound = registry.bound(environment, Slot.TELEMETRY)
    if bound is None or bound[0].telemetry is None:
        return None
    pack, binding = bound
    assert pack.telemetry is not None
    secret = secrets_of(environment, folder, registry)
    context = TelemetryContext(environment.environment_id, answers_of(binding, folder), secret, folder)
    return {"kind": pack.opened_by or pack.path, "settings": dict(pack.telemetry().settings(context))}
