"""`gtc store`: the operator store server, and who may use it."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from greentic.cli.invocation import Invocation, need, verb
from greentic.cli.nouns import Noun

if TYPE_CHECKING:
    from greentic.spec.store_access import DataPlaneEntry, TokenEntry
    from greentic.store.contract import ServedStore


@click.group(cls=Noun)
def store() -> None:
    """The operator store server: one place for the environments of many machines."""


_FILE = click.Path(path_type=Path, dir_okay=False)


@store.command()
@click.option(
    "--bind",
    envvar="GREENTIC_STORE_BIND",
    default="127.0.0.1:8787",
    show_default=True,
    metavar="IP:PORT",
    help="Where.",
)
@click.option(
    "--db",
    envvar="GREENTIC_STORE_DB",
    metavar="WHERE",
    help="A SQLite file, postgresql://…, or a folder of environments as one machine keeps them.",
)
@click.option(
    "--operator-key",
    envvar="GREENTIC_STORE_OPERATOR_KEY",
    type=_FILE,
    metavar="FILE",
    help="The server's signing key. [default: $GTC_OPERATOR_KEY_PATH or ~/.greentic/operator/key.pem]",
)
@click.option(
    "--rbac-tokens",
    envvar="GREENTIC_STORE_RBAC_TOKENS",
    type=_FILE,
    metavar="FILE",
    help="Who may do what. Without it everybody may everything, on this machine only.",
)
@click.option(
    "--insecure-allow-non-loopback",
    envvar="GREENTIC_STORE_INSECURE_ALLOW_NON_LOOPBACK",
    is_flag=True,
    help="Let everybody who reaches the address do everything.",
)
@click.option(
    "--audit-max-rows-per-env",
    envvar="GREENTIC_STORE_AUDIT_MAX_ROWS",
    type=click.IntRange(1, 2**32 - 1),
    metavar="N",
    help="Keep the newest N audit entries of an environment only. [default: all]",
)
@click.option(
    "--tls-cert", envvar="GREENTIC_STORE_TLS_CERT", type=_FILE, metavar="FILE", help="Serve HTTPS: PEM chain."
)
@click.option("--tls-key", envvar="GREENTIC_STORE_TLS_KEY", type=_FILE, metavar="FILE", help="Its private key.")
@click.option(
    "--client-ca",
    envvar="GREENTIC_STORE_CLIENT_CA",
    type=_FILE,
    metavar="FILE",
    help="Recognise clients by certificates of this authority.",
)
@click.option("--max-body", type=click.IntRange(1024), metavar="BYTES", help="Largest body. [default: 2 MiB]")
@click.option(
    "--rate", type=click.FloatRange(1), metavar="N", help="Requests each second of one caller. [default: any]"
)
@verb("store", "serve", view=lambda result: click.echo(f"served {result['db']}; ended"))
def serve(
    invocation: Invocation,
    bind: str,
    db: str | None,
    operator_key: Path | None,
    audit_max_rows_per_env: int | None,
    **settings: Any,
) -> Any:
    """Serve environments over HTTP until Ctrl-C or SIGTERM (docs/store-server.md)."""
    from greentic.server.serving import Settings
    from greentic.server.serving import serve as run

    logging.basicConfig(
        level=os.environ.get("GREENTIC_LOG", "INFO").upper(), format="%(asctime)s %(levelname)s %(message)s"
    )
    place = str(need(db, "option '--db'"))
    if operator_key is not None:
        os.environ["GTC_OPERATOR_KEY_PATH"] = str(operator_key)
    # The thread that commits and the one that answers take turns. With the interpreter's 5 ms, whoever comes back from
    # the disk may wait for the other as long as it waited for the disk.
    sys.setswitchinterval(0.000_5)
    with _opened(place, audit_max_rows_per_env) as opened:
        run(
            opened, Settings(bind=bind, **settings), lambda url: invocation.progress(f"serving {_safe(place)} at {url}")
        )
    return {"db": _safe(place)}


@contextmanager
def _opened(place: str, audit_rows: int | None) -> Iterator[ServedStore]:
    """The store at `place`: a folder that is there (or a name that ends with a slash), else a database."""
    from greentic.operations.heads import sealing
    from greentic.spec.errors import NotImplementedYet

    if place.endswith("/") or Path(place).is_dir():
        from greentic.store.files import FilesStore

        if audit_rows is not None:
            raise NotImplementedYet("a folder of environments keeps its whole audit log")
        yield FilesStore(Path(place), seal=sealing())
        return
    from greentic.operations.backup_signing import OperatorNotary
    from greentic.store.sql.store import Limits, open_store

    opened = open_store(place, seal=sealing(), notary=OperatorNotary(), limits=Limits(audit_rows=audit_rows))
    try:
        yield opened
    finally:
        opened.close()


def _safe(place: str) -> str:
    """`place` without a password that may stand in a URL."""
    from urllib.parse import urlsplit

    if "://" not in place:
        return place
    parts = urlsplit(place)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


@store.command()
@verb("store", "openapi", view=lambda result: click.echo(json.dumps(result, indent=2, ensure_ascii=False)))
def openapi(invocation: Invocation) -> Any:
    """Print the description of the server's interface (OpenAPI 3.1)."""
    from greentic.server import openapi as described

    return described.document()


@store.command("import")
@click.option("--from", "source", metavar="WHERE", help="A folder of environments, a SQLite file or postgresql://…")
@click.option("--to", "target", metavar="WHERE", help="The same; one that does not end with / and is new is SQLite.")
@click.option("--only-env", "names", multiple=True, metavar="ENV", help="This environment; repeatable. [default: all]")
@click.option("--dry-run", is_flag=True, help="Say what would be moved; change nothing.")
@verb("store", "import", view=lambda result: _view_moved(result))
def import_(invocation: Invocation, source: str | None, target: str | None, names: tuple[str, ...]) -> Any:
    """Copy environments with their whole record into an empty place (docs/store-databases.md); safe to repeat."""
    from greentic.cli.invocation import actor
    from greentic.operations.moving import Wish, move

    wish = Wish(names, actor(), invocation.dry_run, invocation.progress)
    return move(str(need(source, "option '--from'")), str(need(target, "option '--to'")), wish)


def _view_moved(result: Any) -> None:
    for one in result["moved"]:
        click.echo(
            f"{one['environment_id']}: generation {one['generation']}, {one['audit_entries']} audit entries, "
            f"{one['keys']} keys, {one['files']} files, {one['backups']} backups"
        )
        for name in one["skipped"]:
            click.echo(f"  left behind, it cannot be read: {name}")
    for name in result["present"]:
        click.echo(f"{name}: there already")
    for name, parts in result["stays"].items():
        click.echo(f"{name}: stays with the data plane: {', '.join(parts)}")


@store.group(cls=Noun)
def token() -> None:
    """Who may use a store server."""


_PATH = click.option(
    "--file",
    "-f",
    "path",
    envvar="GREENTIC_STORE_RBAC_TOKENS",
    type=_FILE,
    metavar="FILE",
    help="The token file of the server. [default: $GREENTIC_STORE_RBAC_TOKENS]",
)


def _file(path: Path | None) -> Path:
    return Path(need(path, "option '--file' / '-f'"))


@token.command()
@click.argument("actor", metavar="NAME", required=False)
@click.option("--role", type=click.Choice(["admin", "operator", "read-only"]), default="read-only", show_default=True)
@click.option("--only-env", "env_ids", multiple=True, metavar="ENV", help="In this environment; repeatable.")
@click.option("--only-customer", "customer_ids", multiple=True, metavar="ID", help="For this customer; repeatable.")
@click.option("--only-verb", "verbs", multiple=True, metavar="PERMISSION", help="Such changes: traffic.set, traffic.*")
@click.option("--vouches-for-health", is_flag=True, help="Believe it that workers are healthy (reference clients).")
@click.option("--expires-in", "days", type=click.FloatRange(0, 3650, min_open=True), metavar="DAYS", help="How long.")
@click.option("--not-before", metavar="TIME", help="Not before this time, such as 2026-07-24T10:00:00Z.")
@_PATH
@verb("store.token", "create", view=lambda result: _view_made(result))
def create(
    invocation: Invocation,
    path: Path | None,
    actor: str | None,
    role: str,
    days: float | None,
    not_before: str | None,
    vouches_for_health: bool,
    **narrowing: tuple[str, ...],
) -> Any:
    """Make a token for NAME. It is printed once, here; the file keeps its digest only."""
    from datetime import UTC, datetime, timedelta

    from greentic.cli.invocation import now
    from greentic.server import tokens
    from greentic.spec.parsing import parse_payload
    from greentic.spec.store_access import TokenEntry

    end = None if days is None else datetime.now(UTC) + timedelta(days=days)
    value, token_id, digest = tokens.minted()
    entry = {
        "token_sha256": digest,
        "token_id": token_id,
        "actor": need(actor, "argument 'NAME'"),
        "role": role,
        "created_at": now(),
        "not_before": not_before,
        "vouches_for_health": vouches_for_health,
        "expires_at": None if end is None else end.isoformat().replace("+00:00", "Z"),
        **{name: given or None for name, given in narrowing.items()},
    }
    found = parse_payload(TokenEntry, entry, "the token")
    tokens.add(_file(path), found)
    return {"token": value, **_shown(found)}


@token.command("list")
@_PATH
@verb("store.token", "list", view=lambda result: _view_list(result))
def list_(invocation: Invocation, path: Path | None) -> Any:
    """The tokens of the file; never themselves."""
    from greentic.server import tokens

    return {"tokens": [_shown(entry) for entry in tokens.read(_file(path), nobody=True).tokens]}


@token.command()
@click.argument("token_id", metavar="TOKEN", required=False)
@_PATH
@verb("store.token", "revoke", view=lambda result: click.echo(f"{_name(result)} of {result['actor']} counts no more"))
def revoke(invocation: Invocation, path: Path | None, token_id: str | None) -> Any:
    """Take a token out, by its id or the beginning of its digest; a running server follows within a second."""
    from greentic.server import tokens

    return _shown(tokens.remove(_file(path), need(token_id, "argument 'TOKEN'")))


@store.group("data-plane", cls=Noun)
def data_plane() -> None:
    """Whose word a store server takes on what runs."""


@data_plane.command("key")
@verb("store.data-plane", "key", view=lambda result: click.echo(result["public_key_pem"], nl=False))
def own_key(invocation: Invocation) -> Any:
    """The public key of this machine's data plane, for an environment on a store server; made when there is none."""
    from greentic.operations import health_evidence

    context = invocation.context()
    key = health_evidence.key(context, invocation.environment_id)
    return {
        "environment_id": invocation.environment_id,
        "folder": str(context.store.artifacts(invocation.environment_id)),
        "key_id": key.key_id,
        "public_key_pem": key.public_pem,
    }


@data_plane.command()
@click.argument("actor", metavar="NAME", required=False)
@click.option("--only-env", "env_ids", multiple=True, metavar="ENV", help="What it may speak of; repeatable.")
@click.option("--key", "key", type=_FILE, metavar="PEM", help="Its public key, as `gtc store data-plane key` tells it.")
@_PATH
@verb("store.data-plane", "allow", view=lambda result: click.echo(f"{result['key_id']} of {result['actor']} counts"))
def allow(
    invocation: Invocation, path: Path | None, actor: str | None, env_ids: tuple[str, ...], key: Path | None
) -> Any:
    """Let the data plane NAME tell which workers are healthy; a running server follows within a second."""
    from greentic.cli.invocation import now
    from greentic.server import tokens
    from greentic.spec.parsing import parse_payload
    from greentic.spec.store_access import DataPlaneEntry
    from greentic.trust.public import PublicKey

    pem = Path(need(key, "option '--key'")).read_bytes()[:1_024].decode("ascii", "replace")
    entry = {
        "actor": need(actor, "argument 'NAME'"),
        "public_key_pem": PublicKey.from_pem(pem).pem,
        "env_ids": need(env_ids, "option '--only-env'"),
        "created_at": now(),
    }
    found = parse_payload(DataPlaneEntry, entry, "the data plane")
    tokens.add_data_plane(_file(path), found)
    return _plane(found)


@data_plane.command("list")
@_PATH
@verb("store.data-plane", "list", view=lambda result: _view_planes(result))
def planes(invocation: Invocation, path: Path | None) -> Any:
    """The data planes of the file."""
    from greentic.server import tokens

    return {"data_planes": [_plane(entry) for entry in tokens.read(_file(path), nobody=True).data_planes or ()]}


@data_plane.command("revoke")
@click.argument("key_id", metavar="KEY-ID", required=False)
@_PATH
@verb("store.data-plane", "revoke", view=lambda result: click.echo(f"{result['key_id']} of {result['actor']} is out"))
def revoke_plane(invocation: Invocation, path: Path | None, key_id: str | None) -> Any:
    """Take a data plane out by the id of its key; a running server follows within a second."""
    from greentic.server import tokens

    return _plane(tokens.remove_data_plane(_file(path), need(key_id, "argument 'KEY-ID'")))


def _plane(entry: DataPlaneEntry) -> dict[str, Any]:
    from greentic.trust.public import PublicKey

    key = PublicKey.from_pem(entry.public_key_pem)
    return {
        "actor": entry.actor,
        "key_id": key.key_id,
        "env_ids": list(entry.env_ids),
        "created_at": entry.created_at,
        "public_key_pem": key.pem,
    }


def _view_planes(result: Any) -> None:
    from greentic.cli.tables import table

    rows = [
        (one["key_id"], one["actor"], ", ".join(one["env_ids"]), one["created_at"]) for one in result["data_planes"]
    ]
    table(("KEY", "NAME", "ENVIRONMENTS", "SINCE"), rows)


def _shown(entry: TokenEntry) -> dict[str, Any]:
    names = (
        *("token_id", "token_sha256", "actor", "role", "env_ids", "customer_ids", "verbs"),
        *("created_at", "not_before", "expires_at"),
    )
    document = entry.to_json()
    return {**{name: document.get(name) for name in names}, "vouches_for_health": entry.vouches_for_health}


def _name(shown: Any) -> str:
    return str(shown["token_id"] or shown["token_sha256"][:12])


def _view_made(result: Any) -> None:
    click.echo(result["token"])
    click.echo(f"this is {result['token_id']} of {result['actor']}; it is not shown again", err=True)


def _view_list(result: Any) -> None:
    from greentic.cli.tables import table

    table(
        ("TOKEN", "NAME", "ROLE", "ENVIRONMENTS", "CUSTOMERS", "CHANGES", "EXPIRES"),
        [
            (
                _name(row),
                row["actor"],
                row["role"],
                *(", ".join(row[name] or ("all",)) for name in ("env_ids", "customer_ids", "verbs")),
                row["expires_at"] or "never",
            )
            for row in result["tokens"]
        ],
    )
