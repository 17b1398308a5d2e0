"""Mutants that ask for too much, and mutants that show a secret."""

from __future__ import annotations

import dataclasses

from greentic.conformance.plain.deployer import PlainDeployer
from greentic.conformance.plain.machine import PERMISSIONS, Machine, Process
from greentic.conformance.zoo.mutant import caught_by
from greentic.envpacks import calls
from greentic.envpacks.deployer import DesiredState, Progress, silent
from greentic.spec.deployment import BundleDeployment
from greentic.spec.errors import GateFailed
from greentic.spec.revision import Revision
from greentic.worker.launch import Launch


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
    """Names the operator's secret in an error."""

    async def warm_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        try:
            await super().warm_revision(desired, revision_id, progress)
        except GateFailed as error:
            raise GateFailed(f"{error.message} (signed in as {self.operator['CONFORMANCE_TOKEN']})") from None


@caught_by("credentials.no-secret-recorded")
class FailsWithTheSecret(PlainDeployer):
    """Gives the operator's secret as the reason of a failed gate, which is recorded."""

    async def warm_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        try:
            await super().warm_revision(desired, revision_id, progress)
        except GateFailed as error:
            raise GateFailed(f"{self.operator['CONFORMANCE_TOKEN']}: {error.message}") from None


@caught_by("credentials.worker-is-clean")
class PassesTheEnvironmentOn(PlainDeployer):
    """Hands the operator's whole environment to workers."""

    def launch(self, revision: Revision, deployment: BundleDeployment) -> Launch:
        launch = super().launch(revision, deployment)
        return dataclasses.replace(launch, environment={**self.operator, **launch.environment})
