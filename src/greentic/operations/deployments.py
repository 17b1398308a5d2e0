"""Deployments: add, update, remove, list. Routes reach the routers as soon as they are recorded."""

from __future__ import annotations

import shutil
from typing import Any

from greentic.operations import derived, names, revenue
from greentic.operations.context import Context
from greentic.operations.following import follow
from greentic.spec import identifiers
from greentic.spec.deployment import BundleDeployment, DeploymentStatus, Overrides, RevenueShare, RouteBinding
from greentic.spec.element_rules import canonical_host, canonical_prefix
from greentic.spec.environment import Environment
from greentic.spec.errors import InvalidArgument
from greentic.spec.payloads import (
    GREENTIC,
    AddDeploymentPayload,
    RemoveDeploymentPayload,
    UpdateDeploymentPayload,
)
from greentic.store.contract import Applied

LOCAL_CUSTOMER = "local-dev"


def summary(environment: Environment, deployment: BundleDeployment) -> dict[str, Any]:
    """The deployment in short (BundleSummary of reference 01, with what routes to it)."""
    return {
        "environment_id": environment.environment_id,
        "bundle_id": deployment.bundle_id,
        "deployment_id": deployment.deployment_id,
        "customer_id": deployment.customer_id,
        "status": deployment.status.value,
        "current_revision_count": len(deployment.current_revisions),
        "hosts": list(deployment.route_binding.hosts),
        "path_prefixes": list(deployment.route_binding.path_prefixes),
        "tenant": deployment.route_binding.tenant_selector.tenant,
        "team": deployment.route_binding.tenant_selector.team,
    }


def customer(environment: Environment, customer_id: str | None) -> str:
    """Whom a new deployment is for: as said; on `local` the developer when nobody is named."""
    if customer_id is not None:
        return identifiers.name(customer_id, "customer")
    if environment.environment_id == "local":
        return LOCAL_CUSTOMER
    raise InvalidArgument(
        f"whom is this deployment for? Every use in '{environment.environment_id}' is stamped with a customer",
        next_step="add --customer-id NAME",
    )


async def add(
    context: Context,
    environment_id: str,
    bundle_id: str,
    *,
    customer_id: str | None = None,
    route_binding: RouteBinding | None = None,
    revenue_share: tuple[RevenueShare, ...] = GREENTIC,
    config_overrides: Overrides | None = None,
    step: str = "",
) -> tuple[Applied, BundleDeployment]:
    """A new deployment of `bundle_id`; without a revision it serves nothing yet.

    A running router learns its route before this returns: what is asked for there must not go to whoever has the prefix
    above.
    """
    environment = context.store.load(environment_id).environment
    payload = AddDeploymentPayload(
        deployment_id=_identifier(context, environment_id, step),
        bundle_id=identifiers.name(bundle_id, "deployment"),
        customer_id=customer(environment, customer_id),
        route_binding=normalised(route_binding or RouteBinding()),
        revenue_share=revenue_share,
        config_overrides=config_overrides or {},
    )
    applied = context.apply(
        environment_id, "bundles", "add", payload, step=step, complete=revenue.signing(environment_id)
    )
    await follow(context, applied)
    added = BundleDeployment.model_validate(applied.result["deployment"])
    return applied, added


async def update(
    context: Context,
    environment_id: str,
    word: str,
    *,
    status: DeploymentStatus | None = None,
    route_binding: RouteBinding | None = None,
    revenue_share: tuple[RevenueShare, ...] | None = None,
    config_overrides: Overrides | None = None,
) -> dict[str, Any]:
    """Replace what is named. A new route or status reaches the routers before this returns."""
    deployment = names.deployment(context.store.load(environment_id).environment, word)
    payload = UpdateDeploymentPayload(
        deployment_id=deployment.deployment_id,
        status=status,
        route_binding=None if route_binding is None else normalised(route_binding),
        revenue_share=revenue_share,
        config_overrides=config_overrides,
    )
    applied = context.apply(environment_id, "bundles", "update", payload, complete=revenue.signing(environment_id))
    await follow(context, applied)
    updated = names.deployment(applied.environment, deployment.deployment_id)
    return {**summary(applied.environment, updated), "generation": applied.generation}


async def remove(context: Context, environment_id: str, word: str) -> dict[str, Any]:
    """Take a deployment out, with the files of its archived revisions."""
    deployment = names.deployment(context.store.load(environment_id).environment, word)
    payload = RemoveDeploymentPayload(deployment_id=deployment.deployment_id)
    applied = context.apply(environment_id, "bundles", "remove", payload)
    if not context.dry_run:
        await follow(context, applied)
        folder = context.store.artifacts(environment_id) / "revisions"
        for revision_id in applied.result["pruned_revision_ids"]:
            shutil.rmtree(folder / revision_id, ignore_errors=True)
    return {
        **summary(applied.environment, deployment),
        "pruned_revision_ids": applied.result["pruned_revision_ids"],
        "generation": applied.generation,
    }


def list_(context: Context, environment_id: str) -> dict[str, Any]:
    """Every deployment of the environment."""
    environment = context.store.load(environment_id).environment
    return {"deployments": [summary(environment, deployment) for deployment in environment.bundles]}


def normalised(binding: RouteBinding) -> RouteBinding:
    """Hosts in lower case without port, prefixes with one leading slash and no trailing one."""
    for prefix in binding.path_prefixes:
        if not prefix.startswith("/"):
            raise InvalidArgument(f"the path prefix '{prefix}' must begin with '/'")
    return binding.model_copy(
        update={
            "hosts": tuple(dict.fromkeys(canonical_host(host) for host in binding.hosts)),
            "path_prefixes": tuple(dict.fromkeys(canonical_prefix(prefix) for prefix in binding.path_prefixes)),
        }
    )


def _identifier(context: Context, environment_id: str, step: str) -> str:
    """The id of a new deployment: the same for the same key, so that a repetition is the same request."""
    if context.key is None:
        return context.mint()
    return derived.ulid("deployment", f"{environment_id}:{context.step_key(step)}")
