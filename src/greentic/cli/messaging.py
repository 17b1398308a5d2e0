"""`gtc op messaging endpoint`: chat channels of an environment."""

from __future__ import annotations

import json
from typing import Any

import click

from greentic.cli.arguments import environment_of
from greentic.cli.invocation import Invocation, need, verb
from greentic.cli.nouns import Noun

NOUN = "messaging.endpoint"
_ADDRESSED = {"endpoint_id": "endpoint"}


@click.group(cls=Noun)
def messaging() -> None:
    """Messaging: how chat reaches the workers of an environment."""


@messaging.group(cls=Noun)
def endpoint() -> None:
    """Endpoints: one chat channel each, and the bundles it reaches. Named by provider id, display name or id."""


def _complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    environment = environment_of(context)
    known = () if environment is None else environment.messaging_endpoints
    return [one.provider_id for one in known if one.provider_id.startswith(incomplete)]


def _endpoint_argument(command: Any) -> Any:
    command = click.option("--endpoint-id", "named", metavar="ENDPOINT", help="The endpoint, instead of ENDPOINT.")(
        command
    )
    return click.argument("endpoint", metavar="ENDPOINT", required=False, shell_complete=_complete)(command)


def _bundle(command: Any) -> Any:
    command = click.option("--bundle-id", "bundle_option", metavar="BUNDLE", help="The bundle, instead of BUNDLE.")(
        command
    )
    return click.argument("bundle", metavar="BUNDLE", required=False)(command)


def _which(endpoint: str | None, named: str | None) -> str:
    return str(need(named or endpoint, "argument 'ENDPOINT'"))


@endpoint.command()
@click.argument("provider_type", metavar="TYPE", required=False)
@click.argument("provider_id", metavar="ID", required=False)
@click.option("--provider-type", "type_option", metavar="TYPE", help="The kind of channel, instead of TYPE.")
@click.option("--provider-id", "id_option", metavar="ID", help="Its name there, instead of ID.")
@click.option("--display-name", metavar="TEXT", help="A name for people. [default: the id]")
@click.option("--secret-ref", "secret_refs", multiple=True, metavar="URI", help="A secret it uses, secret://…")
@click.option("--webhook-secret-ref", metavar="URI", help="Telegram: the secret of its calls. [default: a random one]")
@verb(
    NOUN,
    "add",
    changes=True,
    view=lambda result: _view(result, "added"),
    answers={
        "provider_type": "type_option",
        "provider_id": "id_option",
        "display_name": "display_name",
        "secret_refs": "secret_refs",
        "webhook_secret_ref": "webhook_secret_ref",
    },
)
def add(
    invocation: Invocation,
    provider_type: str | None,
    provider_id: str | None,
    type_option: str | None,
    id_option: str | None,
    display_name: str | None,
    secret_refs: Any,
    webhook_secret_ref: str | None,
) -> Any:
    """Add the channel ID of the kind TYPE, such as `telegram support-bot`. It reaches nothing until bundles are linked.

    For Telegram a random webhook secret is put into the environment's store unless you name one.
    """
    from greentic.operations import endpoints

    fields: dict[str, Any] = {
        "provider_type": need(type_option or provider_type, "argument 'TYPE'"),
        "provider_id": need(id_option or provider_id, "argument 'ID'"),
        "secret_refs": secret_refs or (),
    }
    if display_name is not None:
        fields["display_name"] = display_name
    if webhook_secret_ref is not None:
        fields["webhook_secret_ref"] = webhook_secret_ref
    return endpoints.add(invocation.context(), invocation.environment_id, fields)


@endpoint.command("list")
@verb(NOUN, "list", view=lambda result: _view_list(result))
def list_(invocation: Invocation) -> Any:
    """List the endpoints."""
    from greentic.operations import endpoints

    return endpoints.list_(invocation.context(), invocation.environment_id)


@endpoint.command()
@_endpoint_argument
@verb(
    NOUN, "show", view=lambda result: click.echo(json.dumps(result, indent=2, ensure_ascii=False)), answers=_ADDRESSED
)
def show(invocation: Invocation, endpoint: str | None, named: str | None) -> Any:
    """Show the whole record of an endpoint."""
    from greentic.operations import endpoints

    return endpoints.show(invocation.context(), invocation.environment_id, _which(endpoint, named))


@endpoint.command("link-bundle")
@_endpoint_argument
@_bundle
@verb(
    NOUN,
    "link-bundle",
    changes=True,
    view=lambda result: _view(result, "linked"),
    answers={"endpoint_id": "named", "bundle_id": "bundle_option"},
)
def link_bundle(invocation: Invocation, **words: str | None) -> Any:
    """Let the channel reach a deployed bundle."""
    return _link(invocation, linked=True, **words)


@endpoint.command("unlink-bundle")
@_endpoint_argument
@_bundle
@verb(
    NOUN,
    "unlink-bundle",
    changes=True,
    view=lambda result: _view(result, "unlinked"),
    answers={"endpoint_id": "named", "bundle_id": "bundle_option"},
)
def unlink_bundle(invocation: Invocation, **words: str | None) -> Any:
    """Let the channel reach a bundle no more."""
    return _link(invocation, linked=False, **words)


@endpoint.command("set-welcome-flow")
@_endpoint_argument
@_bundle
@click.option("--pack-id", metavar="PACK", help="The pack of the bundle that holds the flow.")
@click.option("--flow-id", metavar="FLOW", help="The flow.")
@verb(
    NOUN,
    "set-welcome-flow",
    changes=True,
    view=lambda result: _view(result, "greets"),
    answers={"endpoint_id": "named", "bundle_id": "bundle_option", "pack_id": "pack_id", "flow_id": "flow_id"},
)
def set_welcome_flow(
    invocation: Invocation,
    endpoint: str | None,
    named: str | None,
    bundle: str | None,
    bundle_option: str | None,
    pack_id: str | None,
    flow_id: str | None,
) -> Any:
    """Greet new conversations with a flow of a linked bundle."""
    from greentic.operations import endpoints

    return endpoints.set_welcome_flow(
        invocation.context(),
        invocation.environment_id,
        _which(endpoint, named),
        need(bundle_option or bundle, "argument 'BUNDLE'"),
        need(pack_id, "option '--pack-id'"),
        need(flow_id, "option '--flow-id'"),
    )


@endpoint.command("clear-welcome-flow")
@_endpoint_argument
@verb(
    NOUN,
    "clear-welcome-flow",
    changes=True,
    view=lambda result: _view(result, "greets no more"),
    answers={"endpoint_id": "named"},
)
def clear_welcome_flow(invocation: Invocation, endpoint: str | None, named: str | None) -> Any:
    """Greet new conversations no more."""
    from greentic.operations import endpoints

    return endpoints.clear_welcome_flow(invocation.context(), invocation.environment_id, _which(endpoint, named))


@endpoint.command()
@_endpoint_argument
@verb(NOUN, "remove", changes=True, view=lambda result: _view_removed(result), answers={"endpoint_id": "named"})
def remove(invocation: Invocation, endpoint: str | None, named: str | None) -> Any:
    """Remove an endpoint; its secrets stay in the store."""
    from greentic.operations import endpoints

    return endpoints.remove(invocation.context(), invocation.environment_id, _which(endpoint, named))


@endpoint.command("rotate-webhook-secret")
@_endpoint_argument
@click.option("--webhook-secret-ref", metavar="URI", help="Where the new value is. [default: a random one, put there]")
@verb(
    NOUN,
    "rotate-webhook-secret",
    changes=True,
    view=lambda result: _view(result, "has a new webhook secret"),
    answers={"endpoint_id": "named", "webhook_secret_ref": "webhook_secret_ref"},
)
def rotate_webhook_secret(
    invocation: Invocation, endpoint: str | None, named: str | None, webhook_secret_ref: str | None
) -> Any:
    """Give a Telegram endpoint a new webhook secret."""
    from greentic.operations import endpoints

    return endpoints.rotate_webhook_secret(
        invocation.context(), invocation.environment_id, _which(endpoint, named), webhook_secret_ref
    )


def _link(
    invocation: Invocation,
    *,
    linked: bool,
    endpoint: str | None,
    named: str | None,
    bundle: str | None,
    bundle_option: str | None,
) -> Any:
    from greentic.operations import endpoints

    return endpoints.link(
        invocation.context(),
        invocation.environment_id,
        _which(endpoint, named),
        need(bundle_option or bundle, "argument 'BUNDLE'"),
        linked=linked,
    )


def _view(result: Any, done: str) -> None:
    from greentic.cli.tables import line

    reaches = ", ".join(result["linked_bundles"]) or "no bundle"
    line(
        (result["display_name"], "bold"),
        f" ({result['provider_type']}) {done}; reaches {reaches} (generation {result['endpoint_generation']})",
    )


def _view_list(result: Any) -> None:
    from greentic.cli.tables import age, line, table

    if not result["endpoints"]:
        line(f"no endpoints in {result['environment_id']}; add one: gtc op messaging endpoint add TYPE ID")
        return
    table(
        ("ENDPOINT", "TYPE", "NAME", "REACHES", "WELCOME", "GENERATION", "AGE", "ID"),
        [
            (
                row["provider_id"],
                row["provider_type"],
                row["display_name"],
                ", ".join(row["linked_bundles"]),
                row["welcome_flow"]["flow_id"] if "welcome_flow" in row else None,
                row["endpoint_generation"],
                age(row["updated_at"]),
                row["endpoint_id"],
            )
            for row in result["endpoints"]
        ],
    )


def _view_removed(result: Any) -> None:
    from greentic.cli.tables import line

    line(f"endpoint {result['endpoint_id']} " + ("removed" if result["removed"] else "was not there"))
