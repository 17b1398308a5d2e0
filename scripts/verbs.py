"""Writes docs/verbs.md: every verb of `gtc` with its words and what it does, from the commands themselves.

    python scripts/verbs.py [--check]

`--check` writes nothing and exits 1 when the page is not what would be written.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from greentic.cli.main import cli

PAGE = Path(__file__).resolve().parents[1] / "docs" / "verbs.md"
HEAD = """# Verbs

Written by `make docs` from the commands themselves; [cli.md](cli.md) is the map. `--help` after a verb has its options.
"""


def page() -> str:
    """The page as it should be."""
    return HEAD + "".join(_sections(cli, click.Context(cli, info_name="gtc")))


def _sections(group: click.Group, context: click.Context) -> list[str]:
    rows, below = [], []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            below += _sections(command, inner)
        else:
            words = [word for word in command.collect_usage_pieces(inner) if word != "[OPTIONS]"]
            said = " ".join([inner.command_path, *words]).replace("|", "\\|")
            rows.append(f"| `{said}` | {_summary(command)} |\n")
    title = f"\n## {context.command_path}\n\n{_summary(group)}\n\n| verb | what it does |\n|---|---|\n"
    return [title, *rows, *below] if rows else below


def _summary(command: click.Command) -> str:
    """The first paragraph of the help, on one line."""
    text = (command.help or "").partition("\n\n")[0].partition("\b")[0]
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    """Write or check the page."""
    wanted = page()
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == wanted:
            return 0
        print("docs/verbs.md does not list the verbs as they are; write it anew: make docs", file=sys.stderr)
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
