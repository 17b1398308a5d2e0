"""Routers that do something else than their table says, for mutants to be made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from greentic.conformance.plain.machine import Machine
from greentic.router.compiled import CompiledDeployment, CompiledTable
from greentic.router.cookie import CookieMint
from greentic.router.matching import Matcher


class OtherRouter(Machine):
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
        """What is served instead of `row`."""
        raise NotImplementedError


def cookies(
    compiled: CompiledTable, tenant: str, deployment_id: str, revisions: Iterable[str], kind: type[CookieMint]
) -> CookieMint:
    """What signs and reads the cookies of a deployment: one that is told another's names reads another's cookies."""
    return kind(
        compiled.source.keys,
        env_id=compiled.source.env_id,
        tenant=tenant,
        deployment_id=deployment_id,
        generation=1,
        revision_ids=tuple(revisions),
        known=compiled.known.cookies,
    )
