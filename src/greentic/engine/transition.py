"""The one entry of the engine: a command is carried out or refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from greentic.engine import deployments, environments, revisions, traffic
from greentic.engine.command import Command, Outcome
from greentic.spec.environment import Environment
from greentic.spec.errors import InvalidArgument, NotFound
from greentic.spec.parsing import Payload
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

    Raises NotFound for a missing environment, InvalidArgument for an unknown verb, and what the verb itself refuses.
    """
    found = TRANSITIONS.get((command.noun, command.verb))
    if found is None:
        raise InvalidArgument(f"there is no verb '{command.noun} {command.verb}'")
    expected, carry_out = found
    if not isinstance(command.payload, expected):
        raise InvalidArgument(f"'{command.noun} {command.verb}' takes a {expected.__name__}")
    if environment is None and command.verb != "create":
        raise NotFound(
            f"there is no environment '{command.environment_id}'",
            details={"environment_id": command.environment_id},
            next_step=f"gtc op env create {command.environment_id}",
        )
    return carry_out(environment, command.payload, command, now)
