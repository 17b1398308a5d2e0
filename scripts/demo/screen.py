"""What a person reads: headings, the commands as one would type them, tables. Plain text when it is not a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table
from rich.text import Text

from demo.figures import MS, Flips, Seen, Switch, percentile

PLAIN_WIDTH = 120


class Screen:
    """Standard output. Colour follows the terminal and NO_COLOR."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        if not self._console.is_terminal:
            self._console = Console(highlight=False, soft_wrap=True, width=PLAIN_WIDTH, no_color=True)
        self._number = 0

    def heading(self, text: str) -> None:
        """The next part of the story."""
        self._number += 1
        self._console.print()
        self._console.print(Text.assemble((f"{self._number}  ", "dim"), (text, "bold")))

    def command(self, line: str) -> None:
        """A command that is run now."""
        self._console.print(Text.assemble(("   $ ", "dim"), (line, "cyan")))

    def note(self, *parts: str | tuple[str, str]) -> None:
        """One line about what happened."""
        self._console.print(Text.assemble("     ", *parts))

    def plain(self, text: str = "") -> None:
        """A line as it is."""
        self._console.print(Text(text))

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """A spinner while something takes its time; nothing when it is not a terminal."""
        if self._console.is_terminal and os.environ.get("TERM") != "dumb":
            with self._console.status(text, spinner="dots"):
                yield
        else:
            yield

    def seen(self, seen: Seen, names: dict[str, str]) -> None:
        """What clients saw of one split, in one line."""
        counts = ", ".join(
            f"{name} {seen.counts.get(revision, 0)} ({_percent(seen.counts.get(revision, 0), seen.total)})"
            for revision, name in names.items()
        )
        self.note((f"{seen.total} requests", "bold"), f": {counts}, ", _failures(seen))

    def summary(self, rows: Sequence[tuple[Seen, Switch | None]], names: dict[str, str]) -> None:
        """What clients saw at each step, and how long each move took."""
        table = _table("WHAT CLIENTS SAW", "REQUESTS", *(f"{n.upper()} OF ITS SHARE" for n in names.values()))
        for column in ("FAILED", "P50", "P99"):
            table.add_column(column, justify="right", no_wrap=True)
        for seen, _ in rows:
            shares = (
                f"{seen.counts.get(revision, 0)} of {_number(float(seen.expected(revision)))}" for revision in names
            )
            table.add_row(
                seen.title,
                str(seen.total),
                *shares,
                Text(str(seen.failed), style="red bold" if seen.failed else "green"),
                _ms(percentile(seen.latencies, 50)),
                _ms(percentile(seen.latencies, 99)),
            )
        self._console.print()
        self._console.print(table)
        table = _table("HOW LONG IT TOOK", "COMMAND", "COMMIT", "RECEIPT", "SEEN", "LAST OLD", "STALE")
        for seen, switch in rows:
            if switch is not None:
                table.add_row(seen.title, *_timing(switch))
        self._console.print()
        self._console.print(table)
        self._console.print()
        for line in (
            "OF ITS SHARE  every count is less than one request away from its share",
            "COMMAND   all of gtc, interpreter included",
            "COMMIT    from the moment recorded for the move to its commit: syncing the disk",
            "RECEIPT   the router's acknowledgement, as gtc tells it",
            "SEEN      from the commit to a client's first answer by the new split",
            "LAST OLD  from the commit to the last request that the old split still decided",
            "STALE     requests sent after the receipt that the old split decided",
        ):
            self._console.print(Text(line, style="dim"))

    def flips(self, flips: Flips) -> None:
        """The distribution over many moves."""
        table = _table(f"{len(flips.switches)} MOVES", "P50", "P99", "MAX")
        for name, title in (
            ("command", "the whole command"),
            ("commit", "the commit"),
            ("receipt", "the router's acknowledgement"),
            ("seen", "seen by a client, from the commit"),
            ("last_old", "last request by the old split, from the commit"),
        ):
            values = flips.values(name)
            table.add_row(
                title, _ms(percentile(values, 50)), _ms(percentile(values, 99)), _ms(max(values, default=0.0))
            )
        self._console.print(table)

    def verdict(self, broken: Sequence[str], seconds: float) -> None:
        """The last word."""
        self.plain()
        if not broken:
            self._console.print(Text(f"Every promise held. ({seconds:.0f} s)", style="bold green"))
            return
        self._console.print(Text(f"{len(broken)} broken:", style="bold red"))
        for promise in broken:
            self._console.print(Text(f"  {promise}", style="red"))


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for column in others:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _timing(switch: Switch) -> tuple[str, ...]:
    return (
        _ms(switch.command),
        _ms(switch.commit),
        _ms(switch.receipt),
        "never" if switch.seen is None else _ms(switch.seen),
        _ms(switch.last_old),
        str(switch.stale),
    )


def _failures(seen: Seen) -> tuple[str, str]:
    if seen.failed:
        return f"{seen.failed} failed: {dict(seen.failures)}", "red"
    return "none failed", "green"


def _percent(part: int, whole: int) -> str:
    return f"{part * 100 / whole:.2f} %" if whole else "-"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _ms(value: float) -> str:
    return f"{value:.2f} ms" if value < 10 else f"{value:.0f} ms"


def since(then: int, now: int) -> str:
    """Nanoseconds as milliseconds."""
    return _ms((now - then) / MS)
