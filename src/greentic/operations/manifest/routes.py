"""Routes that change hands within one run. Pure.

The engine refuses, at every single change, a route that somebody else has. When A takes what B gives up, B gives it up
first; when both swap, one must stand aside in between. A deployment stands aside at a host that nobody can ask for
(`.invalid`, RFC 2606), for the few milliseconds between two commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from greentic.spec.deployment import BundleDeployment, DeploymentStatus, RouteBinding
from greentic.spec.element_rules import canonical_binding, canonical_host, canonical_prefix
from greentic.spec.errors import Conflict

Claim = tuple[str, str]
"""(host, prefix); an empty host is every host."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A deployment that is described: its recorded route (None: new) and status, and those it is to have."""

    deployment_id: str
    called: str
    recorded: RouteBinding | None
    status: DeploymentStatus
    wanted: RouteBinding
    wanted_status: DeploymentStatus


@dataclass(frozen=True, slots=True)
class Handover:
    """Who stands `aside` first, and whose route comes `late`, after all deployments are there (deployment ids)."""

    aside: frozenset[str] = frozenset()
    late: frozenset[str] = frozenset()


def parked(deployment_id: str, binding: RouteBinding) -> RouteBinding:
    """A route that no client reaches."""
    return RouteBinding(hosts=(f"{deployment_id.lower()}.invalid",), tenant_selector=binding.tenant_selector)


def is_parked(deployment: BundleDeployment) -> bool:
    """Whether an interrupted run left the deployment standing aside."""
    return deployment.route_binding.hosts == (f"{deployment.deployment_id.lower()}.invalid",)


def wanted(entry: RouteBinding | None, deployment: BundleDeployment | None) -> RouteBinding:
    """The route a deployment is to have: as declared, as recorded, else any host and `/`."""
    if entry is not None:
        return canonical_binding(entry)
    if deployment is None or is_parked(deployment):
        return RouteBinding()
    return deployment.route_binding


def handover(
    wishes: Sequence[Wish], leaving: Iterable[BundleDeployment], staying: Iterable[BundleDeployment]
) -> Handover:
    """What changes hands between `wishes`, deployments that are `leaving` and those `staying` as they are.

    Raises Conflict when two of those that remain want the same host and prefix.
    """
    final: dict[Claim, str] = {}
    named: dict[str, str] = {}
    for deployment in staying:
        if deployment.status is not DeploymentStatus.ARCHIVED:
            named[deployment.deployment_id] = f"{deployment.bundle_id}@{deployment.customer_id}"
            final.update(dict.fromkeys(claims(deployment.route_binding), deployment.deployment_id))
    for wish in wishes:
        named[wish.deployment_id] = wish.called
        if wish.wanted_status is DeploymentStatus.ARCHIVED:
            continue
        for host, prefix in sorted(claims(wish.wanted)):
            other = final.setdefault((host, prefix), wish.deployment_id)
            if other != wish.deployment_id:
                raise Conflict(
                    f"{wish.called} and {named[other]} would both serve {host or 'any host'} {prefix}",
                    details={"rule": "OverlappingRoute", "host": host, "path_prefix": prefix},
                    next_step="give them different hosts or path_prefixes; "
                    "a bundle without a route_binding serves every host from /",
                )
    return _changing_hands(wishes, leaving)


def _changing_hands(wishes: Sequence[Wish], leaving: Iterable[BundleDeployment]) -> Handover:
    held: dict[Claim, str] = {}
    for deployment in leaving:
        if deployment.status is not DeploymentStatus.ARCHIVED:
            held.update(dict.fromkeys(claims(deployment.route_binding), deployment.deployment_id))
    for wish in wishes:
        if wish.recorded is not None and wish.status is not DeploymentStatus.ARCHIVED:
            held.update(dict.fromkeys(claims(wish.recorded), wish.deployment_id))
    aside: set[str] = set()
    late: set[str] = set()
    archiving = {wish.deployment_id for wish in wishes if wish.wanted_status is DeploymentStatus.ARCHIVED}
    for wish in wishes:
        if wish.wanted_status is DeploymentStatus.ARCHIVED:
            continue
        holders = {
            held[claim] for claim in claims(wish.wanted) if held.get(claim, wish.deployment_id) != wish.deployment_id
        }
        if holders:
            late.add(wish.deployment_id)
            aside |= holders - archiving
    moving = {wish.deployment_id for wish in wishes}
    return Handover(frozenset(aside), frozenset(late | (aside & moving)))


def claims(binding: RouteBinding) -> frozenset[Claim]:
    """The (host, prefix) pairs that a route claims."""
    hosts = {canonical_host(host) for host in binding.hosts} or {""}
    prefixes = {canonical_prefix(prefix) for prefix in binding.path_prefixes} or {"/"}
    return frozenset((host, prefix) for host in hosts for prefix in prefixes)
