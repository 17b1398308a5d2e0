"""Transitions of messaging endpoints (reference 01, section 2.7).

`updated_by` holds who asked and nothing else; that a key has one effect is the ledger's job.
"""

from __future__ import annotations

from typing import Any

from greentic.engine.command import Command, Outcome
from greentic.spec.endpoints import (
    AddMessagingEndpointPayload,
    ClearMessagingWelcomeFlowPayload,
    LinkMessagingBundlePayload,
    RemoveMessagingEndpointPayload,
    RotateMessagingWebhookSecretPayload,
    SetMessagingWelcomeFlowPayload,
    UnlinkMessagingBundlePayload,
)
from greentic.spec.environment import Environment, MessagingEndpoint, WelcomeFlow
from greentic.spec.errors import AlreadyExists, Conflict, InvalidArgument, NotFound, NotImplementedYet

_MAX_GENERATION = 2**63 - 1


def has_webhook_secret(provider_type: str) -> bool:
    """Whether endpoints of `provider_type` are called by the provider with a secret of their own: Telegram's."""
    kind = provider_type.removeprefix("messaging.")
    return kind == "telegram" or kind.startswith("telegram.")


def find(environment: Environment, endpoint_id: str) -> MessagingEndpoint:
    """The endpoint of that id; NotFound otherwise."""
    found = next((one for one in environment.messaging_endpoints if one.endpoint_id == endpoint_id), None)
    if found is None:
        raise NotFound(
            f"there is no messaging endpoint {endpoint_id} in the environment '{environment.environment_id}'",
            details={"environment_id": environment.environment_id, "endpoint_id": endpoint_id},
            next_step="gtc op messaging endpoint list",
        )
    return found


def add(environment: Environment, payload: AddMessagingEndpointPayload, command: Command, now: str) -> Outcome:
    """A new endpoint; Conflict when the provider instance has one or the id is taken."""
    for found in environment.messaging_endpoints:
        if (found.provider_type, found.provider_id) == (payload.provider_type, payload.provider_id):
            raise AlreadyExists(
                f"{payload.provider_type} '{payload.provider_id}' has an endpoint already",
                details={"endpoint_id": found.endpoint_id},
                next_step=f"gtc op messaging endpoint show {found.provider_id}",
            )
        if found.endpoint_id == payload.endpoint_id:
            raise AlreadyExists(
                f"the endpoint id {payload.endpoint_id} is taken",
                details={"endpoint_id": payload.endpoint_id},
                next_step="leave the id out, so that a new one is made",
            )
    endpoint = MessagingEndpoint(
        env_id=environment.environment_id,
        endpoint_id=payload.endpoint_id,
        provider_id=payload.provider_id,
        provider_type=payload.provider_type,
        display_name=payload.display_name,
        secret_refs=payload.secret_refs,
        webhook_secret_ref=_webhook_secret(payload.provider_type, payload.webhook_secret_ref),
        created_at=now,
        updated_at=now,
        updated_by=payload.updated_by,
    )
    changed = environment.model_copy(update={"messaging_endpoints": (*environment.messaging_endpoints, endpoint)})
    return Outcome(changed, {"endpoint": endpoint.to_json()})


def link_bundle(environment: Environment, payload: LinkMessagingBundlePayload, command: Command, now: str) -> Outcome:
    """Admit a deployed bundle; nothing to do when it is linked."""
    endpoint = find(environment, payload.endpoint_id)
    if all(deployment.bundle_id != payload.bundle_id for deployment in environment.bundles):
        raise NotFound(
            f"the bundle '{payload.bundle_id}' is not deployed in the environment '{environment.environment_id}'",
            details={"environment_id": environment.environment_id, "bundle_id": payload.bundle_id},
            next_step=f"gtc op bundles add {payload.bundle_id}",
        )
    if payload.bundle_id in endpoint.linked_bundles:
        return _unchanged(environment, endpoint)
    linked = (*endpoint.linked_bundles, payload.bundle_id)
    return _stamped(environment, endpoint, payload.updated_by, now, linked_bundles=linked)


def unlink_bundle(
    environment: Environment, payload: UnlinkMessagingBundlePayload, command: Command, now: str
) -> Outcome:
    """Admit a bundle no more; nothing to do when it is not linked, Conflict while it owns the welcome."""
    endpoint = find(environment, payload.endpoint_id)
    if payload.bundle_id not in endpoint.linked_bundles:
        return _unchanged(environment, endpoint)
    if endpoint.welcome_flow is not None and endpoint.welcome_flow.bundle_id == payload.bundle_id:
        raise Conflict(
            f"'{payload.bundle_id}' greets the conversations of '{endpoint.display_name}'",
            details={"endpoint_id": endpoint.endpoint_id, "flow_id": endpoint.welcome_flow.flow_id},
            next_step=f"gtc op messaging endpoint clear-welcome-flow {endpoint.provider_id}",
        )
    kept = tuple(bundle for bundle in endpoint.linked_bundles if bundle != payload.bundle_id)
    return _stamped(environment, endpoint, payload.updated_by, now, linked_bundles=kept)


def set_welcome_flow(
    environment: Environment, payload: SetMessagingWelcomeFlowPayload, command: Command, now: str
) -> Outcome:
    """Greet with a flow of a linked bundle; nothing to do when it is that flow.

    InvalidArgument when the bundle is not linked, or when revisions of it are live and none has the pack.
    """
    endpoint = find(environment, payload.endpoint_id)
    if payload.bundle_id not in endpoint.linked_bundles:
        raise InvalidArgument(
            f"'{payload.bundle_id}' is not linked to '{endpoint.display_name}'",
            details={"endpoint_id": endpoint.endpoint_id, "linked_bundles": list(endpoint.linked_bundles)},
            next_step=f"gtc op messaging endpoint link-bundle {endpoint.provider_id} {payload.bundle_id}",
        )
    known = _live_packs(environment, payload.bundle_id)
    if known and payload.pack_id not in known:
        raise InvalidArgument(
            f"no live revision of '{payload.bundle_id}' has a pack '{payload.pack_id}'; "
            f"it has {', '.join(sorted(known))}",
            details={"pack_id": payload.pack_id, "known": sorted(known)},
        )
    welcome = WelcomeFlow(bundle_id=payload.bundle_id, pack_id=payload.pack_id, flow_id=payload.flow_id)
    if endpoint.welcome_flow == welcome:
        return _unchanged(environment, endpoint)
    return _stamped(environment, endpoint, payload.updated_by, now, welcome_flow=welcome)


def clear_welcome_flow(
    environment: Environment, payload: ClearMessagingWelcomeFlowPayload, command: Command, now: str
) -> Outcome:
    """Greet no more; nothing to do when nothing greets."""
    endpoint = find(environment, payload.endpoint_id)
    if endpoint.welcome_flow is None:
        return _unchanged(environment, endpoint)
    return _stamped(environment, endpoint, payload.updated_by, now, welcome_flow=None)


def remove(environment: Environment, payload: RemoveMessagingEndpointPayload, command: Command, now: str) -> Outcome:
    """Take an endpoint out; one that is not there is removed already."""
    kept = tuple(one for one in environment.messaging_endpoints if one.endpoint_id != payload.endpoint_id)
    removed = len(kept) < len(environment.messaging_endpoints)
    result = {"endpoint_id": payload.endpoint_id, "removed": removed}
    if not removed:
        return Outcome(environment, result, changed=False)
    return Outcome(environment.model_copy(update={"messaging_endpoints": kept}), result)


def rotate_webhook_secret(
    environment: Environment, payload: RotateMessagingWebhookSecretPayload, command: Command, now: str
) -> Outcome:
    """Record that the webhook secret has a new value, at a new address or at the old one."""
    endpoint = find(environment, payload.endpoint_id)
    if not has_webhook_secret(endpoint.provider_type):
        raise InvalidArgument(
            f"endpoints of the kind '{endpoint.provider_type}' have no webhook secret",
            details={"endpoint_id": endpoint.endpoint_id},
        )
    reference = _webhook_secret(endpoint.provider_type, payload.webhook_secret_ref)
    return _stamped(environment, endpoint, payload.updated_by, now, webhook_secret_ref=reference)


def _webhook_secret(provider_type: str, reference: str | None) -> str | None:
    if has_webhook_secret(provider_type):
        if reference is None:
            raise NotImplementedYet(
                f"an endpoint of the kind '{provider_type}' needs a webhook secret, and none is minted here",
                next_step="put a secret into the environment's store and name it: --webhook-secret-ref secret://…",
            )
    elif reference is not None:
        raise InvalidArgument(f"endpoints of the kind '{provider_type}' have no webhook secret")
    return reference


def _live_packs(environment: Environment, bundle_id: str) -> set[str]:
    """The packs of the revisions of `bundle_id` that get traffic; empty when none does or none says."""
    live = {
        revision_id
        for deployment in environment.bundles
        if deployment.bundle_id == bundle_id
        for revision_id in deployment.current_revisions
    }
    return {
        entry.pack_id
        for revision in environment.revisions
        if revision.revision_id in live
        for entry in revision.pack_list
    }


def _stamped(environment: Environment, endpoint: MessagingEndpoint, by: str, now: str, **changes: Any) -> Outcome:
    generation = min(endpoint.generation + 1, _MAX_GENERATION)
    changed = endpoint.model_copy(
        update={**changes, "generation": generation, "updated_at": now, "updated_by": by},
    )
    placed = tuple(changed if one is endpoint else one for one in environment.messaging_endpoints)
    return Outcome(
        environment.model_copy(update={"messaging_endpoints": placed}),
        {"endpoint": changed.to_json()},
    )


def _unchanged(environment: Environment, endpoint: MessagingEndpoint) -> Outcome:
    return Outcome(environment, {"endpoint": endpoint.to_json()}, changed=False)
