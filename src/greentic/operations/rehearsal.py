"""The rehearsal of a move: slots that would change hands, pins that would stay or end, and whether it would be refused.

Nothing is started and nothing is changed for it.
"""

from __future__ import annotations

from typing import Any

from greentic.engine import rehearsal
from greentic.engine.slots import table
from greentic.envpacks.deployer import Observation
from greentic.operations import readiness
from greentic.operations.context import Context, desired
from greentic.spec.deployment import BundleDeployment
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, GreenticError
from greentic.store.contract import Applied, Stored


async def rehearse(context: Context, stored: Stored, applied: Applied, deployment: BundleDeployment) -> dict[str, Any]:
    """What `applied`, planned on `stored`, would do: `moves`, `pins`, `capacity`, and the reason of a refusal.

    `live` pins are those that the routers count, by kind; None where they cannot be asked.
    """
    environment = applied.environment
    before = stored.environment.split(deployment.deployment_id)
    after = environment.split(deployment.deployment_id)
    if after is None:
        return {}
    try:
        observation = await context.deployer(stored).observe(desired(stored))
    except GreenticError:
        observation = Observation(running=False)
    weights = {entry.revision_id: entry.weight_bps for entry in after.entries if entry.weight_bps}
    told: dict[str, Any] = {
        "moves": [
            {
                "from": None if flow.giver is None else _name(environment, flow.giver),
                "to": _name(environment, flow.taker),
                "slots": flow.slots,
            }
            for flow in rehearsal.flows(() if before is None else table(before), table(after))
        ],
        "pins": [_pins(environment, fate, observation) for fate in rehearsal.fates(before, after, after.updated_at)],
        "running": observation.running,
    }
    if not observation.running:
        return told
    told["capacity"] = readiness.verdict(environment, weights, observation)
    try:
        readiness.refuse(environment, deployment, weights, observation)
    except Conflict as refusal:
        told["refused"] = refusal.document()
    return told


def _pins(environment: Environment, fate: rehearsal.PinFate, observation: Observation) -> dict[str, Any]:
    live = readiness.seen(observation, fate.revision_id).pins
    told: dict[str, Any] = {
        "revision_id": fate.revision_id,
        "name": _name(environment, fate.revision_id),
        "fate": fate.fate.value,
        "live": None if live is None else dict(live),
    }
    return told if fate.until is None else {**told, "until": fate.until}


def _name(environment: Environment, revision_id: str) -> str:
    revision = environment.revision(revision_id)
    return revision_id if revision is None else f"v{revision.sequence}"
