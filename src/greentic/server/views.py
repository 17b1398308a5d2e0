"""What somebody sees of an environment who is there for some customers only: their deployments, nothing of others."""

from __future__ import annotations

from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, GreenticError, SpecViolation


def of(environment: Environment, customers: frozenset[str] | None) -> Environment:
    """`environment` as it is for `customers`; None: all of it.

    Whom the environment trusts and which policies are retired concerns everybody and nobody in particular: left out,
    as are endpoints that reach none of the deployments; of one that reaches several, the bundles of others.
    """
    if customers is None:
        return environment
    bundles = tuple(one for one in environment.bundles if one.customer_id in customers)
    deployments = {one.deployment_id for one in bundles}
    names = {one.bundle_id for one in bundles}
    endpoints = tuple(
        one.model_copy(
            update={
                "linked_bundles": tuple(bundle for bundle in one.linked_bundles if bundle in names),
                "welcome_flow": one.welcome_flow
                if one.welcome_flow is not None and one.welcome_flow.bundle_id in names
                else None,
            }
        )
        for one in environment.messaging_endpoints
        if not names.isdisjoint(one.linked_bundles)
    )
    return environment.model_copy(
        update={
            "bundles": bundles,
            "revisions": tuple(one for one in environment.revisions if one.deployment_id in deployments),
            "traffic_splits": tuple(one for one in environment.traffic_splits if one.deployment_id in deployments),
            "split_history": tuple(one for one in environment.split_history if one.deployment_id in deployments),
            "traffic_schedules": tuple(
                one for one in environment.traffic_schedules if one.deployment_id in deployments
            ),
            "messaging_endpoints": endpoints,
            "trust_root": None,
            "retired_policies": (),
        }
    )


def refusal(error: SpecViolation | Conflict, customers: frozenset[str] | None) -> GreenticError:
    """`error` as it is told to those who are there for `customers`: a route that is taken, but not by whom; a key that
    was used, but not when."""
    if customers is None:
        return error
    if isinstance(error, Conflict):
        error.details = {name: value for name, value in error.details.items() if name != "used_at"}
        return error
    if error.rule != "OverlappingRoute":
        return error
    return SpecViolation(error.rule, "the route is taken", next_step="choose another path prefix or host")
