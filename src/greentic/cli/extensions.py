"""`gtc op extensions`: what extends an environment."""

from __future__ import annotations

from typing import Any

import click

from greentic.cli.bindings import (
    BOUND,
    CONFIG,
    KIND,
    binding_options,
    change,
    instance_option,
    kind_argument,
    note_option,
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

EXTENSION = {**BOUND, "instance_id": "instance_id"}


@click.group(cls=Noun)
def extensions() -> None:
    """Extensions: the plug-ins that add to an environment, as many as you like."""


@extensions.command("available")
@verb("extensions", "available", view=lambda result: view_available(result))
def available_extensions(invocation: Invocation) -> Any:
    """List the extensions that are installed here."""
    from greentic.operations import bindings
    from greentic.spec.capabilities import Slot

    return bindings.available(invocation.context(), Slot.EXTENSION)


@extensions.command("describe")
@kind_argument
@verb("extensions", "describe", view=lambda result: view_described(result), answers={"kind": "kind"}, types=KIND)
def describe_extension(invocation: Invocation, kind: str | None) -> Any:
    """Show one installed extension."""
    from greentic.operations import bindings

    return bindings.describe(invocation.context(), need(kind, "argument 'KIND'"))


@extensions.command("add")
@kind_argument
@instance_option
@binding_options
@verb(
    "extensions",
    "add",
    changes=True,
    view=lambda result: view_bound(result, "bound"),
    answers=EXTENSION,
    types=CONFIG,
)
def add_extension(invocation: Invocation, kind: str | None, **given: Any) -> Any:
    """Bind the extension KIND: a path, or path@version."""
    return change(invocation, "add", kind=need(kind, "argument 'KIND'"), **given)


@extensions.command("update")
@kind_argument
@instance_option
@binding_options
@verb(
    "extensions",
    "update",
    changes=True,
    view=lambda result: view_bound(result, "bound"),
    answers=EXTENSION,
    types=CONFIG,
)
def update_extension(invocation: Invocation, kind: str | None, **given: Any) -> Any:
    """Replace the version or the answers of the extension KIND."""
    return change(invocation, "update", kind=need(kind, "argument 'KIND'"), **given)


@extensions.command("remove")
@kind_argument
@instance_option
@note_option
@verb(
    "extensions",
    "remove",
    changes=True,
    view=lambda result: view_bound(result, "removed"),
    answers={"kind": "kind", "instance_id": "instance_id", "note": "note"},
    types=KIND,
)
def remove_extension(invocation: Invocation, kind: str | None, instance_id: str | None, note: str | None) -> Any:
    """Take the extension KIND out; a rollback brings it back."""
    from greentic.operations import bindings

    fields = {"kind": need(kind, "argument 'KIND'"), "instance_id": instance_id, "note": note}
    return bindings.remove(invocation.context(), invocation.environment_id, "extensions", fields)


@extensions.command("rollback")
@kind_argument
@instance_option
@to_option
@note_option
@unknown_option
@verb(
    "extensions",
    "rollback",
    changes=True,
    view=lambda result: view_bound(result, "bound"),
    answers={"kind": "kind", "instance_id": "instance_id", "to_generation": "to_generation", "note": "note"},
    types=KIND,
)
def rollback_extension(
    invocation: Invocation,
    kind: str | None,
    instance_id: str | None,
    to_generation: int | None,
    note: str | None,
    allow_unknown: bool,
) -> Any:
    """Bring back the earlier binding of the extension KIND; a rollback can itself be rolled back."""
    from greentic.operations import bindings

    fields = {
        "kind": need(kind, "argument 'KIND'"),
        "instance_id": instance_id,
        "to_generation": to_generation,
        "note": note,
    }
    return bindings.rollback(
        invocation.context(), invocation.environment_id, "extensions", fields, allow_unknown=allow_unknown
    )


@extensions.command("list")
@verb("extensions", "list", view=lambda result: view_list(result))
def list_extensions(invocation: Invocation) -> Any:
    """List the extensions that are bound."""
    from greentic.operations import bindings

    return bindings.list_(invocation.context(), invocation.environment_id, "extensions")


@extensions.command("history")
@kind_argument
@instance_option
@verb(
    "extensions",
    "history",
    view=lambda result: view_history(result),
    answers={"kind": "kind", "instance_id": "instance_id"},
    types=KIND,
)
def extension_history(invocation: Invocation, kind: str | None, instance_id: str | None) -> Any:
    """Show every binding of the extension KIND that is kept; any of them can be rolled back to."""
    from greentic.operations import bindings

    wanted = need(kind, "argument 'KIND'")
    return bindings.history(invocation.context(), invocation.environment_id, "extensions", wanted, instance_id)
