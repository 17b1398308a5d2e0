"""Env-packs in slots and extensions: bind, replace, remove, roll back; what is installed to bind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greentic.engine.bindings import Binding, past
from greentic.envpacks.answers import answers_at, refuse_wrong
from greentic.envpacks.registry import Offer
from greentic.operations.context import Context
from greentic.operations.following import follow
from greentic.operations.revocations import refuse
from greentic.spec.binding_rules import Key, key_of, name_of
from greentic.spec.capabilities import Slot
from greentic.spec.environment import Environment, SupersededBinding
from greentic.spec.errors import Conflict, GreenticError, InvalidArgument, NotFound
from greentic.spec.integrity import canonical_json, content_digest
from greentic.spec.lifecycle import PRESENT
from greentic.spec.parsing import Payload, parse_payload
from greentic.spec.references import PackDescriptor

if TYPE_CHECKING:
    from greentic.spec.bindings import (
        AddExtensionPayload,
        AddPackBindingPayload,
        RollbackExtensionPayload,
        RollbackPackBindingPayload,
    )

PACKS = "env-packs"
EXTENSIONS = "extensions"
_OF_THE_DATA_PLANE = frozenset({Slot.SESSIONS.value, Slot.STATE.value, Slot.TELEMETRY.value})
"""Slots whose bindings the data plane goes by while it runs."""


def available(context: Context, slot: Slot | None = None) -> dict[str, Any]:
    """The env-packs that are installed here, who offers each, and why those that cannot be loaded cannot."""
    offers = context.registry.offers()
    rows = [_offered(context, offer) for offer in offers]
    return {"env_packs": [row for row in rows if slot is None or row["slot"] in (slot.value, None)]}


def describe(context: Context, kind: str) -> dict[str, Any]:
    """One installed env-pack, by its path or descriptor: who offers it, what its answers may hold, and what a deployer
    of it needs to be allowed.
    """
    path, _, version = kind.partition("@")
    pack = context.registry.named(path)
    if pack is None:
        raise context.registry.unknown(kind)
    if version:
        context.registry.resolve(kind, pack.slot)
    offer = next(offer for offer in context.registry.offers() if offer.path == path)
    needs = pack.declares if pack.credentials is None else pack.credentials().capabilities()
    return {
        **_offered(context, offer),
        "answers": None if pack.answers is None else dict(pack.answers()),
        "capabilities": [{"id": one.id, "description": one.description} for one in needs],
    }


def change(
    context: Context,
    environment_id: str,
    noun: str,
    verb: str,
    fields: Mapping[str, Any],
    *,
    config: Mapping[str, Any] | None = None,
    allow_unknown: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """`add` or `update` of an env-pack or an extension; `fields` are those of its payload.

    `config` are answers for the env-pack: they are kept in a file of the environment's folder that is named by their
    content, so that a rollback brings back the very answers. The kind is checked against what is installed: NotFound
    for an unknown one (unless `allow_unknown`), Conflict for one of another slot or version. Replacing the deployer
    while workers run on it is a Conflict unless `force`.
    """
    environment = context.store.load(environment_id).environment
    slot = Slot.EXTENSION if noun == EXTENSIONS else _slot(fields.get("slot"))
    wanted = {
        **fields,
        "updated_by": context.by,
        "kind": _kind(context, environment, fields.get("kind"), slot, allow_unknown=allow_unknown),
    }
    payload = _changing(noun, verb, wanted)
    if verb == "update":
        _leave_no_workers(environment, slot, str(wanted["kind"]), force=force)
    _answers_work(context, environment, payload.kind, payload.answers_ref, config)
    if config is not None:
        place = f"{noun}/{_folder(payload)}"
        wanted["answers_ref"] = _kept_answers(context, environment_id, place, config)
        payload = _changing(noun, verb, wanted)
    return _told(context, environment_id, noun, verb, payload)


def remove(
    context: Context, environment_id: str, noun: str, fields: Mapping[str, Any], *, force: bool = False
) -> dict[str, Any]:
    """Take an env-pack or an extension out. The deployer stays while workers run on it, unless `force`."""
    from greentic.spec.bindings import RemoveExtensionPayload, RemovePackBindingPayload

    environment = context.store.load(environment_id).environment
    fields = {**fields, "updated_by": context.by}
    payload: Payload
    if noun == EXTENSIONS:
        payload = parse_payload(RemoveExtensionPayload, _by_path(fields), noun)
    else:
        payload = parse_payload(RemovePackBindingPayload, _by_slot(fields), noun)
        _leave_no_workers(environment, payload.slot, None, force=force)
    return _told(context, environment_id, noun, "remove", payload)


def rollback(
    context: Context,
    environment_id: str,
    noun: str,
    fields: Mapping[str, Any],
    *,
    allow_unknown: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Bring back an earlier binding: the one before, or that of `to_generation`; itself undoable."""
    from greentic.spec.bindings import RollbackExtensionPayload, RollbackPackBindingPayload

    environment = context.store.load(environment_id).environment
    fields = {**fields, "updated_by": context.by}
    payload: RollbackExtensionPayload | RollbackPackBindingPayload
    if noun == EXTENSIONS:
        payload = parse_payload(RollbackExtensionPayload, _by_path(fields), noun)
        key: Key = (Slot.EXTENSION, payload.kind_path, payload.instance_id or "")
    else:
        payload = parse_payload(RollbackPackBindingPayload, _by_slot(fields), noun)
        key = (payload.slot, "", "")
    earlier = past(environment, key)
    target = next((one for one in earlier if one.generation == payload.to_generation), earlier[-1] if earlier else None)
    if target is not None:
        _kind(context, environment, target.kind, key[0], allow_unknown=allow_unknown)
        _leave_no_workers(environment, key[0], target.kind, force=force)
        _answers_work(context, environment, target.kind, target.answers_ref, None)
    return _told(context, environment_id, noun, "rollback", payload)


async def followed(context: Context, environment_id: str, told: dict[str, Any]) -> dict[str, Any]:
    """`told`, what a change of a binding came to, once a running data plane follows it."""
    if told["binding"].get("slot") in _OF_THE_DATA_PLANE:
        await follow(context, context.store.load(environment_id))
    return told


def list_(context: Context, environment_id: str, noun: str) -> dict[str, Any]:
    """What is bound (BindingSummary of reference 01, with who bound it, when and why)."""
    environment = context.store.load(environment_id).environment
    held: tuple[Binding, ...] = environment.extensions if noun == EXTENSIONS else environment.packs
    return {"environment_id": environment_id, "bindings": [summary(environment, binding) for binding in held]}


def history(
    context: Context, environment_id: str, noun: str, word: str, instance_id: str | None = None
) -> dict[str, Any]:
    """Every binding of a slot or an extension that is kept, newest first, the bound one on top."""
    environment = context.store.load(environment_id).environment
    if noun == EXTENSIONS:
        path, _, instance = word.partition("/")
        key: Key = (Slot.EXTENSION, path.partition("@")[0], instance_id or instance)
    else:
        key = (_slot(word), "", "")
    held: tuple[Binding, ...] = (*environment.packs, *environment.extensions)
    live = [summary(environment, one) | {"bound": True} for one in held if key_of(one) == key]
    earlier = [_summary(environment_id, one) | {"bound": False} for one in reversed(past(environment, key))]
    return {"environment_id": environment_id, "name": name_of(key), "bindings": [*live, *earlier]}


def summary(environment: Environment, binding: Binding) -> dict[str, Any]:
    """A binding in short."""
    return {
        **_summary(environment.environment_id, binding),
        "has_previous": bool(past(environment, key_of(binding))),
    }


def _summary(environment_id: str, binding: Binding | SupersededBinding) -> dict[str, Any]:
    told = {
        "environment_id": environment_id,
        "slot": key_of(binding)[0].value,
        "name": name_of(key_of(binding)),
        "kind": binding.kind,
        "pack_ref": binding.pack_ref,
        "answers_ref": binding.answers_ref,
        "generation": binding.generation,
    }
    more = ("instance_id", "updated_at", "updated_by", "note", "removed_at", "removed_by", "removed_note")
    said = {field: getattr(binding, field, None) for field in more}
    return told | {field: value for field, value in said.items() if value is not None}


def _told(context: Context, environment_id: str, noun: str, verb: str, payload: Payload) -> dict[str, Any]:
    applied = context.apply(environment_id, noun, verb, payload)
    binding = applied.result["binding"]
    told = {
        "environment_id": environment_id,
        "binding": binding,
        "binding_generation": applied.result["generation"],
        "generation": applied.generation,
        "replayed": applied.replayed,
    }
    if "restored_generation" in applied.result:
        told["restored_generation"] = applied.result["restored_generation"]
    return told


def _changing(noun: str, verb: str, fields: Mapping[str, Any]) -> AddPackBindingPayload | AddExtensionPayload:
    from greentic.spec.bindings import (
        AddExtensionPayload,
        AddPackBindingPayload,
        UpdateExtensionPayload,
        UpdatePackBindingPayload,
    )

    models: dict[tuple[str, str], type[AddPackBindingPayload] | type[AddExtensionPayload]] = {
        (PACKS, "add"): AddPackBindingPayload,
        (PACKS, "update"): UpdatePackBindingPayload,
        (EXTENSIONS, "add"): AddExtensionPayload,
        (EXTENSIONS, "update"): UpdateExtensionPayload,
    }
    return parse_payload(models[noun, verb], fields, noun)


def _kind(context: Context, environment: Environment, kind: Any, slot: Slot, *, allow_unknown: bool) -> str:
    """The descriptor to bind: `kind` itself, for a path alone with the version that the env-pack begins with.

    Refused as well when the environment may not use it: nobody whom it trusts signed it, or it is revoked.
    """
    if not isinstance(kind, str) or not kind:
        raise InvalidArgument("which env-pack? Name its kind", next_step=f"gtc op {PACKS} available")
    path, at, _ = kind.partition("@")
    pack = context.registry.named(path)
    if pack is None:
        if not allow_unknown:
            error = context.registry.unknown(kind)
            raise NotFound(
                error.message,
                details=error.details,
                next_step=f"{error.next_step}; to bind it before it is installed, add --allow-unknown",
            )
        return str(PackDescriptor.parse(kind))
    descriptor = kind if at else pack.descriptor
    context.registry.resolve(descriptor, slot)
    if pack.admit is not None:
        pack.admit(environment)
    origin = next(offer for offer in context.registry.offers() if offer.path == path).origin()
    if origin is not None and origin.digest is not None:
        refuse(context, environment, "env-pack", origin.digest)
    return descriptor


def _answers_work(
    context: Context,
    environment: Environment,
    kind: str,
    reference: str | None,
    config: Mapping[str, Any] | None,
) -> None:
    """Refuse answers that the env-pack could do nothing with: nobody looks there once they are bound."""
    path, name = kind.partition("@")[0], environment.environment_id
    pack = context.registry.named(path)
    if pack is None or (pack.answers, pack.sessions, pack.telemetry) == (None, None, None):
        return
    answers = config if config is not None else answers_at(context.store.artifacts(name), reference, kind)
    if pack.answers is not None:
        refuse_wrong(pack.answers(), answers, path)
    for offered in (pack.sessions, pack.telemetry):
        if offered is not None:
            offered().check(name, answers)


def _leave_no_workers(environment: Environment, slot: Slot, kind: str | None, *, force: bool) -> None:
    """Another deployer does not know of the workers that this one runs: they would stay behind."""
    live = environment.binding(slot) if slot is Slot.DEPLOYER else None
    if live is None or force or (kind is not None and kind.partition("@")[0] == live.kind.partition("@")[0]):
        return
    running = [one.revision_id for one in environment.revisions if one.lifecycle in PRESENT]
    if running:
        raise Conflict(
            f"{len(running)} revisions run on {live.kind}; another deployer would leave their workers behind",
            details={"kind": live.kind, "revision_ids": running},
            next_step="gtc op bundles retire each deployment first, or add --force if those workers are gone",
        )


def _slot(word: Any) -> Slot:
    try:
        return Slot(word)
    except ValueError:
        raise InvalidArgument(
            f"'{word}' is no capability slot; there are {', '.join(slot.value for slot in Slot if slot.single)}"
        ) from None


def _by_slot(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, once their slot is known to be one: said in the words of `update`."""
    return dict(fields) if fields.get("slot") is None else {**fields, "slot": _slot(fields["slot"])}


def _by_path(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with the path of `kind` (with or without a version) as `kind_path`."""
    kind = fields.get("kind")
    rest = {field: value for field, value in fields.items() if field != "kind"}
    return rest if kind is None else {**rest, "kind_path": str(kind).partition("@")[0]}


def _folder(payload: AddPackBindingPayload | AddExtensionPayload) -> str:
    slot: Slot | None = getattr(payload, "slot", None)
    if slot is not None:
        return slot.value
    path, instance = payload.kind.partition("@")[0], getattr(payload, "instance_id", None)
    return f"{path}--{instance}" if instance else path


def _kept_answers(context: Context, environment_id: str, place: str, config: Mapping[str, Any]) -> str:
    """Keep `config` in the environment's folder; its path there."""
    digest = content_digest(canonical_json(config)).removeprefix("sha256:")
    reference = f"{place}/answers-{digest[:16]}.json"
    if not context.dry_run:
        from greentic.store import folders
        from greentic.store.io import LocalFileSystem

        files = LocalFileSystem()
        target: Path = context.store.artifacts(environment_id) / reference
        folders.ensure(files, target.parent)
        data = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
        folders.replace(files, target.parent, target, data)
    return reference


def _offered(context: Context, offer: Offer) -> dict[str, Any]:
    """What is known of an offer; an env-pack that cannot be used is told with its reason, and hides no other."""
    origin = offer.origin()
    row: dict[str, Any] = {"path": offer.path, "slot": None, "versions": None, "kind": None, "summary": ""}
    try:
        offer.load()
        pack = context.registry.named(offer.path)
        assert pack is not None
        row |= {"slot": pack.slot.value, "versions": pack.versions, "kind": pack.descriptor, "summary": pack.summary}
        problem = None
    except GreenticError as error:
        problem = error.message
    return {
        **row,
        "origin": None if origin is None else asdict(origin),
        "loads": problem is None,
        **({} if problem is None else {"problem": problem}),
    }
