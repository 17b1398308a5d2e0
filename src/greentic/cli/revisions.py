"""`gtc op revisions`: the life of a version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from greentic.cli.arguments import (
    complete_deployment,
    complete_revision,
    overrides,
    parameter_options,
    seconds,
)
from greentic.cli.invocation import Invocation, need, verb
from greentic.cli.nouns import Noun


@click.group(cls=Noun)
def revisions() -> None:
    """Revisions: stage, warm, retry, drain, archive. Called by name: `web v2`, `web @latest`."""


def _words(command: Any) -> Any:
    return click.argument(
        "words", nargs=-1, metavar="DEPLOYMENT REVISION", required=False, shell_complete=complete_revision
    )(command)


def _revision(invocation: Invocation, words: tuple[str, ...] | str) -> Any:
    from greentic.operations import revisions as operations

    said = (words,) if isinstance(words, str) else words
    need(said, "arguments 'DEPLOYMENT REVISION'")
    if len(said) > 2:
        raise click.UsageError(f"Got unexpected extra argument ({said[2]})", click.get_current_context())
    return operations.find(invocation.context(), invocation.environment_id, said)


@revisions.command()
@click.argument("deployment_word", metavar="[NAME]", required=False, shell_complete=complete_deployment)
@click.option(
    "--deployment", metavar="NAME", help="The deployment, as the argument.", shell_complete=complete_deployment
)
@click.option("--bundle", type=click.Path(path_type=Path), metavar="FILE", help="The bundle.")
@click.option(
    "--drain-seconds", "drain", metavar="TIME", default=None, help="How long a drain may take. [default: 30s]"
)
@parameter_options
@click.option("--bundle-source-uri", "uri", hidden=True, default=None)
@verb(
    "revisions",
    "stage",
    changes=True,
    view=lambda result: _view(result, "staged"),
    answers={
        "deployment_id": "deployment",
        "bundle_path": "bundle",
        "drain_seconds": "drain",
        "bundle_source_uri": "uri",
    },
    types={"drain_seconds": {"type": ["integer", "string"]}},
)
def stage(
    invocation: Invocation,
    deployment_word: str | None,
    deployment: str | None,
    bundle: Path | str | None,
    drain: str | int | None,
    config: tuple[str, ...],
    config_json: tuple[str, ...],
    config_file: Path | None,
    uri: str | None,
) -> Any:
    """Make a new revision of a deployment from a bundle; nothing runs yet."""
    from greentic.operations import revisions as operations

    return operations.stage(
        invocation.context(),
        invocation.environment_id,
        need(deployment_word or deployment, "argument 'NAME'"),
        Path(need(bundle, "option '--bundle'")),
        overrides=overrides(config, config_json, config_file),
        drain_seconds=operations.DRAIN_SECONDS if drain is None else seconds(drain),
        bundle_source_uri=uri,
    )


@revisions.command()
@_words
@verb("revisions", "warm", changes=True, view=lambda result: _view(result, "ready"), answers={"revision_id": "words"})
def warm(invocation: Invocation, words: tuple[str, ...]) -> Any:
    """Start a staged revision and wait until it answers; it gets no traffic yet."""
    from greentic.operations import revisions as operations

    return operations.warm(invocation.context(), invocation.environment_id, _revision(invocation, words))


@revisions.command()
@_words
@verb("revisions", "retry", changes=True, view=lambda result: _view(result, "ready"), answers={"revision_id": "words"})
def retry(invocation: Invocation, words: tuple[str, ...]) -> Any:
    """Warm a failed or drained revision again."""
    from greentic.operations import revisions as operations

    return operations.retry(invocation.context(), invocation.environment_id, _revision(invocation, words))


@revisions.command()
@_words
@verb("revisions", "drain", changes=True, view=lambda result: _view_drained(result), answers={"revision_id": "words"})
def drain(invocation: Invocation, words: tuple[str, ...]) -> Any:
    """Let a revision without traffic finish what is in flight, then end its worker."""
    from greentic.operations import revisions as operations

    return operations.drain(invocation.context(), invocation.environment_id, _revision(invocation, words))


@revisions.command()
@_words
@verb(
    "revisions",
    "archive",
    changes=True,
    view=lambda result: _view(result, "archived"),
    answers={"revision_id": "words"},
)
def archive(invocation: Invocation, words: tuple[str, ...]) -> Any:
    """Put a revision away for good; it is drained first when it is running."""
    from greentic.operations import revisions as operations

    return operations.archive(invocation.context(), invocation.environment_id, _revision(invocation, words))


@revisions.command("list")
@click.argument("deployment_word", metavar="[NAME]", required=False, shell_complete=complete_deployment)
@click.option("--deployment", metavar="NAME", help="Only of this deployment.", shell_complete=complete_deployment)
@verb("revisions", "list", view=lambda result: _view_list(result), answers={"deployment_id": "deployment"})
def list_(invocation: Invocation, deployment_word: str | None, deployment: str | None) -> Any:
    """List revisions, of one deployment or of all."""
    from greentic.operations import revisions as operations

    return operations.list_(invocation.context(), invocation.environment_id, deployment_word or deployment)


@revisions.command()
@_words
@verb("revisions", "show", view=lambda result: _view_show(result), answers={"revision_id": "words"})
def show(invocation: Invocation, words: tuple[str, ...]) -> Any:
    """Show the whole record of a revision."""
    from greentic.operations import revisions as operations

    return operations.show(invocation.context(), invocation.environment_id, _revision(invocation, words))


@revisions.command()
@_words
@click.option("--lines", "-n", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many.")
@verb("revisions", "logs", view=lambda result: _view_logs(result), answers={"revision_id": "words"})
def logs(invocation: Invocation, words: tuple[str, ...], lines: int) -> Any:
    """Show the last lines a revision's worker wrote."""
    import asyncio
    from collections import deque

    from greentic.operations import runtime

    revision = _revision(invocation, words)
    place = asyncio.run(runtime.log(invocation.context(), invocation.environment_id, revision))
    with place.open(encoding="utf-8", errors="replace") as file:
        last = [line.rstrip("\n") for line in deque(file, maxlen=lines)]
    return {"revision_id": revision.revision_id, "log": str(place), "lines": last}


def _view(result: Any, done: str) -> None:
    from greentic.cli.tables import line

    version = f" ({result['version']})" if result["version"] else ""
    line(f"{result['bundle_id']} {result['name']}{version} {done}", (f"  {result['bundle_digest'][:19]}…", "dim"))


def _view_drained(result: Any) -> None:
    from greentic.cli.tables import line

    if "cut" not in result:
        line(f"{result['bundle_id']} {result['name']} would be drained")
        return
    kinds = [
        f"{result[key]} {what}{'' if result[key] == 1 else 's'}"
        for key, what in (("cut_streams", "stream"), ("cut_tunnels", "tunnel"))
        if result[key]
    ]
    of_them = f" ({', '.join(kinds)})" if kinds else ""
    cut = f", {result['cut']} cut at the deadline{of_them}" if result["cut"] else ""
    if result["pins_cut"]:
        cut += f", {result['pins_cut']} pins ended"
    line(
        f"{result['bundle_id']} {result['name']} drained in {result['seconds']:.2f} s: "
        f"{result['finished']} in flight finished{cut}"
    )


def _view_list(result: Any) -> None:
    from greentic.cli.tables import age, line, table
    from greentic.spec.weights import format_share

    if not result["revisions"]:
        line("no revisions yet; make one with: gtc op deploy --bundle FILE.gtbundle NAME")
        return
    table(
        ("DEPLOYMENT", "REVISION", "VERSION", "STATE", "SHARE", "AGE", "DIGEST", "ID"),
        [
            (
                row["bundle_id"],
                row["name"],
                row["version"],
                row["lifecycle"],
                format_share(row["weight_bps"]),
                age(row["created_at"]),
                row["bundle_digest"][:19],
                row["revision_id"],
            )
            for row in result["revisions"]
        ],
    )


def _view_show(result: Any) -> None:
    import json

    click.echo(json.dumps(result, indent=2, ensure_ascii=False))


def _view_logs(result: Any) -> None:
    for line in result["lines"]:
        click.echo(line)
