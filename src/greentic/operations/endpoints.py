"""Messaging endpoints: chat channels of an environment, and which bundles they reach.

An endpoint is called by its provider id (`support-bot`), by type and id where several types share it
(`telegram/support-bot`), by its display name, or by a unique prefix of its id.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from greentic.engine.command import Command
from greentic.engine.endpoints import has_webhook_secret
from greentic.operations import secrets
from greentic.operations.context import Context
from greentic.operations.derived import ulid
from greentic.spec.capabilities import Slot
from greentic.spec.endpoints import (
    AddMessagingEndpointPayload,
    ClearMessagingWelcomeFlowPayload,
    LinkMessagingBundlePayload,
    RemoveMessagingEndpointPayload,
    RotateMessagingWebhookSecretPayload,
    SetMessagingWelcomeFlowPayload,
    UnlinkMessagingBundlePayload,
)
from greentic.spec.environment import Environment, MessagingEndpoint
from greentic.spec.errors import InvalidArgument, NotFound
from greentic.spec.identifiers import is_ulid
from greentic.spec.parsing import Payload, parse_payload
from greentic.spec.secrets import SecretAddress, webhook_secret
from greentic.store.contract import Applied

NOUN = "messaging.endpoint"
_PREFIX = re.compile(r"[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{3,25}", re.ASCII)


def named(environment: Environment, word: str) -> MessagingEndpoint:
    """The endpoint that `word` names; NotFound with what there is, InvalidArgument when it names several."""
    endpoints = environment.messaging_endpoints
    called = [one for one in endpoints if word in {one.provider_id, f"{one.provider_type}/{one.provider_id}"}]
    called = called or [one for one in endpoints if one.display_name == word]
    if not called and _PREFIX.fullmatch(word):
        called = [one for one in endpoints if one.endpoint_id.startswith(word.upper())]
    known = [f"{one.provider_type}/{one.provider_id}" for one in endpoints]
    if not called:
        raise NotFound(
            f"there is no messaging endpoint '{word}' in the environment '{environment.environment_id}'",
            details={"environment_id": environment.environment_id, "endpoints": known},
            next_step=f"one of: {', '.join(known[:10])}" if known else "gtc op messaging endpoint add",
        )
    if len(called) > 1:
        raise InvalidArgument(f"'{word}' names {len(called)} endpoints", next_step="write TYPE/ID, or more of the id")
    return called[0]


def summary(endpoint: MessagingEndpoint) -> dict[str, Any]:
    """The endpoint in short (EndpointSummary of reference 01)."""
    document = endpoint.to_json()
    fields = ("endpoint_id", "provider_type", "provider_id", "display_name", "linked_bundles", "secret_refs")
    told = {"environment_id": endpoint.env_id, **{field: document[field] for field in fields}}
    more = ("welcome_flow", "webhook_secret_ref")
    told |= {field: document[field] for field in more if field in document}
    return {**told, "endpoint_generation": endpoint.generation, "updated_at": endpoint.updated_at} | {
        "updated_by": endpoint.updated_by
    }


def list_(context: Context, environment_id: str) -> dict[str, Any]:
    """Every endpoint of the environment."""
    environment = context.store.load(environment_id).environment
    return {
        "environment_id": environment_id,
        "endpoints": [summary(endpoint) for endpoint in environment.messaging_endpoints],
    }


def show(context: Context, environment_id: str, word: str) -> dict[str, Any]:
    """The whole record of an endpoint."""
    return {"endpoint": named(context.store.load(environment_id).environment, word).to_json()}


def add(context: Context, environment_id: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A new endpoint. For Telegram without a `webhook_secret_ref` a random secret is put into the environment's store.

    Under a caller's key the id is derived from it, so that a repetition names the same endpoint and secret.
    """
    environment = context.store.load(environment_id).environment
    wanted = {"display_name": fields.get("provider_id"), **fields, "updated_by": context.by}
    wanted["endpoint_id"] = context.mint() if context.key is None else ulid("greentic-messaging-endpoint", context.key)
    minted = _secret_to_mint(environment, wanted)
    if minted is not None:
        wanted["webhook_secret_ref"] = minted.uri
    payload = parse_payload(AddMessagingEndpointPayload, wanted, NOUN)
    _mint_webhook_secret(context, environment_id, minted, "add", payload)
    return _told(context.apply(environment_id, NOUN, "add", payload))


def link(context: Context, environment_id: str, word: str, bundle_id: str, *, linked: bool) -> dict[str, Any]:
    """Let the endpoint reach a deployed bundle, or no more."""
    endpoint = named(context.store.load(environment_id).environment, word)
    model = LinkMessagingBundlePayload if linked else UnlinkMessagingBundlePayload
    payload = model(endpoint_id=endpoint.endpoint_id, bundle_id=bundle_id, updated_by=context.by)
    return _told(context.apply(environment_id, NOUN, "link-bundle" if linked else "unlink-bundle", payload))


def set_welcome_flow(
    context: Context, environment_id: str, word: str, bundle_id: str, pack_id: str, flow_id: str
) -> dict[str, Any]:
    """Greet new conversations with a flow of a linked bundle."""
    endpoint = named(context.store.load(environment_id).environment, word)
    fields = {"endpoint_id": endpoint.endpoint_id, "bundle_id": bundle_id, "pack_id": pack_id, "flow_id": flow_id}
    payload = parse_payload(SetMessagingWelcomeFlowPayload, {**fields, "updated_by": context.by}, NOUN)
    return _told(context.apply(environment_id, NOUN, "set-welcome-flow", payload))


def clear_welcome_flow(context: Context, environment_id: str, word: str) -> dict[str, Any]:
    """Greet new conversations no more."""
    endpoint = named(context.store.load(environment_id).environment, word)
    payload = ClearMessagingWelcomeFlowPayload(endpoint_id=endpoint.endpoint_id, updated_by=context.by)
    return _told(context.apply(environment_id, NOUN, "clear-welcome-flow", payload))


def remove(context: Context, environment_id: str, word: str) -> dict[str, Any]:
    """Take an endpoint out; by its whole id also one that is gone already. Its secrets stay where they are."""
    environment = context.store.load(environment_id).environment
    try:
        endpoint_id = named(environment, word).endpoint_id
    except NotFound:
        if not is_ulid(word):
            raise
        endpoint_id = word
    payload = RemoveMessagingEndpointPayload(endpoint_id=endpoint_id)
    applied = context.apply(environment_id, NOUN, "remove", payload)
    return {"environment_id": environment_id, **applied.result, "generation": applied.generation}


def rotate_webhook_secret(
    context: Context, environment_id: str, word: str, reference: str | None = None
) -> dict[str, Any]:
    """A new webhook secret: a random value at the present address, or the secret that `reference` names."""
    environment = context.store.load(environment_id).environment
    endpoint = named(environment, word)
    fields: dict[str, Any] = {"endpoint_id": endpoint.endpoint_id, "updated_by": context.by}
    minted: SecretAddress | None = None
    if reference is None and has_webhook_secret(endpoint.provider_type):
        present = endpoint.webhook_secret_ref
        minted = _address(environment, endpoint.endpoint_id) if present is None else SecretAddress.of_uri(present)
        reference = minted.uri
    payload = parse_payload(RotateMessagingWebhookSecretPayload, {**fields, "webhook_secret_ref": reference}, NOUN)
    _mint_webhook_secret(context, environment_id, minted, "rotate-webhook-secret", payload)
    return _told(context.apply(environment_id, NOUN, "rotate-webhook-secret", payload))


def _secret_to_mint(environment: Environment, wanted: dict[str, Any]) -> SecretAddress | None:
    kind = wanted.get("provider_type")
    if wanted.get("webhook_secret_ref") is not None or not isinstance(kind, str) or not has_webhook_secret(kind):
        return None
    return _address(environment, wanted["endpoint_id"]) if environment.binding(Slot.SECRETS) is not None else None


def _address(environment: Environment, endpoint_id: str) -> SecretAddress:
    return webhook_secret(environment.environment_id, environment.host_config.tenant_org_id, endpoint_id)


def _mint_webhook_secret(
    context: Context, environment_id: str, address: SecretAddress | None, verb: str, payload: Payload
) -> None:
    """Put a random secret at `address`, before the record that names it.

    Not for a request that is refused or that had its effect before: planning it tells.
    """
    if address is None or context.dry_run:
        return
    command = Command(environment_id, NOUN, verb, payload, context.step_key(""), context.actor)
    planned = context.store.plan(command, expected_generation=context.expected_generation, if_match=context.if_match)
    if not planned.replayed:
        # A key of its own each time: the value is random, so a repetition is another request.
        secrets.put(replace(context, key=None), environment_id, address.path, secrets.generated())


def _told(applied: Applied) -> dict[str, Any]:
    endpoint = MessagingEndpoint.model_validate(applied.result["endpoint"])
    return {**summary(endpoint), "generation": applied.generation, "replayed": applied.replayed}
