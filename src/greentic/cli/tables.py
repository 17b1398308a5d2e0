"""Tables, trees and ages for people. Colour and width follow the terminal; a pipe gets plain text, never cut."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

COLOURS = {
    "ready": "green",
    "healthy": "green",
    "active": "green",
    "staged": "cyan",
    "warming": "yellow",
    "starting": "yellow",
    "draining": "yellow",
    "backing-off": "yellow",
    "unhealthy": "red",
    "failed": "red",
    "down": "red",
    "archived": "dim",
    "inactive": "dim",
}


@cache
def console() -> Console:
    """The console on standard output."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 10_000)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table with a heading line; states are coloured."""
    drawn = Table(box=None, header_style="bold", pad_edge=False, show_edge=False, expand=False)
    for column in columns:
        drawn.add_column(column, no_wrap=True, justify="right" if column.isupper() and column in _NUMERIC else "left")
    for row in rows:
        drawn.add_row(*(cell(value) for value in row))
    console().print(drawn)


_NUMERIC = {"SHARE", "REQUESTS", "ERRORS", "P50", "P99", "GENERATION", "MOVED", "REVISIONS", "IN FLIGHT", "AGE"}


def cell(value: Any) -> Text:
    """One value as text, coloured when it is a known state."""
    text = "-" if value is None or value == "" else str(value)
    return Text(text, style=COLOURS.get(text, ""))


def line(*parts: str | tuple[str, str]) -> None:
    """One line of text; a tuple is (text, style)."""
    console().print(Text.assemble(*parts))


def age(timestamp: str | None) -> str:
    """How long ago, in the one or two largest units: `3s`, `5m`, `2h`, `4d`."""
    if not timestamp:
        return "-"
    then = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    seconds = max(0, int((datetime.now(UTC) - then).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def milliseconds(value: float | None) -> str:
    """Milliseconds with as many digits as matter."""
    if value is None:
        return "-"
    return f"{value:.2f} ms" if value < 10 else f"{value:.0f} ms"


def receipt(document: dict[str, Any] | None) -> str:
    """`live on 1/1 routers in 9 ms (generation 14)`, or what is not live yet."""
    if not document:
        return "recorded; no data plane is running"
    return (
        f"live on {document['acknowledged']}/{document['expected']} routers "
        f"in {milliseconds(document['milliseconds'])} (generation {document['generation']})"
    )
