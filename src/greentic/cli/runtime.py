"""`gtc start` and `gtc stop`: the data plane of an environment."""

from __future__ import annotations

import sys
from typing import Any

import click

from greentic.cli.invocation import Invocation, verb


def _environment(command: Any) -> Any:
    return click.argument("name", metavar="[ENV]", required=False)(command)


def _named(invocation: Invocation, name: str | None) -> str:
    from greentic.spec.identifiers import environment_id

    return environment_id(name) if name else invocation.environment_id


@click.command()
@_environment
@click.option("--background", is_flag=True, help="Start it and return.")
@click.option("--dry-run", is_flag=True, help="Tell what would be started, ended or published; change nothing.")
@verb("runtime", "start", view=lambda result: _view_started(result))
def start(invocation: Invocation, name: str | None, background: bool) -> Any:
    """Run an environment's router and workers here, with live status, until Ctrl-C (or `gtc stop`)."""
    from greentic.operations import runtime

    environment_id = _named(invocation, name)
    if invocation.dry_run:
        return runtime.plan(invocation.context(), environment_id)
    if background:
        return runtime.start(invocation.context(), environment_id)
    return _foreground(invocation, environment_id)


async def _foreground(invocation: Invocation, environment_id: str) -> Any:
    import asyncio

    from greentic.operations import runtime, status

    context = invocation.context()
    serving = asyncio.ensure_future(runtime.serve(context, environment_id))
    live = sys.stdout.isatty() and not invocation.json
    watching = asyncio.ensure_future(_watch(context, environment_id, status.status)) if live else None
    try:
        await serving
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    return {"environment_id": environment_id, "stopped": True}


async def _watch(context: Any, environment_id: str, look: Any) -> None:
    """Redraw the tree every second while the data plane runs."""
    import asyncio

    from rich.live import Live

    from greentic.cli.status import tree
    from greentic.cli.tables import console

    with Live(console=console(), auto_refresh=False, transient=True) as display:
        while True:
            display.update(tree(await look(context, environment_id)), refresh=True)
            await asyncio.sleep(1)


@click.command()
@_environment
@verb("runtime", "stop", view=lambda result: _view_stopped(result))
def stop(invocation: Invocation, name: str | None) -> Any:
    """End an environment's router and workers; `gtc start` or the next deploy returns to what is recorded."""
    from greentic.operations import runtime

    return runtime.stop(invocation.context(), _named(invocation, name))


def _view_started(result: Any) -> None:
    from greentic.cli.tables import line, table

    if result.get("dry_run"):
        if result["changes"]:
            count = len(result["changes"])
            line(f"{result['environment_id']} would see {count} {'change' if count == 1 else 'changes'}")
            rows = [[one["action"], one["kind"], one["called"], one["reason"]] for one in result["changes"]]
            table(("ACTION", "KIND", "NAME", "WHY"), rows)
        else:
            line(f"{result['environment_id']} is as it is recorded: a start would change nothing")
        return
    if result.get("stopped"):
        line(f"{result['environment_id']} stopped")
        return
    routers = f"{result['routers']} {'router' if result['routers'] == 1 else 'routers'}"
    line(
        f"{result['environment_id']} is running on {result['url']}: {routers}, "
        f"{result['healthy']} of {result['workers']} workers healthy"
    )


def _view_stopped(result: Any) -> None:
    from greentic.cli.tables import line

    line(f"{result['environment_id']} " + ("stopped" if result["stopped"] else "was not running"))
