"""What a verb is asked to do: one payload per verb (reference 01, sections 2 and 3; its names where it has them)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    BaseModel,
    Field,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_serializer,
    model_validator,
)

from greentic.spec.capabilities import Slot
from greentic.spec.deployment import DeploymentStatus, Overrides, RevenueShare, RouteBinding
from greentic.spec.environment import Health, ListenAddress, PackBinding, PublicBaseUrl, Retention, Revocation
from greentic.spec.identifiers import (
    BasisPoints,
    Counter,
    DeploymentId,
    NewEnvironmentId,
    NewName,
    RevisionId,
    Timestamp,
)
from greentic.spec.parsing import Flag, Payload, Text, unset
from greentic.spec.references import RelativePath
from greentic.spec.revision import OMITTED, Drain, PackListEntry
from greentic.spec.router_settings import RouterSettings
from greentic.spec.traffic import PinPolicy
from greentic.spec.trust_root import TrustOperatorKeyPayload

Value = TypeVar("Value")
Part = TypeVar("Part", bound=BaseModel)


def _known(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    parsed = handler(value)
    # A document that the program itself took from an environment keeps what a newer version wrote into it.
    if not isinstance(value, BaseModel):
        unknown = sorted(_unknown(parsed, ""))
        if unknown:
            raise ValueError(f"holds keys that are not known: {', '.join(unknown)[:500]}")
    return parsed


def _unknown(part: Any, path: str) -> Iterator[str]:
    if isinstance(part, BaseModel):
        yield from (f"{path}{key}" for key in part.model_extra or ())
        for field in type(part).model_fields:
            yield from _unknown(getattr(part, field), f"{path}{field}.")
    elif isinstance(part, tuple):
        for index, member in enumerate(part):
            yield from _unknown(member, f"{path}{index}.")


Asked = Annotated[Part, WrapValidator(_known)]
"""Part of a document inside a payload: what a caller misspells is refused there, although documents keep it."""


GREENTIC = (RevenueShare(party_id="greentic", basis_points=10_000),)
"""The revenue share of a deployment that names none."""


class FieldUpdate(Payload, Generic[Value]):
    """Set, clear or keep one field (reference 01, section 2.1).

    JSON: `{"value": v}` sets, `{"clear": true}` clears; an absent or null field and `{"clear": false}` keep.
    """

    value: Value | None = None
    clear: Flag = False

    @model_validator(mode="after")
    def _one_of_both(self) -> FieldUpdate[Value]:
        if self.clear == (self.value is not None) or len(self.model_fields_set) != 1:
            raise ValueError('write {"value": …} to set or {"clear": true} to clear, not both and not neither')
        return self

    @model_serializer
    def _compact(self) -> dict[str, Any]:
        return {"clear": True} if self.clear else {"value": self.value}

    def applied(self) -> Value | None:
        """The new value of the field."""
        return None if self.clear else self.value


class HostSettings(Payload):
    """Host settings of a new environment."""

    region: Text | None = None
    tenant_org_id: Text | None = None
    listen_addr: ListenAddress | None = None
    public_base_url: PublicBaseUrl | None = None
    gui_enabled: Flag | None = None
    stamp_revision: Flag | None = None


class CreateEnvironmentPayload(HostSettings):
    """A new environment; `packs` are its first bindings, `operator_key` is whom it trusts from the beginning."""

    environment_id: NewEnvironmentId
    name: Text
    packs: tuple[Asked[PackBinding], ...] = ()
    revocation: Asked[Revocation] = Field(default_factory=Revocation)
    retention: Asked[Retention] = Field(default_factory=Retention)
    health: Asked[Health] = Field(default_factory=Health)
    operator_key: TrustOperatorKeyPayload | None = OMITTED


class UpdateEnvironmentPayload(Payload):
    """Changes to an environment; a field that is not named is kept."""

    name: Text | None = None
    region: FieldUpdate[Text] | None = None
    tenant_org_id: FieldUpdate[Text] | None = None
    listen_addr: FieldUpdate[ListenAddress] | None = None
    public_base_url: FieldUpdate[PublicBaseUrl] | None = None
    gui_enabled: FieldUpdate[Flag] | None = None
    stamp_revision: FieldUpdate[Flag] | None = None
    router: FieldUpdate[RouterSettings] | None = None

    @field_validator(
        *("region", "tenant_org_id", "listen_addr", "public_base_url", "gui_enabled", "stamp_revision", "router"),
        mode="before",
    )
    @classmethod
    def _keep(cls, value: Any) -> Any:
        return None if isinstance(value, dict) and list(value) == ["clear"] and value["clear"] is False else value


class AddDeploymentPayload(Payload):
    """A new deployment of a bundle for a customer.

    `revenue_policy_ref` names the signed policy of its shares, which is committed with it.
    """

    deployment_id: DeploymentId
    bundle_id: NewName
    customer_id: NewName
    revenue_share: tuple[Asked[RevenueShare], ...] = GREENTIC
    route_binding: Asked[RouteBinding] = Field(default_factory=RouteBinding)
    authorization_ref: Text = "auth.json"
    config_overrides: Overrides = Field(default_factory=dict)
    revenue_policy_ref: Text | None = OMITTED


class UpdateDeploymentPayload(Payload):
    """Changes to a deployment: whole-field replacement, an absent field is kept.

    `revenue_policy_ref` names the signed policy of its new shares, which is committed with them.
    """

    deployment_id: DeploymentId
    status: DeploymentStatus | None = None
    route_binding: Asked[RouteBinding] | None = None
    revenue_share: tuple[Asked[RevenueShare], ...] | None = None
    config_overrides: Overrides | None = None
    revenue_policy_ref: Text | None = OMITTED


class RemoveDeploymentPayload(Payload):
    """A deployment that leaves: it may have no live split and only archived revisions."""

    deployment_id: DeploymentId


class StageRevisionPayload(Payload):
    """A new revision, frozen: digest, packs, parameters."""

    revision_id: RevisionId
    deployment_id: DeploymentId
    bundle_digest: Text
    bundle_source_uri: Text | None = None
    pack_list: tuple[Asked[PackListEntry], ...]
    pack_list_lock_ref: RelativePath
    pack_config_refs: tuple[RelativePath, ...] = ()
    config_digest: Text
    signature_sidecar_ref: RelativePath = "rev.sig"
    drain_seconds: Drain = 30
    display_version: Text | None = None


class RevisionPayload(Payload):
    """A verb on one revision that needs nothing else."""

    revision_id: RevisionId


class GateFailure(Payload):
    """Why a health gate said no."""

    failed_checks: Annotated[tuple[Text, ...], Field(min_length=1)]
    message: Text


class HealthGate(Payload):
    """The verdict of a health gate: `{"ok": true}` or `{"ok": false, "failure": {…}}`."""

    ok: Flag
    failure: GateFailure | None = None

    @model_validator(mode="after")
    def _consistent(self) -> HealthGate:
        if self.ok == (self.failure is not None):
            raise ValueError("a failure is named exactly when the gate is not ok")
        return self


class Vouched(Payload):
    """Who stands behind a verdict that a store server took from elsewhere: a data plane, by the key that signed what it
    saw at `observed_at`, or (no key) a caller whose word counts there."""

    actor: Text
    key_id: Text | None = Field(None, exclude_if=unset)
    observed_at: Timestamp | None = Field(None, exclude_if=unset)


class WarmRevisionPayload(Payload):
    """The verdict on a warming revision: ready when the gate is ok, failed otherwise.

    `vouched` is a store server's to fill in; what a client says there is not heard.
    """

    revision_id: RevisionId
    health_gate: HealthGate
    vouched: Vouched | None = Field(None, exclude_if=unset)


class WeightedRevision(Payload):
    """A revision and its share in basis points."""

    revision_id: RevisionId
    weight_bps: BasisPoints


class SetTrafficSplitPayload(Payload):
    """The new position of a deployment's dial."""

    deployment_id: DeploymentId
    entries: tuple[WeightedRevision, ...]
    updated_by: Text
    authorization_ref: Text = "auth.json"
    note: Text | None = None
    pins: Asked[PinPolicy] | None = OMITTED


class RollbackTrafficSplitPayload(Payload):
    """Back to an earlier split: the one before the live one, or that of `to_generation`."""

    deployment_id: DeploymentId
    to_generation: Counter | None = None
    updated_by: Text
    note: Text | None = None
    pins: Asked[PinPolicy] | None = OMITTED


class ClearTrafficSplitPayload(Payload):
    """No traffic at all for a deployment."""

    deployment_id: DeploymentId
    updated_by: Text
    note: Text | None = None


DEFAULT_PACKS: tuple[PackBinding, ...] = tuple(
    PackBinding(slot=slot, kind=kind, pack_ref=kind)
    for slot, kind in (
        (Slot.DEPLOYER, "greentic.deployer.local-process@0.1.0"),
        (Slot.SECRETS, "greentic.secrets.dev-store@0.1.0"),
        (Slot.TELEMETRY, "greentic.telemetry.stdout@0.1.0"),
        (Slot.SESSIONS, "greentic.sessions.in-memory@0.1.0"),
        (Slot.STATE, "greentic.state.in-memory@0.1.0"),
    )
)
"""What fills the slots of an environment on one machine (reference 01, section 4.4)."""
