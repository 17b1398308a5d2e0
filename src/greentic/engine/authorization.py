"""The decision of a policy. Pure; deny by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from greentic.engine.command import Command
from greentic.spec.environment import Environment
from greentic.spec.policy import Policy


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a policy allows, and why."""

    allowed: bool
    reason: str


def decide(policy: Policy, actor: str, noun: str, verb: str, customer_id: str | None) -> Verdict:
    """Whether `policy` lets `actor` do `noun verb` to something of `customer_id` (None: of the whole environment)."""
    own = [grant for grant in policy.grants if grant.actor == actor]
    if not own:
        return Verdict(False, f"the policy grants '{actor}' no role")
    wanted = {"*", f"{noun}.*", f"{noun}.{verb}"}
    narrowed = False
    for grant in own:
        if wanted.isdisjoint(policy.roles.get(grant.role, ())):
            continue
        if not grant.customers or customer_id in grant.customers:
            return Verdict(True, f"the role '{grant.role}' of '{actor}' holds {noun}.{verb}")
        narrowed = True
    roles = ", ".join(sorted({grant.role for grant in own}))
    if narrowed:
        whose = "the whole environment" if customer_id is None else f"the customer '{customer_id}'"
        return Verdict(False, f"the roles of '{actor}' ({roles}) do not reach {whose}")
    return Verdict(False, f"the roles of '{actor}' ({roles}) do not hold {noun}.{verb}")


def customer_of(environment: Environment | None, command: Command) -> str | None:
    """Whose deployment `command` touches; None when it is about the whole environment or about what does not exist."""
    named: dict[str, Any] = command.payload.model_dump(include={"customer_id", "deployment_id", "revision_id"})
    if named.get("customer_id") is not None:
        return str(named["customer_id"])
    if environment is None:
        return None
    deployment_id = named.get("deployment_id")
    if deployment_id is None and named.get("revision_id") is not None:
        revision = environment.revision(str(named["revision_id"]))
        deployment_id = None if revision is None else revision.deployment_id
    deployment = None if deployment_id is None else environment.deployment(str(deployment_id))
    return None if deployment is None else deployment.customer_id
