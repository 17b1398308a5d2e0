"""Secrets of an environment: what there is, whether it is there, new values. No value in any record.

Every attempt is authorised and audited, a look with `reveal` included.
"""

from __future__ import annotations

from typing import Any

from greentic.envpacks.secrets import Secrets, SecretsContext, SecretValue
from greentic.operations.context import Context
from greentic.operations.evidence import attempt
from greentic.spec.capabilities import Slot
from greentic.spec.environment import Environment
from greentic.spec.errors import GreenticError, NotFound
from greentic.spec.secrets import ReadSecretPayload, SecretAddress, SecretPayload, WriteSecretPayload


def store_of(context: Context, environment: Environment) -> Secrets:
    """The environment's store of secrets; Conflict when the slot is empty."""
    name = environment.environment_id
    folder = context.store.artifacts(name)
    answers = context.answers(environment.binding(Slot.SECRETS), folder)
    return context.registry.secrets(environment, SecretsContext(name, folder, answers))


def list_(context: Context, environment_id: str) -> dict[str, Any]:
    """The names of all secrets, and for each address that the environment's record mentions whether it is there."""
    environment = context.store.load(environment_id).environment
    store = store_of(context, environment)
    there = store.names()
    paths = {entry.address.path for entry in there}
    return {
        "environment_id": environment_id,
        "secrets_kind": _kind(environment),
        "namespace": f"secret://{environment_id}/",
        "secrets": [
            {"path": entry.address.path, "secret_ref": entry.address.uri, "updated_at": entry.updated_at}
            for entry in there
        ],
        "known_refs": [
            {"secret_ref": reference, "named_by": named_by, "present": _present(reference, paths)}
            for reference, named_by in _mentioned(environment)
        ],
        "snapshot_at": context.now(),
    }


def get(context: Context, environment_id: str, path: str, *, reveal: bool = False) -> dict[str, Any]:
    """Whether the secret is there; its value too with `reveal`. A team's look falls back to the whole tenant's."""
    environment = context.store.load(environment_id).environment
    address = SecretAddress.of_path(environment_id, path)
    store = store_of(context, environment)
    found: list[tuple[SecretAddress, SecretValue]] = []

    def look() -> dict[str, Any]:
        for place in dict.fromkeys((address, address.shared)):
            value = store.get(place)
            if value is not None:
                found.append((place, value))
                break
        return {"path": path, "present": bool(found)}

    # A look is not repeated under a key: it has no effect to have once.
    attempt(
        context, environment_id, "secrets", "get", ReadSecretPayload(path=path, reveal=reveal), look, key=context.mint()
    )
    told = {**_told(environment, address), "present": bool(found)}
    if found:
        told["secret_ref"] = found[0][0].uri
        if reveal:
            told["value"] = found[0][1].reveal()
    return told


def put(
    context: Context, environment_id: str, path: str, value: SecretValue, *, verb: str = "put", must_exist: bool = False
) -> dict[str, Any]:
    """Keep `value`; `must_exist` refuses a secret that is not there yet (NotFound)."""
    environment = context.store.load(environment_id).environment
    address = SecretAddress.of_path(environment_id, path)
    store = store_of(context, environment)
    existed = any(entry.address == address for entry in store.names())
    if must_exist and not existed:
        raise _missing(address)
    told = {**_told(environment, address), "store": store.place(), "replaced": existed}
    if context.dry_run:
        return {**told, "written": False}
    key = context.step_key("")
    payload = WriteSecretPayload(path=path, mark=store.mark(address, value, key))
    recorded = attempt(
        context,
        environment_id,
        "secrets",
        verb,
        payload,
        lambda: {"replaced": store.put(address, value, context.now())},
        key=key,
    )
    return {**told, "replaced": bool(recorded["replaced"]), "written": True}


def rotate(context: Context, environment_id: str, path: str, value: SecretValue) -> dict[str, Any]:
    """Replace the value of a secret that is there."""
    return put(context, environment_id, path, value, verb="rotate", must_exist=True)


def delete(context: Context, environment_id: str, path: str) -> dict[str, Any]:
    """Forget a secret; one that is not there is forgotten already."""
    environment = context.store.load(environment_id).environment
    address = SecretAddress.of_path(environment_id, path)
    store = store_of(context, environment)
    if context.dry_run:
        return {**_told(environment, address), "deleted": any(one.address == address for one in store.names())}
    recorded = attempt(
        context,
        environment_id,
        "secrets",
        "delete",
        SecretPayload(path=path),
        lambda: {"deleted": store.delete(address)},
    )
    return {**_told(environment, address), "deleted": bool(recorded["deleted"])}


def generated(length: int = 32) -> SecretValue:
    """`length` random characters out of 62: almost six bits each."""
    import secrets
    import string

    alphabet = string.ascii_letters + string.digits
    return SecretValue("".join(secrets.choice(alphabet) for _ in range(length)))


def _mentioned(environment: Environment) -> list[tuple[str, str]]:
    found = [] if environment.credentials_ref is None else [(environment.credentials_ref, "credentials_ref")]
    for endpoint in environment.messaging_endpoints:
        webhook = () if endpoint.webhook_secret_ref is None else (endpoint.webhook_secret_ref,)
        found += [(reference, f"messaging endpoint {endpoint.display_name}") for reference in endpoint.secret_refs]
        found += [(reference, f"webhook of {endpoint.display_name}") for reference in webhook]
    return found


def _present(reference: str, paths: set[str]) -> bool | None:
    """Whether the secret is there; None for an address that has no place in a store."""
    try:
        address = SecretAddress.of_uri(reference)
    except GreenticError:
        return None
    return address.path in paths or address.shared.path in paths


def _kind(environment: Environment) -> str | None:
    binding = environment.binding(Slot.SECRETS)
    return None if binding is None else binding.kind


def _told(environment: Environment, address: SecretAddress) -> dict[str, Any]:
    return {
        "environment_id": environment.environment_id,
        "path": address.path,
        "secret_ref": address.uri,
        "store_uri": address.store_uri,
        "secrets_kind": _kind(environment),
    }


def _missing(address: SecretAddress) -> NotFound:
    return NotFound(
        f"there is no secret {address.path} in the environment '{address.environment_id}'",
        details={"secret_ref": address.uri},
        next_step=f"gtc op secrets put {address.path}",
    )
