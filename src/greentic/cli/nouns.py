"""Groups of verbs."""

from __future__ import annotations

import click

GLOBAL_FLAGS = frozenset({"--json", "--quiet", "-q", "--schema"})
GLOBAL_VALUES = frozenset({"--env", "-e", "--store-root", "--answers"})
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
