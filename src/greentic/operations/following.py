"""A running data plane follows the record."""

from __future__ import annotations

from greentic.operations.context import Context, desired
from greentic.spec.capabilities import Slot
from greentic.store.contract import Applied


async def follow(context: Context, applied: Applied) -> None:
    """Bring a running data plane to what was just recorded; one that is down learns it when it starts."""
    if context.dry_run or applied.environment.binding(Slot.DEPLOYER) is None:
        return
    deployer = context.deployer(applied)
    if (await deployer.observe(desired(applied))).running:
        await deployer.reconcile(desired(applied), context.progress)
