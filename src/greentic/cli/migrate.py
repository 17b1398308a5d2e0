"""`gtc op env migrate-dev|migrate-state`: one-shot moves from old layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from greentic.cli.invocation import Invocation, need, verb


def _mode(command: Any) -> Any:
    command = click.option("--apply", "doing", is_flag=True, help="Do it.")(command)
    return click.option("--check", "looking", is_flag=True, help="Look only; exit 3 when there is something to do.")(
        command
    )


@click.command("migrate-dev")
@click.argument("target", required=False)
@_mode
@verb("env", "migrate-dev", changes=True, view=lambda result: _view_dev(result), answers={"target": "target"})
def migrate_dev(invocation: Invocation, target: str | None, looking: bool, doing: bool) -> Any:
    """Move the bindings of the old environment `dev` to TARGET and put `dev` aside."""
    from greentic.operations import migrating
    from greentic.spec.identifiers import environment_id

    name = environment_id(str(need(target, "argument 'TARGET'")))
    return migrating.migrate_dev(invocation.context(), name, apply=_chosen(invocation, looking, doing))


@click.command("migrate-state")
@click.argument("name_of_environment", metavar="ENV", required=False)
@click.option(
    "--state-dir",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the old state is. [default: .greentic/state]",
)
@_mode
@verb("env", "migrate-state", changes=True, view=lambda result: _view_state(result))
def migrate_state(
    invocation: Invocation, name_of_environment: str | None, state_dir: Path | None, looking: bool, doing: bool
) -> Any:
    """Put the old deployment state of a folder aside."""
    from greentic.operations import migrating

    return migrating.migrate_state(
        invocation.context(),
        name_of_environment or invocation.environment_id,
        (state_dir or Path(".greentic") / "state").absolute(),
        apply=_chosen(invocation, looking, doing),
    )


def _chosen(invocation: Invocation, looking: bool, doing: bool) -> bool:
    if looking == doing:
        raise click.UsageError("Say either --check or --apply.", click.get_current_context())
    return doing and not invocation.dry_run


def _view_dev(result: Any) -> None:
    from greentic.cli.tables import line

    if result["clean"]:
        line("there is no environment 'dev': nothing to do")
        return
    moved = [*result["merged_slots"], *result["merged_extensions"]]
    line(f"moved {', '.join(moved) or 'nothing'} to {result['to_env']}; dev is now {result['legacy_dir_renamed_to']}")
    _view_findings(result)


def _view_state(result: Any) -> None:
    from greentic.cli.tables import line

    if result["clean"]:
        line(f"there is no old state in {result['state_dir']}: nothing to do")
        return
    line(f"put {result['leaf_count']} files aside: {result['renamed_to']}")
    _view_findings(result)


def _view_findings(result: Any) -> None:
    from greentic.cli.tables import line

    for finding in result["findings"]:
        line(("note ", "yellow"), finding["message"])
