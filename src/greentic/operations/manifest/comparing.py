"""What is described, what is recorded, what is live: three columns, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from greentic.envpacks.deployer import Observation
from greentic.operations.context import Context, desired
from greentic.operations.manifest.applying import planned_of
from greentic.operations.manifest.plan import Plan
from greentic.operations.manifest.reading import Source
from greentic.spec.capabilities import Slot
from greentic.spec.deployment import BundleDeployment, DeploymentStatus
from greentic.spec.environment import Environment
from greentic.spec.errors import Differs, GreenticError
from greentic.spec.lifecycle import PRESENT
from greentic.spec.weights import format_share
from greentic.store.contract import Stored


@dataclass(frozen=True, slots=True)
class Row:
    """One thing in three places; None where a place says nothing about it."""

    what: str
    manifest: str | None
    record: str | None
    live: str | None
    differs: bool

    def document(self) -> dict[str, Any]:
        """The row as JSON."""
        return {
            "what": self.what,
            "manifest": self.manifest,
            "record": self.record,
            "live": self.live,
            "differs": self.differs,
        }


async def diff(context: Context, environment_id: str, source: Source | None, *, check: bool = False) -> dict[str, Any]:
    """Compare the manifest (None: not), the record and what the deployer observes; Differs for a check that finds any.

    The manifest says which environment it is about; without one it is `environment_id`. A deployer that cannot be asked
    is told in `observation_error`, and counts as a difference.
    """
    rows: list[Row] = []
    plan: Plan | None = None
    name = environment_id
    stored: Stored | None
    if source is not None:
        plan, stored = planned_of(context, source)
        name = plan.environment_id
        rows += _described(plan)
    else:
        stored = context.store.load(name)
    problem: dict[str, Any] | None = None
    if stored is not None:
        observation, problem = await _observed(context, stored)
        if observation is not None:
            rows += _live(stored.environment, observation)
    told = {
        "environment_id": name,
        "manifest": None if source is None else source.origin,
        "generation": 0 if stored is None else stored.generation,
        "rows": [row.document() for row in rows],
        "missing": [] if plan is None else [one.document() for one in plan.missing],
        "observation_error": problem,
    }
    found = sum(row.differs for row in rows)
    if check and (found or problem is not None):
        raise Differs(
            f"{found} things differ in '{name}'" + ("" if problem is None else f"; live: {problem['message']}"),
            details=told,
            next_step="gtc op env diff shows them; gtc op env apply mends the record, gtc start the rest",
        )
    return told


async def _observed(context: Context, stored: Stored) -> tuple[Observation | None, dict[str, Any] | None]:
    if stored.environment.binding(Slot.DEPLOYER) is None:
        return None, None
    try:
        return await context.deployer(stored).observe(desired(stored)), None
    except GreenticError as error:
        return None, error.document()


def _described(plan: Plan) -> Iterator[Row]:
    """Each step of the plan is a thing that the manifest and the record agree on or not."""
    for step in plan.steps:
        what = f"{step.kind} {step.key}"
        if step.task is None:
            yield Row(what, step.detail, step.detail, None, differs=False)
            continue
        after, before = step.change.get("after", step.detail), step.change.get("before")
        yield Row(what, _shown(after), _shown(before), None, differs=True)
    for one in plan.missing:
        yield Row(f"{one.kind} {one.key}", one.source, "missing", None, differs=True)


def _live(environment: Environment, observation: Observation) -> Iterator[Row]:
    active = [one for one in environment.bundles if one.status is DeploymentStatus.ACTIVE]
    wanted = any(environment.split(one.deployment_id) is not None for one in active)
    running = "up" if observation.running else "down"
    yield Row("data plane", None, "up" if wanted else None, running, differs=wanted and not observation.running)
    for deployment in active:
        yield from _dial(environment, deployment, observation)
    for revision in environment.revisions:
        seen = observation.revisions.get(revision.revision_id)
        present = revision.lifecycle in PRESENT
        if not present and seen is None:
            continue
        state = "absent" if seen is None else seen.state
        healthy = seen is not None and seen.healthy
        differs = healthy != present if observation.running or healthy else False
        name = f"revision {revision.bundle_id} v{revision.sequence}"
        yield Row(name, None, revision.lifecycle.value, state, differs=differs)


def _dial(environment: Environment, deployment: BundleDeployment, observation: Observation) -> Iterator[Row]:
    split = environment.split(deployment.deployment_id)
    if split is None:
        return
    names = {one.revision_id: f"v{one.sequence}" for one in environment.revisions_of(deployment.deployment_id)}
    shares = {names.get(one.revision_id, one.revision_id): one.weight_bps for one in split.entries if one.weight_bps}
    recorded = f"generation {split.generation}: {_shown(shares)}"
    served = observation.generations.get(deployment.deployment_id)
    live = "nothing" if served is None else f"generation {served}"
    differs = observation.running and served != split.generation
    name = f"traffic {deployment.bundle_id}@{deployment.customer_id}"
    yield Row(name, None, recorded, live if observation.running else "down", differs=differs)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        if value and all(isinstance(one, int) and not isinstance(one, bool) for one in value.values()):
            return ", ".join(f"{name} {format_share(one)}" for name, one in value.items())
        return ", ".join(f"{key} {_shown(one)}" for key, one in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(one) for one in value) or "-"
    return str(value)[:100]
