"""The document of an environment's trust root (`greentic.trust-root.v1`; reference 01, section 1.19).

What it means, and how it changes, is `greentic.trust.root`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from greentic.spec.identifiers import Timestamp
from greentic.spec.parsing import Document, absent
from greentic.spec.revision import OMITTED

MAX_PEM = 4_096
"""Characters of a public key in PEM."""
MAX_KEYS = 1_024
"""How many keys a document may trust, and how many removed ones it may remember."""

KeyId = Annotated[str, Field(max_length=128)]
Pem = Annotated[str, Field(max_length=MAX_PEM)]


class KeyEntry(Document):
    """A public key: its id (hex of the first half of its SHA-256) and itself."""

    key_id: KeyId
    public_key_pem: Pem


class RemovedKeyEntry(KeyEntry):
    """A key that was trusted until `removed_at`."""

    removed_at: Timestamp | None = OMITTED


class TrustRootDocument(Document):
    """The keys that an environment trusts. `removed` is ours: those it trusts no more."""

    schema_: Literal["greentic.trust-root.v1"] = Field("greentic.trust-root.v1", alias="schema")
    keys: Annotated[tuple[KeyEntry, ...], Field(max_length=MAX_KEYS)]
    removed: Annotated[tuple[RemovedKeyEntry, ...], Field(max_length=MAX_KEYS)] = Field(default=(), exclude_if=absent)
