"""Host settings by the words of `config set`: what is not named stays (reference 01, section 3.4)."""

from __future__ import annotations

from greentic.engine import environments
from greentic.engine.command import Command, Outcome
from greentic.spec.bindings import HOST_SETTINGS, SetConfigPayload
from greentic.spec.environment import Environment
from greentic.spec.payloads import UpdateEnvironmentPayload


def set_host(environment: Environment, payload: SetConfigPayload, command: Command, now: str) -> Outcome:
    """Set the named host settings, unset those that `clear` names."""
    changes: dict[str, object] = {
        field: {"value": value} for field in HOST_SETTINGS if (value := getattr(payload, field)) is not None
    }
    changes |= {field: {"clear": True} for field in payload.clear}
    if payload.name is not None:
        changes["name"] = payload.name
    outcome = environments.update(environment, UpdateEnvironmentPayload.model_validate(changes), command, now)
    after = outcome.environment
    result = {
        "environment_id": after.environment_id,
        "name": after.name,
        "host_config": after.host_config.to_json(),
    }
    if not outcome.changed:
        return Outcome(environment, result, changed=False)
    return Outcome(after, result)
