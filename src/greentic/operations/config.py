"""The configuration of an environment at a glance, and its host settings."""

from __future__ import annotations

from typing import Any

from greentic.operations.context import Context
from greentic.operations.following import change_host, follow
from greentic.spec.capabilities import Slot
from greentic.spec.configuration import SetConfigPayload
from greentic.spec.environment import Environment, PackBinding
from greentic.spec.errors import CorruptDocument, GreenticError
from greentic.spec.parsing import parse, parse_json
from greentic.spec.runtime import EnvironmentRuntime
from greentic.store.io import read

RUNTIME = "runtime.json"


def show(context: Context, environment_id: str, slot: Slot | None = None) -> dict[str, Any]:
    """Host settings, bindings and discoveries. Of answers only the names: a value may be confidential."""
    stored = context.store.load(environment_id)
    environment = stored.environment
    packs = [binding for binding in environment.packs if slot is None or binding.slot is slot]
    return {
        "environment_id": environment_id,
        "name": environment.name,
        "host_config": environment.host_config.to_json(),
        "credentials_ref": environment.credentials_ref,
        "packs": [binding.to_json() for binding in packs],
        "pack_answers": {binding.slot.value: _answers(context, environment, binding) for binding in packs},
        "runtime": _runtime(context, environment_id),
        "generation": stored.generation,
        "snapshot_at": context.now(),
    }


async def set_(context: Context, environment_id: str, payload: SetConfigPayload) -> dict[str, Any]:
    """Set or clear host settings; a running data plane follows before this returns, to another address too."""
    applied = await change_host(context, environment_id, "config", "set", payload)
    await follow(context, applied)
    return {**applied.result, "generation": applied.generation}


def _answers(context: Context, environment: Environment, binding: PackBinding) -> dict[str, Any]:
    try:
        keys = sorted(context.answers(binding, context.store.artifacts(environment.environment_id)))
    except CorruptDocument as error:
        return {"present": False, "keys": [], "error": error.message}
    return {"present": binding.answers_ref is not None, "keys": keys}


def _runtime(context: Context, environment_id: str) -> dict[str, Any] | None:
    """What producers discovered; None when there is nothing, an `error` when it cannot be read."""
    path = context.store.artifacts(environment_id) / RUNTIME
    try:
        data = read(path)
        return None if data is None else parse(EnvironmentRuntime, parse_json(data, RUNTIME), RUNTIME).to_json()
    except GreenticError as error:
        return {"error": error.document()}
