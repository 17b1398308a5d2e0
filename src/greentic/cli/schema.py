"""`gtc op schema`: JSON Schemas of the documents."""

from __future__ import annotations

import json
from typing import Any

import click

from greentic.cli.invocation import Invocation, verb
from greentic.cli.nouns import Noun


@click.group(cls=Noun)
def schema() -> None:
    """JSON Schemas of the documents, made from the types."""


@schema.command("list")
@verb("schema", "list", view=lambda result: click.echo("\n".join(result["schemas"])))
def list_(invocation: Invocation) -> Any:
    """List the documents."""
    from greentic.spec.schemas import documents

    return {"schemas": sorted(documents())}


@schema.command()
@click.argument("name")
@verb("schema", "show", view=lambda result: click.echo(json.dumps(result, indent=2)))
def show(invocation: Invocation, name: str) -> Any:
    """Show the JSON Schema of a document, such as greentic.environment.v1."""
    from greentic.spec.errors import NotFound
    from greentic.spec.schemas import documents
    from greentic.spec.schemas import schema as of

    if name not in documents():
        raise NotFound(f"there is no document '{name}'", next_step="gtc op schema list")
    return of(name)
