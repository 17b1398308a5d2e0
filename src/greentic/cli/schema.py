"""`gtc schema`: JSON Schemas of the documents."""

from __future__ import annotations

import json
from typing import Any

import click

from greentic.cli.invocation import Invocation, verb
from greentic.cli.nouns import Noun


@click.group(cls=Noun)
def schema() -> None:
    """JSON Schemas of the documents, made from the types. What a verb takes: add --schema to it."""


@schema.command("list")
@verb("schema", "list", view=lambda result: click.echo("\n".join(result["schemas"])))
def list_(invocation: Invocation) -> Any:
    """List the documents."""
    from greentic.spec.schemas import names

    return {"schemas": sorted(names())}


def _complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from greentic.spec.schemas import names

    return [name for name in names() if name.startswith(incomplete)]


@schema.command()
@click.argument("name", shell_complete=_complete)
@verb("schema", "show", view=lambda result: click.echo(json.dumps(result, indent=2)))
def show(invocation: Invocation, name: str) -> Any:
    """Show the JSON Schema of a document, such as greentic.environment.v1."""
    from greentic.spec.schemas import schema as of

    return of(name)
