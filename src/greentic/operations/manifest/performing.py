"""Carrying out the steps of a plan. Each is safe to repeat: what a dead run left half done is gone on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from greentic.envpacks.deployer import Receipt
from greentic.envpacks.secrets import SecretValue
from greentic.operations import (
    artifacts,
    bindings,
    policies,
    retire,
    revenue,
    revisions,
    secrets,
    traffic,
    trust_root,
    updates,
)
from greentic.operations.context import Context, desired
from greentic.operations.following import change_host
from greentic.operations.manifest import ahead
from greentic.operations.manifest.plan import Step
from greentic.operations.manifest.reading import require_value
from greentic.operations.manifest.tasks import (
    AddEndpoint,
    Bind,
    BootstrapTrust,
    Bring,
    Change,
    ConfigureUpdates,
    CreateEnvironment,
    Deploy,
    InitPolicy,
    MoveTraffic,
    PutSecret,
    RemoveDeployment,
    Republish,
    RetireRevision,
    TrustDid,
    UpdateDeployment,
    UpdateHost,
)
from greentic.spec.capabilities import Slot
from greentic.spec.endpoints import RemoveMessagingEndpointPayload
from greentic.spec.environment import Environment
from greentic.spec.errors import GreenticError, NotFound
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.revision import Revision
from greentic.spec.weights import format_share

ENDPOINT = "messaging.endpoint"


@dataclass(frozen=True, slots=True)
class Performer:
    """Carries out steps on one environment.

    `context` guards each change against those of others; `unguarded` is for what changes no document. `values` are the
    secrets to write, by path.
    """

    context: Context
    unguarded: Context
    environment_id: str
    values: Mapping[str, SecretValue]

    async def perform(self, step: Step) -> list[dict[str, Any]]:
        """Carry out one step; the receipts of routers, if any.

        Raises what its operations refuse, Conflict when the environment changed meanwhile or a file is another one.
        """
        context = replace(self.context, key=step.idempotency_key)
        unguarded = replace(self.unguarded, key=step.idempotency_key)
        name = self.environment_id
        match step.task:
            case CreateEnvironment(payload):
                context.apply(name, "env", "create", payload, complete=trust_root.seeding(create=True))
            case UpdateHost(payload):
                applied = await change_host(context, name, "env", "update", payload)
                await _publish(context, applied.environment, name)
            case InitPolicy():
                policies.init(unguarded, name)
            case BootstrapTrust():
                trust_root.bootstrap(context, name)
            case PutSecret(path):
                secrets.put(unguarded, name, path, require_value(self.values, path))
            case Bind(noun, verb, fields, answers):
                bindings.change(context, name, noun, verb, fields, config=answers)
            case Change(noun, verb, change):
                context.apply(name, noun, verb, change)
            case AddEndpoint():
                self._add_endpoint(context, unguarded, step.task)
            case Deploy():
                await self._deploy(context, step.task)
            case UpdateDeployment(update):
                applied = context.apply(name, "bundles", "update", update, complete=revenue.signing(name))
                await _publish(context, applied.environment, name)
            case MoveTraffic(deployment_id, weights):
                return [await self._move(context, deployment_id, weights)]
            case RetireRevision(revision_id):
                await revisions.archive(context, name, self._revision(context, revision_id))
            case RemoveDeployment(deployment_id):
                await retire.retire(context, name, deployment_id)
            case TrustDid(did):
                updates.trust_did(context, name, did)
            case ConfigureUpdates(channel):
                updates.configure(unguarded, name, channel)
            case Republish(gone):
                self._sweep(gone)
                return await _republish(context, name)
            case None:
                pass
        return []

    def _add_endpoint(self, context: Context, unguarded: Context, task: AddEndpoint) -> None:
        if task.secret is not None:
            # A key of its own each time: the value is random, so a repetition is another request.
            secrets.put(replace(unguarded, key=None), self.environment_id, task.secret, secrets.generated())
        if task.anew:
            payload = RemoveMessagingEndpointPayload(endpoint_id=task.payload.endpoint_id)
            context.apply(self.environment_id, ENDPOINT, "remove", payload, step="remove")
        context.apply(self.environment_id, ENDPOINT, "add", task.payload)

    async def record_ahead(self, run: Sequence[Step]) -> tuple[Step, ...]:
        """Record at once what the steps of `run` record; those that have more to do, to be gone on with."""
        if sum(not isinstance(step.task, MoveTraffic) for step in run) < 2:
            return tuple(run)
        recorded = ahead.record(self.context, self.unguarded.store, self.environment_id, run)
        if any(isinstance(step.task, Deploy | MoveTraffic) for step in run):
            return tuple(run)
        if recorded:
            await _publish(self.context, self.context.store.load(self.environment_id).environment, self.environment_id)
        return tuple(run[recorded:])

    async def _deploy(self, context: Context, task: Deploy) -> None:
        name = self.environment_id
        # What is there was recorded ahead of this step, or by a run that died: the ids are out of the plan.
        present = context.store.load(name).environment
        if task.add is not None and present.deployment(task.add.deployment_id) is None:
            context.apply(name, "bundles", "add", task.add, step="add", complete=revenue.signing(name))
        for bring in task.revisions:
            context.progress(f"{task.deployment.bundle_id} {bring.label}: " + _doing(bring))
            if bring.lifecycle is None and present.revision(bring.revision_id) is None:
                self._stage(context, task, bring)
            revision = self._revision(context, bring.revision_id)
            part = context.with_key(bring.revision_id)
            if revision.lifecycle is Lifecycle.DRAINING:
                await revisions.drain(part.with_key("drain"), name, revision)
                revision = self._revision(context, bring.revision_id)
            if revision.lifecycle in {Lifecycle.FAILED, Lifecycle.INACTIVE}:
                await revisions.retry(part, name, revision)
            else:
                await revisions.warm(part, name, revision)

    def _stage(self, context: Context, task: Deploy, bring: Bring) -> None:
        """As `revisions.freeze`, of exactly the artifact that was planned, under the id that was planned."""
        payload = ahead.staged(context, self.environment_id, task, bring)
        try:
            context.apply(self.environment_id, "revisions", "stage", payload, step=f"{bring.revision_id}:stage")
        except GreenticError as error:
            if ahead.surely_not(error):
                artifacts.discard(context.store.artifacts(self.environment_id), bring.revision_id)
            raise

    async def _move(self, context: Context, deployment_id: str, weights: Mapping[str, int]) -> dict[str, Any]:
        told = await traffic.set_split(
            context, self.environment_id, deployment_id, list(weights.items()), note="env apply"
        )
        shown = ", ".join(f"{one['name']} {format_share(one['weight_bps'])}" for one in told["entries"])
        context.progress(f"{told['bundle_id']}: {shown}")
        receipt: dict[str, Any] = told["receipt"]
        return receipt

    def _sweep(self, gone: frozenset[str]) -> None:
        """A run that died after it removed a deployment left the files of its revisions."""
        for revision_id in gone:
            if self.context.store.load(self.environment_id).environment.revision(revision_id) is None:
                artifacts.discard(self.context.store.artifacts(self.environment_id), revision_id)

    def _revision(self, context: Context, revision_id: str) -> Revision:
        revision = context.store.load(self.environment_id).environment.revision(revision_id)
        if revision is None:
            raise NotFound(f"there is no revision {revision_id} any more", next_step="plan again")
        return revision


def _doing(bring: Bring) -> str:
    if bring.lifecycle is None and bring.archive is not None:
        return f"staging {bring.archive.name}"
    return f"it is {bring.lifecycle}, going on"


async def _publish(context: Context, environment: Environment, environment_id: str) -> None:
    """Tell a running data plane; one that is down learns it when it starts."""
    if environment.binding(Slot.DEPLOYER) is None:
        return
    stored = context.store.load(environment_id)
    deployer = context.deployer(stored)
    if (await deployer.observe(desired(stored))).running:
        await deployer.reconcile(desired(stored), context.progress)


async def _republish(context: Context, environment_id: str) -> list[dict[str, Any]]:
    """Bring a running data plane to the record, every split included."""
    stored = context.store.load(environment_id)
    if stored.environment.binding(Slot.DEPLOYER) is None:
        return []
    deployer = context.deployer(stored)
    if not (await deployer.observe(desired(stored))).running:
        return []
    await deployer.reconcile(desired(stored), context.progress)
    receipts: list[Receipt] = [
        await deployer.apply_traffic_split(desired(stored), split.deployment_id, context.progress)
        for split in stored.environment.traffic_splits
    ]
    return [traffic.receipt_document(receipt) for receipt in receipts]
