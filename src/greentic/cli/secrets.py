"""`gtc op secrets`: values that no record, log or argument ever holds."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from greentic.cli.invocation import Invocation, need, verb
from greentic.cli.nouns import Noun

if TYPE_CHECKING:
    from greentic.envpacks.secrets import SecretValue

_PATH = {"path": {"type": "string"}}
_SOURCE = {"path": "path", "from_env": "from_env"}
_TYPES = {**_PATH, "from_env": {"type": "string"}}


@click.group(cls=Noun)
def secrets() -> None:
    """Secrets of an environment, addressed TENANT/TEAM/CATEGORY/NAME ('_' is the team of all)."""


def _path_argument(command: Any) -> Any:
    return click.argument("path", metavar="PATH", required=False)(command)


def _source_options(command: Any) -> Any:
    for option in (
        click.option("--generate", is_flag=True, help="Make a random value of 32 characters."),
        click.option("--from-env", metavar="VARIABLE", help="Take the value from an environment variable."),
    ):
        command = option(command)
    return command


@secrets.command("list")
@verb("secrets", "list", view=lambda result: _view_list(result))
def list_(invocation: Invocation) -> Any:
    """List the names of the secrets, and whether what the environment mentions is there."""
    from greentic.operations import secrets as operations

    return operations.list_(invocation.context(), invocation.environment_id)


@secrets.command()
@_path_argument
@click.option("--reveal", is_flag=True, help="Show the value too. It is recorded that you looked.")
@verb(
    "secrets",
    "get",
    view=lambda result: _view_found(result),
    answers={"path": "path", "reveal": "reveal"},
    types={**_PATH, "reveal": {"type": "boolean"}},
)
def get(invocation: Invocation, path: str | None, reveal: Any) -> Any:
    """Say whether the secret is there; its value only with --reveal."""
    from greentic.operations import secrets as operations
    from greentic.spec.errors import InvalidArgument

    if not isinstance(reveal, bool):
        raise InvalidArgument("reveal is true or false")
    return operations.get(
        invocation.context(), invocation.environment_id, str(need(path, "argument 'PATH'")), reveal=reveal
    )


@secrets.command()
@_path_argument
@_source_options
@verb("secrets", "put", changes=True, view=lambda result: _view_put(result), answers=_SOURCE, types=_TYPES)
def put(invocation: Invocation, path: str | None, from_env: str | None, generate: bool) -> Any:
    """Keep a value: from standard input, from a prompt that shows nothing, or --from-env; never from an argument."""
    from greentic.operations import secrets as operations

    wanted = str(need(path, "argument 'PATH'"))
    return operations.put(invocation.context(), invocation.environment_id, wanted, _value(wanted, from_env, generate))


@secrets.command()
@_path_argument
@_source_options
@verb("secrets", "rotate", changes=True, view=lambda result: _view_put(result), answers=_SOURCE, types=_TYPES)
def rotate(invocation: Invocation, path: str | None, from_env: str | None, generate: bool) -> Any:
    """Replace the value of a secret that is there."""
    from greentic.operations import secrets as operations

    wanted = str(need(path, "argument 'PATH'"))
    return operations.rotate(
        invocation.context(), invocation.environment_id, wanted, _value(wanted, from_env, generate)
    )


@secrets.command()
@_path_argument
@verb(
    "secrets", "delete", changes=True, view=lambda result: _view_deleted(result), answers={"path": "path"}, types=_PATH
)
def delete(invocation: Invocation, path: str | None) -> Any:
    """Forget a secret."""
    from greentic.operations import secrets as operations

    return operations.delete(invocation.context(), invocation.environment_id, str(need(path, "argument 'PATH'")))


def _value(path: str, from_env: str | None, generate: bool) -> SecretValue:
    """The value from where it was said to be. One newline at the end of standard input is not part of it."""
    from greentic.envpacks.secrets import MAX_BYTES, SecretValue
    from greentic.operations import secrets as operations
    from greentic.spec.errors import InvalidArgument

    if generate and from_env is not None:
        raise InvalidArgument("--generate and --from-env name two values", next_step="give one of them")
    if generate:
        return operations.generated()
    if from_env is not None:
        found = os.environ.get(from_env)
        if found is None:
            raise InvalidArgument(f"there is no environment variable {from_env}")
        return SecretValue(found)
    if sys.stdin.isatty():
        return SecretValue(click.prompt(f"value of {path}", hide_input=True, confirmation_prompt=True, err=True))
    data = sys.stdin.buffer.read(MAX_BYTES + 3)
    try:
        return SecretValue(data.decode().removesuffix("\n").removesuffix("\r"))
    except UnicodeDecodeError:
        raise InvalidArgument("a secret's value must be text (UTF-8)") from None


def _view_list(result: Any) -> None:
    from greentic.cli.tables import age, line, table

    if result["secrets"]:
        table(("SECRET", "AGE"), [(row["path"], age(row["updated_at"])) for row in result["secrets"]])
    else:
        line(f"no secrets in {result['environment_id']}; put one: gtc op secrets put TENANT/TEAM/CATEGORY/NAME")
    missing = [row for row in result["known_refs"] if row["present"] is False]
    for row in missing:
        line((f"missing: {row['secret_ref']} ({row['named_by']})", "red"))


def _view_found(result: Any) -> None:
    from greentic.cli.tables import line

    if "value" in result:
        click.echo(result["value"])
        return
    line(f"{result['path']} is " + ("there" if result["present"] else "not there"))


def _view_put(result: Any) -> None:
    from greentic.cli.tables import line

    done = "replaced" if result["replaced"] else "kept"
    line(f"{result['secret_ref']} {done if result['written'] else 'would be ' + done} in {result['store']}")


def _view_deleted(result: Any) -> None:
    from greentic.cli.tables import line

    line(f"{result['secret_ref']} " + ("forgotten" if result["deleted"] else "was not there"))
