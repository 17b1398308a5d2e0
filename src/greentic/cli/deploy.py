"""`gtc op deploy`: from a bundle to a running worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from greentic.cli.arguments import (
    complete_deployment,
    overrides,
    parameter_options,
    route,
    route_options,
    seconds,
)
from greentic.cli.invocation import Invocation, need, verb


@click.command()
@click.argument("deployment", metavar="[NAME]", required=False, shell_complete=complete_deployment)
@click.option("--bundle", type=click.Path(path_type=Path), metavar="FILE", help="The bundle.")
@click.option("--bundle-id", metavar="NAME", help="The deployment, instead of NAME. [default: the bundle's own id]")
@click.option("--traffic", "share", default=None, metavar="SHARE", help="The new revision's share. [default: 100%]")
@click.option("--customer-id", metavar="ID", help="Whom it is for. [default on local: local-dev]")
@click.option(
    "--drain-seconds", "drain", default=None, metavar="TIME", help="How long a drain may take. [default: 30s]"
)
@click.option("--note", metavar="TEXT", help="Why; kept in the traffic history.")
@route_options
@parameter_options
@click.option("--route-binding", hidden=True, default=None)
@click.option("--config-overrides", hidden=True, default=None)
@verb(
    "deploy",
    "run",
    changes=True,
    view=lambda result: _view(result),
    answers={
        "bundle_path": "bundle",
        "bundle_id": "bundle_id",
        "customer_id": "customer_id",
        "route_binding": "route_binding",
        "config_overrides": "config_overrides",
        "drain_seconds": "drain",
        "traffic": "share",
        "note": "note",
    },
    types={
        "route_binding": {"type": "object"},
        "config_overrides": {"type": "object"},
        "drain_seconds": {"type": ["integer", "string"]},
        "traffic": {"type": ["number", "string"]},
    },
)
def deploy(
    invocation: Invocation,
    deployment: str | None,
    bundle: Path | str | None,
    bundle_id: str | None,
    share: str | None,
    customer_id: str | None,
    drain: str | int | None,
    note: str | None,
    hosts: tuple[str, ...],
    path_prefixes: tuple[str, ...],
    tenant: str | None,
    team: str | None,
    config: tuple[str, ...],
    config_json: tuple[str, ...],
    config_file: Path | None,
    route_binding: Any,
    config_overrides: Any,
) -> Any:
    """Add the deployment when it is new, stage the bundle, warm it, and give it its share of the traffic.

    \b
    gtc op deploy --bundle web-1.gtbundle web                 everything to v1
    gtc op deploy --bundle web-2.gtbundle web --traffic 0%    v2 quietly beside it
    """
    from greentic.operations import deploy as operations
    from greentic.operations.revisions import DRAIN_SECONDS
    from greentic.spec.weights import parse_share

    return operations.deploy(
        invocation.context(),
        invocation.environment_id,
        Path(need(bundle, "option '--bundle'")),
        name=deployment or bundle_id,
        share=parse_share(str(share if share is not None else "100%")),
        customer_id=customer_id,
        route_binding=route(hosts, path_prefixes, tenant, team, route_binding),
        overrides=overrides(config, config_json, config_file, config_overrides),
        drain_seconds=DRAIN_SECONDS if drain is None else seconds(drain),
        note=note,
    )


def _view(result: Any) -> None:
    from greentic.cli.tables import line, receipt

    if result.get("dry_run"):
        line("; ".join(result["steps"]))
        return
    version = f" ({result['version']})" if result["version"] else ""
    line((f"{result['bundle_id']} {result['name']}", "bold"), f"{version} is ready; traffic {result['traffic']}")
    if result.get("receipt"):
        line((receipt(result["receipt"]), "green"))
    else:
        name = result["bundle_id"]
        line(f"no traffic yet; look at it: gtc op traffic preview {name} {result['name']}")
        line(f"            or move the dial: gtc op traffic set {name} {result['name']}=1% rest=@live")
    if result["url"]:
        line(result["url"])
