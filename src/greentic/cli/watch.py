"""`gtc op watch`: the dial while it works."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import click

from greentic.cli.arguments import complete_deployment
from greentic.cli.invocation import Concluded, Invocation, verb

_WIDE, _NARROW, _TINY = 110, 72, 48
"""Columns of the terminal from which everything has room, and below which only what matters most is shown."""


@click.command()
@click.argument("name", metavar="[ENV|NAME]", required=False, shell_complete=complete_deployment)
@click.option("--interval", type=float, default=1.0, show_default=True, metavar="SECONDS", help="Between two pictures.")
@click.option("--once", is_flag=True, help="One picture, with the rates of one interval, and end.")
@verb("watch", "show", view=lambda result: _print(result), answers={"deployment_id": "name"})
async def watch(invocation: Invocation, name: str | None, interval: float, once: bool) -> Any:
    """Watch shares asked and seen, rates, errors and latency per revision, drains and routers, until Ctrl-C.

    --json prints one line per picture. What is not a terminal gets plain lines.
    """
    import asyncio
    import contextlib
    import time

    from greentic.operations import watching

    environment_id, word = _meant(invocation, name)
    pictures = watching.watch(
        invocation.context(), environment_id, word, interval=interval, clock=time.monotonic, pause=asyncio.sleep
    )
    last: dict[str, Any] = {}
    async with contextlib.aclosing(pictures):
        if once:
            first = True
            async for last in pictures:
                if not first or not last["running"]:
                    break
                first = False
            return last
        with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C is how one stops watching
            await _show(invocation, pictures)
    return Concluded(None, 0)


def _meant(invocation: Invocation, name: str | None) -> tuple[str, str | None]:
    """The environment and the deployment that `name` names: an environment of that name goes first."""
    if name is None:
        return invocation.environment_id, None
    from greentic.spec.errors import GreenticError
    from greentic.spec.identifiers import environment_id

    if invocation.environment is None:
        try:
            known = {listing.environment_id for listing in invocation.context().store.list()}
            if environment_id(name) in known:
                return name, None
        except GreenticError:
            pass  # no name of an environment
    return invocation.environment_id, name


async def _show(invocation: Invocation, pictures: AsyncIterator[dict[str, Any]]) -> None:
    import sys

    if invocation.json:
        import json

        async for picture in pictures:
            document = {"op": invocation.verb, "noun": invocation.noun, "result": picture}
            click.echo(json.dumps(document, ensure_ascii=False))
        return
    if not sys.stdout.isatty():
        async for picture in pictures:
            for text in _lines(picture):
                click.echo(text)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as display:
        async for picture in pictures:
            display.update(_fitted(picture, console), refresh=True)


def _fitted(picture: Any, console: Any) -> Any:
    """The picture, or what of it the terminal is high enough for and how much more there is."""
    from rich.console import Group
    from rich.segment import SegmentLines
    from rich.text import Text

    whole = tree(picture, console.width)
    lines = console.render_lines(whole, pad=False)
    room = max(console.height - 1, 1)
    if len(lines) <= console.height:
        return whole
    more = Text(f"{len(lines) - room} lines more; one deployment: gtc op watch NAME", style="yellow", no_wrap=True)
    return Group(SegmentLines(lines[:room], new_lines=True), more)


def _print(picture: Any) -> None:
    from greentic.cli.tables import console

    console().print(tree(picture, console().width))


def tree(picture: Any, width: int) -> Any:
    """The picture as a rich renderable for a terminal of `width` columns."""
    from rich.console import Group
    from rich.text import Text
    from rich.tree import Tree

    state = ("running", "green") if picture["running"] else ("stopped", "yellow")
    where = picture["url"] if picture["running"] else "gtc start to run it"
    head = Text.assemble(
        (picture["environment_id"], "bold"), "  ", state, f"  {where or ''}", overflow="ellipsis", no_wrap=True
    )
    head.append(f"  generation {picture['generation']}", style="dim")
    root = Tree(head, guide_style="dim")
    if "observation_error" in picture:
        root.add(Text(f"cannot look at it: {picture['observation_error']['message']}", style="red"))
    if not picture["deployments"]:
        root.add(Text("no deployments; make one: gtc op deploy --bundle FILE.gtbundle NAME", style="dim"))
    for deployment in picture["deployments"]:
        title = _title(deployment, picture["running"])
        root.add(Group(title, _table(deployment, width)) if deployment["revisions"] else title)
    if picture["router_states"]:
        root.add(Group(*(_router(state, width) for state in picture["router_states"])))
    return root


def _title(deployment: Any, running: bool) -> Any:
    from rich.text import Text

    from greentic.cli.tables import COLOURS

    status = deployment["status"]
    title = Text.assemble(
        (deployment["bundle_id"], "bold"), f"  {deployment['customer_id']}  ", overflow="ellipsis", no_wrap=True
    )
    title.append(status, style=COLOURS.get(status, ""))
    generation = deployment["generation"]
    title.append("  no traffic" if generation is None else f"  generation {generation}")
    if running and generation is not None:
        lagging = deployment["lagging"]
        if lagging:
            title.append(f"  not yet on {', '.join(lagging)}", style="yellow")
        else:
            title.append("  on all routers", style="green")
    if deployment["requests_per_second"] is not None:
        title.append(f"  {_rate(deployment['requests_per_second'])}/s")
    return title


def _table(deployment: Any, width: int) -> Any:
    from rich.table import Table
    from rich.text import Text

    from greentic.cli.tables import cell, milliseconds

    columns: list[tuple[str, Callable[[Any], Any]]] = [
        ("", lambda revision: Text(revision["name"], style="bold")),
        ("ASKED", lambda revision: _share(revision["weight_bps"])),
        ("SEEN", lambda revision: _seen(revision)),
        ("REQ/S", lambda revision: _rate(revision["requests_per_second"])),
        ("ERR/S", lambda revision: _errors(revision["errors_per_second"])),
        ("P50", lambda revision: milliseconds(revision["p50_ms"])),
        ("P99", lambda revision: milliseconds(revision["p99_ms"])),
        ("IN FLIGHT", lambda revision: cell(revision.get("in_flight"))),
        ("PINS", lambda revision: _pins(revision["pins"])),
        ("STATE", lambda revision: _state(revision)),
        ("WORKER", lambda revision: cell(revision["health"])),
    ]
    if width < _WIDE:
        columns = [column for column in columns if column[0] not in {"P50", "PINS"}]
    if width < _NARROW:
        columns = [column for column in columns if column[0] not in {"IN FLIGHT", "WORKER", "ERR/S"}]
    if width < _TINY:
        columns = [column for column in columns if column[0] in {"", "ASKED", "SEEN"}]
    table = Table(box=None, show_edge=False, pad_edge=False, header_style="dim")
    for name, _ in columns:
        table.add_column(name, no_wrap=True, justify="left" if name in {"", "STATE", "WORKER"} else "right")
    for revision in deployment["revisions"]:
        table.add_row(*(make(revision) for _, make in columns))
    return table


def _router(state: Any, width: int) -> Any:
    from rich.text import Text

    ready = ("ready", "green") if state["ready"] else ("not ready: " + state["reason"], "red")
    text = Text.assemble((state["name"], "bold"), "  ", ready, overflow="ellipsis", no_wrap=True)
    if state["process_id"] is not None:
        text.append(f"  table {state['version']}  {state['connections']} connections")
        if width >= _NARROW:
            text.append(f"  pid {state['process_id']}, up {int(state['uptime_seconds'])} s", style="dim")
    return text


def _share(bps: int | None) -> Any:
    from rich.text import Text

    from greentic.spec.weights import format_share

    if bps is None:
        return Text("-", style="dim")
    return Text(format_share(bps)) if bps else Text("0%", style="dim")


def _seen(revision: Any) -> Any:
    """The share seen; yellow when it is another one than asked for, which it may well be where visitors return."""
    from rich.text import Text

    seen = revision["seen_bps"]
    if seen is None:
        return Text("-", style="dim")
    far = abs(seen - revision["weight_bps"]) > 200
    return Text(f"{seen / 100:.1f}%", style="yellow" if far else "")


def _rate(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _errors(value: float | None) -> Any:
    from rich.text import Text

    return Text(_rate(value), style="red" if value else "dim")


def _pins(pins: Any) -> str:
    return "-" if pins is None else str(sum(pins.values()))


def _state(revision: Any) -> Any:
    from greentic.cli.tables import cell

    left = revision["drain_seconds_left"]
    text = cell(revision["lifecycle"])
    if left is not None:
        text.append(f", at most {left:.0f} s more", style="yellow")
    return text


def _lines(picture: Any) -> list[str]:
    """A picture as plain lines, each of which stands for itself."""
    from greentic.cli.tables import milliseconds

    at = picture["at"][11:19]
    if not picture["running"]:
        why = picture.get("observation_error", {}).get("message", "stopped")
        return [f"{at} {picture['environment_id']} {why}"]
    lines = []
    for deployment in picture["deployments"]:
        for revision in deployment["revisions"]:
            seen = revision["seen_bps"]
            parts = [
                f"{at} {deployment['bundle_id']} {revision['name']}",
                f"asked {(revision['weight_bps'] or 0) / 100:g}%",
                f"seen {'-' if seen is None else f'{seen / 100:.1f}%'}",
                f"{_rate(revision['requests_per_second'])} req/s",
                f"{_rate(revision['errors_per_second'])} err/s",
                f"p50 {milliseconds(revision['p50_ms'])}",
                f"p99 {milliseconds(revision['p99_ms'])}",
                f"in flight {revision.get('in_flight', 0)}",
                revision["lifecycle"],
                revision["health"],
            ]
            if revision["drain_seconds_left"] is not None:
                parts.append(f"at most {revision['drain_seconds_left']:.0f} s more")
            lines.append("  ".join(parts))
        if deployment["lagging"]:
            lines.append(f"{at} {deployment['bundle_id']} not yet on {', '.join(deployment['lagging'])}")
    lines += [
        f"{at} {state['name']} not ready: {state['reason']}" for state in picture["router_states"] if not state["ready"]
    ]
    return lines
