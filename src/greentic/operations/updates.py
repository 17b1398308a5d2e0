"""The update channel of an environment: what it is set to, and whose keys its updates are trusted by."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from greentic.engine.command import Command
from greentic.operations.context import Context
from greentic.operations.kept import files
from greentic.spec.parsing import Payload, parse, parse_json
from greentic.spec.update_channel import ConfigureUpdatesPayload, UpdateChannelConfig, configured
from greentic.store.folders import replace
from greentic.store.io import read
from greentic.store.transaction import Turn

FILE = "update-channel.json"
_DIDS = "x-greentic-trusted-dids"
"""Our key in the document, which readers of the reference keep: whose keys were taken into the trust root."""


class ChannelPayload(Payload):
    """The channel as it is to be written."""

    channel: dict[str, Any]


def load(folder: Path) -> UpdateChannelConfig | None:
    """The channel in an environment's folder, None when there is none; SpecViolation when it is malformed."""
    data = read(folder / FILE)
    return None if data is None else parse(UpdateChannelConfig, parse_json(data, FILE), FILE)


def trusted_dids(folder: Path) -> frozenset[str]:
    """The DIDs whose keys were trusted for this channel."""
    channel = load(folder)
    found = [] if channel is None else (channel.model_extra or {}).get(_DIDS, [])
    return frozenset(one for one in found if isinstance(one, str)) if isinstance(found, list) else frozenset()


def show(context: Context, environment_id: str) -> dict[str, Any]:
    """What is stored (None: nothing) and what it comes to."""
    context.store.load(environment_id)
    channel = load(context.store.artifacts(environment_id))
    resolved = (channel or UpdateChannelConfig(environment_id=environment_id)).resolved()
    return {
        "environment_id": environment_id,
        "stored": None if channel is None else channel.to_json(),
        "resolved": {**asdict(resolved), "action": resolved.action.value},
    }


def configure(context: Context, environment_id: str, payload: ConfigureUpdatesPayload) -> dict[str, Any]:
    """Set what `payload` names; as `show`."""
    context.store.load(environment_id)
    present = load(context.store.artifacts(environment_id))
    return _write(context, environment_id, configured(present, environment_id, payload))


def trust_did(context: Context, environment_id: str, did: str) -> dict[str, Any]:
    """Trust every Ed25519 key that a did:web names now. InputOutput when its document cannot be had."""
    from greentic.operations import trust_root  # loads cryptography
    from greentic.trust import did as dids

    keys = dids.fetch(did)
    for number, key in enumerate(keys):
        trust_root.add(context.with_key(f"key-{number}"), environment_id, public_key_pem=key.pem)
    folder = context.store.artifacts(environment_id)
    if not context.dry_run:
        channel = load(folder) or UpdateChannelConfig(environment_id=environment_id)
        extra = {**(channel.model_extra or {}), _DIDS: sorted({*trusted_dids(folder), did})}
        _write(context.with_key("did"), environment_id, UpdateChannelConfig(**{**channel.to_json(), **extra}))
    return {"environment_id": environment_id, "did": did, "key_ids": [key.key_id for key in keys]}


def _write(context: Context, environment_id: str, channel: UpdateChannelConfig) -> dict[str, Any]:
    document = channel.to_json()
    resolved = channel.resolved()
    told = {
        "environment_id": environment_id,
        "stored": document,
        "resolved": {**asdict(resolved), "action": resolved.action.value},
    }
    store = files(context)
    payload = ChannelPayload(channel=document)
    command = Command(environment_id, "updates", "config-set", payload, context.step_key(""), context.actor)
    if context.dry_run:
        store.would_maintain(command)
        return told

    def written(_: Turn) -> dict[str, Any]:
        folder = store.artifacts(environment_id)
        data = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
        replace(store.io, folder, folder / FILE, data)
        return told

    return dict(store.maintain(command, written))
