"""`gtc op audit`: who changed what, when, and whether the log can be believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from greentic.cli.invocation import Invocation, need, verb
from greentic.cli.nouns import Noun


@click.group(cls=Noun)
def audit() -> None:
    """The audit log: every attempt, allowed, denied or failed, in one hash chain."""


@audit.command()
@click.option("--lines", "-n", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many.")
@verb("audit", "tail", view=lambda result: _view_events(result))
def tail(invocation: Invocation, lines: int) -> Any:
    """Show the newest entries."""
    from greentic.operations import audit as operations

    return operations.tail(invocation.context(), invocation.environment_id, lines)


@audit.command()
@click.argument("entry", required=False)
@verb("audit", "show", view=lambda result: click.echo(json.dumps(result["events"], indent=2, ensure_ascii=False)))
def show(invocation: Invocation, entry: str | None) -> Any:
    """Show entries whole: by event id, sequence number or idempotency key."""
    from greentic.operations import audit as operations

    wanted = need(entry, "argument 'ENTRY'")
    return operations.show(invocation.context(), invocation.environment_id, wanted)


@audit.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--trust-root",
    "trusted",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Whose signature under an export counts. [default: whom --env trusts]",
)
@click.option(
    "--head",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A signed head that was kept elsewhere. [default: the one beside the log]",
)
@verb("audit", "verify", view=lambda result: _view_verified(result))
def verify(invocation: Invocation, file: Path | None, trusted: Path | None, head: Path | None) -> Any:
    """Check the chain and its signed head, offline; of the environment, or of an exported FILE."""
    from greentic.operations import audit as operations
    from greentic.spec.errors import InvalidArgument

    if file is None and trusted is not None:
        raise InvalidArgument("--trust-root is for an exported FILE; an environment has a trust root of its own")
    if file is None:
        return operations.check(invocation.context(), invocation.environment_id, head)
    if head is not None:
        raise InvalidArgument("--head is for an environment; an exported FILE ends with its head")
    named = invocation.environment_id if invocation.environment else None
    return operations.check_export(invocation.context(), file, trusted=trusted, environment_id=named)


@audit.command()
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="[default: standard output]")
@click.option("--since", type=click.IntRange(min=0), default=0, metavar="N", help="Only entries after number N.")
@verb("audit", "export", view=lambda result: _view_exported(result))
def export(invocation: Invocation, output: Path | None, since: int) -> Any:
    """Write the log as JSON lines that `gtc op audit verify FILE` accepts.

    Without --output the log itself goes to standard output, with --json too: an envelope around it would be no log that
    can be verified, and would hold all of it in memory. With --output, --json prints the usual envelope.
    """
    import sys

    from greentic.operations import audit as operations

    context = invocation.context()
    if output is None:
        count = operations.export(context, invocation.environment_id, sys.stdout.buffer, since)
        sys.stdout.buffer.flush()
        raise click.exceptions.Exit(0 if count >= 0 else 1)
    with output.open("xb") as target:
        count = operations.export(context, invocation.environment_id, target, since)
    return {"environment_id": invocation.environment_id, "file": str(output), "entries": count}


def _view_events(result: Any) -> None:
    from greentic.cli.tables import line, table

    if not result["events"]:
        line("nothing has been attempted yet")
        return
    table(
        ("SEQUENCE", "TIME", "WHO", "WHAT", "PHASE", "OUTCOME", "GENERATION", "EVENT"),
        [
            (
                event.get("sequence"),
                event["ts"][:19],
                event["actor"].get("user"),
                f"{event['noun']} {event['verb']}",
                event.get("phase"),
                _outcome(event),
                event.get("new_generation"),
                event["event_id"],
            )
            for event in result["events"]
        ],
    )


def _outcome(event: Any) -> str:
    if event["authorization"]["decision"] != "allow":
        return "denied"
    result = event["result"]
    return str(result.get("kind", "error") if result["outcome"] == "error" else result["outcome"])


def _view_verified(result: Any) -> None:
    from greentic.cli.tables import line

    head = result["head"]
    line(
        ("verified ", "green"),
        f"{result['entries']} entries in {result['segments']} segments"
        + (f"; head {head['sequence']} {head['hash'][:16]}…" if head else ""),
    )
    signed = result["signed_head"]
    if signed is None:
        line("nobody signed a head of this log")
        return
    worth = {
        "trusted": f"signed up to entry {signed['sequence']} by the trusted key",
        "removed": f"signed up to entry {signed['sequence']} by a key that is trusted no more,",
        "unchecked": f"a head of entry {signed['sequence']} says it was signed (name a trust root to know) by",
    }[signed["key"]]
    line(f"{worth} {', '.join(signed['key_ids'])} at {signed['signed_at']}")


def _view_exported(result: Any) -> None:
    from greentic.cli.tables import line

    line(f"{result['entries']} entries written to {result['file']}")
