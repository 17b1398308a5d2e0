"""What steps carry out, as values: everything is decided when the plan is made, identifiers included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greentic.spec.deployment import BundleDeployment
from greentic.spec.endpoints import AddMessagingEndpointPayload
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.parsing import Payload
from greentic.spec.payloads import (
    AddDeploymentPayload,
    CreateEnvironmentPayload,
    UpdateDeploymentPayload,
    UpdateEnvironmentPayload,
)
from greentic.spec.update_channel import ConfigureUpdatesPayload


@dataclass(frozen=True, slots=True)
class CreateEnvironment:
    """Make the environment."""

    payload: CreateEnvironmentPayload


@dataclass(frozen=True, slots=True)
class UpdateHost:
    """Change the environment's name and host settings."""

    payload: UpdateEnvironmentPayload


@dataclass(frozen=True, slots=True)
class BootstrapTrust:
    """Trust the operator's key."""


@dataclass(frozen=True, slots=True)
class PutSecret:
    """Write the value of a secret, taken from the environment variable or asked for when it is needed."""

    path: str
    from_env: str | None


@dataclass(frozen=True, slots=True)
class InitPolicy:
    """Make the actor admin of an environment that has no policy yet."""


@dataclass(frozen=True, slots=True)
class Bind:
    """Bind an env-pack or an extension; `fields` are those of the verb's payload, `answers` those of its wizard."""

    noun: str
    verb: str
    fields: Mapping[str, Any]
    answers: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Change:
    """One verb of the engine with nothing around it."""

    noun: str
    verb: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class AddEndpoint:
    """Add a chat channel, instead of one of the same id when `anew`, after making its webhook `secret` (a path)."""

    payload: AddMessagingEndpointPayload
    anew: bool
    secret: str | None


@dataclass(frozen=True, slots=True)
class Bring:
    """A revision that is to be ready: `archive` is staged when there is no record (`lifecycle` None) of it yet."""

    revision_id: str
    label: str
    lifecycle: Lifecycle | None
    archive: Path | None
    digest: str
    drain_seconds: int
    source_uri: str | None


@dataclass(frozen=True, slots=True)
class Deploy:
    """Add the deployment (`add`, None when it is there), then stage and warm what is not ready.

    `deployment` is the deployment with the parameters that new revisions freeze.
    """

    deployment: BundleDeployment
    add: AddDeploymentPayload | None
    revisions: tuple[Bring, ...]


@dataclass(frozen=True, slots=True)
class UpdateDeployment:
    """Change a deployment's status, routes, shares or parameters."""

    payload: UpdateDeploymentPayload


@dataclass(frozen=True, slots=True)
class MoveTraffic:
    """Move the dial: basis points by revision id."""

    deployment_id: str
    weights: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RetireRevision:
    """Drain and archive a revision without traffic."""

    revision_id: str


@dataclass(frozen=True, slots=True)
class RemoveDeployment:
    """Take traffic away, drain and archive the revisions, remove the deployment and its files."""

    deployment_id: str


@dataclass(frozen=True, slots=True)
class TrustDid:
    """Trust the keys that a did:web names."""

    did: str


@dataclass(frozen=True, slots=True)
class ConfigureUpdates:
    """Set the channel that updates come through."""

    payload: ConfigureUpdatesPayload


@dataclass(frozen=True, slots=True)
class Republish:
    """Tell the routers everything again, and remove the files of the revisions `gone` that are recorded no more."""

    gone: frozenset[str]


Task = (
    CreateEnvironment
    | UpdateHost
    | BootstrapTrust
    | PutSecret
    | InitPolicy
    | Bind
    | Change
    | AddEndpoint
    | Deploy
    | UpdateDeployment
    | MoveTraffic
    | RetireRevision
    | RemoveDeployment
    | TrustDid
    | ConfigureUpdates
    | Republish
)
