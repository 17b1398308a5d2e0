"""Mutants of the verbs: what is there after them, said once and said twice."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

from greentic.conformance.plain.deployer import PlainDeployer
from greentic.conformance.zoo.mutant import caught_by
from greentic.envpacks.deployer import Change, DesiredState, DrainReport, Observation, Plan, Progress, Receipt, silent
from greentic.spec.deployment import BundleDeployment
from greentic.spec.errors import GateFailed, NotFound, ProviderError, SpecViolation
from greentic.spec.lifecycle import PRESENT
from greentic.spec.revision import Revision


@caught_by("core.warm-twice")
class DoesNothing(PlainDeployer):
    """Does nothing, and says that all is well."""

    async def stage_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        desired.revision(revision_id)

    async def warm_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        desired.revision(revision_id)


@caught_by("core.stage-twice")
class RunsWhenStaged(PlainDeployer):
    """Starts the worker when the revision is only staged."""

    async def stage_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        await super().stage_revision(desired, revision_id, progress)
        await self.ensure(desired, desired.revision(revision_id))


@caught_by("core.stage-twice")
class StagesAgain(PlainDeployer):
    """Uploads another copy each time it is told to stage."""

    async def stage_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        await super().stage_revision(desired, revision_id, progress)
        self.machine.write(f"copy-{len(self.machine.records)}", revision_id)


@caught_by("core.warm-twice")
class StartsAnother(PlainDeployer):
    """Applies twice: starts another worker each time it is told to warm."""

    async def warm_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        process = self.machine.processes.pop(revision_id, None)
        await super().warm_revision(desired, revision_id, progress)
        if process is not None:
            self.machine.processes[f"{revision_id}-{len(self.machine.processes)}"] = process


@caught_by("core.warm-twice")
class ReplacesOnWarm(PlainDeployer):
    """Is not idempotent: replaces the worker that is already warm."""

    async def warm_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        if revision_id in self.machine.processes:
            await self.machine.end(revision_id)
        await super().warm_revision(desired, revision_id, progress)


@caught_by("core.warm-waits")
class ReadyTooEarly(PlainDeployer):
    """Reports ready as soon as the process exists."""

    async def wait(self, name: str) -> None:
        await asyncio.sleep(0)


@caught_by("core.warm-fails")
class CallsTheSickWell(PlainDeployer):
    """Gives up waiting for a worker and calls it warm."""

    async def wait(self, name: str) -> None:
        with contextlib.suppress(GateFailed):
            await super().wait(name)


@caught_by("core.warm-fails")
class SaysNotWhy(PlainDeployer):
    """Fails the gate without a word of the worker's own."""

    async def wait(self, name: str) -> None:
        try:
            await super().wait(name)
        except GateFailed:
            raise GateFailed("the worker is not healthy") from None


@caught_by("core.warm-fails")
class KeepsTheSick(PlainDeployer):
    """Leaves the worker running that failed its gate."""

    async def ensure(self, desired: DesiredState, revision: Revision) -> None:
        try:
            await super().ensure(desired, revision)
        except GateFailed:
            deployment = desired.environment.deployment(revision.deployment_id)
            assert deployment is not None
            await self.machine.start(revision.revision_id, revision.revision_id, self.launch(revision, deployment))
            raise


@caught_by("core.drain-twice")
class ForgetsTheOldWorker(PlainDeployer):
    """Says that it has drained, and leaves the old worker running."""

    async def drain_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> DrainReport:
        process = self.machine.processes.pop(revision_id, None)
        report = await super().drain_revision(desired, revision_id, progress)
        if process is not None:
            self.machine.processes[revision_id] = process
        return report


@caught_by("core.archive-leaves-nothing")
class ArchiveKeepsTheProcess(PlainDeployer):
    """Archives the records and leaves the process."""

    async def archive_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        process = self.machine.processes.pop(revision_id, None)
        await super().archive_revision(desired, revision_id, progress)
        if process is not None:
            self.machine.processes[revision_id] = process


@caught_by("core.archive-leaves-nothing")
class KeepsALedger(PlainDeployer):
    """Keeps a file of each archived revision."""

    async def archive_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        await super().archive_revision(desired, revision_id, progress)
        self.machine.write(f"archived/{revision_id}", "it was here")


@caught_by("core.archive-leaves-nothing")
class EndsTheNeighbour(PlainDeployer):
    """Deletes the worker of a neighbour along with the archived one."""

    async def archive_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        await super().archive_revision(desired, revision_id, progress)
        for name in sorted(self.machine.processes)[-1:]:
            await self.machine.end(name)


@caught_by("core.unknown-revision")
class AcceptsTheUnknown(PlainDeployer):
    """Has nothing against a revision that nobody has recorded."""

    async def archive_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        if desired.environment.revision(revision_id) is not None:
            await super().archive_revision(desired, revision_id, progress)


@caught_by("core.unknown-revision")
class SaysItWrongly(PlainDeployer):
    """Refuses an unknown revision as a failure of the provider."""

    async def drain_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> DrainReport:
        try:
            return await super().drain_revision(desired, revision_id, progress)
        except NotFound as error:
            raise ProviderError(error.message) from error


@caught_by("core.unknown-revision")
class CallsBeforeItLooks(PlainDeployer):
    """Calls the provider before it checks its preconditions."""

    async def warm_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        self.machine.remove(f"failed/{revision_id}")
        await super().warm_revision(desired, revision_id, progress)


@caught_by("core.wrong-sum")
class AcceptsAnySum(PlainDeployer):
    """Takes a split of 9,000 basis points for a split."""

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        try:
            return await super().apply_traffic_split(desired, deployment_id, progress)
        except SpecViolation:
            return Receipt(deployment_id, 1, 1, 1, 0.0)


@caught_by("core.missing-split")
class FindsEverySplit(PlainDeployer):
    """Applies the split of a deployment that does not exist."""

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        try:
            return await super().apply_traffic_split(desired, deployment_id, progress)
        except NotFound:
            return Receipt(deployment_id, 0, 1, 1, 0.0)


@caught_by("core.apply-twice")
class EchoesTheWrongOne(PlainDeployer):
    """Returns the receipt of another deployment."""

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        receipt = await super().apply_traffic_split(desired, deployment_id, progress)
        return dataclasses.replace(receipt, deployment_id=desired.environment.bundles[-1].deployment_id)


@caught_by("core.apply-twice")
class WritesOnEveryApply(PlainDeployer):
    """Leaves something new at the provider each time the same split is applied."""

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        self.machine.write(f"applied-{len(self.machine.records)}", deployment_id)
        return await super().apply_traffic_split(desired, deployment_id, progress)


@caught_by("core.reconcile-twice")
class RestartsOnReconcile(PlainDeployer):
    """Restarts every worker when it reconciles."""

    async def reconcile(self, desired: DesiredState, progress: Progress = silent) -> Observation:
        for name in sorted(self.machine.processes):
            await self.machine.end(name)
        return await super().reconcile(desired, progress)


@caught_by("core.plan-tells-and-changes-nothing")
class PerformsThePlan(PlainDeployer):
    """Does what it was only asked to tell."""

    async def plan(self, desired: DesiredState) -> Plan:
        told = await super().plan(desired)
        await self.reconcile(desired)
        return told


@caught_by("core.plan-tells-and-changes-nothing")
class PlansNothing(PlainDeployer):
    """Tells that there is nothing to do, whatever there is."""

    async def plan(self, desired: DesiredState) -> Plan:
        return Plan()


@caught_by("core.plan-tells-and-changes-nothing")
class PlansForEver(PlainDeployer):
    """Tells of workers to start that run already."""

    async def plan(self, desired: DesiredState) -> Plan:
        present = (one for one in desired.environment.revisions if one.lifecycle in PRESENT)
        every = (Change("start", "worker", one.revision_id, "it is recorded") for one in present)
        return Plan((*every, *(one for one in (await super().plan(desired)).changes if one.action != "start")))


@caught_by("core.reconcile-mends")
class ReconcilesOnlyTheRouter(PlainDeployer):
    """Does not start what is missing when it reconciles."""

    async def reconcile(self, desired: DesiredState, progress: Progress = silent) -> Observation:
        self.follow(desired)
        await self.route(desired)
        return await self.observe(desired)


@caught_by("core.reconcile-mends")
class StopKeepsAWorker(PlainDeployer):
    """Stops the router and leaves a worker."""

    async def stop(self, desired: DesiredState, progress: Progress = silent) -> bool:
        kept = dict(sorted(self.machine.processes.items())[:1])
        for name in kept:
            self.machine.processes.pop(name)
        existed = await super().stop(desired, progress)
        self.machine.processes.update(kept)
        return existed


@caught_by("core.reconcile-mends")
class LeavesTheSocket(PlainDeployer):
    """Stops the workers and goes on listening."""

    async def stop(self, desired: DesiredState, progress: Progress = silent) -> bool:
        for name in sorted(self.machine.processes):
            await self.machine.end(name)
        return True


@caught_by("core.destroy-leaves-nothing")
class LeavesAFile(PlainDeployer):
    """Leaves a record behind when everything is taken away."""

    async def stop(self, desired: DesiredState, progress: Progress = silent) -> bool:
        existed = await super().stop(desired, progress)
        self.machine.write("last-stopped", "today")
        return existed


@caught_by("core.older-record")
class FollowsAnyRecord(PlainDeployer):
    """Goes back to an older record when it comes late."""

    def follow(self, desired: DesiredState) -> None:
        pass


@caught_by("core.discovered-values")
class NamesAWrongUrl(PlainDeployer):
    """Says that it is reached where nobody listens."""

    async def observe(self, desired: DesiredState) -> Observation:
        seen = await super().observe(desired)
        return seen if seen.url is None else dataclasses.replace(seen, url=f"http://127.0.0.1:{self.machine.port + 1}")


@caught_by("core.discovered-values")
class CallsEverythingAbsent(PlainDeployer):
    """Observes of every worker that it is absent."""

    async def observe(self, desired: DesiredState) -> Observation:
        seen = await super().observe(desired)
        states = {name: dataclasses.replace(one, state="absent") for name, one in seen.revisions.items()}
        return dataclasses.replace(seen, revisions=states)


@caught_by("core.frozen-parameters")
class IgnoresParameters(PlainDeployer):
    """Starts workers without their parameters."""

    def parameters(self, revision: Revision, deployment: BundleDeployment, pack_id: str) -> Mapping[str, Any]:
        return {}


@caught_by("core.frozen-parameters")
class AltersTheFrozen(PlainDeployer):
    """Gives an old revision the answers of today."""

    def parameters(self, revision: Revision, deployment: BundleDeployment, pack_id: str) -> Mapping[str, Any]:
        return deployment.config_overrides.get(pack_id, {})
