"""`gtc op config`: the configuration of an environment."""

from __future__ import annotations

import re
from typing import Any

import click

from greentic.cli.bindings import complete_slot, slot_of
from greentic.cli.env import HOST, _host_options
from greentic.cli.invocation import Invocation, verb
from greentic.cli.nouns import Noun


@click.group(cls=Noun)
def config() -> None:
    """The configuration of an environment: host settings, bindings, discoveries."""


@config.command()
@click.option("--slot", metavar="SLOT", shell_complete=complete_slot, help="Only what fills this slot.")
@verb(
    "config",
    "show",
    view=lambda result: _view(result),
    answers={"slot": "slot"},
    types={"slot": {"type": "string"}},
)
def show(invocation: Invocation, slot: str | None) -> Any:
    """Show host settings, bindings and what was discovered at run time; of answers only the names."""
    from greentic.operations import config as operations

    wanted = None if slot is None else slot_of(slot)
    return operations.show(invocation.context(), invocation.environment_id, wanted)


@config.command("set")
@click.option("--name", metavar="TEXT", help="A name for people.")
@_host_options
@click.option(
    "--router",
    multiple=True,
    metavar="SETTING=VALUE",
    help="A setting of the routers: replicas=2, tls.certificate=/etc/cert.pem, limits.max_headers=200 …",
)
@click.option("--clear", multiple=True, metavar="FIELD", help="Unset a host setting, such as --clear region.")
@verb(
    "config",
    "set",
    changes=True,
    view=lambda result: _view_set(result),
    answers={**HOST, "router": "router", "clear": "clear"},
    types={
        **{name: {"type": ["string", "null"]} for name in HOST},
        **{name: {"type": ["boolean", "null"]} for name in ("gui_enabled", "stamp_revision")},
        "router": {"type": ["object", "null"]},
    },
)
def set_(invocation: Invocation, router: Any, clear: Any, **given: Any) -> Any:
    """Set host settings; what is not named stays."""
    from greentic.operations import config as operations
    from greentic.spec.configuration import SetConfigPayload
    from greentic.spec.errors import InvalidArgument
    from greentic.spec.parsing import parse_payload

    named = {field: value for field, value in given.items() if value is not None}
    if router:
        named["router"] = _settings(router) if isinstance(router, tuple) else router
    unset = [field.replace("-", "_") for field in clear] if isinstance(clear, tuple) else clear
    if not named and not unset:
        raise InvalidArgument("nothing to change was named", next_step="gtc op config set --help")
    payload = parse_payload(SetConfigPayload, {**named, "clear": unset or []}, "config")
    return operations.set_(invocation.context(), invocation.environment_id, payload)


def _settings(words: tuple[str, ...]) -> dict[str, Any]:
    """`replicas=2`, `tls.certificate=/x` and `trusted_callers=10.0.0.0/8,::1` as the document they mean."""
    from greentic.spec.errors import InvalidArgument

    document: dict[str, Any] = {}
    for word in words:
        name, separator, value = word.partition("=")
        outer, _, inner = name.partition(".")
        place = document.setdefault(outer, {}) if inner else document
        if not separator or not isinstance(place, dict) or (inner or outer) in place:
            raise InvalidArgument(
                f"'{word}' is not a router setting of the form NAME=VALUE, each once",
                next_step="gtc op config set --router replicas=2",
            )
        place[inner or outer] = _value(outer, value)
    return document


def _value(name: str, text: str) -> Any:
    if name.startswith("trusted_"):
        return [part.strip() for part in text.split(",") if part.strip()]
    if text in {"true", "false"}:
        return text == "true"
    if name == "limits" and re.fullmatch(r"[0-9]+\.[0-9]+", text):
        return float(text)
    return int(text) if text.isascii() and text.isdigit() else text


def _view(result: Any) -> None:
    from greentic.cli.tables import line, table

    line((result["environment_id"], "bold"), f"  {result['name']}  generation {result['generation']}")
    host = {**result["host_config"], "credentials_ref": result["credentials_ref"]}
    host.pop("env_id", None)
    table(("SETTING", "VALUE"), [(field, value) for field, value in host.items() if value is not None])
    table(
        ("SLOT", "KIND", "ANSWERS"),
        [
            (pack["slot"], pack["kind"], ", ".join(result["pack_answers"][pack["slot"]]["keys"]))
            for pack in result["packs"]
        ],
    )
    runtime = result["runtime"]
    if runtime is not None and "error" in runtime:
        line((f"what was discovered cannot be read: {runtime['error']['message']}", "red"))
    elif runtime is not None:
        table(("DISCOVERED", "VALUE"), list(runtime["discovered"].items()))


def _view_set(result: Any) -> None:
    from greentic.cli.tables import line

    settings = ", ".join(f"{field}={value}" for field, value in result["host_config"].items() if field != "env_id")
    line(f"{result['environment_id']}: {settings or 'all defaults'} (generation {result['generation']})")
