"""`gtc op env tool-check`: are the tools there that the bound env-packs use?"""

from __future__ import annotations

from typing import Any

import click

from greentic.cli.invocation import Concluded, Invocation, verb


@click.command("tool-check")
@click.argument("name", metavar="ENV", required=False)
@verb("env", "tool-check", view=lambda result: _view(result))
def tool_check(invocation: Invocation, name: str | None) -> Any:
    """Check the tools that the bound env-packs use. Exits 7 when one is missing or an env-pack is not installed."""
    from greentic.operations import preflight

    result = preflight.check_tools(invocation.context(), name or invocation.environment_id)
    unresolved = result["unresolved_bindings"] or result["extension_unresolved_bindings"]
    return Concluded(result, 7 if result["failed_checks"] or unresolved else 0)


def _view(result: Any) -> None:
    from greentic.cli.tables import line, table

    rows = []
    for binding in (*result["bindings"], *result["extension_bindings"]):
        for check in binding["checks"]:
            outcome = check["outcome"]
            told = outcome.get("detail") or outcome.get("found")
            hint = outcome.get("install_hint") or outcome.get("recovery_hint")
            rows.append((binding["kind"], check["name"], outcome["status"], told, hint))
    if rows:
        table(("ENV-PACK", "TOOL", "", "", "FIX"), rows)
    for binding in (*result["unresolved_bindings"], *result["extension_unresolved_bindings"]):
        line((f"{binding['kind']}: ", "red"), binding["error"]["message"])
    line(f"{result['total_checks']} checks, {result['failed_checks']} failed")
