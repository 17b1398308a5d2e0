"""The policy of an environment: make one, grant, revoke, ask what it allows."""

from __future__ import annotations

import json
from typing import Any

from greentic.engine.authorization import decide
from greentic.engine.command import Command
from greentic.operations.context import Context
from greentic.operations.kept import files
from greentic.spec import verbs
from greentic.spec.errors import Conflict, InvalidArgument, NotFound
from greentic.spec.parsing import Payload, parse
from greentic.spec.policy import ROLES, Grant, Policy
from greentic.store import policies
from greentic.store.contract import WritableFiles


class PolicyPayload(Payload):
    """A whole policy, as it is to be written."""

    policy: dict[str, Any]


def show(context: Context, environment_id: str) -> dict[str, Any]:
    """The policy; NotFound when there is none."""
    return {"environment_id": environment_id, "policy": _load(context, environment_id).to_json()}


def init(context: Context, environment_id: str) -> dict[str, Any]:
    """A policy that makes the actor admin; Conflict when there is one."""
    context.store.load(environment_id)
    if policies.load(files(context).artifacts(environment_id)) is not None:
        raise Conflict(
            f"the environment '{environment_id}' has a policy already",
            next_step=f"gtc op policy show {environment_id}",
        )
    return _write(
        context, environment_id, "init", Policy(roles=ROLES, grants=(Grant(actor=context.actor, role="admin"),))
    )


def grant(context: Context, environment_id: str, actor: str, role: str, customers: tuple[str, ...]) -> dict[str, Any]:
    """Give `actor` a role, for all customers or for those named; a grant of the same role is replaced."""
    policy = _load(context, environment_id)
    if role not in policy.roles:
        raise InvalidArgument(f"there is no role '{role}'; the roles are {', '.join(policy.roles)}")
    kept = tuple(one for one in policy.grants if (one.actor, one.role) != (actor, role))
    changed = policy.model_copy(update={"grants": (*kept, Grant(actor=actor, role=role, customers=customers))})
    return _write(context, environment_id, "grant", changed)


def revoke(context: Context, environment_id: str, actor: str, role: str | None) -> dict[str, Any]:
    """Take a role from `actor`, or every role; NotFound when it has none."""
    policy = _load(context, environment_id)
    kept = tuple(one for one in policy.grants if one.actor != actor or (role is not None and one.role != role))
    if kept == policy.grants:
        raise NotFound(f"'{actor}' has no such role in '{environment_id}'")
    return _write(context, environment_id, "revoke", policy.model_copy(update={"grants": kept}))


def check(
    context: Context, environment_id: str, actor: str, permission: str, customer_id: str | None
) -> dict[str, Any]:
    """What the policy says to `actor` doing `noun.verb`."""
    noun, dot, verb = permission.rpartition(".")
    if not dot:
        raise InvalidArgument(f"'{permission}' is not a permission: write noun.verb, such as traffic.set")
    verdict = decide(_load(context, environment_id), actor, *verbs.permission(noun, verb), customer_id)
    return {
        "environment_id": environment_id,
        "actor": actor,
        "permission": permission,
        "allowed": verdict.allowed,
        "reason": verdict.reason,
    }


def _load(context: Context, environment_id: str) -> Policy:
    store = files(context)
    store.load(environment_id)
    policy = policies.load(store.artifacts(environment_id))
    if policy is None:
        raise NotFound(
            f"the environment '{environment_id}' has no policy", next_step=f"gtc op policy init {environment_id}"
        )
    return policy


def _write(context: Context, environment_id: str, verb: str, policy: Policy) -> dict[str, Any]:
    document = parse(Policy, policy.to_json(), "the policy").to_json()
    told = {"environment_id": environment_id, "policy": document}
    if context.dry_run:
        return told
    store = files(context)
    command = Command(
        environment_id, "policy", verb, PolicyPayload(policy=document), context.step_key(""), context.actor
    )

    def written(beside: WritableFiles) -> dict[str, Any]:
        beside.write(policies.FILE, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
        return told

    generation, etag = context.precondition
    return dict(store.maintain(command, written, expected_generation=generation, if_match=etag).result)
