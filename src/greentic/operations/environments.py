"""Environments: create with the local defaults, update, look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from greentic.operations import trust_root
from greentic.operations.context import Context
from greentic.operations.following import change_host, follow
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, NotFound
from greentic.spec.payloads import DEFAULT_PACKS, CreateEnvironmentPayload, UpdateEnvironmentPayload
from greentic.store.contract import Stored

LOCAL = "local"


def summary(environment: Environment) -> dict[str, Any]:
    """The environment in short (EnvSummary of reference 01, section 3.4)."""
    host = environment.host_config
    return {
        "environment_id": environment.environment_id,
        "name": environment.name,
        "region": host.region,
        "tenant_org_id": host.tenant_org_id,
        "listen_addr": host.listen_addr,
        "public_base_url": host.public_base_url,
        "pack_count": len(environment.packs),
        "bundle_count": len(environment.bundles),
        "revision_count": len(environment.revisions),
    }


def create(context: Context, payload: CreateEnvironmentPayload) -> dict[str, Any]:
    """A new environment; Conflict when it exists. It trusts the operator key, which is made when there is none."""
    applied = context.apply(
        payload.environment_id, "env", "create", payload, complete=trust_root.seeding(create=not context.dry_run)
    )
    return {
        **summary(applied.environment),
        "generation": applied.generation,
        "etag": applied.etag,
        "trust_root": _first_key(applied.environment),
    }


def init(context: Context, environment_id: str = LOCAL, **host: Any) -> dict[str, Any]:
    """The environment with the defaults of one machine; `outcome` says what happened.

    `created`, `untouched` when it exists, or `healed` when it exists and never had a trust root: then it gets one, as a
    new one does. `trust_root` is the key that was given to it, None when none was.
    """
    try:
        stored = context.store.load(environment_id)
    except NotFound:
        payload = CreateEnvironmentPayload(
            environment_id=environment_id, name=environment_id, packs=DEFAULT_PACKS, **host
        )
        return {**create(context, payload), "outcome": "created"}
    changed = {field: value for field, value in host.items() if value is not None}
    differing = {field for field, value in changed.items() if getattr(stored.environment.host_config, field) != value}
    if differing:
        raise Conflict(
            f"the environment '{environment_id}' exists with another {', '.join(sorted(differing))}",
            next_step=f"gtc op env update {environment_id} …",
        )
    seeded = trust_root.seed(context, environment_id)
    if seeded is not None and not context.dry_run:
        stored = context.store.load(environment_id)
    return {
        **summary(stored.environment),
        "generation": stored.generation,
        "etag": stored.etag,
        "trust_root": seeded,
        "outcome": "untouched" if seeded is None else "healed",
    }


async def update(context: Context, environment_id: str, payload: UpdateEnvironmentPayload) -> dict[str, Any]:
    """Change an environment; a running data plane follows before this returns, to another address too."""
    applied = await change_host(context, environment_id, "env", "update", payload)
    await follow(context, applied)
    return {**summary(applied.environment), "generation": applied.generation, "etag": applied.etag}


def list_(context: Context) -> dict[str, Any]:
    """Every environment; a corrupt one is listed with what is wrong with it."""
    rows: list[Mapping[str, Any]] = []
    for listing in context.store.list():
        if listing.stored is not None:
            rows.append({**summary(listing.stored.environment), "generation": listing.stored.generation})
        elif listing.error is not None:
            rows.append({"environment_id": listing.environment_id, "error": listing.error.document()})
    return {"environments": rows}


def show(context: Context, environment_id: str) -> dict[str, Any]:
    """The whole document, its generation and its etag."""
    stored: Stored = context.store.load(environment_id)
    return {"environment": stored.environment.to_json(), "generation": stored.generation, "etag": stored.etag}


def _first_key(environment: Environment) -> dict[str, Any] | None:
    root = environment.trust_root
    if root is None or not root.keys:
        return None
    return {**root.keys[0].to_json(), "trusted_key_count": len(root.keys)}
