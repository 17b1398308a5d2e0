"""Env-packs that are executables: sealed by their publisher, installed and taken away by whoever runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from greentic.envpacks import executables, manifest
from greentic.envpacks.registry import executables_location
from greentic.operations import trust_root
from greentic.operations.context import Context
from greentic.spec.errors import Conflict, InvalidArgument, NotFound
from greentic.spec.integrity import content_digest
from greentic.trust import keys
from greentic.trust.public import PublicKey


def seal(folder: Path, *, signed: bool) -> dict[str, Any]:
    """Write the digest of every file of the env-pack in `folder` into its manifest, and sign it with the operator key.

    With `signed` False no signature is made, and one that stands there is removed: it would be under another manifest.
    """
    found, _ = manifest.read(folder)
    sealed = found.model_copy(update={"files": manifest.listed(folder)})
    manifest.complete(sealed, f"{sealed.path} {sealed.version}")
    data = sealed.to_bytes()
    key = keys.load_or_create(keys.location()) if signed else None
    signature = folder / manifest.SIGNATURE
    signature.unlink(missing_ok=True)
    (folder / manifest.MANIFEST).write_bytes(data)
    if key is not None:
        signature.write_bytes(manifest.sign(sealed, data, key))
    return {
        "path": sealed.path,
        "version": sealed.version,
        "folder": str(folder),
        "files": len(sealed.files),
        "manifest_digest": content_digest(data),
        "signed_by": None if key is None else key.key_id,
        "public_key_file": None if key is None else f"{keys.location()}.pub",
    }


def install(context: Context, environment_id: str, folder: Path, *, unsigned: bool) -> dict[str, Any]:
    """Install the executable in `folder` for whoever runs this, when a key that the environment trusts signed it.

    `unsigned`: also when nobody did; who vouched for it then is recorded and told wherever the env-pack is. Conflict
    when a Python distribution offers the same path.
    """
    trusted: tuple[PublicKey, ...] = ()
    try:
        environment = context.store.load(environment_id).environment
        trusted = trust_root.present(environment, context.store.files(environment_id)).trusted()
    except NotFound:
        if not unsigned:
            raise
    found, _ = manifest.read(folder)
    others = [offer.origin() for offer in context.registry.offers() if offer.path == found.path]
    for other in others:
        if other is not None and other.kind == "distribution":
            raise Conflict(
                f"'{found.path}' is offered by {other} already",
                details={"path": found.path, "offered_by": [str(other)]},
                next_step="uninstall that distribution, or give the executable another path",
            )
    installed, before = executables.install(
        folder, _root(), trusted=trusted, unsigned=unsigned, by=context.by, now=context.now()
    )
    record = installed.record
    told = {
        "path": record.path,
        "kind": f"{record.path}@{installed.manifest.versions.removeprefix('^')}",
        "slot": installed.manifest.slot.value,
        "version": record.version,
        "folder": str(installed.folder),
        "manifest_digest": record.manifest_digest,
        "signed_by": list(record.signed_by),
        "variables": list(installed.manifest.variables),
        "replaced": None if before is None else before.version,
        "changed": before is None or before.manifest_digest != record.manifest_digest,
    }
    if record.unsigned_by is not None:
        told["warning"] = (
            f"NOBODY WHO IS TRUSTED SIGNED {record.path} {record.version}. It runs as you, and does with your "
            f"environments what it wants. You ({record.unsigned_by}) vouch for it; that is recorded."
        )
    return told


def uninstall(context: Context, path: str, *, force: bool) -> dict[str, Any]:
    """Take an executable away. Conflict while an environment of this store is bound to it, unless `force`."""
    bound = [
        listing.environment_id
        for listing in context.store.list()
        if listing.stored is not None
        and any(one.kind.partition("@")[0] == path for one in listing.stored.environment.packs)
    ]
    if bound and not force:
        raise Conflict(
            f"'{path}' is bound in {', '.join(bound)}: nothing could be done there without it",
            details={"environment_ids": bound},
            next_step="gtc op env-packs update SLOT KIND in each of them first, or add --force",
        )
    record = executables.uninstall(_root(), path)
    return {"path": path, "version": record.version, "bound_in": bound}


def _root() -> Path:
    root = executables_location()
    if root is None:
        raise InvalidArgument(
            "there is no home folder to install executables in",
            next_step="say where: set GREENTIC_ENV_PACKS to a folder",
        )
    return root
