"""Who may use a store server: tokens by their digest, never themselves (reference 01, section 4.7; reference 02, 3.8).

Ours beside the reference's fields: what narrows and bounds a grant, whom a client certificate names, the issuers of
OpenID Connect whose tokens count, and the data planes whose evidence of health does. The reference ignores them, so a
file with narrowed tokens grants more there.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from greentic.spec.identifiers import EnvironmentId, Timestamp
from greentic.spec.parsing import Document, Flag, Text, absent
from greentic.spec.policy import Permission
from greentic.spec.revision import OMITTED


class Role(StrEnum):
    """`admin` may everything, `operator` everything but change whom an environment trusts, `read-only` looks."""

    ADMIN = "admin"
    OPERATOR = "operator"
    READ_ONLY = "read-only"


def _false(value: object) -> bool:
    return value is False


class Granted(Document):
    """What somebody may, and where. An absent list narrows nothing; an empty one is refused, for it would mean nobody.

    `verbs` are permissions such as `traffic.set` or `traffic.*` that narrow the changes of the role. `customer_ids`
    narrow everything to the deployments of those customers. `vouches_for_health`: that a worker is healthy is taken on
    this caller's word, as the reference takes it on everybody's; otherwise a data plane must have seen it.
    """

    role: Role
    env_ids: tuple[EnvironmentId, ...] | None = OMITTED
    customer_ids: tuple[Text, ...] | None = OMITTED
    verbs: tuple[Permission, ...] | None = OMITTED
    vouches_for_health: Flag = Field(default=False, exclude_if=_false)

    @field_validator("env_ids", "customer_ids", "verbs")
    @classmethod
    def _somebody(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not value:
            raise ValueError("is empty; leave it out to grant everywhere")
        return value


class TokenEntry(Granted):
    """One token: the hex SHA-256 of it, and whose it is. `token_id` is its beginning, by which people name it."""

    token_sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
    actor: Text
    token_id: Text | None = OMITTED
    created_at: Timestamp | None = OMITTED
    not_before: Timestamp | None = OMITTED
    expires_at: Timestamp | None = OMITTED

    @field_validator("actor")
    @classmethod
    def _named(cls, value: str) -> str:
        return _not_blank(value)


class CertificateEntry(Granted):
    """The holder of a client certificate: `subject` as RFC 4514 writes it, or `san` (`URI:spiffe://…`, `DNS:…`)."""

    actor: Text
    subject: Text | None = OMITTED
    san: Text | None = OMITTED

    @model_validator(mode="after")
    def _one(self) -> CertificateEntry:
        if (self.subject is None) == (self.san is None):
            raise ValueError("name a subject or a san, one of both")
        if self.subject is not None and not self.subject.strip():
            raise ValueError("subject: must not be blank")
        if self.san is not None and not self.san.startswith(("URI:", "DNS:")):
            raise ValueError("san: begins with URI: or DNS:")
        return self


class IssuerGrant(Granted):
    """What holders of a token may whose `claim` is (or contains) `value`."""

    claim: Text
    value: Text


class Issuer(Document):
    """An issuer of OpenID Connect. The keys are fetched from `jwks_uri`; `algorithms` are those that count."""

    issuer: Text
    audience: Text
    jwks_uri: Text
    algorithms: Annotated[tuple[Literal["RS256", "PS256", "ES256", "ES384", "EdDSA"], ...], Field(min_length=1)] = (
        "RS256",
        "ES256",
    )
    actor_claim: Text = "sub"
    grants: Annotated[tuple[IssuerGrant, ...], Field(min_length=1)]


class DataPlaneEntry(Document):
    """A data plane, whose signed word counts on what runs in its environments. Its key is good for nothing else."""

    actor: Text
    public_key_pem: Annotated[str, Field(max_length=1_024)]
    env_ids: Annotated[tuple[EnvironmentId, ...], Field(min_length=1)]
    created_at: Timestamp | None = OMITTED

    @field_validator("actor")
    @classmethod
    def _named(cls, value: str) -> str:
        return _not_blank(value)


class StoreAccess(Document):
    """The token file of a store server. `data_planes` is None when the file does not speak of them."""

    schema_: Literal["greentic.store-rbac.v1"] = Field("greentic.store-rbac.v1", alias="schema")
    tokens: tuple[TokenEntry, ...] = ()
    certificates: tuple[CertificateEntry, ...] = Field(default=(), exclude_if=absent)
    issuers: tuple[Issuer, ...] = Field(default=(), exclude_if=absent)
    data_planes: tuple[DataPlaneEntry, ...] | None = OMITTED

    @model_validator(mode="after")
    def _distinct(self) -> StoreAccess:
        _once((one.token_sha256.lower() for one in self.tokens), "token_sha256")
        _once((one.subject or f"san {one.san}" for one in self.certificates), "certificate")
        _once((one.issuer for one in self.issuers), "issuer")
        return self

    @property
    def empty(self) -> bool:
        """Whether nobody could be recognised by this file."""
        return not (self.tokens or self.certificates or self.issuers)


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


def _once(values: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"a {what} stands twice")
        seen.add(value)
