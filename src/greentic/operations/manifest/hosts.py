"""Steps for the environment itself: that it is there, its host settings, its trust root, its secrets. Pure."""

from __future__ import annotations

import json
from typing import Any

from greentic.operations.manifest.bundles import Keyed
from greentic.operations.manifest.inputs import Recorded, Resolved
from greentic.operations.manifest.plan import Action, Step
from greentic.operations.manifest.tasks import BootstrapTrust, CreateEnvironment, InitPolicy, PutSecret, UpdateHost
from greentic.spec.environment import public_base_url
from greentic.spec.manifest import Manifest
from greentic.spec.payloads import DEFAULT_PACKS, CreateEnvironmentPayload, UpdateEnvironmentPayload
from greentic.spec.router_settings import RouterSettings
from greentic.store.policies import LOCAL

_SETTINGS = ("region", "tenant_org_id", "listen_addr", "gui_enabled", "stamp_revision", "router")


def environment_step(manifest: Manifest, recorded: Recorded, keyed: Keyed) -> Step:
    """Make the environment with the defaults of one machine, slots that the manifest fills left free; or its URL."""
    wanted, found = manifest.environment, recorded.environment
    if found is None:
        filled = {entry.slot for entry in manifest.packs}
        payload = CreateEnvironmentPayload(
            environment_id=wanted.id,
            name=wanted.name or wanted.id,
            public_base_url=wanted.public_base_url,
            packs=tuple(pack for pack in DEFAULT_PACKS if pack.slot not in filled),
        )
        return Step(
            "ensure-environment",
            wanted.id,
            Action.CREATE,
            f"create the environment {wanted.id}",
            {"before": None, "after": {"name": payload.name, "public_base_url": payload.public_base_url}},
            keyed("ensure-environment", wanted.id, payload.to_json()),
            CreateEnvironment(payload),
        )
    recorded_url = found.host_config.public_base_url
    if wanted.public_base_url is None or (
        recorded_url is not None and public_base_url(recorded_url) == wanted.public_base_url
    ):
        return Step("ensure-environment", wanted.id, Action.NONE, f"the environment {wanted.id} is there")
    change = {"before": {"public_base_url": recorded_url}, "after": {"public_base_url": wanted.public_base_url}}
    return Step(
        "ensure-environment",
        wanted.id,
        Action.UPDATE,
        f"the world reaches {wanted.id} at {wanted.public_base_url}",
        change,
        keyed("ensure-environment", wanted.id, change["after"]),
        UpdateHost(
            UpdateEnvironmentPayload.model_validate({"public_base_url": {"value": wanted.public_base_url}}),
        ),
    )


def host_step(manifest: Manifest, recorded: Recorded, keyed: Keyed) -> Step | None:
    """The host settings that are declared, None when none is."""
    wanted, found = manifest.environment, recorded.environment
    declared = {field: _plain(value) for field in _SETTINGS if (value := getattr(wanted, field)) is not None}
    if not declared and wanted.name is None:
        return None
    before: dict[str, Any] = dict.fromkeys(declared)
    if found is not None:
        before = {field: _plain(getattr(found.host_config, field)) for field in declared}
    if isinstance(before.get("router"), dict):
        declared["router"] = before["router"] | declared["router"]  # what is not said of the routers stays too
    after = {field: value for field, value in declared.items() if before[field] != value}
    document: dict[str, Any] = {field: {"value": value} for field, value in after.items()}
    if wanted.name is not None and found is not None and found.name != wanted.name:
        before["name"] = found.name
        document["name"] = after["name"] = wanted.name
    if not after:
        return Step("update-host-config", wanted.id, Action.NONE, f"the settings of {wanted.id} are as described")
    words = ", ".join(f"{field} {_shown(value)}" for field, value in after.items())
    return Step(
        "update-host-config",
        wanted.id,
        Action.CREATE if found is None else Action.UPDATE,
        f"set {words}",
        {"before": {field: before[field] for field in after}, "after": after},
        keyed("update-host-config", wanted.id, after),
        UpdateHost(UpdateEnvironmentPayload.model_validate(document)),
    )


def _plain(value: Any) -> Any:
    return value.to_json() if isinstance(value, RouterSettings) else value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def policy_step(manifest: Manifest, recorded: Recorded, actor: str, keyed: Keyed) -> Step | None:
    """Outside `local` nothing is allowed without a policy: who makes an environment becomes its admin."""
    name = manifest.environment.id
    if name == LOCAL or recorded.governed or (recorded.environment is not None and not recorded.lawless):
        return None
    key = keyed("init-policy", name, actor)
    return Step("init-policy", name, Action.CREATE, f"make you admin of {name}", {}, key, InitPolicy())


def trust_step(manifest: Manifest, recorded: Recorded, keyed: Keyed) -> Step | None:
    """That the operator's key is trusted, None when the manifest does not ask for it."""
    if manifest.trust_root is None:
        return None
    name = manifest.environment.id
    if recorded.trusted:
        return Step("bootstrap-trust-root", name, Action.NONE, "the operator's key is trusted")
    key = keyed("bootstrap-trust-root", name, "bootstrap")
    detail = "trust the operator's key"
    return Step("bootstrap-trust-root", name, Action.CREATE, detail, {}, key, BootstrapTrust())


def secret_steps(resolved: Resolved, recorded: Recorded, keyed: Keyed) -> list[Step]:
    """A step for each secret. No value ever stands in a step, nor a digest of one."""
    steps = []
    for entry in resolved.manifest.secrets:
        if entry.path in recorded.secrets:
            steps.append(Step("put-secret", entry.path, Action.NONE, f"the secret {entry.path} is there"))
            continue
        source = f"from the variable {entry.from_env}" if entry.from_env is not None else "as you paste it"
        steps.append(
            Step(
                "put-secret",
                entry.path,
                Action.PUT,
                f"write the secret {entry.path} {source}",
                {},
                keyed("put-secret", entry.path, entry.from_env),
                PutSecret(entry.path, entry.from_env),
            )
        )
    return steps
