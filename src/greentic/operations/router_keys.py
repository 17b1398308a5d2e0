"""The keys that an environment's routers sign with: turn the ring, vouch for a caller. No record holds either."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from greentic.operations import names
from greentic.operations.context import Context, desired
from greentic.operations.evidence import attempt
from greentic.spec.routers import RotateRouterKeysPayload, TrustCallerPayload


async def rotate(context: Context, environment_id: str) -> dict[str, Any]:
    """Have another key sign cookies and tokens; every running router has it before this returns."""
    stored = context.store.load(environment_id)
    told = {"environment_id": environment_id}
    if context.dry_run:
        return {**told, "rotated": False}
    deployer = context.deployer(stored)

    def effect() -> dict[str, Any]:
        rotation = asdict(asyncio.run(deployer.rotate_keys(desired(stored), context.progress)))
        return {**rotation, "verifying": list(rotation["verifying"])}

    # The store waits for the effect, and the effect for the routers: that is another thread's loop.
    recorded = await asyncio.to_thread(
        attempt, context, environment_id, "router", "rotate-keys", RotateRouterKeysPayload(), effect
    )
    return {**told, "rotated": True, **recorded}


async def trust_token(context: Context, environment_id: str, word: str | None, *, seconds: int) -> dict[str, Any]:
    """A token with which a caller proves that it may name users and revisions; of one deployment, or (None) of all."""
    stored = context.store.load(environment_id)
    deployment = None if word is None else names.deployment(stored.environment, word)
    deployment_id = None if deployment is None else deployment.deployment_id
    deployer = context.deployer(stored)
    minted: list[str] = []

    def effect() -> dict[str, Any]:
        minted.append(asyncio.run(deployer.trust_token(desired(stored), deployment_id, seconds)))
        return {"deployment_id": deployment_id, "expires_in_seconds": seconds}

    payload = TrustCallerPayload(deployment_id=deployment_id, seconds=seconds)
    # A token is in no record, so there is none to give again under the same key.
    await asyncio.to_thread(
        attempt, context, environment_id, "traffic", "trust-token", payload, effect, key=context.mint()
    )
    return {
        "environment_id": environment_id,
        "deployment_id": deployment_id,
        "bundle_id": None if deployment is None else deployment.bundle_id,
        "header": {"x-greentic-trust": minted[0]},
        "expires_in_seconds": seconds,
    }
