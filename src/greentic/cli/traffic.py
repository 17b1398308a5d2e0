"""`gtc op traffic`: the dial."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from greentic.cli.arguments import complete_deployment, complete_revision, complete_share, pins, seconds, shares
from greentic.cli.invocation import Invocation, need, verb
from greentic.cli.nouns import Noun

_ENTRIES = {
    "type": "array",
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["revision_id"],
        "properties": {
            "revision_id": {"type": "string"},
            "weight_bps": {"type": "integer", "minimum": 0, "maximum": 10_000},
            "weight_percent": {"type": "integer", "minimum": 0, "maximum": 100},
        },
    },
}
"""As the reference writes them, with names for ids."""


@click.group(cls=Noun)
def traffic() -> None:
    """The dial: which revision gets which share of a deployment's traffic."""


def _deployment(command: Any) -> Any:
    """NAME, or --deployment as the reference writes it."""
    command = click.option("--deployment", "named", metavar="NAME", help="The deployment, instead of NAME.")(command)
    return click.argument("deployment", metavar="NAME", required=False, shell_complete=complete_deployment)(command)


_pins = click.option(
    "--pins",
    "pinned",
    metavar="honour|grace=TIME|evict",
    help="What becomes of visitors' pins. [default: those to a revision that keeps a share stay, the others end]",
)
_PINS = {"type": "string", "pattern": "^(honour|evict|grace=[0-9]+[smhd]?)$"}


@traffic.command("set")
@click.argument("words", metavar="NAME REVISION=SHARE…", nargs=-1, shell_complete=complete_share)
@click.option("--deployment", "named", metavar="NAME", help="The deployment, instead of NAME.")
@_pins
@click.option("--over", metavar="TIME", help="Move in steps over this time, with gates between them.")
@click.option(
    "--steps",
    metavar="SHARE,…",
    help="With --over: the share of the revision that gains, step by step; what it has already is left out. "
    "[default: 1%,10%,50% and its target]",
)
@click.option(
    "--max-errors",
    metavar="SHARE",
    help="With --over: roll back when a revision that gains fails more of its requests. [default: 1%]",
)
@click.option("--detach", is_flag=True, help="With --over: return after the first step; the rest runs by itself.")
@click.option("--note", metavar="TEXT", help="Why; kept in the history.")
@click.option("--authorization-ref", default=None, hidden=True)
@click.option("--entries", hidden=True, default=None)
@verb(
    "traffic",
    "set",
    changes=True,
    view=lambda result: _view_schedule(result) if "schedule" in result else _view_moved(result),
    answers={
        "deployment_id": "named",
        "entries": "entries",
        "note": "note",
        "authorization_ref": "authorization_ref",
        "pins": "pinned",
        "over": "over",
        "steps": "steps",
        "max_errors": "max_errors",
        "detach": "detach",
    },
    types={"entries": _ENTRIES, "pins": _PINS},
)
def set_(
    invocation: Invocation,
    words: tuple[str, ...],
    named: str | None,
    note: str | None,
    authorization_ref: str | None,
    entries: Any,
    pinned: str | None,
    over: str | None,
    steps: str | None,
    max_errors: str | None,
    detach: bool,
) -> Any:
    """Move the dial; returns when every router serves it.

    With --over in steps: each is held for an equal part of the time, the last one too, and left only when the workers
    are healthy and errors stay below the bound. Otherwise what was before comes back, and the exit status is 7.

    \b
    gtc op traffic set web v2=1% rest=v1     1 % to v2, the rest to v1
    gtc op traffic set web v2=25bps rest=@live
    gtc op traffic set web @latest=100%
    gtc op traffic set web @latest=100% --over 10m --steps 1%,10%,50%,100%
    """
    from greentic.operations import traffic as operations

    said = list(words)
    if named is None and said and "=" not in said[0]:
        named = said.pop(0)
    wanted = need(named, "argument 'NAME'")
    asked = shares(need(tuple(said) or tuple(entries or ()), "argument 'REVISION=SHARE'"))
    if over is not None:
        return _scheduled(
            invocation,
            wanted,
            asked,
            over=over,
            steps=steps,
            max_errors=max_errors,
            detach=detach,
            note=note,
            authorization_ref=authorization_ref or "auth.json",
            pins=pins(pinned),
        )
    if steps is not None or max_errors is not None or detach:
        raise click.UsageError("--steps, --max-errors and --detach need --over TIME.", click.get_current_context())
    return operations.set_split(
        invocation.context(),
        invocation.environment_id,
        wanted,
        asked,
        note=note,
        authorization_ref=authorization_ref or "auth.json",
        pins=pins(pinned),
    )


async def _scheduled(
    invocation: Invocation,
    deployment: str,
    asked: Any,
    *,
    over: str,
    steps: str | None,
    max_errors: str | None,
    detach: bool,
    **told: Any,
) -> Any:
    from greentic.operations import schedules as operations
    from greentic.spec.errors import InvalidArgument
    from greentic.spec.schedule import ErrorRate, WorkersHealthy
    from greentic.spec.weights import parse_share

    length = seconds(over)
    if not length:
        raise InvalidArgument("--over needs a time to move in; without it the dial moves at once")
    result = await operations.begin(
        invocation.context(),
        invocation.environment_id,
        deployment,
        asked,
        steps=None if steps is None else [parse_share(word) for word in steps.split(",")],
        over_seconds=length,
        gates=(WorkersHealthy(), ErrorRate(limit_bps=parse_share("1%" if max_errors is None else max_errors))),
        drive=not detach,
        **told,
    )
    if detach and not invocation.dry_run:
        from greentic.cli.detached import drive

        result["log"] = str(await drive(invocation, result["deployment_id"]))
    return result


@traffic.command()
@_deployment
@click.option("--note", metavar="TEXT", help="Why; kept with the schedule.")
@verb(
    "traffic",
    "pause",
    changes=True,
    view=lambda result: _view_schedule(result),
    answers={"deployment_id": "named", "note": "note"},
)
def pause(invocation: Invocation, deployment: str | None, named: str | None, note: str | None) -> Any:
    """Hold a schedule at the step where it is; the command that drives it ends."""
    from greentic.operations import schedules as operations

    wanted = need(deployment or named, "argument 'NAME'")
    return operations.pause(invocation.context(), invocation.environment_id, wanted, note=note)


@traffic.command()
@_deployment
@click.option("--detach", is_flag=True, help="Return at once; the rest runs by itself.")
@verb(
    "traffic",
    "resume",
    changes=True,
    view=lambda result: _view_schedule(result),
    answers={"deployment_id": "named", "detach": "detach"},
)
async def resume(invocation: Invocation, deployment: str | None, named: str | None, detach: bool) -> Any:
    """Go on with a schedule that is paused, or whose command has ended: its present step is held once more."""
    from greentic.operations import schedules as operations

    wanted = need(deployment or named, "argument 'NAME'")
    if detach and not invocation.dry_run:
        from dataclasses import replace

        from greentic.cli.detached import drive
        from greentic.operations import traffic as dial

        # Refused here, in the words of the engine, and not in the log of a process that nobody watches.
        await operations.resume(replace(invocation.context(), dry_run=True), invocation.environment_id, wanted)
        log = await drive(invocation, wanted)
        return {**dial.show(invocation.context(), invocation.environment_id, wanted), "log": str(log)}
    return await operations.resume(invocation.context(), invocation.environment_id, wanted)


@traffic.command()
@_deployment
@click.option("--stay", is_flag=True, help="Leave the dial where it is instead of restoring what was before.")
@click.option("--note", metavar="TEXT", help="Why; kept in the history.")
@verb(
    "traffic",
    "abort",
    changes=True,
    view=lambda result: _view_schedule(result),
    answers={"deployment_id": "named", "stay": "stay", "note": "note"},
)
def abort(invocation: Invocation, deployment: str | None, named: str | None, stay: bool, note: str | None) -> Any:
    """End a schedule and go back to the split from before it, at once."""
    from greentic.operations import schedules as operations

    wanted = need(deployment or named, "argument 'NAME'")
    return operations.abort(invocation.context(), invocation.environment_id, wanted, stay=stay, note=note)


@traffic.command()
@_deployment
@click.option(
    "--to",
    "generation",
    type=click.IntRange(min=0),
    metavar="GENERATION",
    help="Which split. [default: the one before]",
)
@_pins
@click.option("--note", metavar="TEXT", help="Why; kept in the history.")
@verb(
    "traffic",
    "rollback",
    changes=True,
    view=lambda result: _view_moved(result),
    answers={"deployment_id": "named", "to_generation": "generation", "note": "note", "pins": "pinned"},
    types={"pins": _PINS},
)
def rollback(
    invocation: Invocation,
    deployment: str | None,
    named: str | None,
    generation: int | None,
    note: str | None,
    pinned: str | None,
) -> Any:
    """Go back to an earlier split, at once; a rollback can itself be rolled back."""
    from greentic.operations import traffic as operations

    return operations.rollback(
        invocation.context(),
        invocation.environment_id,
        need(deployment or named, "argument 'NAME'"),
        to_generation=generation,
        note=note,
        pins=pins(pinned),
    )


@traffic.command()
@_deployment
@click.option("--note", metavar="TEXT", help="Why.")
@verb(
    "traffic",
    "clear",
    changes=True,
    view=lambda result: _view_cleared(result),
    answers={"deployment_id": "named", "note": "note"},
)
def clear(invocation: Invocation, deployment: str | None, named: str | None, note: str | None) -> Any:
    """Give a deployment no traffic at all, so that its revisions can be archived."""
    from greentic.operations import traffic as operations

    return operations.clear(
        invocation.context(), invocation.environment_id, need(deployment or named, "argument 'NAME'"), note=note
    )


@traffic.command()
@_deployment
@verb("traffic", "show", view=lambda result: _view_show(result), answers={"deployment_id": "named"})
def show(invocation: Invocation, deployment: str | None, named: str | None) -> Any:
    """Show the live split."""
    from greentic.operations import traffic as operations

    return operations.show(
        invocation.context(), invocation.environment_id, need(deployment or named, "argument 'NAME'")
    )


@traffic.command()
@_deployment
@verb("traffic", "history", view=lambda result: _view_history(result), answers={"deployment_id": "named"})
def history(invocation: Invocation, deployment: str | None, named: str | None) -> Any:
    """Show every split that is kept; any of them can be rolled back to."""
    from greentic.operations import traffic as operations

    return operations.history(
        invocation.context(), invocation.environment_id, need(deployment or named, "argument 'NAME'")
    )


@traffic.command()
@click.argument("deployment", metavar="NAME", required=False, shell_complete=complete_deployment)
@click.argument("revision", metavar="REVISION", required=False, shell_complete=complete_revision)
@click.option("--for", "lifetime", default="1h", show_default=True, metavar="TIME", help="How long the link works.")
@verb(
    "traffic",
    "preview",
    view=lambda result: _view_preview(result),
    answers={"deployment_id": "deployment", "revision_id": "revision"},
)
def preview(invocation: Invocation, deployment: str | None, revision: str | None, lifetime: str) -> Any:
    """Print a link that reaches a ready revision whatever its share, 0 % included."""
    from greentic.operations import traffic as operations

    return operations.preview(
        invocation.context(),
        invocation.environment_id,
        need(deployment, "argument 'NAME'"),
        need(revision, "argument 'REVISION'"),
        seconds=seconds(lifetime),
    )


@traffic.command("trust-token")
@click.argument("deployment", metavar="[NAME]", required=False, shell_complete=complete_deployment)
@click.option("--for", "lifetime", default="1h", show_default=True, metavar="TIME", help="How long it is believed.")
@verb("traffic", "trust-token", view=lambda result: _view_trusted(result), answers={"deployment_id": "deployment"})
def trust_token(invocation: Invocation, deployment: str | None, lifetime: str) -> Any:
    """Print a token that makes its bearer a trusted caller of NAME, or of every deployment.

    Sent in the header x-greentic-trust, it lets x-greentic-revision name any revision that is served, and
    x-greentic-user say who the user is. Whoever has it can do so: keep it as you keep a password.
    """
    from greentic.operations import router_keys as operations

    return operations.trust_token(
        invocation.context(), invocation.environment_id, deployment, seconds=seconds(lifetime)
    )


def _entries(result: Any) -> str:
    from greentic.spec.weights import format_share

    return ", ".join(
        f"{entry['name'] or entry['revision_id']} {format_share(entry['weight_bps'])}" for entry in result["entries"]
    )


def _view_moved(result: Any) -> None:
    from greentic.cli.tables import line, receipt

    moved = "" if result.get("changed", True) else " (as it was)"
    back = f", as in generation {result['restored_generation']}" if "restored_generation" in result else ""
    line((result["bundle_id"], "bold"), f": {_entries(result)}{back}{moved}")
    if "receipt" not in result:
        line(f"would move {result['moved_slots'] / 100:g}% of the traffic (generation {result['generation']})")
        _view_rehearsal(result.get("rehearsal", {}))
    elif "deployment_status" in result:
        # Every router has it, but what is paused answers nobody: "live" would not be true.
        found = result["receipt"]
        line(
            f"{found['acknowledged']}/{found['expected']} routers have generation {found['generation']}; "
            f"{result['bundle_id']} is {result['deployment_status']} and serves nobody until "
            f"gtc op bundles update {result['bundle_id']} --status active"
        )
    else:
        line((receipt(result["receipt"]), "green"))


def _view_rehearsal(told: Any) -> None:
    from greentic.cli.tables import line
    from greentic.spec.weights import format_share

    for move in told.get("moves", ()):
        line(f"  slots: {format_share(move['slots'])} of all, from {move['from'] or 'nobody'} to {move['to']}")
    fates = {"stay": "stay", "end": "end at once"}
    for row in told.get("pins", ()):
        live = "live pins unknown" if row["live"] is None else f"{sum(row['live'].values())} live pins"
        fate = fates.get(row["fate"]) or f"are honoured until {row['until']}"
        line(f"  pins to {row['name']}: {fate} ({live})")
    for row in told.get("capacity", ()):
        ready = f", {row['ready_workers']}/{row['wanted_workers']} workers ready" if "wanted_workers" in row else ""
        verdict = "enough" if row["enough"] else "not enough"
        line(
            f"  capacity of {row['name']}: {format_share(row['capacity_bps'])} for {format_share(row['weight_bps'])}, "
            f"{verdict} ({row['state']}{ready})"
        )
    if told and not told["running"]:
        line(("  the data plane is down: it would be started, and health looked at, first", "dim"))
    if "refused" in told:
        line(("  it would be refused: ", "red"), told["refused"]["message"])


def _view_schedule(result: Any) -> None:
    from greentic.cli.tables import line, receipt

    schedule = result["schedule"]
    line((result["bundle_id"], "bold"), f": {_entries(result)}")
    _schedule_lines(schedule, table_too="receipt" not in result and schedule["state"] == "running")
    if "receipt" in result:
        line((receipt(result["receipt"]), "green"))
    _view_rehearsal(result.get("rehearsal", {}))
    if "log" in result:
        line((f"it runs by itself; its progress: {result['log']}", "dim"))


def _schedule_lines(schedule: Any, *, table_too: bool) -> None:
    from greentic.cli.tables import line, table

    if table_too:
        table(
            ("STEP", "", "SHARES", "SEEN"),
            [
                (
                    number,
                    "live" if number == schedule["step"] else "",
                    _entries(step),
                    step.get("verdict"),
                )
                for number, step in enumerate(schedule["steps"], 1)
            ],
        )
    why = f": {schedule['reason']}" if "reason" in schedule else ""
    until = f", next at {schedule['next_step_at']}" if "next_step_at" in schedule else ""
    line(f"schedule {schedule['state']}, step {schedule['step']} of {len(schedule['steps'])}{until}{why}")
    if schedule.get("driven") is False:
        line(("no command drives it: go on with gtc op traffic resume, or gtc op traffic abort", "yellow"))


def _view_cleared(result: Any) -> None:
    from greentic.cli.tables import line, receipt

    if not result["cleared"]:
        line(f"{result['bundle_id']} had no traffic")
        return
    line((result["bundle_id"], "bold"), ": no traffic")
    if "receipt" in result:
        line((receipt(result["receipt"]), "green"))


def _view_show(result: Any) -> None:
    from greentic.cli.tables import line, table
    from greentic.spec.weights import format_share

    if not result["entries"]:
        line(f"{result['bundle_id']} has no traffic; give it some: gtc op traffic set {result['bundle_id']} v1=100%")
        return
    table(
        ("REVISION", "SHARE", "ID"),
        [(entry["name"], format_share(entry["weight_bps"]), entry["revision_id"]) for entry in result["entries"]],
    )
    now = datetime.now(UTC)
    for entry in result["entries"]:
        if "honour_until" in entry and datetime.fromisoformat(entry["honour_until"]) > now:
            line((f"pins to {entry['name']} are honoured until {entry['honour_until']}", "dim"))
    if "schedule" in result:
        _schedule_lines(result["schedule"], table_too=result["schedule"]["state"] in ("running", "paused"))
    if "deployment_status" in result:
        line((f"{result['bundle_id']} is {result['deployment_status']}: it serves nobody", "yellow"))
    note = f": {result['note']}" if "note" in result else ""
    line((f"generation {result['generation']}, set {result['updated_at']} by {result['updated_by']}{note}", "dim"))


def _view_history(result: Any) -> None:
    from greentic.cli.tables import age, line, table

    if not result["splits"]:
        line(f"{result['bundle_id']} never had traffic")
        return
    table(
        ("GENERATION", "", "SHARES", "MOVED", "AGE", "BY", "NOTE"),
        [
            (
                row["generation"],
                "live" if row["live"] else "",
                _entries(row),
                f"{row['moved_slots'] / 100:g}%",
                age(row["updated_at"]),
                row["updated_by"],
                _noted(row),
            )
            for row in result["splits"]
        ],
    )


def _noted(row: Any) -> str | None:
    """The note of a split, with what it asked to become of pins."""
    note: str | None = row.get("note")
    pins = row.get("pins")
    if pins is None:
        return note
    length = f"={pins['grace_seconds']}s" if "grace_seconds" in pins else ""
    return f"{note or ''} (pins: {pins['mode']}{length})".strip()


def _view_preview(result: Any) -> None:
    from greentic.cli.tables import line

    host = f" (Host: {result['host']})" if "host" in result else ""
    click.echo(result["url"] + host)
    line((f"reaches {result['name']} for {result['expires_in_seconds']} s, whatever its share", "dim"))


def _view_trusted(result: Any) -> None:
    from greentic.cli.tables import line

    click.echo(f"x-greentic-trust: {result['header']['x-greentic-trust']}")
    scope = f"of {result['bundle_id']}" if result["bundle_id"] is not None else "of every deployment"
    line((f"its bearer is a trusted caller {scope} for {result['expires_in_seconds']} s", "dim"))
