"""Whom an environment trusts: bootstrap, list, add, remove. What changes goes through the store like any change.

The trust root is part of the environment's document. `trust-root.json`, which tools of the reference read and write, is
derived from it. An environment of the reference has only that file: the first verb that changes its trust root takes it
over, and from then on the file is never read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from greentic.engine import trust_root as rules
from greentic.engine.command import Command
from greentic.operations.context import Context
from greentic.spec.environment import Environment
from greentic.spec.errors import InvalidArgument, NotFound
from greentic.spec.parsing import Payload
from greentic.spec.payloads import CreateEnvironmentPayload
from greentic.spec.trust_root import (
    AddTrustedKeyPayload,
    RemoveTrustedKeyPayload,
    TrustOperatorKeyPayload,
    TrustRootDocument,
    TrustRootError,
)
from greentic.store import trust_file
from greentic.store.contract import Complete, Completed, Files
from greentic.trust import keys
from greentic.trust import root as trust
from greentic.trust.errors import OperatorKeyError
from greentic.trust.public import PublicKey, canonical_key_id
from greentic.trust.root import TrustRoot


def present(environment: Environment, files: Files) -> TrustRoot:
    """Whom `environment` trusts: by its document, or by the file of the reference when that says nothing.

    TrustRootError when what is there cannot be relied on.
    """
    if environment.trust_root is not None:
        return trust.of(environment.trust_root)
    return trust.read(files.read(trust_file.FILE), trust_file.FILE)


def trusted(context: Context, environment_id: str) -> bool:
    """Whether the environment trusts the operator key; False when there is no such key. Makes none."""
    try:
        key = keys.load(keys.location())
    except OperatorKeyError as error:
        if error.details.get("reason") == "missing":
            return False
        raise
    environment = context.store.load(environment_id).environment
    return present(environment, context.store.files(environment_id)).trusts(key.key_id)


def bootstrap(context: Context, environment_id: str) -> dict[str, Any]:
    """Trust the operator key, which is made when there is none; again and again with the same end.

    KeyRemoved when somebody removed it here: `add` with `restore` takes it back. A dry run makes no key.
    """
    context.store.load(environment_id)
    payload = operator_key(create=not context.dry_run)
    if payload is None:
        return {
            "environment_id": environment_id,
            "operator_key_id": None,
            "operator_public_key_pem": None,
            "trusted_key_count": None,
        }
    applied = context.apply(environment_id, "trust-root", "bootstrap", payload, complete=adopting)
    return {
        "environment_id": environment_id,
        "operator_key_id": applied.result["key_id"],
        "operator_public_key_pem": applied.result["public_key_pem"],
        "trusted_key_count": applied.result["trusted_key_count"],
        "generation": applied.generation,
    }


def seed(context: Context, environment_id: str) -> dict[str, Any] | None:
    """Trust the operator key in an environment that never had a trust root; None when it had one.

    None too on a dry run for which there is no key yet.
    """
    environment = context.store.load(environment_id).environment
    if environment.trust_root is not None or _file(context.store.files(environment_id)) is not None:
        return None
    payload = operator_key(create=not context.dry_run)
    if payload is None:
        return None
    applied = context.apply(environment_id, "trust-root", "seed", payload, step="seed", complete=adopting)
    told = {name: applied.result[name] for name in ("key_id", "public_key_pem", "trusted_key_count")}
    return None if told["key_id"] is None else told


def seeding(*, create: bool) -> Complete:
    """Completes `env create`: the new environment trusts the operator key, made when there is none and `create`."""

    def complete(environment: Environment | None, command: Command, _now: str, _files: Files) -> Completed:
        payload = command.payload
        if environment is None and isinstance(payload, CreateEnvironmentPayload) and payload.operator_key is None:
            payload = payload.model_copy(update={"operator_key": operator_key(create=create)})
        return Completed(payload)

    return complete


def list_(context: Context, environment_id: str) -> dict[str, Any]:
    """The trusted keys, and those that were removed."""
    environment = context.store.load(environment_id).environment
    root = present(environment, context.store.files(environment_id))
    return {
        "environment_id": environment_id,
        "keys": [key.to_json() for key in root.keys],
        "removed": [key.to_json() for key in root.removed],
    }


def add(
    context: Context,
    environment_id: str,
    *,
    key_id: str | None = None,
    public_key_pem: str | None = None,
    restore: bool = False,
) -> dict[str, Any]:
    """Trust a public key. Its id, when given, must be the one derived from it.

    `restore` takes back one that was removed; its id is enough, for the trust root remembers it. TrustRootError for
    what is no key or another one's id, KeyRemoved without `restore`.
    """
    environment = context.store.load(environment_id).environment
    root = present(environment, context.store.files(environment_id))
    if public_key_pem is None:
        public = _remembered(root, key_id, environment_id, restore=restore)
    else:
        public = PublicKey.from_pem(public_key_pem)
    if key_id is not None and canonical_key_id(key_id) != public.key_id:
        raise TrustRootError(
            f"the key id '{key_id[:64]}' is not the one derived from the key, {public.key_id}",
            reason="key-id-mismatch",
            details={"derived_key_id": public.key_id},
        )
    payload = AddTrustedKeyPayload(key_id=key_id or public.key_id, public_key_pem=public.pem, restore=restore)
    applied = context.apply(environment_id, "trust-root", "add", payload, complete=adopting)
    return _told(applied.result, "environment_id", "added_key_id", "trusted_key_count", generation=applied.generation)


def remove(context: Context, environment_id: str, key_id: str) -> dict[str, Any]:
    """Trust a key no more, for good: no backup and no bootstrap brings it back. A key that is not there is no error."""
    if canonical_key_id(key_id) is None:
        raise InvalidArgument(
            f"'{key_id[:64]}' is not a key id: it has 32 hexadecimal digits",
            next_step=f"gtc op trust-root list {environment_id}",
        )
    payload = RemoveTrustedKeyPayload(key_id=key_id)
    applied = context.apply(environment_id, "trust-root", "remove", payload, complete=adopting)
    names = ("environment_id", "removed_key_id", "removed_public_key_pem", "trusted_key_count")
    return _told(applied.result, *names, generation=applied.generation)


def operator_key(*, create: bool) -> TrustOperatorKeyPayload | None:
    """The public half of the operator key; made when there is none and `create`, else None then. OperatorKeyError."""
    path = keys.location()
    try:
        key = keys.load_or_create(path) if create else keys.load(path)
    except OperatorKeyError as error:
        if not create and error.details.get("reason") == "missing":
            return None
        raise
    return TrustOperatorKeyPayload(key_id=key.key_id, public_key_pem=key.public_pem)


def adopting(environment: Environment | None, command: Command, _now: str, files: Files) -> Completed:
    """Completes a verb of the trust root with the file of the reference, as long as the document has no trust root."""
    payload: Payload = command.payload
    if environment is not None and environment.trust_root is None:
        payload = payload.model_copy(update={"adopted": _file(files)})
    return Completed(payload)


def _file(files: Files) -> TrustRootDocument | None:
    data = files.read(trust_file.FILE)
    if data is None:
        return None
    return TrustRootDocument.model_validate(trust.read(data, trust_file.FILE).to_json())


def _remembered(root: TrustRoot, key_id: str | None, environment_id: str, *, restore: bool) -> PublicKey:
    if key_id is not None and not restore:
        rules.refuse_removed(root, key_id, environment_id)
    if key_id is None or not restore:
        raise InvalidArgument(
            "the public key is missing", next_step="add --public-key-file FILE or --public-key-pem TEXT"
        )
    found = rules.find(root.removed, key_id) or rules.find(root.keys, key_id)
    if found is None:
        raise NotFound(
            f"the trust root remembers no key '{key_id[:64]}'",
            next_step="add --public-key-file FILE or --public-key-pem TEXT",
        )
    return found.public


def _told(result: Mapping[str, Any], *names: str, generation: int) -> dict[str, Any]:
    return {**{name: result[name] for name in names}, "generation": generation}
