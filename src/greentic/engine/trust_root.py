"""Whom an environment trusts: the rules of the set of keys, and the verbs that change it (reference 01, section 2.8).

A key that was removed never comes back by itself. The document remembers removed keys (`removed`); `seed` and
`bootstrap` do not bring one back, and `add` only with `restore`.

The engine reads no keys: that a `key_id` is derived from its key has been checked by whoever made the payload.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from greentic.engine.command import Command, Outcome
from greentic.spec.environment import Environment
from greentic.spec.errors import InvalidArgument
from greentic.spec.trust_root import (
    MAX_KEYS,
    AddTrustedKeyPayload,
    KeyEntry,
    KeyRemoved,
    RemovedKeyEntry,
    RemoveTrustedKeyPayload,
    TrustOperatorKeyPayload,
    TrustRootDocument,
    TrustRootError,
    canonical_key_id,
)

Root = TypeVar("Root", bound=TrustRootDocument)
Entry = TypeVar("Entry", bound=KeyEntry)


def find(keys: Iterable[Entry], key_id: str) -> Entry | None:
    """The key of that id, in either case; None when there is none."""
    wanted = canonical_key_id(key_id)
    return None if wanted is None else next((key for key in keys if canonical_key_id(key.key_id) == wanted), None)


def trusting(root: Root, key: KeyEntry) -> Root:
    """`root` with `key` trusted and no longer remembered as removed; `root` itself when it is trusted already."""
    if find(root.keys, key.key_id) is not None:
        return root
    if len(root.keys) >= MAX_KEYS:
        raise TrustRootError(f"a trust root holds at most {MAX_KEYS:,} keys", reason="too-many-keys")
    removed = tuple(gone for gone in root.removed if canonical_key_id(gone.key_id) != canonical_key_id(key.key_id))
    return root.model_copy(update={"keys": (*root.keys, key), "removed": removed})


def distrusting(root: Root, gone: RemovedKeyEntry) -> Root:
    """`root` without the key `gone`, which it remembers as removed."""
    if len(root.removed) >= MAX_KEYS:
        # Forgetting an old one would let it return; a trust root that grew so large is not in order.
        raise TrustRootError(f"the trust root remembers {MAX_KEYS:,} removed keys, no more fit", reason="too-many-keys")
    left = tuple(key for key in root.keys if canonical_key_id(key.key_id) != canonical_key_id(gone.key_id))
    return root.model_copy(update={"keys": left, "removed": (*root.removed, gone)})


def refuse_removed(root: TrustRootDocument, key_id: str, environment_id: str = "ENV") -> None:
    """KeyRemoved when the key of that id was removed."""
    gone = find(root.removed, key_id)
    if gone is not None:
        raise KeyRemoved(
            f"the key {gone.key_id} was removed from the trust root and does not come back by itself",
            reason="key-removed",
            details={"key_id": gone.key_id},
            next_step=restoring(gone.key_id, environment_id),
        )


def restoring(key_id: str, environment_id: str = "ENV") -> str:
    """The next step for whoever means it."""
    return f"when it may be trusted again: gtc op trust-root add {environment_id} --key-id {key_id} --restore"


def bootstrap(environment: Environment, payload: TrustOperatorKeyPayload, command: Command, now: str) -> Outcome:
    """Trust the operator key; again and again with the same end. KeyRemoved when it was removed."""
    root = _present(environment, payload.adopted)
    refuse_removed(root, payload.key_id, environment.environment_id)
    return _outcome(environment, trusting(root, _entry(payload)), seeded(payload))


def seed(environment: Environment, payload: TrustOperatorKeyPayload, command: Command, now: str) -> Outcome:
    """As `bootstrap`, in an environment that never had a trust root; any other one stays as it is."""
    if environment.trust_root is not None or payload.adopted is not None:
        return _outcome(environment, _present(environment, payload.adopted), {"key_id": None, "public_key_pem": None})
    return bootstrap(environment, payload, command, now)


def add(environment: Environment, payload: AddTrustedKeyPayload, command: Command, now: str) -> Outcome:
    """Trust a key; KeyRemoved for one that was removed, unless `restore` says that this is meant."""
    root = _present(environment, payload.adopted)
    if not payload.restore:
        refuse_removed(root, payload.key_id, environment.environment_id)
    return _outcome(environment, trusting(root, _entry(payload)), {"added_key_id": payload.key_id})


def remove(environment: Environment, payload: RemoveTrustedKeyPayload, command: Command, now: str) -> Outcome:
    """Trust a key no more. Where it is not trusted, nothing changes and no trust root begins."""
    root = _present(environment, payload.adopted)
    found = find(root.keys, payload.key_id)
    told = {
        "removed_key_id": payload.key_id,
        "removed_public_key_pem": None if found is None else found.public_key_pem,
        "trusted_key_count": len(root.keys) - (found is not None),
    }
    if found is None:
        # What `seed` asks is whether there ever was a trust root: asking to remove nothing must not make one.
        return Outcome(environment, {"environment_id": environment.environment_id, **told}, changed=False)
    gone = RemovedKeyEntry(key_id=found.key_id.lower(), public_key_pem=found.public_key_pem, removed_at=now)
    return _outcome(environment, distrusting(root, gone), told)


def begun(key: TrustOperatorKeyPayload) -> TrustRootDocument:
    """The trust root of a new environment."""
    return TrustRootDocument(keys=(_entry(key),))


def seeded(key: TrustOperatorKeyPayload) -> dict[str, object]:
    """What the caller of `bootstrap` and `seed` is told of the key."""
    return {"key_id": canonical_key_id(key.key_id), "public_key_pem": key.public_key_pem}


def _present(environment: Environment, adopted: TrustRootDocument | None) -> TrustRootDocument:
    return environment.trust_root or adopted or TrustRootDocument(keys=())


def _entry(key: TrustOperatorKeyPayload | AddTrustedKeyPayload) -> KeyEntry:
    key_id = canonical_key_id(key.key_id)
    if key_id is None:
        raise InvalidArgument("a key id has 32 hexadecimal digits")
    return KeyEntry(key_id=key_id, public_key_pem=key.public_key_pem)


def _outcome(environment: Environment, root: TrustRootDocument, told: Mapping[str, object]) -> Outcome:
    result = {"environment_id": environment.environment_id, **told, "trusted_key_count": len(root.keys)}
    if root == environment.trust_root:
        return Outcome(environment, result, changed=False)
    return Outcome(environment.model_copy(update={"trust_root": root}), result)
