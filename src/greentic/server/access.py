"""Who asks, and what they may: principals, their grants, and the decision (reference 02, section 3.8).

A decision needs no environment to be there: whoever may not reach an environment is told the same, in the same words,
whether it exists or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from greentic.spec.store_access import Role
from greentic.store.contract import Decision

OPEN_DEV = "open-dev"
STATIC_TOKENS = "static-tokens"
CERTIFICATES = "client-certificates"
OIDC = "oidc"
UNSEEN = "the caller's grants do not reach this environment"
_KEY_CUSTODY = "trust-root"
_EXPORTS = {("backup", "export")}
"""Reads that give everything away: for those who may change things."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a role may in some places. None: everywhere, everybody's, every verb of the role.

    `verbs` are permissions such as `traffic.set`, `traffic.*` or `*`; they narrow the changes of the role, never widen.
    `vouches_for_health`: as of `spec.store_access.Granted`.
    """

    role: Role
    environments: frozenset[str] | None = None
    customers: frozenset[str] | None = None
    verbs: frozenset[str] | None = None
    vouches_for_health: bool = False

    def reaches(self, environment_id: str) -> bool:
        """Whether the environment is among those of the grant."""
        return self.environments is None or environment_id in self.environments

    def holds(self, noun: str, verb: str, *, changes: bool) -> bool:
        """Whether the role, as narrowed, may do the verb."""
        if self.role is Role.READ_ONLY:
            return not changes and (noun, verb) not in _EXPORTS
        if not changes and (noun, verb) not in _EXPORTS:
            return True
        if self.role is Role.OPERATOR and noun == _KEY_CUSTODY:
            return False
        return self.verbs is None or not self.verbs.isdisjoint({"*", f"{noun}.*", f"{noun}.{verb}"})


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who was recognised. `kind` and `user` stand in the audit log; `policy` says how they were recognised."""

    kind: str
    user: str | None
    policy: str
    grant: Grant

    @property
    def caller(self) -> Mapping[str, Any]:
        """The audit event's actor."""
        return {"kind": self.kind} if self.user is None else {"kind": self.kind, "user": self.user}

    @property
    def identity(self) -> Mapping[str, Any]:
        """Whose repetition is a repetition: the same caller, and still there for the same customers.

        A recorded answer is given before anybody asks whose deployment it is about, so who was moved to other customers
        must not be given what was answered before.
        """
        return self.caller if self.customers is None else {**self.caller, "customers": sorted(self.customers)}

    @property
    def name(self) -> str:
        """Who is recorded as having done it when nobody else is named."""
        return self.user or self.kind

    @property
    def customers(self) -> frozenset[str] | None:
        """The customers whose deployments the principal may see and change; None: everything."""
        return self.grant.customers

    def sees(self, environment_id: str) -> bool:
        """Whether the environment appears in lists for this principal."""
        return self.grant.reaches(environment_id)

    def decide(self, noun: str, verb: str, environment_id: str | None, *, changes: bool) -> Decision:
        """Whether the principal may do the verb in the environment (None: in none in particular)."""
        if environment_id is not None and not self.grant.reaches(environment_id):
            return Decision(False, self.policy, UNSEEN)
        if self.policy == OPEN_DEV:
            return Decision(True, OPEN_DEV, "this server knows no callers and allows every one")
        role = self.grant.role.value
        if not self.grant.holds(noun, verb, changes=changes):
            return Decision(False, self.policy, f"the role {role}, as granted, does not hold {noun}.{verb}")
        return Decision(True, self.policy, f"the role {role} holds {noun}.{verb}")


ANYBODY = Principal("store-server", None, OPEN_DEV, Grant(Role.ADMIN))
"""Whoever calls a server that knows no callers."""
