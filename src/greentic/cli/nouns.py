"""Groups of verbs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

GLOBAL_FLAGS = frozenset({"--json", "--quiet", "-q", "--schema"})
GLOBAL_VALUES = frozenset({"--env", "-e", "--store-root", "--store-url", "--store-token", "--answers"})
"""Options that every verb takes and that may stand anywhere before it, as in `gtc --json op env list`."""


class Noun(click.Group):
    """A group that hands the options which every verb shares down to the verb."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        shared: list[str] = []
        rest = list(args)
        while rest and rest[0].startswith("-"):
            name, equals, _ = rest[0].partition("=")
            if name in GLOBAL_FLAGS or (name in GLOBAL_VALUES and equals):
                shared.append(rest.pop(0))
            elif name in GLOBAL_VALUES and len(rest) > 1:
                shared += [rest.pop(0), rest.pop(0)]
            else:
                break
        if rest and not rest[0].startswith("-"):
            rest[1:1] = shared
        return super().parse_args(ctx, rest)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else f" There is: {', '.join(known)}."
            raise click.UsageError(f"No such command '{args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(Noun):
    """A group some of whose commands are imported only when they are called; the help text needs only the table."""

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *self._table]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self._table.get(cmd_name)
        if entry is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = entry[0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            own = [(name, command.get_short_help_str(80)) for name, command in self.commands.items()]
            formatter.write_dl(own + [(name, summary) for name, (_, summary) in self._table.items()])
