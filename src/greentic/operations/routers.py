"""The routers of an environment: what each of them serves, and a rolling restart."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from greentic.operations.context import Context, desired

FINISH_SECONDS = 60
"""How long a router that was replaced may take to finish what it had begun, unless said otherwise."""


async def list_(context: Context, environment_id: str) -> dict[str, Any]:
    """Every router process, those included that finish; `wanted` is how many the record asks for."""
    stored = context.store.load(environment_id)
    seen = await context.deployer(stored).observe(desired(stored))
    return {
        "environment_id": environment_id,
        "running": seen.running,
        "url": seen.url,
        "wanted": stored.environment.host_config.routers,
        "ready": seen.routers,
        "routers": [asdict(router) for router in seen.router_states],
    }


async def restart(context: Context, environment_id: str, grace_seconds: float = FINISH_SECONDS) -> dict[str, Any]:
    """Replace every router process, one after the other, without resetting a connection."""
    stored = context.store.load(environment_id)
    replaced = await context.deployer(stored).restart_routers(desired(stored), grace_seconds, context.progress)
    return {
        "environment_id": environment_id,
        "grace_seconds": grace_seconds,
        "restarted": [asdict(one) for one in replaced],
    }
