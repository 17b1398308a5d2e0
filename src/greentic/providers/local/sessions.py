"""Where the routers keep session pins: what the environment's binding in the slot `sessions` comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from greentic.envpacks.answers import answers_at
from greentic.envpacks.registry import Registry
from greentic.envpacks.secrets import SecretsContext, SecretValue
from greentic.envpacks.sessions import SessionsContext
from greentic.spec.capabilities import Slot
from greentic.spec.environment import Environment, PackBinding
from greentic.spec.secrets import SecretAddress


def pins(environment: Environment, folder: Path, registry: Registry | None = None) -> dict[str, Any] | None:
    """The `pins` of a router's table; None for pins in memory. There may be a password in it.

    GreenticError when the binding cannot be followed: its env-pack, its answers or its secret is missing or broken.
    """
    binding = environment.binding(Slot.SESSIONS)
    if binding is None:
        return None
    registry = registry if registry is not None else Registry.installed()
    pack = registry.resolve(binding.kind, Slot.SESSIONS)
    if pack.sessions is None:
        return None

    def secret(address: SecretAddress) -> SecretValue | None:
        name = environment.environment_id
        answers = _answers(environment.binding(Slot.SECRETS), folder)
        return registry.secrets(environment, SecretsContext(name, folder, answers)).get(address)

    context = SessionsContext(environment.environment_id, _answers(binding, folder), secret)
    return {"kind": pack.path, "settings": dict(pack.sessions().settings(context))}


def _answers(binding: PackBinding | None, folder: Path) -> dict[str, Any]:
    return {} if binding is None else answers_at(folder, binding.answers_ref, binding.kind)
