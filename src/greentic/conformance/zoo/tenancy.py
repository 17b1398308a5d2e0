"""Mutants that let one customer reach or disturb another."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Collection
from typing import Any, Final

from greentic.conformance.plain.deployer import PlainDeployer
from greentic.conformance.zoo.mutant import caught_by
from greentic.conformance.zoo.routers import OtherRouter, cookies
from greentic.envpacks.deployer import DesiredState, Progress, silent
from greentic.router.compiled import CompiledDeployment, CompiledTable
from greentic.router.cookie import CookieMint
from greentic.router.keys import decode
from greentic.router.pins import Pin
from greentic.spec.deployment import BundleDeployment
from greentic.spec.revision import Revision
from greentic.worker.launch import Launch

_SHARED: Final = "shared-by-customers"


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


class _OneForAll(OtherRouter):
    """A router that takes what was signed for one deployment at every other."""

    def altered(self, row: CompiledDeployment, compiled: CompiledTable) -> CompiledDeployment:
        every = list(compiled.deployments.values())
        revisions = {name: one for other in every for name, one in other.by_id.items()}
        mint = cookies(compiled, _SHARED, _SHARED, revisions, CookieMint)
        return dataclasses.replace(row, by_id=revisions, mint=mint, deployment_id=every[0].deployment_id)


@caught_by("tenancy.foreign-cookie")
class TakesAnyCookie(_OneForAll):
    """Takes a cookie of one customer's deployment at another's."""


@caught_by("tenancy.foreign-preview")
class TakesAnyPreview(_OneForAll):
    """Takes a preview of one customer's deployment at another's."""


class _Gullible(CookieMint):
    """Takes every cookie for genuine."""

    def read(self, value: bytes) -> Pin | None:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return self._pin(decode(value.partition(b".")[0]))
        return None


@caught_by("tenancy.nothing-to-guess")
class BelievesEveryCookie(OtherRouter):
    """Honours a promise to stay that anybody has written."""

    def altered(self, row: CompiledDeployment, compiled: CompiledTable) -> CompiledDeployment:
        mint = cookies(compiled, row.row.tenant, row.deployment_id, row.by_id, _Gullible)
        return dataclasses.replace(row, mint=mint)


@caught_by("tenancy.neighbours-undisturbed")
class StopsEverybodyForOne(PlainDeployer):
    """Ends the router's connections to everybody while one deployment is archived."""

    async def archive_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        await self.machine.route({**self.table(desired), "deployments": []})
        await asyncio.sleep(0.05)
        await super().archive_revision(desired, revision_id, progress)
        await self.route(desired)
