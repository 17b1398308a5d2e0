"""`gtc op env apply|plan|diff|export`: one file describes an environment."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from greentic.cli.invocation import Invocation, need, verb

if TYPE_CHECKING:
    from greentic.operations.manifest.plan import Plan
    from greentic.operations.manifest.reading import Source


@verb("env", "manifest-schema", view=lambda result: click.echo(json.dumps(result, indent=2)))
def _schema(invocation: Invocation) -> Any:
    """The JSON Schema of a manifest."""
    from greentic.operations.manifest.template import schema

    return schema()


def manifest_file(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-f FILE` names the manifest, and so does `--answers FILE`, as in the reference; `--schema` shows its schema."""

    @functools.wraps(command)
    def callback(*, answers_file: str | None, file: str | None, show_schema: bool, **arguments: Any) -> None:
        if show_schema:
            known = {name: arguments[name] for name in ("as_json", "quiet", "environment", "root")}
            _schema(answers_file=None, show_schema=False, **known)
            return
        command(answers_file=None, file=file or answers_file, show_schema=False, **arguments)

    return click.option("--file", "-f", "file", metavar="FILE", help="The manifest; '-' is standard input.")(callback)


def source_of(invocation: Invocation, file: str | None) -> Source:
    """The manifest that is meant; InvalidArgument when --env names another environment than it."""
    from greentic.operations.manifest.reading import Source
    from greentic.spec.errors import InvalidArgument
    from greentic.spec.manifest import read
    from greentic.spec.manifest_text import MAX_BYTES

    place = str(need(file, "option '--file' / '-f'"))
    if place == "-":
        source = Source(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input", None, Path.cwd())
    else:
        source = Source.of_file(Path(place))
    if invocation.environment is not None:
        described = read(source.data, source.origin).environment.id
        if described != invocation.environment:
            raise InvalidArgument(
                f"{place} describes the environment '{described}', not '{invocation.environment}'",
                next_step="leave --env out: the manifest says which environment it is about",
            )
    return source


@click.command()
@manifest_file
@click.option("--check", is_flag=True, help="Change nothing; exit 3 when anything differs.")
@click.option("--plan", "token", metavar="TOKEN", help="Carry out the plan of this token, or nothing.")
@click.option("--prune", is_flag=True, help="Remove what this manifest declared before and declares no more.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--non-interactive", is_flag=True, help="Never ask; say everything that is missing.")
@click.option("--emit-answers-template", "template", metavar="FILE", help="Write a manifest to start from, and end.")
@verb("env", "apply", changes=True, view=lambda result: _view_applied(result))
def apply(
    invocation: Invocation,
    file: str | None,
    check: bool,
    token: str | None,
    prune: bool,
    yes: bool,
    non_interactive: bool,
    template: str | None,
) -> Any:
    """Make an environment as one file describes it; what is so already stays.

    \b
    gtc op env plan  -f env.yaml              what would happen, and a token
    gtc op env apply -f env.yaml --plan TOKEN exactly that, or nothing
    gtc op env apply -f env.yaml --check      exit 3 when anything differs
    """
    if template is not None:
        from greentic.operations.manifest.template import write_template

        return write_template(Path(template))
    from greentic.operations.manifest import applying
    from greentic.spec.errors import InvalidArgument

    asks = not (yes or non_interactive or invocation.json) and sys.stdin.isatty() and sys.stdout.isatty()
    if prune and not (asks or yes or check or token is not None or invocation.dry_run):
        raise InvalidArgument("--prune removes things and nobody is there to ask", next_step="add --yes")
    wishes = applying.Wishes(
        check=check,
        token=token,
        prune=prune,
        confirm=_confirm if asks and token is None else None,
        paste=_paste if asks else None,
        say=invocation.progress,
    )
    return applying.apply(invocation.context(), source_of(invocation, file), wishes)


@click.command()
@manifest_file
@click.option("--prune", is_flag=True, help="Also what apply --prune would remove.")
@verb("env", "plan", view=lambda result: _view_plan(result))
def plan(invocation: Invocation, file: str | None, prune: bool) -> Any:
    """Show what apply would do, and the token that names exactly that."""
    from greentic.operations.manifest import applying

    return applying.plan(invocation.context(), source_of(invocation, file), prune=prune)


@click.command()
@manifest_file
@click.option("--check", is_flag=True, help="Exit 3 when anything differs.")
@verb("env", "diff", view=lambda result: _view_diff(result))
def diff(invocation: Invocation, file: str | None, check: bool) -> Any:
    """Show the manifest, the record and what is live side by side; without -f the record and what is live."""
    from greentic.operations.manifest import comparing

    source = None if file is None else source_of(invocation, file)
    return comparing.diff(invocation.context(), invocation.environment_id, source, check=check)


@click.command()
@click.argument("name_of_environment", metavar="ENV", required=False)
@click.option("--output", "-o", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write it there.")
@verb("env", "export", view=lambda result: _view_export(result))
def export(invocation: Invocation, name_of_environment: str | None, output: Path | None) -> Any:
    """Write a manifest of a living environment; applying it changes nothing. Of secrets it holds the paths only."""
    from greentic.operations.manifest import exporting

    return exporting.export(invocation.context(), name_of_environment or invocation.environment_id, output)


def _confirm(planned: Plan) -> bool:
    return click.confirm(f"Do these {len(planned.changes)} steps?", default=False, err=True)


def _paste(path: str) -> str | None:
    return str(click.prompt(f"The secret {path}", hide_input=True, default="", show_default=False, err=True)) or None


def _view_applied(result: Mapping[str, Any]) -> None:
    from greentic.cli.tables import line, milliseconds

    if "template" in result:
        line(f"wrote {result['template']}; edit it, then: gtc op env apply -f {result['template']}")
        return
    if result["mode"] == "dry-run":
        _view_plan(result)
        return
    receipt = result.get("receipt")
    live = ""
    if receipt:
        took = milliseconds(receipt["milliseconds"])
        live = f"; live on {receipt['acknowledged']}/{receipt['expected']} routers in {took}"
    line((_counted(result), "green"), live)


def _view_plan(result: Mapping[str, Any]) -> None:
    from greentic.cli.tables import line, table

    changes = [step for step in result["steps"] if step["action"] != "no-op"]
    if changes:
        table(("ACTION", "STEP", "WHAT"), [(one["action"], one["kind"], one["detail"]) for one in changes])
    for one in result["missing"]:
        line(("missing ", "red"), f"{one['kind'].replace('_', ' ')} {one['key']} ({one['source']})")
    for warning in result["warnings"]:
        line(("note ", "yellow"), warning)
    line(_counted(result) if changes else f"nothing to do: {_counted(result)}")
    if changes and result["mode"] == "plan":
        prune = " --prune" if result["prune"] else ""
        line(f"do exactly this: gtc op env apply -f {result['manifest']}{prune} --plan {result['token']}")


def _counted(result: Mapping[str, Any]) -> str:
    parts = [f"{count} {word}" for word, count in result["counts"].items()]
    return f"{len(result['steps'])} steps: {', '.join(parts)}" if parts else "no steps"


def _view_diff(result: Mapping[str, Any]) -> None:
    from greentic.cli.tables import line, table

    rows = [row for row in result["rows"] if row["differs"]]
    if not rows:
        line(f"{result['environment_id']}: {len(result['rows'])} things compared, all the same")
        return
    described = result["manifest"] is not None
    columns = ("WHAT", "MANIFEST", "RECORD", "LIVE") if described else ("WHAT", "RECORD", "LIVE")
    table(
        columns,
        [(row["what"], *((row["manifest"],) if described else ()), row["record"], row["live"]) for row in rows],
    )
    line(f"{len(rows)} of {len(result['rows'])} things differ")


def _view_export(result: Mapping[str, Any]) -> None:
    from greentic.cli.tables import line

    if result["output"] is None:
        click.echo(result["text"], nl=False)
    else:
        line(f"wrote {result['output']}")
    for warning in result["warnings"]:
        click.echo(click.style("note: ", fg="yellow") + warning, err=True)
