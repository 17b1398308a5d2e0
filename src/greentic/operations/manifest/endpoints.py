"""Steps for messaging endpoints: add, link, greet, and take away what is not declared. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from greentic.engine.endpoints import has_webhook_secret
from greentic.operations.manifest.bundles import Keyed
from greentic.operations.manifest.inputs import Recorded, Resolved
from greentic.operations.manifest.plan import Action, Step, derived_id
from greentic.operations.manifest.tasks import AddEndpoint, Change
from greentic.spec.endpoints import (
    AddMessagingEndpointPayload,
    ClearMessagingWelcomeFlowPayload,
    LinkMessagingBundlePayload,
    RemoveMessagingEndpointPayload,
    SetMessagingWelcomeFlowPayload,
    UnlinkMessagingBundlePayload,
)
from greentic.spec.environment import MessagingEndpoint, WelcomeFlow
from greentic.spec.errors import Conflict, NotFound
from greentic.spec.manifest import EndpointEntry
from greentic.spec.secrets import webhook_secret

_NOUN = "messaging.endpoint"


def endpoint_steps(resolved: Resolved, recorded: Recorded, actor: str, keyed: Keyed) -> tuple[list[Step], list[str]]:
    """(the steps for each declared endpoint, warnings).

    Raises Conflict when a name belongs to an endpoint of another type or to several, NotFound for a link to what is
    neither declared nor deployed.
    """
    steps: list[Step] = []
    warnings: list[str] = []
    declared = {entry.bundle_id for entry in resolved.manifest.bundles}
    deployed = {one.bundle_id for one in (() if recorded.environment is None else recorded.environment.bundles)}
    host = resolved.manifest.environment
    recorded_host = None if recorded.environment is None else recorded.environment.host_config
    tenant = host.tenant_org_id or (None if recorded_host is None else recorded_host.tenant_org_id)
    for index, entry in enumerate(resolved.manifest.messaging_endpoints):
        for link in entry.links:
            if link in declared:
                continue
            if link not in deployed:
                raise NotFound(
                    f"messaging_endpoints.{index}: there is no bundle '{link}', neither here nor in the environment",
                    next_step="declare the bundle, or take the link out",
                )
            warnings.append(f"the endpoint {entry.name} links {link}, which only the environment has")
        known = matching(entry, recorded)
        steps += _endpoint(entry, known, host.id, tenant, actor, keyed)
    return steps, warnings


def matching(entry: EndpointEntry, recorded: Recorded) -> MessagingEndpoint | None:
    """The recorded endpoint of that name and type; Conflict when the name is taken otherwise or twice."""
    held = () if recorded.environment is None else recorded.environment.messaging_endpoints
    named = [one for one in held if one.display_name == entry.name]
    if not named:
        return None
    if len(named) > 1 or named[0].provider_type != entry.provider_type:
        types = ", ".join(one.provider_type for one in named)
        raise Conflict(
            f"the endpoint name '{entry.name}' belongs to {types} already", next_step="choose another name for it"
        )
    return named[0]


def remove_endpoint(endpoint: MessagingEndpoint, keyed: Keyed) -> Step:
    """The step that takes an endpoint out."""
    return Step(
        "remove-endpoint",
        endpoint.display_name,
        Action.REMOVE,
        f"remove the endpoint {endpoint.display_name}",
        {"before": {"links": list(endpoint.linked_bundles)}, "after": None},
        keyed("remove-endpoint", endpoint.display_name, endpoint.endpoint_id),
        Change(_NOUN, "remove", RemoveMessagingEndpointPayload(endpoint_id=endpoint.endpoint_id)),
    )


def _endpoint(
    entry: EndpointEntry,
    known: MessagingEndpoint | None,
    environment_id: str,
    tenant: str | None,
    actor: str,
    keyed: Keyed,
) -> Iterator[Step]:
    renewed = known is not None and known.secret_refs != entry.secret_refs
    if known is None or renewed:
        yield _added(entry, known, environment_id, tenant, actor, keyed)
    else:
        yield Step("add-endpoint", entry.name, Action.NONE, f"the endpoint {entry.name} is there as described")
    held = () if known is None or renewed else known.linked_bundles
    greeted = None if known is None or renewed else known.welcome_flow
    endpoint_id = _id(entry, known, environment_id)
    for link in entry.links:
        if link not in held:
            payload = LinkMessagingBundlePayload(endpoint_id=endpoint_id, bundle_id=link, updated_by=actor)
            yield _step("link-endpoint", entry, link, Action.CREATE, f"reach {link}", "link-bundle", payload, keyed)
    yield from _welcome(entry, greeted, endpoint_id, actor, keyed)
    for link in held:
        if link not in entry.links:
            gone = UnlinkMessagingBundlePayload(endpoint_id=endpoint_id, bundle_id=link, updated_by=actor)
            detail = f"reach {link} no more"
            yield _step("unlink-endpoint", entry, link, Action.REMOVE, detail, "unlink-bundle", gone, keyed)


def _welcome(
    entry: EndpointEntry, greeted: WelcomeFlow | None, endpoint_id: str, actor: str, keyed: Keyed
) -> Iterator[Step]:
    flow = entry.welcome_flow
    if flow is None:
        if greeted is not None:
            cleared = ClearMessagingWelcomeFlowPayload(endpoint_id=endpoint_id, updated_by=actor)
            detail = "greet no more"
            yield _step("clear-welcome-flow", entry, "", Action.REMOVE, detail, "clear-welcome-flow", cleared, keyed)
        return
    wish = (flow.bundle_id, flow.pack_id, flow.flow_id)
    if greeted is not None and (greeted.bundle_id, greeted.pack_id, greeted.flow_id) == wish:
        return
    payload = SetMessagingWelcomeFlowPayload(
        endpoint_id=endpoint_id,
        bundle_id=flow.bundle_id,
        pack_id=flow.pack_id,
        flow_id=flow.flow_id,
        updated_by=actor,
    )
    action = Action.CREATE if greeted is None else Action.UPDATE
    detail = f"greet with {flow.flow_id} of {flow.bundle_id}"
    yield _step("set-welcome-flow", entry, "", action, detail, "set-welcome-flow", payload, keyed)


def _added(
    entry: EndpointEntry,
    known: MessagingEndpoint | None,
    environment_id: str,
    tenant: str | None,
    actor: str,
    keyed: Keyed,
) -> Step:
    endpoint_id = _id(entry, known, environment_id)
    webhook = None if known is None else known.webhook_secret_ref
    address = None
    if webhook is None and has_webhook_secret(entry.provider_type):
        address = webhook_secret(environment_id, tenant, endpoint_id)
        webhook = address.uri
    secret = None if address is None else address.path
    payload = AddMessagingEndpointPayload(
        endpoint_id=endpoint_id,
        provider_id=entry.name if known is None else known.provider_id,
        provider_type=entry.provider_type,
        display_name=entry.name,
        secret_refs=entry.secret_refs,
        webhook_secret_ref=webhook,
        updated_by=actor,
    )
    after = {"provider_type": entry.provider_type, "secret_refs": list(entry.secret_refs)}
    if known is None:
        detail = f"add the endpoint {entry.name}"
        key = keyed("add-endpoint", entry.name, after)
        task = AddEndpoint(payload, anew=False, secret=secret)
        return Step("add-endpoint", entry.name, Action.CREATE, detail, {"before": None, "after": after}, key, task)
    # No verb changes an endpoint's secrets: it is made anew under its own id. Its links follow in steps of their own.
    before = {"provider_type": known.provider_type, "secret_refs": list(known.secret_refs)}
    return Step(
        "update-endpoint",
        entry.name,
        Action.UPDATE,
        f"make the endpoint {entry.name} anew with other secrets",
        {"before": before, "after": after},
        keyed("update-endpoint", entry.name, after),
        AddEndpoint(payload, anew=True, secret=secret),
    )


def _step(
    kind: str, entry: EndpointEntry, part: str, action: Action, words: str, verb: str, payload: Any, keyed: Keyed
) -> Step:
    name = f"{entry.name}:{part}" if part else entry.name
    wish = payload.to_json()
    return Step(kind, name, action, f"{entry.name}: {words}", {}, keyed(kind, name, wish), Change(_NOUN, verb, payload))


def _id(entry: EndpointEntry, known: MessagingEndpoint | None, environment_id: str) -> str:
    if known is not None:
        return known.endpoint_id
    return derived_id("endpoint", environment_id, entry.provider_type, entry.name)
