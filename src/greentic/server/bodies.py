"""What A8 writes in the bodies of its verbs (reference 02, sections 4, 8 and 17).

Keys that we do not know are ignored, as the reference ignores them; where it refuses them, so do we. What is required
is required here too. Fields that are ours are optional, and say so.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from greentic.spec.deployment import DeploymentStatus, RevenueShare, RouteBinding
from greentic.spec.environment import ExtensionBinding, Health, HostConfig, PackBinding, Retention, Revocation
from greentic.spec.identifiers import BundleId, Counter, CustomerId, EnvironmentId, PackId
from greentic.spec.identifiers import DeploymentId as _DeploymentId
from greentic.spec.identifiers import EndpointId as _EndpointId
from greentic.spec.identifiers import RevisionId as _RevisionId
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.parsing import Json, Text
from greentic.spec.payloads import HealthGate
from greentic.spec.revision import PackListEntry
from greentic.spec.traffic import PinPolicy

MAX_U32 = 2**32 - 1


def _upper(value: Any) -> Any:
    # A8 reads ULIDs in either case and writes them in upper case.
    return value.upper() if isinstance(value, str) and value.isascii() else value


RevisionId = Annotated[_RevisionId, BeforeValidator(_upper)]
DeploymentId = Annotated[_DeploymentId, BeforeValidator(_upper)]
EndpointId = Annotated[_EndpointId, BeforeValidator(_upper)]
Short = Annotated[int, Field(ge=0, le=MAX_U32, strict=True)]
"""An unsigned integer of 32 bits."""


class Body(BaseModel):
    """A body of A8; unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Nothing(Body):
    """No body at all; one that is sent is not read."""


class CreateEnvironment(Body):
    """A new environment; `host_config.env_id` gives way to `env_id`."""

    env_id: EnvironmentId
    name: Text
    host_config: HostConfig


class PatchEnvironment(Body):
    """Changes to an environment: each field `{"value": …}`, `{"clear": true}`, or absent. The last two are ours."""

    name: Text | None = None
    region: Json = None
    tenant_org_id: Json = None
    listen_addr: Json = None
    public_base_url: Json = None
    gui_enabled: Json = None
    stamp_revision: Json = None
    router: Json = None


class Seed(Body):
    """What an environment begins with."""

    host_config: HostConfig
    revocation: Revocation
    retention: Retention
    health: Health


class MigrateBindings(Body):
    """Bindings to take over where there are none."""

    packs: tuple[PackBinding, ...]
    extensions: tuple[ExtensionBinding, ...]
    seed_if_missing: Seed | None = None


class StageRevision(Body):
    """A new revision; `display_version` is ours."""

    revision_id: RevisionId
    deployment_id: DeploymentId
    bundle_digest: Text
    bundle_source_uri: Text | None = None
    pack_list: tuple[PackListEntry, ...]
    pack_list_lock_ref: Text
    pack_config_refs: tuple[Text, ...]
    config_digest: Text
    signature_sidecar_ref: Text
    drain_seconds: Short
    display_version: Text | None = None


class WarmRevision(Body):
    """The verdict of a health gate on a revision that the caller saw in `expected_lifecycle`."""

    revision_id: RevisionId
    health_gate: HealthGate
    expected_lifecycle: Lifecycle


class Entry(Body):
    """A revision's share."""

    revision_id: RevisionId
    weight_bps: Short


class SetTraffic(Body):
    """A new split; `note` and `pins` are ours."""

    deployment_id: DeploymentId
    entries: tuple[Entry, ...]
    updated_by: Text
    authorization_ref: Text | None = None
    note: Text | None = None
    pins: PinPolicy | None = None


class RollbackTraffic(Body):
    """Back to an earlier split; everything but the deployment is ours."""

    deployment_id: DeploymentId
    to_generation: Counter | None = None
    updated_by: Text | None = None
    note: Text | None = None
    pins: PinPolicy | None = None


class Said(Body):
    """Who is recorded as having done it, and why: ours."""

    updated_by: Text | None = None
    note: Text | None = None


class PackBody(Said):
    """A binding of a slot."""

    binding: PackBinding


class ExtensionBody(Said):
    """A binding of an extension."""

    binding: ExtensionBinding


class ExtensionKey(Body):
    """Which extension."""

    kind_path: Text
    instance_id: Text | None = None


class KeyedExtension(Said):
    """A verb on a bound extension; `to_generation` is ours."""

    key: ExtensionKey
    to_generation: Counter | None = None


class UpdateExtension(KeyedExtension):
    """Another binding for a bound extension."""

    binding: ExtensionBinding


class AddBundle(Body):
    """A new deployment; its id is minted here."""

    bundle_id: BundleId
    customer_id: CustomerId
    revenue_share: tuple[RevenueShare, ...]
    route_binding: RouteBinding | None = None
    authorization_ref: Text | None = None
    config_overrides: dict[Text, dict[Text, Json]] = Field(default_factory=dict)


class UpdateBundle(Body):
    """Changes to a deployment."""

    deployment_id: DeploymentId
    status: DeploymentStatus | None = None
    route_binding: RouteBinding | None = None
    revenue_share: tuple[RevenueShare, ...] | None = None
    config_overrides: dict[Text, dict[Text, Json]] | None = None


class AddEndpoint(Body):
    """A new chat channel; its id is minted here."""

    provider_id: Text
    provider_type: Text
    display_name: Text
    secret_refs: tuple[Text, ...] = ()
    webhook_secret_ref: Text | None = None
    updated_by: Text


class LinkBundle(Body):
    """A bundle that an endpoint admits, or admits no more."""

    bundle_id: BundleId
    updated_by: Text


class WelcomeFlow(LinkBundle):
    """The flow that greets."""

    endpoint_id: EndpointId
    pack_id: PackId
    flow_id: Text


class RotateSecret(Body):
    """A new webhook secret, at `webhook_secret_ref`."""

    updated_by: Text
    webhook_secret_ref: Text | None = None


class TrustKey(Body):
    """A public key to trust; `restore` (ours) takes back one that was removed."""

    key_id: Text
    public_key_pem: Text
    restore: bool = Field(default=False, strict=True)


def plain(part: Any) -> Any:
    """`part` with the fields that we know, ready for a payload: what a document of others holds besides is left out."""
    if isinstance(part, BaseModel):
        return {
            field.alias or name: plain(value)
            for name, field in type(part).model_fields.items()
            if (value := getattr(part, name)) is not None
        }
    if isinstance(part, tuple):
        return [plain(member) for member in part]
    return part
