"""The trust root of an environment: whose signatures count (`greentic.trust-root.v1`; reference 02, section 9.4).

A missing document and an empty one both trust nobody. Every change is a pure function: the document before, what is
asked -> the document after and an outcome.

A key that was removed never comes back by itself. The document remembers removed keys in `removed`, a field of ours
that the reference does not know; `seed` and `bootstrap` do not bring one back, and `add` only with `restore`. The
memory holds the public half too, so that what the key signed before can still be told from what nobody signed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from greentic.engine import trust_root as rules
from greentic.engine.trust_root import find
from greentic.spec.errors import SpecViolation
from greentic.spec.parsing import Document, absent, parse_json
from greentic.spec.parsing import parse as parse_document
from greentic.spec.trust_root import MAX_KEYS, AddTrustedKeyPayload, KeyEntry, RemovedKeyEntry, TrustRootDocument
from greentic.trust.errors import OperatorKeyNotTrusted, TrustRootError
from greentic.trust.public import PublicKey, canonical_key_id

SCHEMA = "greentic.trust-root.v1"
MAX_BYTES = 1024 * 1024


class TrustedKey(KeyEntry):
    """A key whose signatures count."""

    @property
    def public(self) -> PublicKey:
        """The key itself; TrustRootError when the PEM is none."""
        return PublicKey.from_pem(self.public_key_pem)


class RemovedKey(TrustedKey, RemovedKeyEntry):
    """A key whose signatures counted until `removed_at` (RFC 3339)."""


class TrustRoot(TrustRootDocument):
    """The keys that an environment trusts, and those it trusts no more."""

    keys: Annotated[tuple[TrustedKey, ...], Field(max_length=MAX_KEYS)]
    removed: Annotated[tuple[RemovedKey, ...], Field(max_length=MAX_KEYS)] = Field(default=(), exclude_if=absent)

    def trusted(self) -> tuple[PublicKey, ...]:
        """The keys whose signatures count, for `verify` of envelopes and statements."""
        return tuple(key.public for key in self.keys)

    def once_trusted(self) -> tuple[PublicKey, ...]:
        """The removed keys: what they signed is evidence of the past and authorises nothing."""
        return tuple(key.public for key in self.removed)

    def trusts(self, key_id: str) -> bool:
        """Whether the key of that id, in either case, is trusted."""
        return find(self.keys, key_id) is not None

    def to_bytes(self) -> bytes:
        """The document as it is stored: JSON, indented by two, ended by a newline."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False).encode() + b"\n"


class TrustRootSeed(Document):
    """What `bootstrap` and `seed` trust, and how many keys are trusted then."""

    key_id: str
    public_key_pem: str
    trusted_key_count: int


class TrustRootAddOutcome(Document):
    """The id as the caller wrote it, and how many keys are trusted now."""

    added_key_id: str
    trusted_key_count: int


class TrustRootRemoveOutcome(Document):
    """The id as the caller wrote it, the key that went (None: there was none), and how many are trusted now."""

    removed_key_id: str
    removed_public_key_pem: str | None
    trusted_key_count: int


@dataclass(frozen=True, slots=True)
class Added:
    """The document after `add`; unchanged (the same object) when nothing has to be written."""

    root: TrustRoot
    outcome: TrustRootAddOutcome


@dataclass(frozen=True, slots=True)
class Removed:
    """The document after `remove`; unchanged (the same object) when there was no such key."""

    root: TrustRoot
    outcome: TrustRootRemoveOutcome


@dataclass(frozen=True, slots=True)
class Seeded:
    """The document after `seed` or `bootstrap`; `outcome` is None when `seed` found a document."""

    root: TrustRoot
    outcome: TrustRootSeed | None


def empty() -> TrustRoot:
    """Nobody is trusted: what a missing document means."""
    return TrustRoot(keys=())


def read(data: bytes | None, what: str = "the trust root") -> TrustRoot:
    """The trust root in the stored bytes, None when there are none; TrustRootError when it cannot be relied on.

    Refused: another schema, a key id that is not derived from its key, a key that stands twice or is both trusted and
    removed. There is no partial trust: one bad key makes the whole document unusable.
    """
    if data is None:
        return empty()
    if len(data) > MAX_BYTES:
        raise TrustRootError(f"{what} is larger than {MAX_BYTES:,} bytes", reason="malformed")
    try:
        root = parse_document(TrustRoot, parse_json(data, what), what)
    except SpecViolation as error:
        raise TrustRootError(error.message, reason="malformed", details=error.details) from None
    return _consistent(root, what)


def of(document: TrustRootDocument | None, what: str = "the trust root") -> TrustRoot:
    """The trust root in the document of an environment (None: it has none); TrustRootError as `read`."""
    return empty() if document is None else _consistent(TrustRoot.model_validate(document.to_json()), what)


def _consistent(root: TrustRoot, what: str) -> TrustRoot:
    seen: set[str] = set()
    for place, key in _places(root):
        try:
            derived = key.public.key_id
        except TrustRootError as error:
            raise TrustRootError(f"{what}: {place}: {error.message}", reason="malformed-key") from None
        _must_be_derived(key.key_id, derived, f"{what}: {place}")
        if derived in seen:
            raise TrustRootError(f"{what}: {place}: the key {derived} stands twice", reason="duplicate-key")
        seen.add(derived)
    return root


def add(root: TrustRoot, payload: AddTrustedKeyPayload) -> Added:
    """Trust a key. Adding a trusted one again changes nothing.

    TrustRootError when the PEM is no Ed25519 key or `key_id` is not derived from it; KeyRemoved for a key that was
    removed, unless `restore` says that this is meant.
    """
    public = PublicKey.from_pem(payload.public_key_pem)
    _must_be_derived(payload.key_id, public.key_id, "the key")
    if not payload.restore:
        rules.refuse_removed(root, public.key_id)
    grown = _with(root, public)
    return Added(grown, TrustRootAddOutcome(added_key_id=payload.key_id, trusted_key_count=len(grown.keys)))


def remove(root: TrustRoot, key_id: str, now: str) -> Removed:
    """Trust the key of that id (either case) no more, from the time `now` (RFC 3339). None there: nothing changes."""
    found = find(root.keys, key_id)
    if found is None:
        outcome = TrustRootRemoveOutcome(
            removed_key_id=key_id, removed_public_key_pem=None, trusted_key_count=len(root.keys)
        )
        return Removed(root, outcome)
    public = found.public
    shrunk = rules.distrusting(root, RemovedKey(key_id=public.key_id, public_key_pem=public.pem, removed_at=now))
    outcome = TrustRootRemoveOutcome(
        removed_key_id=key_id, removed_public_key_pem=found.public_key_pem, trusted_key_count=len(shrunk.keys)
    )
    return Removed(shrunk, outcome)


def seed(root: TrustRoot | None, public: PublicKey) -> Seeded:
    """Trust `public` in an environment that has no trust root yet (None).

    Any document, be it empty, is somebody's decision: it stays as it is and the outcome is None.
    """
    return Seeded(root, None) if root is not None else _granted(empty(), public)


def bootstrap(root: TrustRoot, public: PublicKey) -> Seeded:
    """Trust the operator key `public`; again and again with the same end. KeyRemoved when it was removed."""
    rules.refuse_removed(root, public.key_id)
    return _granted(root, public)


def require_operator(root: TrustRoot, public: PublicKey) -> None:
    """OperatorKeyNotTrusted unless the operator key `public` is trusted; asked before anything is signed."""
    if not root.trusts(public.key_id):
        removed = find(root.removed, public.key_id) is not None
        raise OperatorKeyNotTrusted(
            f"the environment does not trust the operator key {public.key_id}"
            + (": it was removed from the trust root" if removed else ""),
            details={"reason": "operator-key-not-trusted", "key_id": public.key_id},
            next_step=rules.restoring(public.key_id) if removed else "gtc op trust-root bootstrap ENV",
        )


def _granted(root: TrustRoot, public: PublicKey) -> Seeded:
    grown = _with(root, public)
    outcome = TrustRootSeed(key_id=public.key_id, public_key_pem=public.pem, trusted_key_count=len(grown.keys))
    return Seeded(grown, outcome)


def _with(root: TrustRoot, public: PublicKey) -> TrustRoot:
    return rules.trusting(root, TrustedKey(key_id=public.key_id, public_key_pem=public.pem))


def _places(root: TrustRoot) -> Iterator[tuple[str, TrustedKey]]:
    for name, keys in (("keys", root.keys), ("removed", root.removed)):
        for index, key in enumerate(keys):
            yield f"{name}.{index}", key


def _must_be_derived(key_id: str, derived: str, what: str) -> None:
    if canonical_key_id(key_id) != derived:
        raise TrustRootError(
            f"{what}: its key_id is not the one derived from it, {derived}",
            reason="key-id-mismatch",
            details={"derived_key_id": derived},
        )
