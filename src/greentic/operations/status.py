"""What is: the record and the world, side by side, as one tree."""

from __future__ import annotations

from typing import Any

from greentic.envpacks.deployer import Observation, RevisionObservation
from greentic.operations import names
from greentic.operations.context import Context, desired
from greentic.operations.revisions import summary, weight
from greentic.spec.deployment import BundleDeployment
from greentic.spec.environment import Environment
from greentic.spec.errors import GreenticError
from greentic.spec.lifecycle import PRESENT, Lifecycle
from greentic.spec.revision import Revision


async def status(
    context: Context, environment_id: str, word: str | None = None, *, archived: bool = False
) -> dict[str, Any]:
    """The environment, its deployments and their revisions with share, health and age.

    `archived` lists archived revisions too. A deployer that cannot be asked is reported in `observation_error`; what is
    recorded is told all the same.
    """
    stored = context.store.load(environment_id)
    environment = stored.environment
    problem: dict[str, Any] | None = None
    try:
        observation = await context.deployer(stored).observe(desired(stored))
    except GreenticError as error:
        observation, problem = Observation(running=False), error.document()
    chosen = environment.bundles if word is None else (names.deployment(environment, word),)
    told: dict[str, Any] = {
        "environment_id": environment_id,
        "name": environment.name,
        "generation": stored.generation,
        "running": observation.running,
        "url": observation.url,
        "routers": observation.routers,
        "listen_addr": environment.host_config.listen_address,
        "deployments": [_deployment(environment, found, observation, archived) for found in chosen],
    }
    return {**told, "observation_error": problem} if problem is not None else told


def deployment_url(environment: Environment, deployment: BundleDeployment, observation: Observation) -> str | None:
    """Where a client reaches the deployment: the public base URL, or its first host, or the router's own address."""
    base = environment.host_config.public_base_url or observation.url
    if base is None:
        return None
    binding = deployment.route_binding
    prefix = binding.path_prefixes[0] if binding.path_prefixes else "/"
    return base + prefix


def _deployment(
    environment: Environment, deployment: BundleDeployment, observation: Observation, archived: bool
) -> dict[str, Any]:
    live = environment.split(deployment.deployment_id)
    served = observation.generations.get(deployment.deployment_id)
    return {
        "deployment_id": deployment.deployment_id,
        "bundle_id": deployment.bundle_id,
        "customer_id": deployment.customer_id,
        "status": deployment.status.value,
        "hosts": list(deployment.route_binding.hosts),
        "path_prefixes": list(deployment.route_binding.path_prefixes) or ["/"],
        "url": deployment_url(environment, deployment, observation),
        "generation": None if live is None else live.generation,
        "generation_served": served,
        "revisions": [
            _revision(environment, revision, observation.revisions.get(revision.revision_id))
            for revision in environment.revisions_of(deployment.deployment_id)
            if archived or revision.lifecycle is not Lifecycle.ARCHIVED
        ],
    }


def _revision(environment: Environment, revision: Revision, seen: RevisionObservation | None) -> dict[str, Any]:
    told = {
        **summary(revision),
        "weight_bps": weight(environment, revision),
        "health": health(revision, seen),
        "detail": revision.failure or ("" if seen is None else seen.detail),
    }
    if seen is not None:
        told |= {
            "process_id": seen.process_id,
            "restarts": seen.restarts,
            "in_flight": seen.in_flight,
            "requests": seen.requests,
            "errors": seen.errors,
            "p50_ms": seen.p50_ms,
            "p99_ms": seen.p99_ms,
            "log": seen.log,
        }
    return told


def health(revision: Revision, seen: RevisionObservation | None) -> str:
    """One word for people: the worker's state where one is meant to be, `-` where none is."""
    if seen is not None and seen.state != "absent":
        return seen.state
    return "down" if revision.lifecycle in PRESENT else "-"
