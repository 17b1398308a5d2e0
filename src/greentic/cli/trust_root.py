"""`gtc op trust-root`: whose signatures count in an environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from greentic.cli.invocation import Invocation, need, verb
from greentic.cli.nouns import Noun

MAX_PEM_BYTES = 16 * 1024


@click.group("trust-root", cls=Noun)
def trust_root() -> None:
    """The trust root: whose signatures count in an environment. A removed key stays removed until you restore it."""


def _environment(command: Any) -> Any:
    return click.argument("name", metavar="ENV", required=False)(command)


def _named(invocation: Invocation, name: str | None) -> str:
    from greentic.spec.identifiers import environment_id

    return environment_id(name) if name else invocation.environment_id


@trust_root.command()
@_environment
@verb("trust-root", "bootstrap", changes=True, view=lambda result: _view_bootstrapped(result))
def bootstrap(invocation: Invocation, name: str | None) -> Any:
    """Trust your operator key; makes it when there is none ($GTC_OPERATOR_KEY_PATH or ~/.greentic/operator)."""
    from greentic.operations import trust_root as operations

    return operations.bootstrap(invocation.context(), _named(invocation, name))


@trust_root.command("list")
@_environment
@verb("trust-root", "list", view=lambda result: _view_list(result))
def list_(invocation: Invocation, name: str | None) -> Any:
    """List the trusted keys and those that were removed."""
    from greentic.operations import trust_root as operations

    return operations.list_(invocation.context(), _named(invocation, name))


@trust_root.command()
@_environment
@click.option("--key-id", metavar="ID", help="Must be the id that follows from the key.")
@click.option("--public-key-pem", metavar="TEXT", help="The public key, as a PEM text.")
@click.option("--public-key-file", metavar="FILE", help="The public key, as a PEM file such as key.pem.pub.")
@click.option("--restore", is_flag=True, help="Take back a key that was removed; its id is enough.")
@verb(
    "trust-root",
    "add",
    changes=True,
    view=lambda result: _view_added(result),
    answers={
        "key_id": "key_id",
        "public_key_pem": "public_key_pem",
        "public_key_file": "public_key_file",
        "restore": "restore",
    },
)
def add(
    invocation: Invocation,
    name: str | None,
    key_id: str | None,
    public_key_pem: str | None,
    public_key_file: str | None,
    restore: bool,
) -> Any:
    """Trust a public key."""
    from greentic.operations import trust_root as operations
    from greentic.spec.errors import InvalidArgument

    if public_key_pem is not None and public_key_file is not None:
        raise InvalidArgument("--public-key-pem and --public-key-file are two names for one thing: give one")
    if public_key_file is not None:
        with Path(public_key_file).open("rb") as file:
            public_key_pem = file.read(MAX_PEM_BYTES).decode("ascii", "replace")
    return operations.add(
        invocation.context(),
        _named(invocation, name),
        key_id=key_id,
        public_key_pem=public_key_pem,
        restore=restore,
    )


@trust_root.command("add-did")
@_environment
@click.option("--did", metavar="DID", help="Whose keys, such as did:web:trust.example.com.")
@verb(
    "trust-root",
    "add-did",
    changes=True,
    view=lambda result: _view_did(result),
    answers={"did": "did"},
)
def add_did(invocation: Invocation, name: str | None, did: str | None) -> Any:
    """Trust the keys that a did:web asserts with now; they are fetched over HTTPS."""
    from greentic.operations import updates

    return updates.trust_did(invocation.context(), _named(invocation, name), need(did, "option '--did'"))


@trust_root.command()
@_environment
@click.option("--key-id", metavar="ID", help="Which key; see: gtc op trust-root list.")
@verb(
    "trust-root",
    "remove",
    changes=True,
    view=lambda result: _view_removed(result),
    answers={"key_id": "key_id"},
)
def remove(invocation: Invocation, name: str | None, key_id: str | None) -> Any:
    """Trust a key no more, for good: neither a backup nor bootstrap brings it back."""
    from greentic.operations import trust_root as operations

    return operations.remove(invocation.context(), _named(invocation, name), need(key_id, "option '--key-id'"))


def _count(result: Any) -> str:
    count = result["trusted_key_count"]
    return "1 key is trusted" if count == 1 else f"{count} keys are trusted"


def _view_bootstrapped(result: Any) -> None:
    from greentic.cli.tables import line

    if result["operator_key_id"] is None:
        line(f"an operator key would be made, and {result['environment_id']} would trust it")
        return
    line(f"{result['environment_id']} trusts the operator key {result['operator_key_id']} ({_count(result)})")


def _view_added(result: Any) -> None:
    from greentic.cli.tables import line

    line(f"{result['environment_id']} trusts the key {result['added_key_id']} ({_count(result)})")


def _view_removed(result: Any) -> None:
    from greentic.cli.tables import line

    if result["removed_public_key_pem"] is None:
        line(f"{result['environment_id']} does not trust the key {result['removed_key_id']}: nothing to remove")
        return
    line(f"{result['environment_id']} trusts the key {result['removed_key_id']} no more ({_count(result)})")


def _view_list(result: Any) -> None:
    from greentic.cli.tables import line, table

    rows = [(key["key_id"], "trusted", None) for key in result["keys"]]
    rows += [(key["key_id"], "removed", key.get("removed_at")) for key in result["removed"]]
    if not rows:
        line(f"nobody is trusted yet; begin with: gtc op trust-root bootstrap {result['environment_id']}")
        return
    table(("KEY", "STATE", "REMOVED"), rows)


def _view_did(result: Any) -> None:
    from greentic.cli.tables import line

    line(f"{result['environment_id']} trusts the keys of {result['did']}: {', '.join(result['key_ids'])}")
