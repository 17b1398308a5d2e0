"""What the verbs on bindings are asked (reference 01, section 2.5).

Loaded only by those verbs. `updated_by` is who is recorded as having done it, by default the actor of the command;
`note` says why.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from greentic.spec.capabilities import Slot
from greentic.spec.errors import InvalidArgument
from greentic.spec.identifiers import MAX_OPAQUE, Counter, PackId
from greentic.spec.parsing import Payload, Text
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
