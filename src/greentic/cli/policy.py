"""`gtc op policy`: who may change what."""

from __future__ import annotations

import json
from typing import Any

import click

from greentic.cli.invocation import Invocation, need, verb
from greentic.cli.nouns import Noun


@click.group(cls=Noun)
def policy() -> None:
    """Policies: who may change what. `local` allows its owner; elsewhere nothing is allowed without a policy."""


def _environment(command: Any) -> Any:
    return click.argument("name", metavar="ENV", required=False)(command)


def _named(invocation: Invocation, name: str | None) -> str:
    from greentic.spec.identifiers import environment_id

    return environment_id(name) if name else invocation.environment_id


@policy.command()
@_environment
@verb("policy", "init", changes=True, view=lambda result: _view(result))
def init(invocation: Invocation, name: str | None) -> Any:
    """Make a policy that grants you everything; you must own the environment's folder."""
    from greentic.operations import policies

    return policies.init(invocation.context(), _named(invocation, name))


@policy.command()
@_environment
@verb("policy", "show", view=lambda result: _view(result))
def show(invocation: Invocation, name: str | None) -> Any:
    """Show the policy."""
    from greentic.operations import policies

    return policies.show(invocation.context(), _named(invocation, name))


@policy.command()
@_environment
@click.argument("actor", required=False)
@click.argument("role", required=False)
@click.option("--customer", "customers", multiple=True, metavar="ID", help="Only for deployments of this customer.")
@verb("policy", "grant", changes=True, view=lambda result: _view(result))
def grant(
    invocation: Invocation, name: str | None, actor: str | None, role: str | None, customers: tuple[str, ...]
) -> Any:
    """Give ACTOR a role (admin, operator, releaser, or one of your own)."""
    from greentic.operations import policies

    return policies.grant(
        invocation.context(),
        _named(invocation, need(name, "argument 'ENV'")),
        need(actor, "argument 'ACTOR'"),
        need(role, "argument 'ROLE'"),
        customers,
    )


@policy.command()
@_environment
@click.argument("actor", required=False)
@click.option("--role", help="Only this role. [default: every role]")
@verb("policy", "revoke", changes=True, view=lambda result: _view(result))
def revoke(invocation: Invocation, name: str | None, actor: str | None, role: str | None) -> Any:
    """Take roles from ACTOR."""
    from greentic.operations import policies

    return policies.revoke(
        invocation.context(),
        _named(invocation, need(name, "argument 'ENV'")),
        need(actor, "argument 'ACTOR'"),
        role,
    )


@policy.command()
@_environment
@click.argument("actor", required=False)
@click.argument("permission", required=False)
@click.option("--customer", metavar="ID", help="Of a deployment of this customer.")
@verb("policy", "check", view=lambda result: _view_checked(result))
def check(
    invocation: Invocation, name: str | None, actor: str | None, permission: str | None, customer: str | None
) -> Any:
    """Say whether ACTOR may do PERMISSION, such as traffic.set, and why."""
    from greentic.operations import policies

    return policies.check(
        invocation.context(),
        _named(invocation, need(name, "argument 'ENV'")),
        need(actor, "argument 'ACTOR'"),
        need(permission, "argument 'PERMISSION'"),
        customer,
    )


def _view(result: Any) -> None:
    click.echo(json.dumps(result["policy"], indent=2, ensure_ascii=False))


def _view_checked(result: Any) -> None:
    from greentic.cli.tables import line

    word = ("allowed", "green") if result["allowed"] else ("denied", "red")
    line(word, f": {result['reason']}")
