"""Mutants that do not come to the same end after a failure, a kill or an interruption."""

from __future__ import annotations

from greentic.conformance.plain.deployer import PlainDeployer
from greentic.conformance.zoo.mutant import caught_by
from greentic.envpacks.deployer import DesiredState, DrainReport, Progress, Receipt, silent
from greentic.spec.errors import GreenticError, ProviderError
from greentic.spec.revision import Revision


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
