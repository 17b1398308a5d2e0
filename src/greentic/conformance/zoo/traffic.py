"""Mutants of the dial: shares, receipts, visitors, previews."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from greentic.conformance.plain.deployer import PlainDeployer
from greentic.conformance.plain.machine import Machine, Router
from greentic.conformance.zoo.mutant import caught_by
from greentic.conformance.zoo.routers import OtherRouter, cookies
from greentic.envpacks.deployer import DesiredState, Progress, Receipt, silent
from greentic.router.accepting import Acceptor
from greentic.router.compiled import CompiledDeployment, CompiledTable
from greentic.router.cookie import CookieMint
from greentic.router.gateway import Gateway


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


class _Blind(CookieMint):
    """Reads no cookie."""

    def read(self, value: bytes) -> None:
        return None


@caught_by("traffic.visitors-stay")
class ForgetsVisitors(OtherRouter):
    """Knows nobody who comes back."""

    def altered(self, row: CompiledDeployment, compiled: CompiledTable) -> CompiledDeployment:
        return dataclasses.replace(row, mint=cookies(compiled, row.row.tenant, row.deployment_id, row.by_id, _Blind))


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
