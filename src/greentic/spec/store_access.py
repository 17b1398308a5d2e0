"""Who may use a store server: tokens by their digest, never themselves (reference 01, section 4.7)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from greentic.spec.identifiers import EnvironmentId
from greentic.spec.parsing import Document, Text
from greentic.spec.revision import OMITTED


class Role(StrEnum):
    """`admin` may everything, `operator` everything but change whom an environment trusts, `read-only` looks."""

    ADMIN = "admin"
    OPERATOR = "operator"
    READ_ONLY = "read-only"


class TokenEntry(Document):
    """One token: the hex SHA-256 of it, whose it is, and where it counts (no `env_ids`: everywhere)."""

    token_sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
    actor: Text
    role: Role
    env_ids: tuple[EnvironmentId, ...] | None = OMITTED


class StoreAccess(Document):
    """The token file of a store server."""

    schema_: Literal["greentic.store-rbac.v1"] = Field("greentic.store-rbac.v1", alias="schema")
    tokens: tuple[TokenEntry, ...] = ()
