"""Steps for env-packs and extensions. Pure."""

from __future__ import annotations

from typing import Any

from greentic.operations.manifest.bundles import Keyed
from greentic.operations.manifest.inputs import Answers, Recorded, Resolved
from greentic.operations.manifest.plan import Action, Step
from greentic.operations.manifest.tasks import Bind, Change
from greentic.spec.bindings import RemoveExtensionPayload, RemovePackBindingPayload
from greentic.spec.capabilities import Slot
from greentic.spec.environment import ExtensionBinding, PackBinding
from greentic.spec.errors import Conflict
from greentic.spec.lifecycle import PRESENT
from greentic.spec.manifest import ExtensionEntry, PackEntry


def pack_steps(resolved: Resolved, recorded: Recorded, keyed: Keyed) -> list[Step]:
    """One step for each declared env-pack."""
    return [
        _pack(entry, resolved.answers.get(f"packs.{index}"), recorded, keyed)
        for index, entry in enumerate(resolved.manifest.packs)
    ]


def extension_steps(resolved: Resolved, recorded: Recorded, keyed: Keyed) -> list[Step]:
    """One step for each declared extension."""
    return [
        _extension(entry, resolved.answers.get(f"extensions.{index}"), recorded, keyed)
        for index, entry in enumerate(resolved.manifest.extensions)
    ]


def extension_name(kind: str, instance_id: str | None) -> str:
    """What identifies an extension: `path` or `path/instance`."""
    path = kind.partition("@")[0]
    return f"{path}/{instance_id}" if instance_id else path


def remove_pack(slot: Slot, by: str, keyed: Keyed) -> Step:
    """The step that empties a slot."""
    payload = RemovePackBindingPayload(slot=slot, updated_by=by)
    return Step(
        "remove-pack-binding",
        slot.value,
        Action.REMOVE,
        f"empty the slot {slot.value}",
        {},
        keyed("remove-pack-binding", slot.value, None),
        Change("env-packs", "remove", payload),
    )


def remove_extension(binding: ExtensionBinding, by: str, keyed: Keyed) -> Step:
    """The step that takes an extension out."""
    name = extension_name(binding.kind, binding.instance_id)
    payload = RemoveExtensionPayload(
        kind_path=binding.kind.partition("@")[0], instance_id=binding.instance_id, updated_by=by
    )
    return Step(
        "remove-extension",
        name,
        Action.REMOVE,
        f"take out the extension {name}",
        {"before": {"kind": binding.kind}, "after": None},
        keyed("remove-extension", name, None),
        Change("extensions", "remove", payload),
    )


def _pack(entry: PackEntry, answers: Answers | None, recorded: Recorded, keyed: Keyed) -> Step:
    bound = None if recorded.environment is None else recorded.environment.binding(entry.slot)
    slot = entry.slot.value
    reference = _reference(f"env-packs/{slot}", answers, bound, recorded)
    if bound is not None and _same(bound, entry, reference):
        return Step("add-pack-binding", slot, Action.NONE, f"{slot} is {entry.kind} as described")
    _leave_no_workers(entry, bound, recorded)
    fields: dict[str, Any] = {
        "slot": entry.slot.value,
        "kind": entry.kind,
        "pack_ref": entry.pack_ref,
        "answers_ref": reference,
    }
    if bound is None:
        kind, verb, action, detail = "add-pack-binding", "add", Action.CREATE, f"bind {entry.kind} in the slot {slot}"
    else:
        kind, verb, action = "update-pack-binding", "update", Action.UPDATE
        detail = f"bind {entry.kind} in the slot {slot}" + _instead(bound, entry.kind)
    change = {"before": _told(bound), "after": {key: value for key, value in fields.items() if value is not None}}
    task = Bind("env-packs", verb, fields, None if answers is None else answers.values)
    return Step(kind, slot, action, detail, change, keyed(kind, slot, change["after"]), task)


def _extension(entry: ExtensionEntry, answers: Answers | None, recorded: Recorded, keyed: Keyed) -> Step:
    name = extension_name(entry.kind, entry.instance_id)
    bound = next(
        (
            one
            for one in (() if recorded.environment is None else recorded.environment.extensions)
            if extension_name(one.kind, one.instance_id) == name
        ),
        None,
    )
    folder = entry.kind.partition("@")[0] + (f"--{entry.instance_id}" if entry.instance_id else "")
    reference = _reference(f"extensions/{folder}", answers, bound, recorded)
    if bound is not None and _same(bound, entry, reference):
        return Step("add-extension", name, Action.NONE, f"the extension {name} is bound as described")
    fields: dict[str, Any] = {
        "kind": entry.kind,
        "pack_ref": entry.pack_ref,
        "instance_id": entry.instance_id,
        "answers_ref": reference,
    }
    if bound is None:
        kind, verb, action, detail = "add-extension", "add", Action.CREATE, f"bind the extension {name}"
    else:
        kind, verb, action = "update-extension", "update", Action.UPDATE
        detail = f"bind the extension {name} anew" + _instead(bound, entry.kind)
    change = {"before": _told(bound), "after": {key: value for key, value in fields.items() if value is not None}}
    task = Bind("extensions", verb, fields, None if answers is None else answers.values)
    return Step(kind, name, action, detail, change, keyed(kind, name, change["after"]), task)


def _reference(
    place: str, answers: Answers | None, bound: PackBinding | ExtensionBinding | None, recorded: Recorded
) -> str | None:
    """Where the binding's answers stand.

    The file is named by its content, so that an earlier generation of the binding comes back with its own answers.
    Answers that are recorded elsewhere and are equal stay where they are; without declared ones nothing changes.
    """
    known = None if bound is None else bound.answers_ref
    if answers is None or (known is not None and recorded.answers.get(known) == answers.digest):
        return known
    return f"{place}/answers-{answers.digest[:16]}.json"


def _leave_no_workers(entry: PackEntry, bound: PackBinding | None, recorded: Recorded) -> None:
    """Another deployer does not know of the workers that this one runs: they would stay behind."""
    if entry.slot is not Slot.DEPLOYER or bound is None or recorded.environment is None:
        return
    same = entry.kind.partition("@")[0] == bound.kind.partition("@")[0]
    if not same and any(one.lifecycle in PRESENT for one in recorded.environment.revisions):
        raise Conflict(
            f"revisions run on {bound.kind}; the deployer {entry.kind} would leave their workers behind",
            next_step="gtc op bundles retire each deployment first",
        )


def _same(bound: PackBinding | ExtensionBinding, entry: PackEntry | ExtensionEntry, reference: str | None) -> bool:
    return (bound.kind, bound.pack_ref, bound.answers_ref) == (entry.kind, entry.pack_ref, reference)


def _instead(bound: PackBinding | ExtensionBinding, kind: str) -> str:
    return " with other answers" if bound.kind == kind else f" instead of {bound.kind}"


def _told(bound: PackBinding | ExtensionBinding | None) -> dict[str, Any] | None:
    if bound is None:
        return None
    told = {"kind": bound.kind, "pack_ref": bound.pack_ref}
    return told if bound.answers_ref is None else {**told, "answers_ref": bound.answers_ref}
