"""What is: the record and the world, side by side, as one tree."""

from __future__ import annotations

import dataclasses
from typing import Any

from greentic.envpacks.deployer import Notice, Observation, RevisionObservation
from greentic.operations import names
from greentic.operations.context import Context, desired
from greentic.operations.revisions import summary, weight
from greentic.spec.deployment import BundleDeployment
from greentic.spec.environment import Environment
from greentic.spec.errors import GreenticError
from greentic.spec.identifiers import BASIS_POINTS
from greentic.spec.lifecycle import PRESENT, Lifecycle
from greentic.spec.revision import Revision
from greentic.store.contract import Stored


async def status(
    context: Context, environment_id: str, word: str | None = None, *, archived: bool = False
) -> dict[str, Any]:
    """The environment, its deployments and their revisions with share, health and age.

    `archived` lists archived revisions too. A deployer that cannot be asked is reported in `observation_error`; what is
    recorded is told all the same.
    """
    stored = context.store.load(environment_id)
    observation, problem = await look(context, stored)
    told = describe(stored, observation, word, archived=archived)
    return {**told, "observation_error": problem} if problem is not None else told


async def look(context: Context, stored: Stored) -> tuple[Observation, dict[str, Any] | None]:
    """What is seen, and the error when the deployer cannot be asked: then nothing is seen."""
    try:
        seen = await context.deployer(stored, leaving=True).observe(desired(stored))
    except GreenticError as error:
        return Observation(running=False), error.document()
    distrust = context.registry.distrust(stored.environment)
    if distrust is None:
        return seen, None
    notice = Notice(f"{distrust.message}: it can be looked at and ended, no more", distrust.next_step or "gtc stop")
    return dataclasses.replace(seen, notices=(*seen.notices, notice)), None


def describe(
    stored: Stored, observation: Observation, word: str | None = None, *, archived: bool = False
) -> dict[str, Any]:
    """The record and what is seen, as the tree of `status`."""
    environment = stored.environment
    chosen = environment.bundles if word is None else (names.deployment(environment, word),)
    return {
        "environment_id": environment.environment_id,
        "name": environment.name,
        "generation": stored.generation,
        "running": observation.running,
        "url": observation.url,
        "routers": observation.routers,
        "notices": [notice._asdict() for notice in observation.notices],
        "discovered": dict(observation.discovered),
        "routers_wanted": environment.host_config.routers,
        "listen_addr": environment.host_config.listen_address,
        "router_states": [dataclasses.asdict(state) for state in observation.router_states],
        "deployments": [_deployment(environment, found, observation, archived) for found in chosen],
    }


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
    seen = observation.revisions
    revisions = environment.revisions_of(deployment.deployment_id)
    requests = sum(seen[one.revision_id].requests for one in revisions if one.revision_id in seen)
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
            _revision(environment, revision, seen.get(revision.revision_id), requests)
            for revision in revisions
            if archived or revision.lifecycle is not Lifecycle.ARCHIVED
        ],
    }


def _revision(
    environment: Environment, revision: Revision, seen: RevisionObservation | None, requests: int
) -> dict[str, Any]:
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
            "drain_seconds_left": seen.drain_seconds_left,
            "pins": None if seen.pins is None else dict(seen.pins),
            "requests": seen.requests,
            "seen_bps": round(seen.requests * BASIS_POINTS / requests) if requests else None,
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
