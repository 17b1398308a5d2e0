"""What the verbs on bindings are asked (reference 01, sections 2.2 and 2.5).

Loaded only by those verbs. `updated_by` is who is recorded as having done it, by default the actor of the command;
`note` says why.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from greentic.spec.capabilities import Slot
from greentic.spec.environment import (
    ExtensionBinding,
    Health,
    HostConfig,
    ListenAddress,
    PackBinding,
    PublicBaseUrl,
    Retention,
    Revocation,
)
from greentic.spec.errors import InvalidArgument
from greentic.spec.identifiers import MAX_OPAQUE, Counter, PackId
from greentic.spec.parsing import Flag, Payload, Text
from greentic.spec.payloads import Asked
from greentic.spec.references import Descriptor, InstanceId, PackDescriptor, RelativePath


def _path(value: str) -> str:
    try:
        return PackDescriptor.parse(f"{value}@0.0.0").path
    except InvalidArgument as error:
        raise ValueError(f"not the path of an env-pack: {error.message}") from None


DescriptorPath = Annotated[str, Field(max_length=MAX_OPAQUE), AfterValidator(_path)]
"""The part of a descriptor before the `@`."""


class AddPackBindingPayload(Payload):
    """An env-pack for a slot that is empty. `pack_ref` is the descriptor when it is not said."""

    slot: Slot
    kind: Descriptor
    pack_ref: PackId | None = None
    answers_ref: RelativePath | None = None
    updated_by: Text | None = None
    note: Text | None = None


class UpdatePackBindingPayload(AddPackBindingPayload):
    """Another env-pack, version or answers for a slot that is bound: the whole binding is replaced."""


class RemovePackBindingPayload(Payload):
    """A slot that becomes empty; what was bound stays in the history."""

    slot: Slot
    updated_by: Text | None = None
    note: Text | None = None


class RollbackPackBindingPayload(Payload):
    """Back to an earlier binding of a slot: the one before, or that of `to_generation`."""

    slot: Slot
    to_generation: Counter | None = None
    updated_by: Text | None = None
    note: Text | None = None


class AddExtensionPayload(Payload):
    """A new extension; its identity is the path of `kind` and `instance_id`."""

    kind: Descriptor
    pack_ref: PackId | None = None
    instance_id: InstanceId | None = None
    answers_ref: RelativePath | None = None
    updated_by: Text | None = None
    note: Text | None = None


class UpdateExtensionPayload(AddExtensionPayload):
    """Another version or other answers for an extension that is bound: the whole binding is replaced."""


class RemoveExtensionPayload(Payload):
    """An extension that leaves; what was bound stays in the history."""

    kind_path: DescriptorPath
    instance_id: InstanceId | None = None
    updated_by: Text | None = None
    note: Text | None = None


class RollbackExtensionPayload(Payload):
    """Back to an earlier binding of an extension: the one before, or that of `to_generation`."""

    kind_path: DescriptorPath
    instance_id: InstanceId | None = None
    to_generation: Counter | None = None
    updated_by: Text | None = None
    note: Text | None = None


class MigrateSeedPayload(Payload):
    """What an environment begins with when there is none; its name is its id."""

    host_config: Asked[HostConfig]
    revocation: Asked[Revocation] = Field(default_factory=Revocation)
    retention: Asked[Retention] = Field(default_factory=Retention)
    health: Asked[Health] = Field(default_factory=Health)


class MigrateMergePayload(Payload):
    """Bindings of another environment to take over where this one has none."""

    packs: tuple[Asked[PackBinding], ...] = ()
    extensions: tuple[Asked[ExtensionBinding], ...] = ()
    seed_if_missing: MigrateSeedPayload | None = None


HOST_SETTINGS = ("region", "tenant_org_id", "listen_addr", "public_base_url", "gui_enabled")


class SetConfigPayload(Payload):
    """Host settings: an absent or null field is kept, one that `clear` names is unset."""

    name: Text | None = None
    region: Text | None = None
    tenant_org_id: Text | None = None
    listen_addr: ListenAddress | None = None
    public_base_url: PublicBaseUrl | None = None
    gui_enabled: Flag | None = None
    clear: tuple[Text, ...] = ()

    @field_validator("clear")
    @classmethod
    def _clearable(cls, value: tuple[str, ...], info: Any) -> tuple[str, ...]:
        for field in value:
            if field not in HOST_SETTINGS:
                raise ValueError(f"can hold only {', '.join(HOST_SETTINGS)}")
            if info.data.get(field) is not None:
                raise ValueError(f"names {field}, which is set by the same request")
        return value
