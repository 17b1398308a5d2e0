"""`runtime-config.json`: what the splits ask of the data plane, derived from the environment (reference 01, 1.14).

One block per split entry of an active deployment. Written only when its content changed, removed when it has no block.
It can be derived anew at any time, so a failure here is not a failure of the change that led to it.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from greentic.spec.deployment import DeploymentStatus
from greentic.spec.environment import Environment
from greentic.spec.revision import RuntimeConfig, RuntimeRevision
from greentic.store import folders
from greentic.store.io import FileSystem, read


def derive(environment: Environment) -> RuntimeConfig | None:
    """The runtime configuration of `environment`; None when nothing is to get traffic."""
    active = {found.deployment_id for found in environment.bundles if found.status is DeploymentStatus.ACTIVE}
    revisions = {revision.revision_id: revision for revision in environment.revisions}
    # Constructed, not validated: every value stood in a valid document.
    blocks = tuple(
        RuntimeRevision.model_construct(
            deployment_id=split.deployment_id,
            revision_id=entry.revision_id,
            bundle_id=split.bundle_id,
            pack_list_refs=(revision.pack_list_lock_ref,) if revision.pack_list_lock_ref else (),
            pack_config_refs=revision.pack_config_refs,
            weight_bps=entry.weight_bps,
        )
        for split in environment.traffic_splits
        if split.deployment_id in active
        for entry in split.entries
        if (revision := revisions.get(entry.revision_id)) is not None
    )
    return RuntimeConfig(env_id=environment.environment_id, revisions=blocks) if blocks else None


def refresh(files: FileSystem, folder: Path, environment: Environment) -> None:
    """Bring `runtime-config.json` in `folder` up to date. The caller holds the environment's lock. OSError."""
    path = folder / folders.RUNTIME
    configuration = derive(environment)
    present = read(path)
    if configuration is None:
        if present is not None:
            with suppress(FileNotFoundError):
                files.unlink(path)
        return
    wanted = configuration.model_dump_json(indent=2).encode() + b"\n"
    if present != wanted:
        folders.replace(files, folder, path, wanted, durable=False)
