"""The one entry of the engine: a command is carried out or refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from greentic.engine import deployments, environments, revisions, traffic
from greentic.engine.command import Command, Outcome
from greentic.spec import rules
from greentic.spec.environment import Environment
from greentic.spec.errors import InvalidArgument, NotFound
from greentic.spec.parsing import Payload, malformed
from greentic.spec.payloads import (
    AddDeploymentPayload,
    ClearTrafficSplitPayload,
    CreateEnvironmentPayload,
    RemoveDeploymentPayload,
    RevisionPayload,
    RollbackTrafficSplitPayload,
    SetTrafficSplitPayload,
    StageRevisionPayload,
    UpdateDeploymentPayload,
    UpdateEnvironmentPayload,
    WarmRevisionPayload,
)

TRANSITIONS: Mapping[tuple[str, str], tuple[type[Payload], Callable[[Any, Any, Command, str], Outcome]]] = {
    ("env", "create"): (CreateEnvironmentPayload, environments.create),
    ("env", "update"): (UpdateEnvironmentPayload, environments.update),
    ("bundles", "add"): (AddDeploymentPayload, deployments.add),
    ("bundles", "update"): (UpdateDeploymentPayload, deployments.update),
    ("bundles", "remove"): (RemoveDeploymentPayload, deployments.remove),
    ("revisions", "stage"): (StageRevisionPayload, revisions.stage),
    ("revisions", "begin-warm"): (RevisionPayload, revisions.begin_warm),
    ("revisions", "warm"): (WarmRevisionPayload, revisions.warm),
    ("revisions", "retry"): (RevisionPayload, revisions.retry),
    ("revisions", "drain"): (RevisionPayload, revisions.drain),
    ("revisions", "complete-drain"): (RevisionPayload, revisions.complete_drain),
    ("revisions", "archive"): (RevisionPayload, revisions.archive),
    ("traffic", "set"): (SetTrafficSplitPayload, traffic.set_split),
    ("traffic", "rollback"): (RollbackTrafficSplitPayload, traffic.rollback),
    ("traffic", "clear"): (ClearTrafficSplitPayload, traffic.clear),
}
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
    if environment is None and (command.noun, command.verb) != ("env", "create"):
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
        rules.refuse(rules.broken_by(environment, outcome.environment))
    return outcome


def _check_addressed(environment: Environment | None, command: Command) -> None:
    """Refuse a command that is addressed to another environment, or that could not be told from any other."""
    # A blank key would make every such request look like a repetition of the last one.
    if not command.idempotency_key.strip():
        raise InvalidArgument("an idempotency key must not be blank", next_step="leave --idempotency-key out")
    named = [] if environment is None else [environment.environment_id]
    if isinstance(command.payload, CreateEnvironmentPayload):
        named.append(command.payload.environment_id)
    for environment_id in named:
        if environment_id != command.environment_id:
            raise InvalidArgument(
                f"a command for the environment '{command.environment_id}' cannot change '{environment_id}'"
            )
