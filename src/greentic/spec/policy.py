"""Who may change what in an environment: roles, and grants of roles to actors (`<env>/policy.json`). Ours.

A permission is `noun.verb`, such as `traffic.set`; `traffic.*` is every verb of a noun and `*` everything. A grant may
be narrowed to customers: then it allows only what touches a deployment of one of them.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from greentic.spec.parsing import Document, absent

SCHEMA = "greentic.policy.v1"
_PERMISSION = re.compile(r"\*|[a-z][a-z.-]{0,62}\.(\*|[a-z][a-z-]{0,62})")


def _permission(value: str) -> str:
    if not _PERMISSION.fullmatch(value):
        raise ValueError("a permission is noun.verb, noun.* or *")
    return value


Permission = Annotated[str, AfterValidator(_permission)]

ROLES: dict[str, tuple[str, ...]] = {
    "admin": ("*",),
    "operator": ("bundles.*", "revisions.*", "traffic.*", "messaging.endpoint.*", "secrets.*"),
    "releaser": ("revisions.*", "traffic.*"),
}
"""The roles of a new policy; a policy may name others."""


class Grant(Document):
    """A role for an actor (the name of a user of this machine); for all customers, or for those named."""

    actor: str = Field(min_length=1)
    role: str = Field(min_length=1)
    customers: tuple[str, ...] = Field(default=(), exclude_if=absent)


class Policy(Document):
    """The policy of one environment. What it does not allow is denied."""

    schema_: Literal["greentic.policy.v1"] = Field("greentic.policy.v1", alias="schema")
    roles: dict[str, tuple[Permission, ...]]
    grants: tuple[Grant, ...] = ()

    @model_validator(mode="after")
    def _known_roles(self) -> Policy:
        for grant in self.grants:
            if grant.role not in self.roles:
                raise ValueError(f"the grant of '{grant.actor}' names the role '{grant.role}', which is not defined")
        return self
