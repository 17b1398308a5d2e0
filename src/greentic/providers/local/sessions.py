"""Where the routers keep session pins: what the environment's binding in the slot `sessions` comes to."""

from __future__ import annotations

from collections.abc import Callable
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
    registry = registry if registry is not None else Registry.installed()
    bound = registry.bound(environment, Slot.SESSIONS)
    if bound is None or bound[0].sessions is None:
        return None
    pack, binding = bound
    assert pack.sessions is not None
    secret = secrets_of(environment, folder, registry)
    context = SessionsContext(environment.environment_id, answers_of(binding, folder), secret, folder)
    return {"kind": pack.opened_by or pack.path, "settings": dict(pack.sessions().settings(context))}


def secrets_of(
    environment: Environment, folder: Path, registry: Registry
) -> Callable[[SecretAddress], SecretValue | None]:
    """How a secret of the environment is looked up."""

    def secret(address: SecretAddress) -> SecretValue | None:
        name = environment.environment_id
        answers = answers_of(environment.binding(Slot.SECRETS), folder)
        return registry.secrets(environment, SecretsContext(name, folder, answers)).get(address)

    return secret


def answers_of(binding: PackBinding | None, folder: Path) -> dict[str, Any]:
    """The answers of a binding; none where nothing is bound."""
    return {} if binding is None else answers_at(folder, binding.answers_ref, binding.kind)
