"""`gtc op status`: one tree of what is."""

from __future__ import annotations

from typing import Any

import click

from greentic.cli.arguments import complete_deployment
from greentic.cli.invocation import Invocation, verb


@click.command()
@click.argument("deployment", metavar="[NAME]", required=False, shell_complete=complete_deployment)
@click.option("--all", "archived", is_flag=True, help="Archived revisions too.")
@verb("status", "show", view=lambda result: view(result), answers={"deployment_id": "deployment"})
def status(invocation: Invocation, deployment: str | None, archived: bool) -> Any:
    """Show the environment as one tree: deployments, revisions with share, health and age."""
    from greentic.operations import status as operations

    return operations.status(invocation.context(), invocation.environment_id, deployment, archived=archived)


def view(result: Any) -> None:
    """Print the tree."""
    from greentic.cli.tables import console

    console().print(tree(result))


def tree(result: Any) -> Any:
    """The tree as a rich renderable."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text
    from rich.tree import Tree

    from greentic.cli.tables import COLOURS, age, cell, milliseconds
    from greentic.spec.weights import format_share

    state = ("running", "green") if result["running"] else ("stopped", "yellow")
    if "observation_error" in result:
        state = ("not to be seen", "yellow")
    where = result["url"] if result["running"] else f"would listen on {result['listen_addr']}"
    root = Tree(
        Text.assemble(
            (result["environment_id"], "bold"),
            "  ",
            state,
            f"  {where}",
            _routers(result),
            f"  generation {result['generation']}",
        )
    )
    if "observation_error" in result:
        root.add(Text(f"cannot look at it: {result['observation_error']['message']}", style="red"))
    for notice in result["notices"]:
        root.add(Text(f"{notice['message']}; {notice['next_step']}", style="yellow"))
    told = [str(where)]
    for name, value in result["discovered"].items():
        if not any(str(value) in text for text in told):  # an address stands above already
            root.add(Text(f"{name}: {value}", style="dim"))
            told.append(str(value))
    for router in result["router_states"]:
        if not router["ready"]:
            root.add(Text(f"{router['name']} ({router['state']}): {router['reason']}", style="yellow"))
    if not result["deployments"]:
        root.add(Text("no deployments; make one: gtc op deploy --bundle FILE.gtbundle NAME", style="dim"))
    for deployment in result["deployments"]:
        served, recorded = deployment["generation_served"], deployment["generation"]
        generation = "no traffic" if recorded is None else f"generation {recorded}"
        if result["running"] and recorded is not None and served != recorded:
            generation += f" (routers serve {served})"
        head = Text.assemble(
            (deployment["bundle_id"], "bold"),
            f"  {deployment['customer_id']}  ",
            (deployment["status"], COLOURS.get(deployment["status"], "")),
            f"  {deployment['url'] or ','.join(deployment['path_prefixes'])}  {generation}",
        )
        table = Table(box=None, show_edge=False, pad_edge=False, header_style="dim")
        for column in ("", "SHARE", "STATE", "HEALTH", "VERSION", "AGE", "REQUESTS", "ERRORS", "P99", "PINS", ""):
            right = column in {"SHARE", "AGE", "REQUESTS", "ERRORS", "P99", "PINS"}
            table.add_column(column, no_wrap=True, justify="right" if right else "left")
        for revision in deployment["revisions"]:
            table.add_row(
                Text(revision["name"], style="bold"),
                format_share(revision["weight_bps"]) if revision["weight_bps"] else Text("0%", style="dim"),
                cell(revision["lifecycle"]),
                cell(revision["health"]),
                cell(revision["version"]),
                age(revision["created_at"]),
                cell(revision.get("requests")),
                cell(revision.get("errors")),
                milliseconds(revision.get("p99_ms")),
                cell(_pins(revision.get("pins"))),
                Text(_draining(revision) or "".join(revision["detail"].splitlines()[:1])[:100], style="dim"),
            )
        root.add(Group(head, table) if deployment["revisions"] else head)
    return root


def _draining(revision: Any) -> str:
    """`4 in flight, at most 12 s more` while it is drained."""
    left = revision.get("drain_seconds_left")
    return "" if left is None else f"{revision['in_flight']} in flight, at most {left:.0f} s more"


def _pins(pins: Any) -> int | None:
    """How many live pins visitors hold, of whatever kind; None where nobody knows."""
    return None if pins is None else sum(pins.values())


def _routers(result: Any) -> str:
    """`2/3 routers`, where there is meant to be more than one or one is not ready."""
    ready, wanted = result["routers"], result["routers_wanted"]
    return f"  {ready}/{wanted} routers" if result["running"] and (wanted > 1 or ready != wanted) else ""
