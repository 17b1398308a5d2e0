"""`gtc op env doctor` and `gtc op env repair`."""

from __future__ import annotations

from typing import Any

import click

from greentic.cli.invocation import Concluded, Invocation, verb


@click.command()
@click.argument("name", metavar="ENV", required=False)
@click.option("--offline", is_flag=True, help="Do not ask the running data plane.")
@verb("env", "doctor", view=lambda result: _view(result))
async def doctor(invocation: Invocation, name: str | None, offline: bool) -> Any:
    """Check everything, even of a broken environment; each finding has its fix. Exits 1 on any, warnings too."""
    from greentic.operations import doctor as operations

    result = await operations.examine(invocation.context(), name or invocation.environment_id, live=not offline)
    return Concluded(result, 0 if result["ok"] else 1)


@click.command()
@click.argument("name", metavar="ENV", required=False)
@click.option("--apply", "apply_", is_flag=True, help="Do it. [default: only say what would be done]")
@click.option("--check", is_flag=True, help="Only say what would be done.")
@verb("env", "repair", changes=True, view=lambda result: _view_repaired(result))
async def repair(invocation: Invocation, name: str | None, apply_: bool, check: bool) -> Any:
    """Mend what can be mended without guessing; say what remains."""
    from greentic.operations import doctor as operations
    from greentic.spec.errors import InvalidArgument

    if apply_ and check:
        raise InvalidArgument("--apply and --check contradict each other")
    invocation.dry_run = invocation.dry_run or not apply_
    return await operations.repair(invocation.context(), name or invocation.environment_id)


def _view(result: Any) -> None:
    from greentic.cli.tables import line

    for finding in result["findings"]:
        colour = {"error": "red", "warning": "yellow"}.get(finding["severity"], "dim")
        line((f"{finding['severity']:8}", colour), f"{finding['subject']}: {finding['message']}")
        line(("         fix: ", "cyan"), finding["fix"])
    errors = sum(finding["severity"] == "error" for finding in result["findings"])
    warnings = sum(finding["severity"] == "warning" for finding in result["findings"])
    if result["ok"]:
        line((f"{result['environment_id']} is sound", "green"))
    else:
        line(f"{errors} errors, {warnings} warnings")


def _view_repaired(result: Any) -> None:
    from greentic.cli.tables import line

    for done in result["repaired"]:
        line(done)
    if not result["repaired"]:
        line("nothing to repair")
    for finding in result["remaining"]:
        line((f"remains: {finding['subject']}: {finding['message']}", "yellow"))
        line(("         fix: ", "cyan"), finding["fix"])
