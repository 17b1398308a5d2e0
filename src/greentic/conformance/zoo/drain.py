"""Mutants of the drain: what is in flight, who is promised to stay, the deadline."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Collection
from typing import Any

from greentic.conformance.plain.deployer import PlainDeployer
from greentic.conformance.plain.machine import Machine
from greentic.conformance.zoo.mutant import caught_by
from greentic.envpacks.deployer import DesiredState, DrainReport, Progress, silent
from greentic.spec.revision import Revision


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


@caught_by("drain.share-is-protected")
class AsksBeforeItRefuses(PlainDeployer):
    """Calls the provider before it refuses to drain what still has traffic."""

    def require_no_share(self, desired: DesiredState, revision: Revision) -> None:
        self.machine.write("asked-for", revision.revision_id)
        super().require_no_share(desired, revision)
        self.machine.remove("asked-for")
