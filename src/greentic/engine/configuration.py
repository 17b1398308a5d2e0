"""Host settings by the words of `config set`: what is not named stays (reference 01, section 3.4)."""

from __future__ import annotations

from typing import Any

from greentic.engine.command import Command, Outcome
from greentic.spec.configuration import HOST_SETTINGS, SetConfigPayload
from greentic.spec.environment import Environment
from greentic.spec.router_settings import FIELDS, RouterSettings


def set_host(environment: Environment, payload: SetConfigPayload, command: Command, now: str) -> Outcome:
    """Set the named host settings, unset those that `clear` names."""
    settings: dict[str, Any] = {
        field: value for field in HOST_SETTINGS if (value := getattr(payload, field)) is not None
    }
    settings |= dict.fromkeys(field for field in payload.clear if "." not in field)
    if router := _router(settings.get("router", environment.host_config.router), payload):
        settings["router"] = router
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


def _router(present: RouterSettings | None, payload: SetConfigPayload) -> RouterSettings | None:
    """The router's settings afterwards; None when nothing was said of them."""
    changes: dict[str, Any] = {
        field: value for field in FIELDS if (value := getattr(payload.router, field, None)) is not None
    }
    limits = changes.get("limits")
    if limits is not None and present is not None and present.limits is not None:
        changes["limits"] = present.limits.model_copy(update=limits.model_dump(exclude_none=True))
    changes |= {field.partition(".")[2]: None for field in payload.clear if "." in field}
    return (present or RouterSettings()).model_copy(update=changes) if changes else None
