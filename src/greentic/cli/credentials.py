"""`gtc op credentials`: what the deployer needs to be allowed."""

from __future__ import annotations

from typing import Any

import click

from greentic.cli.invocation import Concluded, Invocation, verb
from greentic.cli.nouns import Noun


@click.group(cls=Noun)
def credentials() -> None:
    """Credentials: is the deployer allowed what it needs, no less and no more?"""


@credentials.command()
@click.option("--dry-run", is_flag=True, help="Keep no record of the verdict.")
@verb("credentials", "requirements", view=lambda result: _view(result))
def requirements(invocation: Invocation) -> Any:
    """Check every capability that the deployer needs; exits 7 when one is missing."""
    from greentic.operations import credentials as operations

    result = operations.requirements(invocation.context(), invocation.environment_id)
    return Concluded(result, 0 if result["result"] == "pass" else 7)


@credentials.command()
@verb("credentials", "bootstrap", changes=True, view=lambda result: _view(result))
def bootstrap(invocation: Invocation) -> Any:
    """Make a minimal identity for the deployer with an administrator's key, used once."""
    from greentic.operations import credentials as operations

    return operations.bootstrap(invocation.context(), invocation.environment_id)


def _view(result: Any) -> None:
    from greentic.cli.tables import line, table

    table(
        ("CAPABILITY", "", "MEANING", "WHY"),
        [
            (check["capability"]["id"], check["status"], check["capability"]["description"], check.get("reason"))
            for check in result["checks"]
        ],
    )
    colour = "green" if result["result"] == "pass" else "red"
    line((f"{result['deployer_kind']}: {result['result']}", colour))
