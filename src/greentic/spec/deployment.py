"""BundleDeployment: one customer's copy of a bundle in an environment (reference 01, section 1.7)."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from greentic.spec.identifiers import (
    BasisPoints,
    BundleId,
    Counter,
    CustomerId,
    DeploymentId,
    EnvironmentId,
    PartyId,
    RevisionId,
    Timestamp,
)
from greentic.spec.parsing import Document, Json, Text, absent
from greentic.spec.revision import OMITTED

Overrides = dict[Text, dict[Text, Json]]
"""Parameters by pack, then key; values are any JSON."""

MAX_OVERRIDE_PACKS = 32
MAX_OVERRIDE_KEYS = 64
MAX_OVERRIDE_BYTES = 16_384


class DeploymentStatus(StrEnum):
    """Only an active deployment gets traffic."""

    ACTIVE = "active"
    PAUSED = "paused"
    ARCHIVED = "archived"


class TenantSelector(Document):
    """Whom requests of this deployment are for."""

    tenant: Text = "default"
    team: Text = "default"


class RouteBinding(Document):
    """Which requests reach the deployment: for any of the hosts (none: every host) under any prefix (none: `/`)."""

    hosts: tuple[Text, ...] = ()
    path_prefixes: tuple[Text, ...] = ()
    tenant_selector: TenantSelector = Field(default_factory=TenantSelector)


class RevenueShare(Document):
    """One party's share of the revenue."""

    party_id: PartyId
    basis_points: BasisPoints


class Usage(Document):
    """Where usage is metered (inert in the reference)."""

    meter_endpoint: Text
    last_seen_at: Timestamp | None = OMITTED


class BundleDeployment(Document):
    """One customer's copy of a bundle.

    `traffic_generation` is the number of the newest split this deployment ever had, a cleared one included, so that a
    generation is never used twice; absent until the first split.
    """

    schema_: Literal["greentic.bundle-deployment.v1"] = Field("greentic.bundle-deployment.v1", alias="schema")
    deployment_id: DeploymentId
    env_id: EnvironmentId
    bundle_id: BundleId
    customer_id: CustomerId
    status: DeploymentStatus
    current_revisions: tuple[RevisionId, ...] = ()
    route_binding: RouteBinding
    revenue_share: tuple[RevenueShare, ...]
    revenue_policy_ref: Text
    usage: Usage | None = OMITTED
    created_at: Timestamp
    authorization_ref: Text = "auth.json"
    config_overrides: Overrides = Field(default_factory=dict, exclude_if=absent)
    traffic_generation: Counter | None = OMITTED
