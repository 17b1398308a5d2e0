"""The rules of the history of bindings. Loaded only when there is one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from greentic.spec.capabilities import Slot
from greentic.spec.element_rules import Violation
from greentic.spec.environment import Environment, ExtensionBinding, PackBinding

Key = tuple[Slot, str, str]
"""(slot, path, instance): what generations of one binding share. Path and instance are empty for slots bound once."""


def key_of(binding: PackBinding | ExtensionBinding) -> Key:
    """What identifies `binding` through its generations."""
    slot = getattr(binding, "slot", Slot.EXTENSION)
    if slot is not Slot.EXTENSION:
        return slot, "", ""
    return slot, binding.kind.partition("@")[0], getattr(binding, "instance_id", None) or ""


def name_of(key: Key) -> str:
    """The binding as people call it: the slot, or the path of an extension with its instance."""
    slot, path, instance = key
    return slot.value if slot is not Slot.EXTENSION else f"{path}/{instance}" if instance else path


def history_violations(environment: Environment) -> Iterator[Violation]:
    """Every broken rule: generations before the bound one, each once, of slots that hold bindings."""
    held: tuple[PackBinding | ExtensionBinding, ...] = (*environment.packs, *environment.extensions)
    bound = {key_of(binding): binding.generation for binding in held}
    for index, past in enumerate(environment.binding_history):
        path = f"binding_history.{index}"
        if past.slot is Slot.MESSAGING:
            yield Violation("NotPackSlot", f"{path}.slot", "the slot messaging holds endpoints, not bindings")
        if past.generation >= bound.get(key_of(past), 2**63):
            yield Violation(
                "HistoryOrder",
                f"{path}.generation",
                f"generation {past.generation} of {name_of(key_of(past))} is not before the bound generation",
            )
    counted = Counter((key_of(past), past.generation) for past in environment.binding_history)
    for (key, generation), count in counted.items():
        if count > 1:
            yield Violation(
                "DuplicateGeneration",
                "binding_history",
                f"generation {generation} of {name_of(key)} stands twice",
            )
