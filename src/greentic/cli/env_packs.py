"""`gtc op env-packs`: what fills the capability slots of an environment."""

from __future__ import annotations

from typing import Any

import click

from greentic.cli.bindings import (
    BOUND,
    CONFIG,
    KIND,
    binding_options,
    change,
    force_option,
    kind_argument,
    note_option,
    slot_argument,
    slot_of,
    to_option,
    unknown_option,
    view_available,
    view_bound,
    view_described,
    view_history,
    view_list,
)
from greentic.cli.invocation import Invocation, need, verb
from greentic.cli.nouns import Noun

PACK = {"slot": "slot", **BOUND}


@click.group(cls=Noun)
def env_packs() -> None:
    """Env-packs: the plug-ins that fill an environment's capability slots, one each."""


@env_packs.command()
@slot_argument
@verb("env-packs", "available", view=lambda result: view_available(result), answers={"slot": "slot"}, types=KIND)
def available(invocation: Invocation, slot: str | None) -> Any:
    """List the env-packs that are installed here."""
    from greentic.operations import bindings

    return bindings.available(invocation.context(), None if slot is None else slot_of(slot))


@env_packs.command()
@kind_argument
@verb("env-packs", "describe", view=lambda result: view_described(result), answers={"kind": "kind"}, types=KIND)
def describe(invocation: Invocation, kind: str | None) -> Any:
    """Show one installed env-pack."""
    from greentic.operations import bindings

    return bindings.describe(invocation.context(), need(kind, "argument 'KIND'"))


@env_packs.command("add")
@slot_argument
@kind_argument
@binding_options
@verb("env-packs", "add", changes=True, view=lambda result: view_bound(result, "bound"), answers=PACK, types=CONFIG)
def add_pack(invocation: Invocation, slot: str | None, kind: str | None, **given: Any) -> Any:
    """Fill the empty SLOT with the env-pack KIND: a path, or path@version."""
    return change(invocation, "add", slot=need(slot, "argument 'SLOT'"), kind=need(kind, "argument 'KIND'"), **given)


@env_packs.command("update")
@slot_argument
@kind_argument
@binding_options
@force_option
@verb("env-packs", "update", changes=True, view=lambda result: view_bound(result, "bound"), answers=PACK, types=CONFIG)
def update_pack(invocation: Invocation, slot: str | None, kind: str | None, **given: Any) -> Any:
    """Replace what fills SLOT by the env-pack KIND, its version or its answers."""
    return change(invocation, "update", slot=need(slot, "argument 'SLOT'"), kind=need(kind, "argument 'KIND'"), **given)


@env_packs.command("remove")
@slot_argument
@note_option
@force_option
@verb(
    "env-packs",
    "remove",
    changes=True,
    view=lambda result: view_bound(result, "removed"),
    answers={"slot": "slot", "note": "note"},
)
def remove_pack(invocation: Invocation, slot: str | None, note: str | None, force: bool) -> Any:
    """Empty SLOT; a rollback brings back what filled it."""
    from greentic.operations import bindings

    fields = {"slot": need(slot, "argument 'SLOT'"), "note": note}
    context = invocation.context()
    told = bindings.remove(context, invocation.environment_id, "env-packs", fields, force=force)
    return bindings.followed(context, invocation.environment_id, told)


@env_packs.command("rollback")
@slot_argument
@to_option
@note_option
@unknown_option
@force_option
@verb(
    "env-packs",
    "rollback",
    changes=True,
    view=lambda result: view_bound(result, "bound"),
    answers={"slot": "slot", "to_generation": "to_generation", "note": "note"},
)
def rollback_pack(
    invocation: Invocation,
    slot: str | None,
    to_generation: int | None,
    note: str | None,
    allow_unknown: bool,
    force: bool,
) -> Any:
    """Bring back what filled SLOT before, with its answers; a rollback can itself be rolled back."""
    from greentic.operations import bindings

    fields = {"slot": need(slot, "argument 'SLOT'"), "to_generation": to_generation, "note": note}
    context = invocation.context()
    told = bindings.rollback(
        context,
        invocation.environment_id,
        "env-packs",
        fields,
        allow_unknown=allow_unknown,
        force=force,
    )
    return bindings.followed(context, invocation.environment_id, told)


@env_packs.command("list")
@verb("env-packs", "list", view=lambda result: view_list(result))
def list_packs(invocation: Invocation) -> Any:
    """List what fills the slots."""
    from greentic.operations import bindings

    return bindings.list_(invocation.context(), invocation.environment_id, "env-packs")


@env_packs.command("history")
@slot_argument
@verb(
    "env-packs",
    "history",
    view=lambda result: view_history(result),
    answers={"slot": "slot"},
    types={"slot": {"type": "string"}},
)
def pack_history(invocation: Invocation, slot: str | None) -> Any:
    """Show every binding of SLOT that is kept; any of them can be rolled back to."""
    from greentic.operations import bindings

    return bindings.history(invocation.context(), invocation.environment_id, "env-packs", need(slot, "argument 'SLOT'"))
