"""Every command that an error, a help text or a fix names exists."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from greentic.cli.main import cli

SOURCES = Path(__file__).parents[3] / "src" / "greentic"
COMMAND = re.compile(r"gtc((?: [a-z][a-z-]*(?![\w.=:/{]))+)")


def named() -> list[tuple[str, str]]:
    """(file, words) of each `gtc …` in the sources."""
    found = set()
    for path in SOURCES.rglob("*.py"):
        for match in COMMAND.finditer(path.read_text()):
            # The verb itself may be computed, as in `gtc op revisions {step}`.
            computed = match.string[match.end() :].startswith(" {")
            found.add((str(path.relative_to(SOURCES)), match[1].strip() + (" …" if computed else "")))
    return sorted(found)


@pytest.mark.parametrize(("file", "words"), named())
def test_a_named_command_exists(file: str, words: str) -> None:
    command: click.Command = cli
    context = click.Context(cli)
    for word in words.removesuffix(" …").split():
        if not isinstance(command, click.Group):
            return  # the rest are arguments
        following = command.get_command(context, word)
        assert following is not None, f"{file}: gtc {words}: there is no '{word}'"
        command = following
    assert (
        not isinstance(command, click.Group)
        or words.endswith("…")
        or words in {"op", "bundle"}
        or file.startswith("cli/")
    ), f"{file}: gtc {words} names a group, not a verb"


def test_the_sources_name_commands_at_all() -> None:
    assert len(named()) > 40
