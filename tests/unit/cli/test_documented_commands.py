"""The commands in the guides of the store can be typed as they are written: nouns, options and arguments."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from greentic.cli.main import cli

DOCS = Path(__file__).parents[3] / "docs"


def written() -> list[tuple[str, str]]:
    """(file, command) of each command in an indented block, without its comment."""
    found = []
    for name in ("store-server.md", "store-databases.md"):
        for line in (DOCS / name).read_text().splitlines():
            text = re.split(r"  +|$", line[4:])[0] if line.startswith("    ") else ""
            commands = re.split(r" (?:&&|[|>]) ", text)
            found += [(name, one.removesuffix(" …")) for one in commands if one.startswith("gtc ")]
    return found


@pytest.mark.parametrize(("file", "text"), written())
def test_it_can_be_typed(file: str, text: str) -> None:
    words, command, context = shlex.split(text)[1:], cli, click.Context(cli)
    while isinstance(command, click.Group):
        name, following, words = command.resolve_command(context, words)
        assert following is not None, text
        command, context = following, click.Context(following, parent=context, info_name=name)
    try:
        command.parse_args(click.Context(command, info_name=text), words)
    except click.UsageError as error:
        pytest.fail(f"{file}: {text}: {error.format_message()}")


def test_there_are_some() -> None:
    assert len(written()) > 15
