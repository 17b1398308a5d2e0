"""Transitions of the environment itself (reference 01, section 2.2)."""

from __future__ import annotations

from typing import Any

from greentic.engine import trust_root
from greentic.engine.command import Command, Outcome
from greentic.spec.environment import Environment, HostConfig
from greentic.spec.errors import AlreadyExists
from greentic.spec.payloads import CreateEnvironmentPayload, FieldUpdate, UpdateEnvironmentPayload


def create(environment: Environment | None, payload: CreateEnvironmentPayload, command: Command, now: str) -> Outcome:
    """A new environment; Conflict when there is one of that name."""
    if environment is not None:
        raise AlreadyExists(
            f"the environment '{environment.environment_id}' exists already",
            details={"environment_id": environment.environment_id},
            next_step=f"gtc op env show {environment.environment_id}",
        )
    created = Environment(
        environment_id=payload.environment_id,
        name=payload.name,
        host_config=HostConfig(
            env_id=payload.environment_id,
            region=payload.region,
            tenant_org_id=payload.tenant_org_id,
            listen_addr=payload.listen_addr,
            public_base_url=payload.public_base_url,
            gui_enabled=payload.gui_enabled,
            stamp_revision=payload.stamp_revision,
        ),
        packs=payload.packs,
        revocation=payload.revocation,
        retention=payload.retention,
        health=payload.health,
        trust_root=None if payload.operator_key is None else trust_root.begun(payload.operator_key),
    )
    return Outcome(created, {"environment_id": created.environment_id})


def update(environment: Environment, payload: UpdateEnvironmentPayload, command: Command, now: str) -> Outcome:
    """Change the name and host settings that are named; the others stay."""
    host: dict[str, Any] = {}
    for field in (
        "region",
        "tenant_org_id",
        "listen_addr",
        "public_base_url",
        "gui_enabled",
        "stamp_revision",
        "router",
    ):
        change: FieldUpdate[Any] | None = getattr(payload, field)
        if change is not None:
            host[field] = change.applied()
    updated = environment.model_copy(
        update={
            "name": environment.name if payload.name is None else payload.name,
            "host_config": environment.host_config.model_copy(update=host),
        }
    )
    result = {"environment_id": updated.environment_id}
    return Outcome(environment, result, changed=False) if updated == environment else Outcome(updated, result)
