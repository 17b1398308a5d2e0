"""The document of an environment's trust root (`greentic.trust-root.v1`; reference 01, section 1.19).

How it changes is `greentic.engine.trust_root`; what its keys prove, `greentic.trust`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from greentic.spec.errors import GreenticError
from greentic.spec.identifiers import Timestamp
from greentic.spec.parsing import Document, Flag, Payload, absent
from greentic.spec.revision import OMITTED

MAX_PEM = 4_096
"""Characters of a public key in PEM."""
MAX_KEYS = 1_024
"""How many keys a document may trust, and how many removed ones it may remember."""

KeyId = Annotated[str, Field(max_length=128)]
Pem = Annotated[str, Field(max_length=MAX_PEM)]
_KEY_ID = re.compile(r"[0-9A-Fa-f]{32}")


def canonical_key_id(text: str) -> str | None:
    """The key id in `text` as it is compared, in lower case; None when it is none. The empty text is none."""
    return text.lower() if _KEY_ID.fullmatch(text) else None


class TrustRootError(GreenticError):
    """A trust root, or a public key for one, cannot be used; `details.reason` names the rule."""

    kind = "trust-root"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "unusable",
        details: Mapping[str, Any] | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(message, details={"reason": reason, **(details or {})}, next_step=next_step)


class KeyRemoved(TrustRootError):
    """A key that somebody removed is to be trusted again, and nobody said that this is meant."""


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


class TrustOperatorKeyPayload(Payload):
    """The operator key to trust; whoever asks has derived `key_id` from the key.

    `adopted` is the trust root that an environment of the reference keeps in a file; it counts while the environment
    has none of its own.
    """

    key_id: KeyId
    public_key_pem: Pem
    adopted: TrustRootDocument | None = OMITTED


class AddTrustedKeyPayload(Payload):
    """A public key to trust; `key_id` must be the one derived from it. `restore` takes back one that was removed."""

    key_id: KeyId
    public_key_pem: Pem
    restore: Flag = Field(default=False, exclude_if=lambda asked: not asked)
    adopted: TrustRootDocument | None = OMITTED


class RemoveTrustedKeyPayload(Payload):
    """A key to trust no more, by its id in either case."""

    key_id: KeyId
    adopted: TrustRootDocument | None = OMITTED
