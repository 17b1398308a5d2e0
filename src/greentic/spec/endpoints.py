"""What the verbs on messaging endpoints are asked (reference 01, section 2.7). Loaded only by those verbs."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from greentic.spec.identifiers import MAX_OPAQUE, BundleId, EndpointId, PackId
from greentic.spec.parsing import Payload, Text
from greentic.spec.references import SecretUri


def _said(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


Said = Annotated[str, Field(max_length=MAX_OPAQUE), AfterValidator(_said)]
"""A text that says something."""


class AddMessagingEndpointPayload(Payload):
    """A new chat channel. A Telegram endpoint needs `webhook_secret_ref`; no other kind may have one."""

    endpoint_id: EndpointId
    provider_id: Said
    provider_type: Said
    display_name: Text
    secret_refs: tuple[SecretUri, ...] = ()
    webhook_secret_ref: SecretUri | None = None
    updated_by: Text


class LinkMessagingBundlePayload(Payload):
    """A deployed bundle that the endpoint admits from now on."""

    endpoint_id: EndpointId
    bundle_id: BundleId
    updated_by: Text


class UnlinkMessagingBundlePayload(LinkMessagingBundlePayload):
    """A bundle that the endpoint admits no more."""


class SetMessagingWelcomeFlowPayload(Payload):
    """The flow of a linked bundle that greets a new conversation."""

    endpoint_id: EndpointId
    bundle_id: BundleId
    pack_id: PackId
    flow_id: Said
    updated_by: Text


class ClearMessagingWelcomeFlowPayload(Payload):
    """No welcome any more."""

    endpoint_id: EndpointId
    updated_by: Text


class RemoveMessagingEndpointPayload(Payload):
    """An endpoint that leaves, whether it is there or not."""

    endpoint_id: EndpointId


class RotateMessagingWebhookSecretPayload(Payload):
    """A Telegram endpoint's webhook secret has a new value, under `webhook_secret_ref` (which may be the old address).

    The value is written before this is recorded.
    """

    endpoint_id: EndpointId
    webhook_secret_ref: SecretUri | None = None
    updated_by: Text
