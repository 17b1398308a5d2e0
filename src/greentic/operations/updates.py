"""The update channel of an environment: what it is set to, and whose keys its updates are trusted by."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol, runtime_checkable

from greentic.engine.command import Command
from greentic.operations.context import Context
from greentic.operations.kept import files
from greentic.spec.errors import SpecViolation
from greentic.spec.parsing import Payload, Text, parse, parse_json
from greentic.spec.update_channel import ConfigureUpdatesPayload, UpdateChannelConfig, configured
from greentic.store.contract import Applied, Files, WritableFiles
from greentic.store.files import FilesStore
from greentic.store.preconditions import Precondition, meet

FILE = "update-channel.json"
_DIDS = "x-greentic-trusted-dids"
"""Our key in the document, which readers of the reference keep: whose keys were taken into the trust root."""


class TrustDidPayload(Payload):
    """Whose keys were taken into the trust root."""

    did: Text


@runtime_checkable
class Rewriting(Protocol):
    """A store elsewhere, in which a file is changed by what is made of the one that is there."""

    def rewrite(self, command: Command, path: str, change: Callable[[bytes | None], Any]) -> Applied:
        """Make the file what `change` makes of it, also when somebody else changes it meanwhile."""
        ...


def load(files: Files) -> UpdateChannelConfig | None:
    """The channel beside an environment's document, None when there is none; SpecViolation when it is malformed."""
    return _read(files.read(FILE))


def _read(data: bytes | None) -> UpdateChannelConfig | None:
    try:
        return None if data is None else parse(UpdateChannelConfig, parse_json(data, FILE), FILE)
    except SpecViolation as error:
        error.next_step = f"mend {FILE}, or remove it and set the channel anew: gtc op updates config-set"
        raise


def trusted_dids(files: Files) -> frozenset[str]:
    """The DIDs whose keys were trusted for this channel."""
    channel = load(files)
    found = [] if channel is None else (channel.model_extra or {}).get(_DIDS, [])
    return frozenset(one for one in found if isinstance(one, str)) if isinstance(found, list) else frozenset()


def show(context: Context, environment_id: str) -> dict[str, Any]:
    """What is stored (None: nothing) and what it comes to."""
    context.store.load(environment_id)
    return _told(environment_id, load(context.store.files(environment_id)))


def configure(context: Context, environment_id: str, payload: ConfigureUpdatesPayload) -> dict[str, Any]:
    """Set what `payload` names, on whatever is set when it is its turn; as `show`."""

    def change(present: UpdateChannelConfig | None) -> UpdateChannelConfig:
        return configured(present, environment_id, payload)

    return _write(context, environment_id, "config-set", payload, change)


def trust_did(context: Context, environment_id: str, did: str) -> dict[str, Any]:
    """Trust every Ed25519 key that a did:web asserts with now. InputOutput when its document cannot be had."""
    from greentic.operations import trust_root  # loads cryptography
    from greentic.trust import did as dids

    keys = dids.fetch(did)
    for number, key in enumerate(keys):
        trust_root.add(context.with_key(f"key-{number}"), environment_id, public_key_pem=key.pem)

    def change(present: UpdateChannelConfig | None) -> UpdateChannelConfig:
        channel = present or UpdateChannelConfig(environment_id=environment_id)
        known = (channel.model_extra or {}).get(_DIDS, [])
        return UpdateChannelConfig(**{**channel.to_json(), _DIDS: sorted({*known, did})})

    _write(context.with_key("did"), environment_id, "trust-did", TrustDidPayload(did=did), change)
    return {"environment_id": environment_id, "did": did, "key_ids": [key.key_id for key in keys]}


def _write(
    context: Context,
    environment_id: str,
    verb: str,
    payload: Payload,
    change: Callable[[UpdateChannelConfig | None], UpdateChannelConfig],
) -> dict[str, Any]:
    store = context.store
    command = Command(environment_id, "updates", verb, payload, context.step_key(""), context.actor)
    if context.dry_run:
        if isinstance(store, FilesStore):
            store.would_maintain(command)
        return _told(environment_id, change(load(store.files(environment_id))))
    generation, etag = context.precondition
    if isinstance(store, Rewriting):
        meet(Precondition(generation, etag), store.load(environment_id))
        made: list[UpdateChannelConfig] = []

        def changed(data: bytes | None) -> Any:
            made.append(change(_read(data)))
            return made[-1].to_json()

        store.rewrite(command, FILE, changed)
        return _told(environment_id, made[-1])

    def written(beside: WritableFiles) -> dict[str, Any]:
        # Read in the writer's turn: what somebody else set a moment ago is kept.
        channel = change(load(beside))
        data = (json.dumps(channel.to_json(), indent=2, ensure_ascii=False) + "\n").encode()
        beside.write(FILE, data)
        return _told(environment_id, channel)

    return dict(files(context).maintain(command, written, expected_generation=generation, if_match=etag).result)


def _told(environment_id: str, channel: UpdateChannelConfig | None) -> dict[str, Any]:
    resolved = (channel or UpdateChannelConfig(environment_id=environment_id)).resolved()
    return {
        "environment_id": environment_id,
        "stored": None if channel is None else channel.to_json(),
        "resolved": {**asdict(resolved), "action": resolved.action.value},
    }
