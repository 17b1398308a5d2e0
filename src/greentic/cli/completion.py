"""`gtc completion`: the completion script of a shell."""

from __future__ import annotations

from typing import Any

import click

from greentic.cli.invocation import Invocation, verb


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@verb("completion", "show", view=lambda result: click.echo(result["script"]))
def completion(invocation: Invocation, shell: str) -> Any:
    """Print the completion script of SHELL: `eval "$(gtc completion bash)"` in your shell's start file."""
    from click.shell_completion import get_completion_class

    from greentic.cli.main import cli

    found = get_completion_class(shell)
    assert found is not None
    return {"shell": shell, "script": found(cli, {}, "gtc", "_GTC_COMPLETE").source()}
