"""The zoo: deployers and providers that are each wrong in one thing, and the check that must catch each.

Each is the plain deployer, or its machine, with a few lines changed. A suite in which one of them survives proves
nothing: `tests/integration/test_conformance_zoo.py` fails then.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from greentic.conformance.plain.bench import PlainBench
from greentic.conformance.plain.deployer import PlainDeployer
from greentic.conformance.plain.machine import PERMISSIONS, Machine, Process, Router
from greentic.envpacks import calls
from greentic.envpacks.bench import Bench
from greentic.envpacks.deployer import Change, DesiredState, DrainReport, Observation, Plan, Progress, Receipt, silent
from greentic.router.accepting import Acceptor
from greentic.router.compiled import CompiledDeployment, CompiledTable
from greentic.router.cookie import CookieMint
from greentic.router.gateway import Gateway
from greentic.router.matching import Matcher
from greentic.spec.deployment import BundleDeployment
from greentic.spec.errors import GateFailed, GreenticError, NotFound, ProviderError, SpecViolation
from greentic.spec.lifecycle import PRESENT
from greentic.spec.revision import Revision
from greentic.worker.launch import Launch

_Wrong = TypeVar("_Wrong", bound=type[PlainDeployer] | type[Machine])
_SHARED: Final = "shared-by-customers"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One wrong deployer: what is wrong with it, the check that names its fault, and a bench with it."""

    name: str
    fault: str
    caught_by: str
    bench: Callable[[Path], Bench]


_ZOO: Final[list[Mutant]] = []


def mutants() -> tuple[Mutant, ...]:
    """All of them."""
    return tuple(_ZOO)


def caught_by(check: str, permissions: frozenset[str] = PERMISSIONS) -> Callable[[_Wrong], _Wrong]:
    """Declare a class as a mutant that `check` must catch. Its docstring says what is wrong."""

    def declare(wrong: _Wrong) -> _Wrong:
        def bench(folder: Path) -> Bench:
            if issubclass(wrong, Machine):
                return PlainBench(folder, machine=wrong, permissions=permissions)
            return PlainBench(folder, make=wrong, permissions=permissions)

        name = re.sub(r"(?<!^)(?=[A-Z])", "-", wrong.__name__).lower()
        _ZOO.append(Mutant(name, (wrong.__doc__ or "").strip(), check, bench))
        return wrong

    return declare


# Staging and warming


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


# Draining and archiving


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


@caught_by("drain.in-flight-finishes")
class CutsAtOnce(PlainDeployer):
    """Ignores the drain: ends the worker with requests in flight."""

    async def drain_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> DrainReport:
        if revision_id in self.machine.processes:
            await self.machine.end(revision_id)
        return await super().drain_revision(desired, revision_id, progress)


@caught_by("drain.in-flight-finishes")
class SaysNothingWasThere(PlainDeployer):
    """Reports of every drain that nothing was in flight."""

    async def drain_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> DrainReport:
        report = await super().drain_revision(desired, revision_id, progress)
        return dataclasses.replace(report, finished=0)


@caught_by("drain.deadline-cuts")
class DrainsForEver(Machine):
    """Waits for what is in flight however long it takes."""

    async def drain(self, revision_id: str, seconds: float) -> Any:
        return await super().drain(revision_id, seconds * 1000)


@caught_by("drain.deadline-cuts")
class HidesTheCut(PlainDeployer):
    """Does not say that it cut requests."""

    async def drain_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> DrainReport:
        report = await super().drain_revision(desired, revision_id, progress)
        return dataclasses.replace(report, cut=0)


@caught_by("drain.idle-ends-at-once")
class SleepsTheDeadline(PlainDeployer):
    """Drains by a timer, whatever is in flight."""

    async def drain_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> DrainReport:
        await asyncio.sleep(desired.revision(revision_id).drain_seconds)
        return await super().drain_revision(desired, revision_id, progress)


@caught_by("drain.nobody-new")
class TakesVisitorsWhileDraining(PlainDeployer):
    """Gives a draining revision new visitors."""

    def table(
        self, desired: DesiredState, *, draining: Collection[str] = (), ended: Collection[str] = ()
    ) -> dict[str, Any]:
        table = super().table(desired, draining=(), ended=ended)
        for row in table["deployments"]:
            for index, revision in enumerate(row["revisions"]):
                if revision["revision_id"] in draining and row["slots"]:
                    revision["state"] = "ready"
                    row["slots"] = [[10_000, index]]
        return table


@caught_by("drain.pinned-stay")
class DropsThePinned(PlainDeployer):
    """Lets the visitors drop who were promised to stay."""

    def table(
        self, desired: DesiredState, *, draining: Collection[str] = (), ended: Collection[str] = ()
    ) -> dict[str, Any]:
        table = super().table(desired, draining=draining, ended=ended)
        for row in table["deployments"]:
            for revision in row["revisions"]:
                revision.pop("honour_until", None)
        return table


@caught_by("drain.share-is-protected")
class DrainsTheLive(PlainDeployer):
    """Drains and archives what still has traffic."""

    def require_no_share(self, desired: DesiredState, revision: Revision) -> None:
        pass


# Preconditions


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


# The record


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


# Traffic


class _Slots(PlainDeployer):
    """Lays other slots than the record's."""

    def table(
        self, desired: DesiredState, *, draining: Collection[str] = (), ended: Collection[str] = ()
    ) -> dict[str, Any]:
        table = super().table(desired, draining=draining, ended=ended)
        for row in table["deployments"]:
            if len(row["slots"]) > 1:
                row["slots"] = self.laid(row["slots"])
        return table

    def laid(self, slots: list[list[int]]) -> list[list[int]]:
        raise NotImplementedError


@caught_by("traffic.exact-basis-points")
class OffByOne(_Slots):
    """Is off by one basis point."""

    def laid(self, slots: list[list[int]]) -> list[list[int]]:
        (first, one), (second, two), *rest = slots
        return [[first - 1, one], [second + 1, two], *rest]


@caught_by("traffic.exact-shares")
class RoundsToPercents(_Slots):
    """Rounds a share to whole tenths."""

    def laid(self, slots: list[list[int]]) -> list[list[int]]:
        rounded = [[max(count // 1_000, 1) * 1_000, index] for count, index in slots]
        rounded[0][0] += 10_000 - sum(count for count, _ in rounded)
        return rounded


@caught_by("traffic.receipt-is-true")
class ReturnsBeforeTheRouters(PlainDeployer):
    """Returns a receipt before the router follows."""

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        later = asyncio.create_task(self.later(desired, deployment_id))
        if self.machine.url is None:
            return await later
        return Receipt(deployment_id, desired.split(deployment_id).generation, 1, 1, 0.1)

    async def later(self, desired: DesiredState, deployment_id: str) -> Receipt:
        await asyncio.sleep(0.05)
        with contextlib.suppress(OSError):  # the bench was closed meanwhile
            return await super().apply_traffic_split(desired, deployment_id)
        raise asyncio.CancelledError


@caught_by("traffic.receipt-is-true")
class AcknowledgesTheLastOne(PlainDeployer):
    """Acknowledges the generation before the one that was asked for."""

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        receipt = await super().apply_traffic_split(desired, deployment_id, progress)
        return dataclasses.replace(receipt, generation=receipt.generation - 1)


@caught_by("traffic.every-router")
class LeavesOldConnections(Machine):
    """Serves connections that are there by the table of when they were opened."""

    async def route(self, table: dict[str, Any]) -> Mapping[str, int]:
        if self._router is not None:
            self._router.acceptor.stop()
            gateway = Gateway()
            self._router = Router(gateway, Acceptor(self._router.listener, gateway), self._router.listener)
        return await super().route(table)


@caught_by("traffic.every-router")
class CountsOneTooMany(PlainDeployer):
    """Counts a router that does not exist."""

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        receipt = await super().apply_traffic_split(desired, deployment_id, progress)
        return dataclasses.replace(receipt, acknowledged=2, expected=2)


@caught_by("traffic.workers-stay")
class RestartsOnAMove(PlainDeployer):
    """Restarts a worker whose share has changed."""

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        for entry in desired.split(deployment_id).entries:
            if entry.revision_id in self.machine.processes:
                await self.machine.end(entry.revision_id)
                await self.ensure(desired, desired.revision(entry.revision_id))
        return await super().apply_traffic_split(desired, deployment_id, progress)


@caught_by("traffic.dials-are-independent")
class MovesTheOther(PlainDeployer):
    """Gives every other deployment's traffic to its first revision when one dial moves."""

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        receipt = await super().apply_traffic_split(desired, deployment_id, progress)
        table = self.table(desired)
        for row in table["deployments"]:
            if row["deployment_id"] != deployment_id and row["slots"]:
                row["slots"] = [[10_000, 0]]
        await self.machine.route(table)
        return receipt


@caught_by("traffic.rollback-restores")
class NeverGoesBack(PlainDeployer):
    """Takes a split for applied when it has applied its weights before."""

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        split = desired.split(deployment_id)
        known = f"weights-{'-'.join(str(entry.weight_bps) for entry in split.entries)}"
        if known in self.machine.records:
            return Receipt(deployment_id, split.generation, 1, 1, 0.1)
        self.machine.write(known, known)
        return await super().apply_traffic_split(desired, deployment_id, progress)


@caught_by("traffic.cleared-is-silent")
class ServesOnWhenCleared(PlainDeployer):
    """Serves on when the split was taken away."""

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        if desired.environment.split(deployment_id) is None:
            return Receipt(deployment_id, 99, 1, 1, 0.1)
        return await super().apply_traffic_split(desired, deployment_id, progress)


@caught_by("traffic.cleared-is-silent")
class GivesTheIdleSome(PlainDeployer):
    """Gives a revision without a share a tenth."""

    def table(
        self, desired: DesiredState, *, draining: Collection[str] = (), ended: Collection[str] = ()
    ) -> dict[str, Any]:
        table = super().table(desired, draining=draining, ended=ended)
        for row in table["deployments"]:
            if len(row["slots"]) == 1 and len(row["revisions"]) > 1:
                row["slots"] = [[9_000, 0], [1_000, 1]]
        return table


class _OtherRouter(Machine):
    """A router whose deployments are not what the table says."""

    async def route(self, table: dict[str, Any]) -> Mapping[str, int]:
        generations = await super().route(table)
        assert self.gateway is not None
        compiled = self.gateway.table
        assert compiled is not None
        altered = {name: self.altered(row, compiled) for name, row in compiled.deployments.items()}
        matcher = Matcher((row, row.row.hosts, row.row.path_prefixes) for row in altered.values())
        self.gateway.table = dataclasses.replace(compiled, deployments=altered, matcher=matcher)
        return generations

    def altered(self, row: CompiledDeployment, compiled: CompiledTable) -> CompiledDeployment:
        raise NotImplementedError


class _Blind(CookieMint):
    """Reads no cookie."""

    def read(self, value: bytes) -> None:
        return None


@caught_by("traffic.visitors-stay")
class ForgetsVisitors(_OtherRouter):
    """Knows nobody who comes back."""

    def altered(self, row: CompiledDeployment, compiled: CompiledTable) -> CompiledDeployment:
        return dataclasses.replace(row, mint=_mint(compiled, row.row.tenant, row.deployment_id, row.by_id, _Blind))


@caught_by("traffic.movement-is-minimal")
class DealsAnew(PlainDeployer):
    """Ends every promise and deals the slots anew when the dial moves."""

    def table(
        self, desired: DesiredState, *, draining: Collection[str] = (), ended: Collection[str] = ()
    ) -> dict[str, Any]:
        table = super().table(desired, draining=draining, ended=ended)
        for row in table["deployments"]:
            for revision in row["revisions"]:
                revision["since"] = row["generation"]
            if row["generation"] % 2:
                row["slots"].reverse()
        return table


@caught_by("traffic.preview-reaches")
class PreviewsNothing(PlainDeployer):
    """Hands out preview tokens that nobody accepts."""

    async def preview(self, desired: DesiredState, revision_id: str, seconds: int) -> str:
        return (await super().preview(desired, revision_id, seconds))[::-1]


@caught_by("traffic.preview-reaches")
class TrustsEverybody(PlainDeployer):
    """Lets any visitor name the revision in a header."""

    def table(
        self, desired: DesiredState, *, draining: Collection[str] = (), ended: Collection[str] = ()
    ) -> dict[str, Any]:
        table = super().table(desired, draining=draining, ended=ended)
        return {**table, "options": {"trusted_callers": ["127.0.0.0/8"]}}


# Tenancy


@caught_by("tenancy.own-worker")
class DropsTheTenant(PlainDeployer):
    """Drops the tenant's label."""

    def launch(self, revision: Revision, deployment: BundleDeployment) -> Launch:
        launch = super().launch(revision, deployment)
        return dataclasses.replace(launch, environment={**launch.environment, "GREENTIC_TENANT": "default"})


@caught_by("tenancy.own-worker")
class SharesAWorker(PlainDeployer):
    """Sends two customers of one bundle to one worker."""

    def table(
        self, desired: DesiredState, *, draining: Collection[str] = (), ended: Collection[str] = ()
    ) -> dict[str, Any]:
        table = super().table(desired, draining=draining, ended=ended)
        every = [revision for row in table["deployments"] for revision in row["revisions"]]
        for revision in every:
            revision["address"] = every[0]["address"]
        return table


@caught_by("tenancy.foreign-host")
class ServesAnyHost(PlainDeployer):
    """Answers for hosts that belong to nobody."""

    def table(
        self, desired: DesiredState, *, draining: Collection[str] = (), ended: Collection[str] = ()
    ) -> dict[str, Any]:
        table = super().table(desired, draining=draining, ended=ended)
        for row in table["deployments"]:
            row["hosts"] = []
        return table


@caught_by("tenancy.shared-host")
class ForgetsThePath(PlainDeployer):
    """Tells customers apart by their host alone."""

    def table(
        self, desired: DesiredState, *, draining: Collection[str] = (), ended: Collection[str] = ()
    ) -> dict[str, Any]:
        table = super().table(desired, draining=draining, ended=ended)
        for row in table["deployments"]:
            row["path_prefixes"] = []
        return table


class _OneForAll(_OtherRouter):
    """A router that takes what was signed for one deployment at every other."""

    def altered(self, row: CompiledDeployment, compiled: CompiledTable) -> CompiledDeployment:
        every = list(compiled.deployments.values())
        revisions = {name: one for other in every for name, one in other.by_id.items()}
        mint = _mint(compiled, _SHARED, _SHARED, revisions, CookieMint)
        return dataclasses.replace(row, by_id=revisions, mint=mint, deployment_id=every[0].deployment_id)


@caught_by("tenancy.foreign-cookie")
class TakesAnyCookie(_OneForAll):
    """Takes a cookie of one customer's deployment at another's."""


@caught_by("tenancy.foreign-preview")
class TakesAnyPreview(_OneForAll):
    """Takes a preview of one customer's deployment at another's."""


@caught_by("tenancy.neighbours-undisturbed")
class StopsEverybodyForOne(PlainDeployer):
    """Ends the router's connections to everybody while one deployment is archived."""

    async def archive_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        await self.machine.route({**self.table(desired), "deployments": []})
        await asyncio.sleep(0.05)
        await super().archive_revision(desired, revision_id, progress)
        await self.route(desired)


# Credentials


@caught_by("credentials.exact-permissions", PERMISSIONS | {"process.debug"})
class AsksForTooMuch(PlainDeployer):
    """Declares a permission that it never uses."""


@caught_by("credentials.exact-permissions")
class CallsUndeclared(PlainDeployer):
    """Makes a call that it has declared no permission for."""

    async def warm_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        await super().warm_revision(desired, revision_id, progress)
        with calls.making("process.debug", revision_id):
            pass


@caught_by("credentials.no-secret-shown")
class LeaksIntoAnAnnotation(Machine):
    """Writes the router's key on what it starts."""

    async def start(self, name: str, owner: str, launch: Launch, note: str = "") -> Process:
        return await super().start(name, owner, launch, f"key={self.secrets[0]}")


@caught_by("credentials.no-secret-shown")
class LeaksIntoAnArgument(PlainDeployer):
    """Passes the operator's secret in an argument."""

    def launch(self, revision: Revision, deployment: BundleDeployment) -> Launch:
        launch = super().launch(revision, deployment)
        return dataclasses.replace(launch, argv=(*launch.argv, f"--token={self.operator['CONFORMANCE_TOKEN']}"))


@caught_by("credentials.no-secret-shown")
class LeaksIntoTheLog(PlainDeployer):
    """Logs the preview tokens that it hands out."""

    async def preview(self, desired: DesiredState, revision_id: str, seconds: int) -> str:
        token = await super().preview(desired, revision_id, seconds)
        with self.machine.log(revision_id).open("a") as log:
            log.write(f"preview of {revision_id}: {token}\n")
        return token


@caught_by("credentials.no-secret-shown")
class SpeaksTheSecret(PlainDeployer):
    """Tells the operator's secret while it works."""

    async def warm_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        progress(f"signing in as {self.operator['CONFORMANCE_TOKEN']}")
        await super().warm_revision(desired, revision_id, progress)


@caught_by("credentials.no-secret-shown")
class ComplainsWithTheSecret(PlainDeployer):
    """Names the operator's secret in an error, which the audit log would keep."""

    async def warm_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        try:
            await super().warm_revision(desired, revision_id, progress)
        except GateFailed as error:
            raise GateFailed(f"{error.message} (signed in as {self.operator['CONFORMANCE_TOKEN']})") from None


@caught_by("credentials.worker-is-clean")
class PassesTheEnvironmentOn(PlainDeployer):
    """Hands the operator's whole environment to workers."""

    def launch(self, revision: Revision, deployment: BundleDeployment) -> Launch:
        launch = super().launch(revision, deployment)
        return dataclasses.replace(launch, environment={**self.operator, **launch.environment})


# Faults


@caught_by("faults.error-converges")
class SwallowsErrors(PlainDeployer):
    """Says that all is well when the provider has failed."""

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        try:
            return await super().apply_traffic_split(desired, deployment_id, progress)
        except GreenticError:
            return Receipt(deployment_id, desired.split(deployment_id).generation, 1, 1, 0.1)


@caught_by("faults.timeout-converges")
class LosesWhatItStarted(PlainDeployer):
    """Forgets a worker whose start was not confirmed, and starts another."""

    async def ensure(self, desired: DesiredState, revision: Revision) -> None:
        try:
            await super().ensure(desired, revision)
        except GreenticError:
            process = self.machine.processes.pop(revision.revision_id, None)
            if process is not None:
                self.machine.processes[f"{revision.revision_id}-lost"] = process
            raise


@caught_by("faults.kill-converges")
class MarksItDoneFirst(PlainDeployer):
    """Writes down that it has drained before it has, and believes that after a kill."""

    async def drain_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> DrainReport:
        name = f"drained/{revision_id}"
        if name in self.machine.records:
            return DrainReport(revision_id, 0, 0, 0.0)
        self.machine.write(name, "yes")
        return await super().drain_revision(desired, revision_id, progress)

    async def archive_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        await super().archive_revision(desired, revision_id, progress)
        self.machine.remove(f"drained/{revision_id}")


@caught_by("faults.start-and-stop-converge")
class StopsHalfway(PlainDeployer):
    """Takes itself for stopped when the router is gone."""

    async def stop(self, desired: DesiredState, progress: Progress = silent) -> bool:
        return self.machine.url is not None and await super().stop(desired, progress)


@caught_by("faults.interruption-converges")
class HoldsALock(PlainDeployer):
    """Leaves its lock behind when it is interrupted, and never gets it again."""

    async def drain_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> DrainReport:
        if "lock" in self.machine.records:
            raise ProviderError("somebody else is draining")
        self.machine.write("lock", "held")
        try:
            report = await super().drain_revision(desired, revision_id, progress)
        except GreenticError:
            self.machine.remove("lock")
            raise
        self.machine.remove("lock")
        return report


def _mint(
    compiled: CompiledTable, tenant: str, deployment_id: str, revisions: Iterable[str], kind: type[CookieMint]
) -> CookieMint:
    return kind(
        compiled.source.keys,
        env_id=compiled.source.env_id,
        tenant=tenant,
        deployment_id=deployment_id,
        generation=1,
        revision_ids=tuple(revisions),
        known=compiled.known.cookies,
    )
