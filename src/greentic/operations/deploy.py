"""One command to a running worker: add the deployment when it is new, stage, warm, move the dial as asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from greentic.operations import artifacts, deployments, environments, names, revisions, revocations, traffic
from greentic.operations.context import Context, desired
from greentic.operations.status import deployment_url
from greentic.spec.deployment import BundleDeployment, Overrides, RouteBinding
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, InvalidArgument, NotFound
from greentic.spec.identifiers import BASIS_POINTS
from greentic.spec.revision import Revision
from greentic.spec.weights import format_share, scale

if TYPE_CHECKING:
    from greentic.bundles.inspect import BundleInfo


async def deploy(
    context: Context,
    environment_id: str,
    archive: Path,
    *,
    name: str | None = None,
    share: int = BASIS_POINTS,
    customer_id: str | None = None,
    route_binding: RouteBinding | None = None,
    overrides: Overrides | None = None,
    drain_seconds: int = revisions.DRAIN_SECONDS,
    note: str | None = None,
) -> dict[str, Any]:
    """Deploy `archive` and give it `share` basis points of the traffic; the other live revisions share the rest as
    before.

    `name` is the deployment, by default the bundle's own id. A share of 0 stages and warms beside what is live. The
    first revision of a deployment takes everything or nothing. An interrupted deploy leaves a staged or ready revision
    without traffic; the same key goes on where it stopped.
    """
    artifacts.require(archive)
    bundle = _look(archive)  # what is no bundle is refused before anything is made
    name = bundle.bundle_id if name is None else name
    environment = _environment(context, environment_id)
    found = _existing(environment, name, customer_id)
    if found is not None:
        _check_route(found, route_binding)
    live = None if found is None else environment.split(found.deployment_id)
    if live is None and 0 < share < BASIS_POINTS:
        raise InvalidArgument(
            f"nothing is live in '{name}' yet, so {format_share(share)} would leave the rest of the traffic to nobody",
            next_step="deploy the first revision with --traffic 100% (or 0% to only warm it)",
        )
    merged = revisions.merge({} if found is None else found.config_overrides, overrides or {})
    artifacts.check(environment, bundle, merged)
    revocations.refuse(context, environment, "bundle", bundle.digest)
    if context.dry_run:
        return _plan(environment_id, name, found, share)
    if found is None:
        context.require_deployer(context.store.load(environment_id))
        context.progress(f"adding the deployment {name}")
        _, deployment = await deployments.add(
            context, environment_id, name, customer_id=customer_id, route_binding=route_binding, step="add"
        )
    else:
        deployment = found
    context.progress(f"staging {archive.name}")
    staged = await revisions.stage(
        context.with_key("stage"),
        environment_id,
        deployment.deployment_id,
        archive,
        overrides=overrides,
        drain_seconds=drain_seconds,
    )
    revision = _revision(context, environment_id, staged["revision_id"])
    await revisions.warm(context.with_key("warm"), environment_id, revision)
    told: dict[str, Any] = {
        "environment_id": environment_id,
        "bundle_id": deployment.bundle_id,
        "deployment_id": deployment.deployment_id,
        "revision_id": revision.revision_id,
        "name": f"v{revision.sequence}",
        "version": revision.display_version,
        "bundle_digest": revision.bundle_digest,
        "reused_deployment": found is not None,
        "superseded_revisions": [],
        "traffic": f"{format_share(share)} ({share} bps)",
        "status": "routed" if share else "ready",
    }
    if share:
        context.progress(f"moving the dial: v{revision.sequence} to {format_share(share)}")
        weights = _weights(_load(context, environment_id), deployment, revision, share)
        told["superseded_revisions"] = [
            entry.revision_id
            for entry in (() if live is None else live.entries)
            if entry.weight_bps and not weights.get(entry.revision_id)
        ]
        split = await traffic.set_split(
            context.with_key("traffic"), environment_id, deployment.deployment_id, list(weights.items()), note=note
        )
        told["generation"] = split["generation"]
        told["receipt"] = split.get("receipt")
    told["url"] = await _url(context, environment_id, deployment)
    return told


def _environment(context: Context, environment_id: str) -> Environment:
    try:
        return _load(context, environment_id)
    except NotFound:
        if environment_id != environments.LOCAL or context.dry_run:
            raise
    context.progress(f"creating the environment {environment_id}")
    environments.init(context.with_key("env"), environment_id)
    return _load(context, environment_id)


def _load(context: Context, environment_id: str) -> Environment:
    return context.store.load(environment_id).environment


def _revision(context: Context, environment_id: str, revision_id: str) -> Revision:
    revision = _load(context, environment_id).revision(revision_id)
    assert revision is not None
    return revision


def _look(archive: Path) -> BundleInfo:
    from greentic.bundles.inspect import inspect

    return inspect(archive)


def _existing(environment: Environment, name: str, customer_id: str | None) -> BundleDeployment | None:
    """The deployment to go on with: that of the customer when one is named."""
    try:
        return names.deployment(environment, name if customer_id is None else f"{name}@{customer_id}")
    except NotFound:
        if "@" in name:
            raise
        return None


def _check_route(found: BundleDeployment, asked: RouteBinding | None) -> None:
    if asked is None:
        return
    wanted = deployments.normalised(asked)
    if wanted != found.route_binding:
        raise Conflict(
            f"'{found.bundle_id}' is deployed with another route, and deploying a revision does not move routes",
            details={"current": found.route_binding.to_json(), "asked": wanted.to_json()},
            next_step=f"gtc op bundles update {found.bundle_id} --path-prefix … --host …, then deploy",
        )


def _weights(environment: Environment, deployment: BundleDeployment, revision: Revision, share: int) -> dict[str, int]:
    """The new revision's share, and the others' scaled to the rest with nobody dropped who still gets a basis point."""
    live = environment.split(deployment.deployment_id)
    others = {
        entry.revision_id: entry.weight_bps
        for entry in (() if live is None else live.entries)
        if entry.weight_bps and entry.revision_id != revision.revision_id
    }
    rest = scale(others, BASIS_POINTS - share) if others else {}
    return {revision.revision_id: share, **{name: weight for name, weight in rest.items() if weight}}


def _plan(environment_id: str, name: str, found: BundleDeployment | None, share: int) -> dict[str, Any]:
    steps = [] if found is not None else [f"add the deployment {name}"]
    steps += ["stage the bundle as a new revision", "warm it and wait until it answers"]
    steps += [f"move the dial: the new revision to {format_share(share)}"] if share else []
    return {"environment_id": environment_id, "bundle_id": name, "dry_run": True, "steps": steps}


async def _url(context: Context, environment_id: str, deployment: BundleDeployment) -> str | None:
    stored = context.store.load(environment_id)
    observation = await context.deployer(stored).observe(desired(stored))
    return deployment_url(stored.environment, deployment, observation)
