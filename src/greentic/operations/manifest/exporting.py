"""A manifest of a living environment. Read back, it plans to no change. Secrets stand in it as paths only."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from greentic.operations import secrets, updates
from greentic.operations.context import Context
from greentic.spec.capabilities import Slot
from greentic.spec.deployment import BundleDeployment, DeploymentStatus
from greentic.spec.environment import Environment, ExtensionBinding, MessagingEndpoint, PackBinding
from greentic.spec.errors import InputOutput
from greentic.spec.manifest import SCHEMA
from greentic.spec.revision import Revision
from greentic.spec.update_channel import UpdateChannelConfig


def export(context: Context, environment_id: str, output: Path | None) -> dict[str, Any]:
    """The manifest of the environment as YAML text (JSON when `output` ends in .json), written to `output` if given.

    What a manifest cannot say is named in `warnings`: a deployment without traffic, a bundle whose file is gone.
    """
    environment = context.store.load(environment_id).environment
    folder = context.store.artifacts(environment_id).absolute()
    base = None if output is None else output.absolute().parent
    document, warnings = document_of(context, environment, folder, base)
    as_json = output is not None and output.suffix.lower() == ".json"
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n" if as_json else _yaml(document)
    if output is not None:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputOutput(f"{output} cannot be written: {error.strerror}") from None
    return {
        "environment_id": environment_id,
        "manifest": document,
        "output": None if output is None else str(output),
        "text": text,
        "warnings": warnings,
    }


def document_of(
    context: Context, environment: Environment, folder: Path, base: Path | None
) -> tuple[dict[str, Any], list[str]]:
    """(the manifest as JSON values, warnings). Paths are relative to `base`, absolute without one."""
    warnings: list[str] = []
    host = environment.host_config.to_json()
    host.pop("env_id")
    known = ("region", "tenant_org_id", "listen_addr", "public_base_url", "gui_enabled", "stamp_revision", "router")
    section = {"id": environment.environment_id, **({"name": environment.name} if environment.name.strip() else {})}
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "environment": section | {field: host[field] for field in known if field in host},
    }
    paths = _secret_paths(context, environment)
    if paths:
        document["secrets"] = [{"path": path} for path in paths]
    if environment.packs:
        document["packs"] = [_binding(one, folder, base) for one in environment.packs]
    bundles = [_bundle(environment, one, folder, base, warnings) for one in environment.bundles]
    if any(bundles):
        document["bundles"] = [bundle for bundle in bundles if bundle]
    if environment.extensions:
        document["extensions"] = [_binding(one, folder, base) for one in environment.extensions]
    if environment.messaging_endpoints:
        document["messaging_endpoints"] = [_endpoint(one, warnings) for one in environment.messaging_endpoints]
    beside = context.store.files(environment.environment_id)
    channel = updates.load(beside)
    if channel is not None:
        document["updates"] = _updates(channel, updates.trusted_dids(beside), warnings)
    return document, warnings


def _secret_paths(context: Context, environment: Environment) -> list[str]:
    if environment.binding(Slot.SECRETS) is None:
        return []
    made = {one.webhook_secret_ref for one in environment.messaging_endpoints}
    there = secrets.store_of(context, environment).names()
    return [entry.address.path for entry in there if entry.address.uri not in made]


def _binding(binding: PackBinding | ExtensionBinding, folder: Path, base: Path | None) -> dict[str, Any]:
    told: dict[str, Any] = {"kind": binding.kind, "pack_ref": binding.pack_ref}
    if isinstance(binding, PackBinding):
        told = {"slot": binding.slot.value, **told}
    elif binding.instance_id is not None:
        told["instance_id"] = binding.instance_id
    if binding.answers_ref is not None:
        told["answers_ref"] = _path(folder / binding.answers_ref, base)
    return told


def _bundle(
    environment: Environment, deployment: BundleDeployment, folder: Path, base: Path | None, warnings: list[str]
) -> dict[str, Any] | None:
    called = f"{deployment.bundle_id} for {deployment.customer_id}"
    split = environment.split(deployment.deployment_id)
    live = [one for one in (() if split is None else split.entries) if one.weight_bps]
    revisions = [revision for one in live if (revision := environment.revision(one.revision_id)) is not None]
    if not revisions:
        warnings.append(f"{called} has no traffic, which a manifest cannot say: left out")
        return None
    route = deployment.route_binding
    told: dict[str, Any] = {"bundle_id": deployment.bundle_id, "customer_id": deployment.customer_id}
    if len(revisions) == 1:
        told |= _artifact(revisions[0], folder, base, called, warnings)
    else:
        told["revisions"] = [
            {
                "name": f"v{revision.sequence}",
                "weight_bps": entry.weight_bps,
                **_artifact(revision, folder, base, called, warnings),
                **({"drain_seconds": revision.drain_seconds} if revision.drain_seconds else {}),
            }
            for entry, revision in zip(live, revisions, strict=True)
        ]
    if deployment.status is not DeploymentStatus.ACTIVE:
        told["status"] = deployment.status.value
    if route.hosts or route.path_prefixes:
        selector = {"tenant": route.tenant_selector.tenant, "team": route.tenant_selector.team}
        binding = {"hosts": list(route.hosts), "path_prefixes": list(route.path_prefixes), "tenant_selector": selector}
        told["route_binding"] = {key: value for key, value in binding.items() if value}
    told["revenue_share"] = [
        {"party_id": one.party_id, "basis_points": one.basis_points} for one in deployment.revenue_share
    ]
    if deployment.config_overrides:
        told["config_overrides"] = deployment.config_overrides
    return told


def _artifact(revision: Revision, folder: Path, base: Path | None, called: str, warnings: list[str]) -> dict[str, Any]:
    archive = folder / "revisions" / revision.revision_id / "bundle.gtbundle"
    if not archive.is_file():
        warnings.append(f"the bundle of {called} v{revision.sequence} is not at {archive} any more")
    told = {"bundle_path": _path(archive, base), "bundle_digest": revision.bundle_digest}
    if revision.bundle_source_uri is not None:
        told["bundle_source_uri"] = revision.bundle_source_uri
    return told


def _endpoint(endpoint: MessagingEndpoint, warnings: list[str]) -> dict[str, Any]:
    if endpoint.provider_id != endpoint.display_name:
        warnings.append(f"the endpoint {endpoint.display_name} has the provider id {endpoint.provider_id}: not said")
    told: dict[str, Any] = {"name": endpoint.display_name, "provider_type": endpoint.provider_type}
    if endpoint.linked_bundles:
        told["links"] = list(endpoint.linked_bundles)
    if endpoint.welcome_flow is not None:
        flow = endpoint.welcome_flow
        told["welcome_flow"] = {"bundle_id": flow.bundle_id, "pack_id": flow.pack_id, "flow_id": flow.flow_id}
    if endpoint.secret_refs:
        told["secret_refs"] = list(endpoint.secret_refs)
    return told


def _path(path: Path, base: Path | None) -> str:
    return str(path) if base is None else os.path.relpath(path, base)


def _yaml(document: dict[str, Any]) -> str:
    from io import StringIO

    from ruamel.yaml import YAML

    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.allow_unicode = True
    yaml.width = 4096
    out = StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def _updates(channel: UpdateChannelConfig, dids: frozenset[str], warnings: list[str]) -> dict[str, Any]:
    named = ("plan_endpoint", "poll_interval_secs", "push_enabled", "stream_endpoint")
    section = {field: value for field in named if (value := getattr(channel, field)) is not None}
    if channel.poll_interval_secs is not None:
        section["poll_interval_secs"] = channel.resolved().poll_seconds  # an older document may say less than is done
    if len(dids) > 1:
        warnings.append(f"a manifest names one trust_did; the keys of {', '.join(sorted(dids))} are trusted")
    return {
        "enabled": bool(channel.enabled),
        "trust_did": min(dids, default=None),
        "on_notify": channel.resolved().action.value.replace("_", "-"),
        **section,
    }
