"""The one entry of the engine: a command is carried out or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from greentic.engine.command import Command, Outcome
from greentic.spec import rules, verbs
from greentic.spec.environment import Environment
from greentic.spec.errors import InvalidArgument, NotFound
from greentic.spec.parsing import Payload, malformed
from greentic.spec.touched_rules import broken_by

Carrier = Callable[[Any, Any, Command, str], Outcome]

_CARRIERS: Mapping[tuple[str, str], str] = {
    ("env", "create"): "environments:create",
    ("env", "update"): "environments:update",
    ("env", "seed"): "merging:seed",
    ("env", "migrate-bindings"): "merging:merge",
    ("config", "set"): "configuration:set_host",
    ("changes", "apply"): "changes:apply",
    ("env-packs", "add"): "bindings:add_pack",
    ("env-packs", "update"): "bindings:update_pack",
    ("env-packs", "remove"): "bindings:remove_pack",
    ("env-packs", "rollback"): "bindings:rollback_pack",
    ("extensions", "add"): "bindings:add_extension",
    ("extensions", "update"): "bindings:update_extension",
    ("extensions", "remove"): "bindings:remove_extension",
    ("extensions", "rollback"): "bindings:rollback_extension",
    ("trust-root", "bootstrap"): "trust_root:bootstrap",
    ("trust-root", "seed"): "trust_root:seed",
    ("trust-root", "add"): "trust_root:add",
    ("trust-root", "remove"): "trust_root:remove",
    ("bundles", "add"): "deployments:add",
    ("bundles", "update"): "deployments:update",
    ("bundles", "remove"): "deployments:remove",
    ("revisions", "stage"): "revisions:stage",
    ("revisions", "begin-warm"): "revisions:begin_warm",
    ("revisions", "warm"): "revisions:warm",
    ("revisions", "retry"): "revisions:retry",
    ("revisions", "drain"): "revisions:drain",
    ("revisions", "complete-drain"): "revisions:complete_drain",
    ("revisions", "archive"): "revisions:archive",
    ("traffic", "set"): "traffic:set_split",
    ("traffic", "rollback"): "traffic:rollback",
    ("traffic", "clear"): "traffic:clear",
    ("traffic", "begin-schedule"): "schedules:begin",
    ("traffic", "advance"): "schedules:advance",
    ("traffic", "finish"): "schedules:finish",
    ("traffic", "pause"): "schedules:pause",
    ("traffic", "resume"): "schedules:resume",
    ("traffic", "abort"): "schedules:abort",
    ("messaging.endpoint", "add"): "endpoints:add",
    ("messaging.endpoint", "link-bundle"): "endpoints:link_bundle",
    ("messaging.endpoint", "unlink-bundle"): "endpoints:unlink_bundle",
    ("messaging.endpoint", "set-welcome-flow"): "endpoints:set_welcome_flow",
    ("messaging.endpoint", "clear-welcome-flow"): "endpoints:clear_welcome_flow",
    ("messaging.endpoint", "remove"): "endpoints:remove",
    ("messaging.endpoint", "rotate-webhook-secret"): "endpoints:rotate_webhook_secret",
}
"""By noun and verb: the module of this room and the function in it."""
_BEGINNING = {("env", "create"), ("env", "seed"), ("env", "migrate-bindings"), ("changes", "apply")}
"""Verbs that can begin an environment."""


@cache
def _carrier(name: tuple[str, str]) -> tuple[type[Payload], Carrier]:
    module, _, function = _CARRIERS[name].partition(":")
    carrier: Carrier = getattr(import_module(f"greentic.engine.{module}"), function)
    return verbs.find(*name).payload(), carrier


class _Transitions(Mapping[tuple[str, str], tuple[type[Payload], Carrier]]):
    """Looked up when it is used: a verb loads its own module and payload, not those of all verbs."""

    def __getitem__(self, name: tuple[str, str]) -> tuple[type[Payload], Carrier]:
        return _carrier(name)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(_CARRIERS)

    def __len__(self) -> int:
        return len(_CARRIERS)


TRANSITIONS = _Transitions()
"""By noun and verb: the payload it takes and the pure function that carries it out."""


def transition(environment: Environment | None, command: Command, now: str) -> Outcome:
    """Carry out `command` on `environment` (None: it does not exist) at the time `now` (RFC 3339).

    Raises NotFound for a missing environment, InvalidArgument for an unknown verb, what the verb itself refuses, and
    SpecViolation when the new environment would break a rule that the old one kept. Nothing but a GreenticError.
    """
    found = TRANSITIONS.get((command.noun, command.verb))
    if found is None:
        raise InvalidArgument(f"there is no verb '{command.noun} {command.verb}'")
    expected, carry_out = found
    if not isinstance(command.payload, expected):
        raise InvalidArgument(f"'{command.noun} {command.verb}' takes a {expected.__name__}")
    _check_addressed(environment, command)
    if environment is None and (command.noun, command.verb) not in _BEGINNING:
        raise NotFound(
            f"there is no environment '{command.environment_id}'",
            details={"environment_id": command.environment_id},
            next_step=f"gtc op env create {command.environment_id}",
        )
    try:
        outcome = carry_out(environment, command.payload, command, now)
    except ValidationError as error:
        raise malformed(f"what '{command.noun} {command.verb}' would record", error) from None
    if outcome.changed:
        rules.refuse(broken_by(environment, outcome.environment))
    return outcome


def _check_addressed(environment: Environment | None, command: Command) -> None:
    """Refuse a command that is addressed to another environment, or that could not be told from any other."""
    # A blank key would make every such request look like a repetition of the last one.
    if not command.idempotency_key.strip():
        raise InvalidArgument("an idempotency key must not be blank", next_step="leave --idempotency-key out")
    named = [] if environment is None else [environment.environment_id]
    asked: str | None = getattr(command.payload, "environment_id", None)
    if asked is not None:
        named.append(asked)
    for environment_id in named:
        if environment_id != command.environment_id:
            raise InvalidArgument(
                f"a command for the environment '{command.environment_id}' cannot change '{environment_id}'"
            )
