"""`gtc op backup`: go back to an earlier document of the environment."""

from __future__ import annotations

from typing import Any

import click

from greentic.cli.invocation import Invocation, verb
from greentic.cli.nouns import Noun


@click.group(cls=Noun)
def backup() -> None:
    """Backups: one before every change, kept by a rule, and those you make."""


def _environment(command: Any) -> Any:
    return click.argument("environment_word", metavar="ENV", required=False)(command)


def _named(invocation: Invocation, word: str | None) -> str:
    from greentic.spec.identifiers import environment_id

    return environment_id(word) if word else invocation.environment_id


@backup.command("list")
@_environment
@verb("backup", "list", view=lambda result: _view_list(result))
def list_(invocation: Invocation, environment_word: str | None) -> Any:
    """List the backups, oldest first."""
    from greentic.operations import backups

    return backups.list_(invocation.context(), _named(invocation, environment_word))


@backup.command()
@_environment
@verb("backup", "create", changes=True, view=lambda result: _view_created(result))
def create(invocation: Invocation, environment_word: str | None) -> Any:
    """Keep the present state until you remove it."""
    from greentic.operations import backups

    return backups.create(invocation.context(), _named(invocation, environment_word))


@backup.command()
@_environment
@click.option("--backup", "name", metavar="NAME", help="Which one. [default: the newest that can be trusted]")
@verb("backup", "restore", changes=True, view=lambda result: _view_restored(result), answers={"backup_id": "name"})
def restore(invocation: Invocation, environment_word: str | None, name: str | None) -> Any:
    """Make backup NAME (or the newest trustworthy one) the present state; works over a corrupt document."""
    from greentic.operations import backups

    return backups.restore(invocation.context(), _named(invocation, environment_word), name)


@backup.command()
@_environment
@click.option("--keep", type=click.IntRange(min=0), default=20, show_default=True, help="How many of the newest.")
@click.option("--days", type=click.IntRange(min=0), default=14, show_default=True, help="One of each of these days.")
@verb("backup", "prune", changes=True, view=lambda result: _view_pruned(result))
def prune(invocation: Invocation, environment_word: str | None, keep: int, days: int) -> Any:
    """Remove older backups of changes; those made by `create` stay."""
    from greentic.operations import backups

    return backups.prune(invocation.context(), _named(invocation, environment_word), keep, days)


def _view_list(result: Any) -> None:
    from greentic.cli.tables import age, line, table

    if not result["backups"]:
        line("no backups yet; there is one before every change")
        return
    table(
        ("GENERATION", "AGE", "BECAUSE", "BYTES", "NAME"),
        [
            (row["generation"], age(row["created_at"]), row["origin"], row["size_bytes"], row["name"])
            for row in result["backups"]
        ],
    )


def _view_created(result: Any) -> None:
    from greentic.cli.tables import line

    line(f"kept as {result['backup']}")


def _view_restored(result: Any) -> None:
    from greentic.cli.tables import line

    line(
        f"{result['environment_id']} is as it was at generation {result['restored_generation']} "
        f"(now generation {result['generation']}, from {result['backup']})"
    )


def _view_pruned(result: Any) -> None:
    from greentic.cli.tables import line

    line(f"{len(result['removed'])} backups removed" + (f": {result['note']}" if "note" in result else ""))
