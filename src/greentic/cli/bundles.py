"""`gtc op bundles`: deployments, one customer's copy of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from greentic.cli.arguments import complete_deployment, overrides, parameter_options, route, route_options
from greentic.cli.invocation import Concluded, Invocation, need, verb
from greentic.cli.nouns import Noun

COMMON = {
    "route_binding": "route_binding",
    "revenue_share": "revenue_share",
    "config_overrides": "config_overrides",
}


@click.group(cls=Noun)
def bundles() -> None:
    """Deployments: one customer's copy of a bundle, with its routes, status and history."""


def _shares(given: Any) -> Any:
    from greentic.spec.deployment import RevenueShare
    from greentic.spec.errors import InvalidArgument
    from greentic.spec.parsing import parse_payload

    if given is None:
        return None
    if not isinstance(given, list):
        raise InvalidArgument("revenue_share is a list of {party_id, basis_points}")
    return tuple(parse_payload(RevenueShare, share, "revenue_share") for share in given)


def _hidden(command: Any) -> Any:
    """Arguments that only an answers file gives."""
    for name in COMMON:
        command = click.option(f"--{name.replace('_', '-')}", name, hidden=True, default=None)(command)
    return command


@bundles.command()
@click.argument("deployment", metavar="NAME", required=False)
@click.option("--customer-id", metavar="ID", help="Whom it is for. [default on local: local-dev]")
@route_options
@parameter_options
@_hidden
@verb(
    "bundles",
    "add",
    changes=True,
    view=lambda result: _view(result, "added"),
    answers={**COMMON, "bundle_id": "deployment", "customer_id": "customer_id"},
)
async def add(
    invocation: Invocation,
    deployment: str | None,
    customer_id: str | None,
    hosts: tuple[str, ...],
    path_prefixes: tuple[str, ...],
    tenant: str | None,
    team: str | None,
    config: tuple[str, ...],
    config_json: tuple[str, ...],
    config_file: Path | None,
    route_binding: Any,
    revenue_share: Any,
    config_overrides: Any,
) -> Any:
    """Add a deployment; it serves nothing until a revision gets traffic."""
    from greentic.operations import deployments

    parties = _shares(revenue_share)
    applied, added = await deployments.add(
        invocation.context(),
        invocation.environment_id,
        need(deployment, "argument 'NAME'"),
        customer_id=customer_id,
        route_binding=route(hosts, path_prefixes, tenant, team, route_binding),
        config_overrides=overrides(config, config_json, config_file, config_overrides),
        **({} if parties is None else {"revenue_share": parties}),
    )
    return {**deployments.summary(applied.environment, added), "generation": applied.generation}


@bundles.command()
@click.argument("deployment", metavar="NAME", required=False, shell_complete=complete_deployment)
@click.option(
    "--status", type=click.Choice(["active", "paused", "archived"]), help="Only an active deployment gets traffic."
)
@route_options
@parameter_options
@_hidden
@verb(
    "bundles",
    "update",
    changes=True,
    view=lambda result: _view(result, "updated"),
    answers={**COMMON, "deployment_id": "deployment", "status": "status"},
)
def update(
    invocation: Invocation,
    deployment: str | None,
    status: str | None,
    hosts: tuple[str, ...],
    path_prefixes: tuple[str, ...],
    tenant: str | None,
    team: str | None,
    config: tuple[str, ...],
    config_json: tuple[str, ...],
    config_file: Path | None,
    route_binding: Any,
    revenue_share: Any,
    config_overrides: Any,
) -> Any:
    """Replace a deployment's status, whole route or parameters of later revisions; what is not named stays."""
    from greentic.operations import deployments
    from greentic.spec.deployment import DeploymentStatus
    from greentic.spec.errors import InvalidArgument

    binding = route(hosts, path_prefixes, tenant, team, route_binding)
    parameters = overrides(config, config_json, config_file, config_overrides)
    if parameters is None and config_overrides is not None:
        parameters = {}
    parties = _shares(revenue_share)
    if status is None and binding is None and parameters is None and parties is None:
        raise InvalidArgument("nothing to change was named", next_step="gtc op bundles update --help")
    return deployments.update(
        invocation.context(),
        invocation.environment_id,
        need(deployment, "argument 'NAME'"),
        status=None if status is None else DeploymentStatus(status),
        route_binding=binding,
        config_overrides=parameters,
        revenue_share=parties,
    )


@bundles.command()
@click.argument("deployment", metavar="NAME", required=False, shell_complete=complete_deployment)
@verb(
    "bundles",
    "remove",
    changes=True,
    view=lambda result: _view(result, "removed"),
    answers={"deployment_id": "deployment"},
)
def remove(invocation: Invocation, deployment: str | None) -> Any:
    """Remove a deployment without traffic whose revisions are archived, with its files."""
    from greentic.operations import deployments

    return deployments.remove(invocation.context(), invocation.environment_id, need(deployment, "argument 'NAME'"))


@bundles.command()
@click.argument("deployment", metavar="NAME", required=False, shell_complete=complete_deployment)
@click.option("--note", metavar="TEXT", help="Why; kept with the traffic's end.")
@verb(
    "bundles",
    "retire",
    changes=True,
    view=lambda result: _view_retired(result),
    answers={"deployment_id": "deployment", "note": "note"},
    types={"note": {"type": "string"}},
)
def retire(invocation: Invocation, deployment: str | None, note: str | None) -> Any:
    """Take a deployment out of service for good: clear its traffic, drain and archive its revisions, remove it."""
    from greentic.operations import retire as operations

    wanted = need(deployment, "argument 'NAME'")
    return operations.retire(invocation.context(), invocation.environment_id, wanted, note=note)


@bundles.command()
@click.argument("deployment", metavar="NAME", required=False, shell_complete=complete_deployment)
@verb(
    "bundles",
    "policies",
    view=lambda result: _view_policies(result),
    answers={"deployment_id": "deployment"},
)
def policies(invocation: Invocation, deployment: str | None) -> Any:
    """List the versions of the revenue policy: who gets what, signed by whom; exits 1 when one is not proven."""
    from greentic.operations import revenue

    wanted = need(deployment, "argument 'NAME'")
    result = revenue.list_(invocation.context(), invocation.environment_id, wanted)
    return Concluded(result, 0 if result["ok"] else 1)


@bundles.command("list")
@verb("bundles", "list", view=lambda result: _view_list(result))
def list_(invocation: Invocation) -> Any:
    """List the deployments of an environment."""
    from greentic.operations import deployments

    return deployments.list_(invocation.context(), invocation.environment_id)


def _route(row: Any) -> str:
    hosts = ",".join(row["hosts"]) or "any host"
    return f"{hosts} {','.join(row['path_prefixes']) or '/'}"


def _view(result: Any, done: str) -> None:
    from greentic.cli.tables import line

    line(
        f"deployment {result['bundle_id']} for {result['customer_id']} {done} "
        f"({result['status']}, {_route(result)}, environment generation {result['generation']})"
    )


def _view_retired(result: Any) -> None:
    from greentic.cli.tables import line

    if result["state"] == "absent":
        line(f"there is no deployment {result['name']}: nothing to retire")
        return
    done = "retired" if result["state"] == "retired" else "would be retired"
    archived = ", ".join(result["archived"]) or "no revision"
    line((result["bundle_id"], "bold"), f" for {result['customer_id']} {done} (archived: {archived})")


def _view_policies(result: Any) -> None:
    from greentic.cli.tables import line, table
    from greentic.spec.weights import format_share

    if not result["versions"]:
        line(f"{result['bundle_id']} for {result['customer_id']} has no revenue policy yet")
        return
    table(
        ("VERSION", "STATE", "SINCE", "WHO GETS WHAT", "SIGNED BY"),
        [
            (
                f"v{row['version']}",
                row["state"],
                (row["created_at"] or "")[:19],
                ", ".join(f"{one['party_id']} {format_share(one['basis_points'])}" for one in row["revenue_share"]),
                ", ".join(row["signed_by"]) + (" (removed)" if row["removed_key"] else ""),
            )
            for row in result["versions"]
        ],
    )
    finding = result["finding"]
    if finding is None:
        line(("the chain is proven", "green"))
    else:
        line(("not proven", "red"), f": version {finding['version']}: {finding['reason']}")


def _view_list(result: Any) -> None:
    from greentic.cli.tables import line, table

    if not result["deployments"]:
        line("no deployments yet; make one with: gtc op deploy --bundle FILE.gtbundle NAME")
        return
    table(
        ("DEPLOYMENT", "CUSTOMER", "STATUS", "ROUTE", "TENANT", "LIVE REVISIONS", "ID"),
        [
            (
                row["bundle_id"],
                row["customer_id"],
                row["status"],
                _route(row),
                f"{row['tenant']}/{row['team']}",
                row["current_revision_count"],
                row["deployment_id"],
            )
            for row in result["deployments"]
        ],
    )
