"""The routing table that follows from the recorded state: a pure computation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import ceil
from typing import Any

from greentic.spec.deployment import BundleDeployment, DeploymentStatus
from greentic.spec.element_rules import canonical_host, canonical_prefix
from greentic.spec.environment import Environment
from greentic.spec.identifiers import unix_seconds
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.revision import Revision
from greentic.spec.traffic import SplitEntry

_LISTED = frozenset({Lifecycle.READY, Lifecycle.DRAINING})


def deployments(
    environment: Environment,
    addresses: Mapping[str, str],
    *,
    draining: Collection[str] = (),
    ended: Collection[str] = (),
) -> list[dict[str, Any]]:
    """The `deployments` of the router's table (see `greentic.router.table`).

    Every deployment that is not archived stands in it. A paused one keeps its routes but has nothing behind them, so
    that what is asked for there does not go to whoever has the prefix above. An active one lists its revisions that
    are ready, at whatever share (a preview reaches them at 0 %), or draining, as far as they have one of `addresses`
    (`host:port` by revision). `draining` names others that are to be emptied, `ended` those that are gone although the
    record does not say so yet.
    """
    return [
        _deployment(environment, deployment, addresses, draining, ended)
        for deployment in environment.bundles
        if deployment.status is not DeploymentStatus.ARCHIVED
    ]


def generation(environment: Environment, deployment: BundleDeployment) -> int:
    """The generation of the deployment's live split, or that of its clearing; 0 before the first."""
    split = environment.split(deployment.deployment_id)
    return split.generation if split is not None else deployment.traffic_generation or 0


def _deployment(
    environment: Environment,
    deployment: BundleDeployment,
    addresses: Mapping[str, str],
    draining: Collection[str],
    ended: Collection[str],
) -> dict[str, Any]:
    binding = deployment.route_binding
    split = environment.split(deployment.deployment_id)
    entries = {entry.revision_id: entry for entry in split.entries} if split is not None else {}
    listed = [
        revision
        for revision in environment.revisions_of(deployment.deployment_id)
        if deployment.status is DeploymentStatus.ACTIVE
        and revision.lifecycle in _LISTED
        and revision.revision_id in addresses
        and revision.revision_id not in ended
    ]
    return {
        "deployment_id": deployment.deployment_id,
        "bundle_id": deployment.bundle_id,
        "customer_id": deployment.customer_id,
        "tenant": binding.tenant_selector.tenant,
        "team": binding.tenant_selector.team,
        "hosts": [canonical_host(host) for host in binding.hosts],
        "path_prefixes": [canonical_prefix(prefix) for prefix in binding.path_prefixes],
        "generation": generation(environment, deployment),
        "pin_seconds": environment.host_config.pin_seconds,
        "revisions": [
            {
                "revision_id": revision.revision_id,
                "address": addresses[revision.revision_id],
                "state": "draining" if _draining(revision, draining) else "ready",
                **_promise(entries.get(revision.revision_id)),
                "name": f"v{revision.sequence}",
            }
            for revision in listed
        ],
        "slots": _slots(environment, deployment, [revision.revision_id for revision in listed]),
    }


def _promise(entry: SplitEntry | None) -> dict[str, int]:
    """Which pins to a revision hold: those as young as `since`, and before `honour_until` those as young as
    `honour_since`.
    """
    if entry is None:
        return {"since": 0}
    # The router counts whole seconds: a promise is rounded in the visitor's favour.
    if entry.honour_until is None:
        return {"since": entry.since or 0}
    until = {"honour_until": ceil(unix_seconds(entry.honour_until)), "honour_since": entry.honour_since or 0}
    return {"since": entry.since or 0, **until}


def _draining(revision: Revision, draining: Collection[str]) -> bool:
    return revision.lifecycle is Lifecycle.DRAINING or revision.revision_id in draining


def _slots(environment: Environment, deployment: BundleDeployment, listed: list[str]) -> list[list[int]]:
    """The runs of the slot table, with indexes into `listed`; none when the split names a revision that cannot be
    reached, because a share of the traffic may not silently become another's."""
    split = environment.split(deployment.deployment_id)
    if split is None:
        return []
    runs = split.slots or tuple((entry.weight_bps, i) for i, entry in enumerate(split.entries) if entry.weight_bps)
    position = {revision_id: index for index, revision_id in enumerate(listed)}
    indexes = [position.get(entry.revision_id) for entry in split.entries]
    slots: list[list[int]] = []
    for count, entry in runs:
        index = indexes[entry]
        if index is None:
            return []
        slots.append([count, index])
    return slots
