"""`gtc op updates`: where an environment learns of updates."""

from __future__ import annotations

from typing import Any

import click

from greentic.cli.invocation import Invocation, verb
from greentic.cli.nouns import Noun

SETTINGS = ("enabled", "on_notify", "poll_interval_secs", "plan_endpoint", "push_enabled", "stream_endpoint")


@click.group(cls=Noun)
def updates() -> None:
    """The update channel: where an environment learns of updates, and what it does then."""


def _environment(command: Any) -> Any:
    return click.argument("name", metavar="ENV", required=False)(command)


def _named(invocation: Invocation, name: str | None) -> str:
    from greentic.spec.identifiers import environment_id

    return environment_id(name) if name else invocation.environment_id


@updates.command("config-set")
@_environment
@click.option(
    "--enabled/--disabled", default=None, help="Look for updates at all. Enabled without an endpoint: the fleet's."
)
@click.option("--on-notify", metavar="ACTION", help="On a new plan: record-only, stage (the default) or apply.")
@click.option("--poll-interval-secs", type=int, metavar="N", help="Seconds between two looks, at least 60.")
@click.option("--plan-endpoint", metavar="URL", help="Where plans are; https, or http to this machine.")
@click.option("--push-enabled/--no-push", default=None, help="Listen for news between two looks.")
@click.option("--stream-endpoint", metavar="URL", help="Where news come from. [default: follows from the plan's]")
@verb(
    "updates",
    "config-set",
    changes=True,
    view=lambda result: _view(result),
    answers={name: name for name in SETTINGS},
    types={
        "enabled": {"type": ["boolean", "null"]},
        "push_enabled": {"type": ["boolean", "null"]},
        "poll_interval_secs": {"type": ["integer", "null"]},
    },
)
def config_set(invocation: Invocation, name: str | None, **given: Any) -> Any:
    """Set the update channel; what is not named stays."""
    from greentic.operations import updates as operations
    from greentic.spec.errors import InvalidArgument
    from greentic.spec.parsing import parse_payload
    from greentic.spec.update_channel import ConfigureUpdatesPayload, UpdateAction

    named = {field: value for field, value in given.items() if value is not None}
    if not named:
        raise InvalidArgument("nothing to change was named", next_step="gtc op updates config-set --help")
    if isinstance(named.get("on_notify"), str):
        named["on_notify"] = UpdateAction.parse(named["on_notify"]).value
    payload = parse_payload(ConfigureUpdatesPayload, named, "updates")
    return operations.configure(invocation.context(), _named(invocation, name), payload)


@updates.command("config-show")
@_environment
@verb("updates", "config-show", view=lambda result: _view(result))
def config_show(invocation: Invocation, name: str | None) -> Any:
    """Show what is set and what it comes to."""
    from greentic.operations import updates as operations

    return operations.show(invocation.context(), _named(invocation, name))


def _view(result: Any) -> None:
    from greentic.cli.tables import line, table

    stored, resolved = result["stored"] or {}, result["resolved"]
    line((result["environment_id"], "bold"), "  updates ", "enabled" if resolved["enabled"] else "disabled")
    table(
        ("SETTING", "VALUE", ""),
        [
            ("on a new plan", resolved["action"].replace("_", "-"), ""),
            ("looks every", f"{resolved['poll_seconds']} s", "" if "poll_interval_secs" in stored else "default"),
            ("plans", resolved["plan_endpoint"] or "nowhere", ""),
            ("listens", "yes" if resolved["push_enabled"] else "no", "" if "push_enabled" in stored else "default"),
            (
                "news",
                resolved["stream_endpoint"] or "nowhere",
                "" if "stream_endpoint" in stored or not resolved["stream_endpoint"] else "derived",
            ),
        ],
    )
