"""Transitions of bindings: env-packs in slots and extensions (reference 01, section 2.5; its limits lifted).

Both are bound, replaced, removed and rolled back in the same way. A generation is never used twice: what is removed
and bound again goes on counting. Superseded bindings are kept, a bounded number each, and any of them can come back.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from greentic.engine.command import Command, Outcome
from greentic.spec.binding_rules import Key, key_of, name_of
from greentic.spec.capabilities import Slot
from greentic.spec.environment import Environment, ExtensionBinding, PackBinding, SupersededBinding
from greentic.spec.errors import AlreadyExists, Conflict, GreenticError, InvalidArgument, NotFound
from greentic.spec.integrity import canonical_json
from greentic.spec.parsing import parse, parse_json

if TYPE_CHECKING:
    from greentic.spec.bindings import (
        AddExtensionPayload,
        AddPackBindingPayload,
        RemoveExtensionPayload,
        RemovePackBindingPayload,
        RollbackExtensionPayload,
        RollbackPackBindingPayload,
        UpdateExtensionPayload,
        UpdatePackBindingPayload,
    )

Binding = PackBinding | ExtensionBinding
HISTORY_DEPTH = 32
"""Superseded bindings kept per slot and per extension."""
MAX_COUNTER = 2**63 - 1
_INLINE = "inline://"
_OF_HISTORY = ("removed_at", "removed_by", "removed_note")


@dataclass(frozen=True, slots=True)
class Said:
    """Who is recorded as having done it, and why."""

    by: str
    note: str | None


def add_pack(environment: Environment, payload: AddPackBindingPayload, command: Command, now: str) -> Outcome:
    """Fill an empty slot; Conflict when it is bound, InvalidArgument for a slot that holds no binding."""
    return _add(environment, _asked_pack(payload), _said(payload, command), command, now)


def update_pack(environment: Environment, payload: UpdatePackBindingPayload, command: Command, now: str) -> Outcome:
    """Replace what fills a slot; NotFound when it is empty. The same binding again changes nothing."""
    return _update(environment, _asked_pack(payload), _said(payload, command), command, now)


def remove_pack(environment: Environment, payload: RemovePackBindingPayload, command: Command, now: str) -> Outcome:
    """Empty a slot; NotFound when it is empty."""
    return _remove(environment, _slot(payload.slot), _said(payload, command), command, now)


def rollback_pack(environment: Environment, payload: RollbackPackBindingPayload, command: Command, now: str) -> Outcome:
    """Bring back an earlier binding of a slot, as a new generation; so it can itself be undone."""
    return _rollback(environment, _slot(payload.slot), payload.to_generation, _said(payload, command), command, now)


def add_extension(environment: Environment, payload: AddExtensionPayload, command: Command, now: str) -> Outcome:
    """Bind an extension; Conflict when the same path and instance is bound."""
    return _add(environment, _asked_extension(payload), _said(payload, command), command, now)


def update_extension(environment: Environment, payload: UpdateExtensionPayload, command: Command, now: str) -> Outcome:
    """Replace an extension's version or answers; NotFound when it is not bound."""
    return _update(environment, _asked_extension(payload), _said(payload, command), command, now)


def remove_extension(environment: Environment, payload: RemoveExtensionPayload, command: Command, now: str) -> Outcome:
    """Take an extension out; NotFound when it is not bound."""
    key = (Slot.EXTENSION, payload.kind_path, payload.instance_id or "")
    return _remove(environment, key, _said(payload, command), command, now)


def rollback_extension(
    environment: Environment, payload: RollbackExtensionPayload, command: Command, now: str
) -> Outcome:
    """Bring back an earlier binding of an extension, as a new generation; so it can itself be undone."""
    key = (Slot.EXTENSION, payload.kind_path, payload.instance_id or "")
    return _rollback(environment, key, payload.to_generation, _said(payload, command), command, now)


def bound(environment: Environment, key: Key) -> Binding | None:
    """The binding of that key, None when there is none."""
    held: tuple[Binding, ...] = environment.extensions if key[0] is Slot.EXTENSION else environment.packs
    return next((found for found in held if key_of(found) == key), None)


def past(environment: Environment, key: Key) -> tuple[SupersededBinding, ...]:
    """The superseded bindings of that key, oldest first. Of a document of the reference: the one it keeps inline."""
    kept = tuple(found for found in environment.binding_history if key_of(found) == key)
    if kept:
        return kept
    live = bound(environment, key)
    inline = None if live is None or live.previous_binding_ref is None else _unstashed(live.previous_binding_ref, key)
    return () if inline is None or live is None or inline.generation >= live.generation else (inline,)


def next_generation(environment: Environment, key: Key) -> int:
    """One more than any generation this key ever had; the first is 0."""
    live = bound(environment, key)
    used = [found.generation for found in past(environment, key)]
    return max([*used, *([] if live is None else [live.generation])], default=-1) + 1


def place(environment: Environment, binding: Binding) -> Environment:
    """`environment` with `binding` in place of the one of the same key, or added."""
    key = key_of(binding)
    field = "extensions" if key[0] is Slot.EXTENSION else "packs"
    held: tuple[Binding, ...] = getattr(environment, field)
    replaced = tuple(binding if key_of(found) == key else found for found in held)
    return environment.model_copy(update={field: replaced if binding in replaced else (*held, binding)})


def _add(environment: Environment, asked: Binding, said: Said, command: Command, now: str) -> Outcome:
    key = key_of(asked)
    live = bound(environment, key)
    if live is not None:
        raise AlreadyExists(
            f"{_spoken(key)} is bound to '{live.kind}' already",
            details={"kind": live.kind, "generation": live.generation},
            next_step=f"gtc op {command.noun} update, to bind another",
        )
    return _bind(environment, asked, said, command, now)


def _update(environment: Environment, asked: Binding, said: Said, command: Command, now: str) -> Outcome:
    key = key_of(asked)
    live = bound(environment, key)
    if live is None:
        raise _unbound(environment, key, command)
    if _content(live) == _content(asked):
        return Outcome(environment, {"binding": live.to_json(), "generation": live.generation}, changed=False)
    # What a newer version wrote into the binding stays; what we know is replaced as a whole.
    changed = live.model_copy(update={field: getattr(asked, field) for field in ("kind", "pack_ref", "answers_ref")})
    return _bind(environment, changed, said, command, now)


def _remove(environment: Environment, key: Key, said: Said, command: Command, now: str) -> Outcome:
    live = bound(environment, key)
    if live is None:
        raise _unbound(environment, key, command)
    field = "extensions" if key[0] is Slot.EXTENSION else "packs"
    emptied = environment.model_copy(
        update={field: tuple(found for found in getattr(environment, field) if found is not live)}
    )
    gone = _superseded(live).model_copy(update={"removed_at": now, "removed_by": said.by, "removed_note": said.note})
    return Outcome(
        _remember(emptied, past(environment, key), gone),
        {"binding": live.to_json(), "generation": live.generation},
    )


def _rollback(
    environment: Environment, key: Key, generation: int | None, said: Said, command: Command, now: str
) -> Outcome:
    live, earlier = bound(environment, key), past(environment, key)
    if live is not None and generation == live.generation:
        raise Conflict(
            f"generation {live.generation} of {_spoken(key)} is bound already", details={"generation": live.generation}
        )
    if not earlier:
        if live is None:
            raise _unbound(environment, key, command)
        raise Conflict(
            f"{_spoken(key)} has no earlier binding to return to",
            details={"generation": live.generation},
            next_step=f"gtc op {command.noun} update, to bind another",
        )
    target = earlier[-1]
    if generation is not None:
        found = next((one for one in earlier if one.generation == generation), None)
        if found is None:
            kept = [one.generation for one in earlier]
            raise NotFound(
                f"generation {generation} of {_spoken(key)} is not kept; kept are {', '.join(map(str, kept))}",
                details={"generations": kept},
                next_step=f"gtc op {command.noun} history {name_of(key)}",
            )
        target = found
    because = said if said.note else Said(said.by, f"rollback to generation {target.generation}")
    outcome = _bind(environment, _restored(target), because, command, now)
    return Outcome(outcome.environment, {**outcome.result, "restored_generation": target.generation})


def _bind(environment: Environment, binding: Binding, said: Said, command: Command, now: str) -> Outcome:
    """Make `binding` the live one of its key, as the next generation."""
    key = key_of(binding)
    live = bound(environment, key)
    generation = next_generation(environment, key)
    if generation > MAX_COUNTER:
        raise Conflict(f"{_spoken(key)} has no generation left", details={"generation": generation - 1})
    stamped = binding.model_copy(
        update={
            "generation": generation,
            "previous_binding_ref": None if live is None else _stash(live),
            "updated_at": now,
            "updated_by": said.by,
            "note": said.note,
        }
    )
    changed = place(environment, stamped)
    if live is not None:
        changed = _remember(changed, past(environment, key), _superseded(live))
    return Outcome(changed, {"binding": stamped.to_json(), "generation": stamped.generation})


def _remember(
    environment: Environment, earlier: tuple[SupersededBinding, ...], *superseded: SupersededBinding
) -> Environment:
    key = key_of(superseded[0])
    others = tuple(found for found in environment.binding_history if key_of(found) != key)
    own = (*earlier, *superseded)[-HISTORY_DEPTH:]
    return environment.model_copy(update={"binding_history": (*others, *own)})


def _superseded(binding: Binding) -> SupersededBinding:
    document = {**binding.to_json(), "slot": key_of(binding)[0].value}
    document.pop("previous_binding_ref", None)
    return SupersededBinding.model_validate(document)


def _restored(found: SupersededBinding) -> Binding:
    document = {field: value for field, value in found.to_json().items() if field not in _OF_HISTORY}
    if found.slot is not Slot.EXTENSION:
        return PackBinding.model_validate(document)
    del document["slot"]
    return ExtensionBinding.model_validate(document)


def _stash(binding: Binding) -> str:
    """The binding as the reference keeps its predecessor: inline, one level, in URL-safe base64 without padding."""
    kept = binding.model_copy(update={"previous_binding_ref": None})
    return _INLINE + base64.urlsafe_b64encode(canonical_json(kept.to_json())).decode().rstrip("=")


def _unstashed(text: str, key: Key) -> SupersededBinding | None:
    """What `_stash` kept; None when it is something else or belongs to another key."""
    if not text.startswith(_INLINE):
        return None
    encoded = text.removeprefix(_INLINE)
    try:
        document = parse_json(base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True), "a stash")
        kind: type[Binding] = ExtensionBinding if key[0] is Slot.EXTENSION else PackBinding
        found = _superseded(parse(kind, document, "a stash"))
    except (binascii.Error, ValueError, GreenticError):
        return None
    return found if key_of(found) == key else None


def _asked_pack(payload: AddPackBindingPayload) -> PackBinding:
    _slot(payload.slot)
    return PackBinding(
        slot=payload.slot,
        kind=payload.kind,
        pack_ref=payload.pack_ref or payload.kind,
        answers_ref=payload.answers_ref,
    )


def _asked_extension(payload: AddExtensionPayload) -> ExtensionBinding:
    return ExtensionBinding(
        kind=payload.kind,
        pack_ref=payload.pack_ref or payload.kind,
        instance_id=payload.instance_id,
        answers_ref=payload.answers_ref,
    )


def _slot(slot: Slot) -> Key:
    if not slot.single:
        other = "gtc op messaging endpoint add" if slot is Slot.MESSAGING else "gtc op extensions add"
        raise InvalidArgument(f"the slot {slot} can be filled many times and holds no single env-pack", next_step=other)
    return slot, "", ""


def _content(binding: Binding) -> tuple[Any, ...]:
    return binding.kind, binding.pack_ref, binding.answers_ref


def _said(payload: Any, command: Command) -> Said:
    return Said(payload.updated_by or command.actor, payload.note or None)


def _spoken(key: Key) -> str:
    return f"the slot {key[0]}" if key[0] is not Slot.EXTENSION else f"the extension '{name_of(key)}'"


def _unbound(environment: Environment, key: Key, command: Command) -> NotFound:
    return NotFound(
        f"{_spoken(key)} is not bound in the environment '{environment.environment_id}'",
        details={"environment_id": environment.environment_id, "slot": key[0].value},
        next_step=f"gtc op {command.noun} add",
    )
