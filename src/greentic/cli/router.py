"""`gtc op router`: the processes that take the traffic."""

from __future__ import annotations

from typing import Any

import click

from greentic.cli.invocation import Invocation, verb
from greentic.cli.nouns import Noun


@click.group(cls=Noun)
def router() -> None:
    """The routers: look at them, restart them, turn their keys. How many: gtc op config set --router replicas=2."""


@router.command("list")
@verb("router", "list", view=lambda result: _view_list(result))
def list_(invocation: Invocation) -> Any:
    """Show each router: what it serves, whether it is ready, and why not."""
    from greentic.operations import routers

    return routers.list_(invocation.context(), invocation.environment_id)


@router.command()
@click.option(
    "--grace",
    metavar="TIME",
    default=None,
    help="How long the old ones may take to finish what they have begun. [default: 60s]",
)
@verb(
    "router",
    "restart",
    view=lambda result: _view_restarted(result),
    answers={"grace_seconds": "grace"},
    types={"grace_seconds": {"type": ["integer", "string"]}},
)
def restart(invocation: Invocation, grace: str | int | None) -> Any:
    """Replace the routers one after the other; no connection is reset.

    Returns when the new ones serve. The old ones take no new connection, finish requests and streams within the grace,
    and close idle connections with their next response.
    """
    from greentic.cli.arguments import seconds
    from greentic.operations import routers

    given = routers.FINISH_SECONDS if grace is None else seconds(grace)
    return routers.restart(invocation.context(), invocation.environment_id, given)


@router.command("rotate-keys")
@verb("router", "rotate-keys", changes=True, view=lambda result: _view_rotated(result))
def rotate_keys(invocation: Invocation) -> Any:
    """Sign cookies, previews and trust tokens with a new key; what older keys signed stays valid.

    The last four keys verify. Visitors keep their revision, and callers with a key their place.
    """
    from greentic.operations import router_keys as operations

    return operations.rotate(invocation.context(), invocation.environment_id)


def _view_list(result: Any) -> None:
    from greentic.cli.tables import line, table

    if not result["running"]:
        line(f"{result['environment_id']} is not running; start it with: gtc start {result['environment_id']}")
        return
    table(
        ("ROUTER", "STATE", "READY", "PROCESS", "TABLE", "CONNECTIONS", "UPTIME", "LEASE", "RESTARTS", ""),
        [
            (
                one["name"],
                one["state"],
                "yes" if one["ready"] else "no",
                one["process_id"],
                one["version"],
                one["connections"],
                _duration(one["uptime_seconds"]),
                "-" if one["lease_seconds"] is None else f"{one['lease_seconds']:.0f}s",
                one["restarts"],
                one["reason"],
            )
            for one in result["routers"]
        ],
    )
    line(f"{result['ready']}/{result['wanted']} routers ready on {result['url']}")


def _view_restarted(result: Any) -> None:
    from greentic.cli.tables import line

    restarted = result["restarted"]
    for one in restarted:
        was = f", was {one['replaced']}" if one["replaced"] is not None else ""
        line((one["name"], "bold"), f"  process {one['process_id']}{was}")
    count = f"{len(restarted)} {'router' if len(restarted) == 1 else 'routers'}"
    line(f"{count} restarted; the old ones finish within {result['grace_seconds']} s")


def _view_rotated(result: Any) -> None:
    from greentic.cli.tables import line

    if not result["rotated"]:
        line("a new key would sign")
        return
    routers = f" on {result['acknowledged']}/{result['expected']} routers in {result['milliseconds']:.0f} ms"
    line(
        (f"signing with {result['active']}", "green"),
        routers if result["expected"] else ", from the next start on",
    )
    older = [kid for kid in result["verifying"] if kid != result["active"]]
    line((f"still valid: what {', '.join(older)} signed", "dim"))
    if result["dropped"] is not None:
        line((f"no longer valid: what {result['dropped']} signed", "dim"))


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"
