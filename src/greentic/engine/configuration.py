"""Host settings by the words of `config set`: what is not named stays (reference 01, section 3.4)."""

from __future__ import annotations

from typing import Any

from greentic.engine.command import Command, Outcome
from greentic.spec.configuration import HOST_SETTINGS, SetConfigPayload
from greentic.spec.environment import Environment


def set_host(environment: Environment, payload: SetConfigPayload, command: Command, now: str) -> Outcome:
    """Set the named host settings, unset those that `clear` names."""
    settings: dict[str, Any] = {
        field: value for field in HOST_SETTINGS if (value := getattr(payload, field)) is not None
    }
    settings |= dict.fromkeys(payload.clear)
    after = environment.model_copy(
        update={
            "name": environment.name if payload.name is None else payload.name,
            "host_config": environment.host_config.model_copy(update=settings),
        }
    )
    result = {
        "environment_id": after.environment_id,
        "name": after.name,
        "host_config": after.host_config.to_json(),
    }
    return Outcome(environment, result, changed=False) if after == environment else Outcome(after, result)
