"""The record and the data plane: what could not be served is not recorded, and what is recorded is followed."""

from __future__ import annotations

from dataclasses import replace

from greentic.operations.context import Context, desired
from greentic.spec.capabilities import Slot
from greentic.spec.configuration import SetConfigPayload
from greentic.spec.payloads import UpdateEnvironmentPayload
from greentic.store.contract import Applied, Stored


async def change_host(
    context: Context, environment_id: str, noun: str, verb: str, payload: SetConfigPayload | UpdateEnvironmentPayload
) -> Applied:
    """Record host settings, once the environment's deployer has found that it could serve with them."""
    if payload.router is not None:
        await judge(context, rehearsing(context).apply(environment_id, noun, verb, payload))
    return context.apply(environment_id, noun, verb, payload)


def rehearsing(context: Context) -> Context:
    """`context` for changes that are only looked at, whatever is recorded meanwhile."""
    return replace(context, dry_run=True, key=None, expected_generation=None, if_match=None, _guarded=[])


async def judge(context: Context, planned: Applied) -> None:
    """Refuse settings that the environment's deployer could not serve with; without one nobody is asked."""
    if planned.environment.binding(Slot.DEPLOYER) is not None:
        await context.deployer(planned).check_settings(planned.environment)


async def follow(context: Context, applied: Applied | Stored) -> None:
    """Bring a running data plane to what was just recorded; one that is down learns it when it starts."""
    if context.dry_run or applied.environment.binding(Slot.DEPLOYER) is None:
        return
    deployer = context.deployer(applied)
    if (await deployer.observe(desired(applied))).running:
        await deployer.reconcile(desired(applied), context.progress)
