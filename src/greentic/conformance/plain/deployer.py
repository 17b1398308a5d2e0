"""The plain deployer: every verb in a few lines, correct, and stateless: what it knows stands at the provider."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Collection, Mapping
from typing import Any

from greentic.bundles.unpack import load
from greentic.conformance.plain.machine import Machine
from greentic.envpacks.deployer import (
    DeployerContext,
    DesiredState,
    DrainReport,
    Explanation,
    Observation,
    Plan,
    Progress,
    Receipt,
    RevisionObservation,
    silent,
)
from greentic.envpacks.optional import OptionalVerbs
from greentic.envpacks.planning import ends, opening, starts, tables
from greentic.router import projection
from greentic.router.keys import KeyRing, SigningKey
from greentic.router.preview import mint
from greentic.spec.deployment import BundleDeployment
from greentic.spec.errors import Conflict, GateFailed, GreenticError, NotFound
from greentic.spec.lifecycle import PRESENT, Lifecycle
from greentic.spec.revision import Revision
from greentic.worker import ports
from greentic.worker.health import probe
from greentic.worker.launch import HOST, Identity, Launch, plan

_PROBE_SECONDS = 1.0
_POLL_SECONDS = 0.01
_FOLLOWED = "followed"
"""The record that holds the generation of the newest state that was applied."""


class PlainDeployer(OptionalVerbs):
    """See `greentic.envpacks.deployer.Deployer`. `operator` is the caller's environment."""

    def __init__(self, context: DeployerContext, machine: Machine, operator: Mapping[str, str]) -> None:
        self.context = context
        self.machine = machine
        self.operator = operator

    # The verbs

    async def stage_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        """Write down that the bundle is there."""
        revision = desired.revision(revision_id)
        name = f"revisions/{revision_id}"
        if self.machine.records.get(name) != revision.bundle_digest:
            self.machine.write(name, revision.bundle_digest)

    async def warm_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        """Start the worker and wait until it answers."""
        revision = desired.revision(revision_id)
        if revision.lifecycle in {Lifecycle.ARCHIVED, Lifecycle.DRAINING}:
            raise Conflict(f"the revision {revision_id} is {revision.lifecycle} and cannot be warmed")
        self.follow(desired)
        await self.ensure(desired, revision)

    async def drain_revision(
        self,
        desired: DesiredState,
        revision_id: str,
        progress: Progress = silent,
    ) -> DrainReport:
        """Take no more visitors, wait, end the worker."""
        revision = desired.revision(revision_id)
        self.require_no_share(desired, revision)
        self.follow(desired)
        began = time.monotonic()
        finished = cut = pins_cut = 0
        if revision_id in self.machine.processes:
            await self.route(desired, draining={revision_id})
            report = await self.machine.drain(revision_id, revision.drain_seconds)
            finished, cut, pins_cut = report.finished, report.cut.requests, report.pins_cut
            await self.route(desired, ended={revision_id})
            await self.machine.end(revision_id)
        return DrainReport(revision_id, finished, cut, round(time.monotonic() - began, 3), pins_cut=pins_cut)

    async def archive_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        """End the worker and forget the revision."""
        revision = desired.revision(revision_id)
        self.require_no_share(desired, revision)
        self.follow(desired)
        if revision_id in self.machine.processes:
            await self.route(desired, ended={revision_id})
            await self.machine.end(revision_id)
        for name in (f"revisions/{revision_id}", f"parameters/{revision_id}"):
            if name in self.machine.records:
                self.machine.remove(name)

    async def apply_traffic_split(
        self,
        desired: DesiredState,
        deployment_id: str,
        progress: Progress = silent,
    ) -> Receipt:
        """Have the router serve the recorded split."""
        began = time.monotonic()
        environment = desired.environment
        deployment = environment.deployment(deployment_id)
        if deployment is None:
            raise NotFound(f"there is no deployment {deployment_id}")
        split = desired.split(deployment_id) if environment.split(deployment_id) is not None else None
        self.follow(desired)
        for entry in split.entries if split is not None else ():
            if entry.weight_bps:
                await self.ensure(desired, desired.revision(entry.revision_id))
        generations = await self.route(desired)
        served = generations.get(deployment_id, projection.generation(environment, deployment))
        return Receipt(deployment_id, served, 1, 1, round((time.monotonic() - began) * 1000, 3))

    async def reconcile(self, desired: DesiredState, progress: Progress = silent) -> Observation:
        """Make what exists match the record."""
        self.follow(desired)
        wanted = [one for one in desired.environment.revisions if one.lifecycle in PRESENT]
        for revision in wanted:
            await self.ensure(desired, revision)
        surplus = set(self.machine.processes) - {one.revision_id for one in wanted}
        await self.route(desired, ended=surplus)
        for name in sorted(surplus):
            await self.machine.end(name)
        return await self.observe(desired)

    async def plan(self, desired: DesiredState) -> Plan:
        """What the machine has and is not to have, and what it lacks."""
        environment = desired.environment
        states = {
            name: "absent" if process.child.returncode is not None else "healthy"
            for name, process in self.machine.processes.items()
        }
        surplus = tuple(ends(environment, states))
        started = tuple(starts(environment, states))
        # Where a worker will listen is not known before it is started, only that the table will say so.
        moved = {
            desired.revision(one.name).deployment_id
            for one in started
            if desired.revision(one.name).lifecycle is not Lifecycle.WARMING
        }
        rows = [
            {**row, "revisions": None} if row["deployment_id"] in moved else row
            for row in self.table(desired, ended={one.name for one in surplus})["deployments"]
        ]
        opened = opening(environment, 1) if self.machine.gateway is None else ()
        return Plan((*opened, *started, *tables(rows, self.machine.routed), *surplus))

    async def observe(self, desired: DesiredState) -> Observation:
        """What the machine has."""
        gateway = self.machine.gateway
        counted = gateway.report()["revisions"] if gateway is not None else {}
        names = {one.revision_id for one in desired.environment.revisions if one.lifecycle in PRESENT}
        return Observation(
            running=gateway is not None,
            url=self.machine.url,
            routers=int(gateway is not None),
            generations=gateway.report()["generations"] if gateway is not None else {},
            revisions={
                name: RevisionObservation(
                    name,
                    "healthy" if name in self.machine.processes else "absent",
                    in_flight=counted.get(name, {}).get("in_flight", 0),
                    ready_workers=int(name in self.machine.processes),
                    wanted_workers=1,
                )
                for name in sorted(names | set(self.machine.processes))
            },
        )

    async def stop(self, desired: DesiredState, progress: Progress = silent) -> bool:
        """End everything; the staged revisions stay."""
        existed = self.machine.url is not None or bool(self.machine.processes)
        await self.machine.unroute()
        for name in sorted(self.machine.processes):
            await self.machine.end(name)
        if _FOLLOWED in self.machine.records:
            self.machine.remove(_FOLLOWED)
        return existed

    async def preview(self, desired: DesiredState, revision_id: str, seconds: int) -> str:
        """A token, signed with the router's key."""
        revision = desired.revision(revision_id)
        if revision.lifecycle is not Lifecycle.READY:
            raise Conflict(f"the revision {revision_id} is {revision.lifecycle}, not ready")
        key = self.machine.keys["ring"][0]
        ring = KeyRing((SigningKey(key["kid"], base64.b64decode(key["secret"])),))
        return mint(ring, revision.deployment_id, revision_id, int(time.time()) + seconds)

    async def explain(self, desired: DesiredState, request_id: str) -> Explanation:
        """What the router remembers."""
        gateway = self.machine.gateway
        known = gateway.explain(request_id.encode()) if gateway is not None else []
        return Explanation(tuple({**one, "source": "router"} for one in known), "the last requests")

    # What the verbs share

    def follow(self, desired: DesiredState) -> None:
        """Follow this record from now on; Conflict when a newer one is followed."""
        followed = int(self.machine.records.get(_FOLLOWED, 0))
        if desired.generation < followed:
            raise Conflict(f"generation {followed} is followed already, this is {desired.generation}")
        if desired.generation > followed:
            self.machine.write(_FOLLOWED, str(desired.generation))

    def require_no_share(self, desired: DesiredState, revision: Revision) -> None:
        """Conflict when the revision has traffic."""
        split = desired.environment.split(revision.deployment_id)
        if split and any(one.revision_id == revision.revision_id and one.weight_bps for one in split.entries):
            raise Conflict(f"the revision {revision.revision_id} still has a share of the traffic")

    async def ensure(self, desired: DesiredState, revision: Revision) -> None:
        """Have the revision's worker run and answer. One that does not is ended again."""
        name = revision.revision_id
        process = self.machine.processes.get(name)
        if process is None or process.child.returncode is not None:
            deployment = desired.environment.deployment(revision.deployment_id)
            assert deployment is not None
            await self.machine.start(name, name, self.launch(revision, deployment))
        try:
            await self.wait(name)
        except GreenticError:
            await self.machine.end(name)
            raise

    async def wait(self, name: str) -> None:
        """Until the worker answers; GateFailed with its last words."""
        process = self.machine.processes[name]
        deadline = time.monotonic() + process.launch.health_timeout
        while True:
            answer = await probe(HOST, process.launch.port, process.launch.health_path, _PROBE_SECONDS)
            if answer.healthy:
                return
            if process.child.returncode is not None or time.monotonic() > deadline:
                raise GateFailed(f"{name} did not become healthy: {answer.detail}: {self.machine.tail(name)}")
            await asyncio.sleep(_POLL_SECONDS)

    def launch(self, revision: Revision, deployment: BundleDeployment) -> Launch:
        """How the worker is started: with the parameters that were frozen with the revision."""
        folder = self.context.folder / "revisions" / revision.revision_id
        pack = load(folder / "bundle").entry
        selector = deployment.route_binding.tenant_selector
        identity = Identity(
            env_id=revision.env_id,
            revision_id=revision.revision_id,
            deployment_id=deployment.deployment_id,
            bundle_id=revision.bundle_id,
            bundle_digest=revision.bundle_digest,
            bundle_version=revision.display_version or pack.version,
            customer_id=deployment.customer_id,
            tenant=selector.tenant,
            team=selector.team,
            sequence=revision.sequence,
        )
        self.machine.write(
            f"parameters/{revision.revision_id}", json.dumps(self.parameters(revision, deployment, pack.pack_id))
        )
        taken = {one.launch.port for one in self.machine.processes.values()}
        return plan(
            pack,
            identity,
            port=ports.choose(taken),
            configuration=self.machine.place(f"parameters/{revision.revision_id}"),
            operator=self.operator,
        )

    def parameters(self, revision: Revision, deployment: BundleDeployment, pack_id: str) -> Mapping[str, Any]:
        """What was frozen with the revision."""
        frozen = self.context.folder / "revisions" / revision.revision_id / "pack-configs" / f"{pack_id}.json"
        values: Mapping[str, Any] = json.loads(frozen.read_bytes())["non_secret"]
        return values

    async def route(
        self, desired: DesiredState, *, draining: Collection[str] = (), ended: Collection[str] = ()
    ) -> Mapping[str, int]:
        """Have the router serve the record's table, unless it does."""
        return await self.machine.route(self.table(desired, draining=draining, ended=ended))

    def table(
        self, desired: DesiredState, *, draining: Collection[str] = (), ended: Collection[str] = ()
    ) -> dict[str, Any]:
        """The router's table."""
        addresses = {one.owner: f"{HOST}:{one.launch.port}" for one in self.machine.processes.values()}
        return {
            "env_id": desired.environment.environment_id,
            "deployments": projection.deployments(desired.environment, addresses, draining=draining, ended=ended),
            "options": {},
        }
