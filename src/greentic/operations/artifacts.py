"""The files of a revision: the copied bundle, its unpacked tree, the lock and the frozen parameters."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greentic.bundles.digests import digest_file
from greentic.bundles.manifest import SetupQuestion
from greentic.bundles.questions import validate_answers
from greentic.bundles.unpack import UnpackedBundle, entry_id, unpack
from greentic.spec.capabilities import Slot
from greentic.spec.deployment import Overrides
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, InputOutput, InvalidArgument, NotFound
from greentic.spec.integrity import content_digest, digest
from greentic.spec.revision import LockedPack, PackConfig, PackListEntry, PackListLock

if TYPE_CHECKING:
    from greentic.bundles.inspect import BundleInfo


@dataclass(frozen=True, slots=True)
class Prepared:
    """What staging froze: everything a revision's record says of its files."""

    digest: str
    version: str | None
    pack_list: tuple[PackListEntry, ...]
    lock_ref: str
    config_refs: tuple[str, ...]
    config_digest: str


def prepare(folder: Path, environment: Environment, revision_id: str, archive: Path, overrides: Overrides) -> Prepared:
    """Copy, unpack and check `archive` into `<folder>/revisions/<revision_id>/`, all or nothing.

    The digest is of the copy, and the copy is what is unpacked. Raises NotFound for a missing archive, BundleError for
    a malformed one, Conflict for a capability that the environment lacks, InvalidArgument for parameters that do not
    fit.
    """
    require(archive)
    revisions = folder / "revisions"
    place = revisions / revision_id
    draft = revisions / f".{revision_id}.draft"
    try:
        revisions.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
    except OSError as error:
        raise InputOutput(f"the revision's folder cannot be made: {error}") from None
    try:
        copy = draft / "bundle.gtbundle"
        try:
            shutil.copyfile(archive, copy)
        except OSError as error:
            raise InputOutput(f"{archive} cannot be copied: {error}") from None
        digest = digest_file(copy)
        bundle = unpack(copy, draft / "bundle", expected_digest=digest)
        # Asked for now, so that a bundle that cannot run is refused before anything is recorded.
        runnable = bundle.entry
        _require_capabilities(environment, {pack.pack_id: pack.manifest.capabilities for pack in bundle.packs})
        prepared = _freeze(draft, revision_id, bundle, digest, runnable.pack_id, overrides)
        _sync(draft)
        shutil.rmtree(place, ignore_errors=True)
        draft.rename(place)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return prepared


def check(environment: Environment, bundle: BundleInfo, overrides: Overrides) -> None:
    """Refuse what `prepare` would refuse of a bundle that was only looked at, as it does."""
    entry = entry_id(bundle.entry, {pack.pack_id: pack.runnable is not None for pack in bundle.packs})
    _require_capabilities(environment, {pack.pack_id: pack.capabilities for pack in bundle.packs})
    parameters({pack.pack_id: pack.setup for pack in bundle.packs}, entry, overrides)


def require(archive: Path) -> None:
    """NotFound when there is no file at `archive`."""
    if not archive.is_file():
        raise NotFound(
            f"there is no bundle at {archive}", next_step="gtc bundle build FOLDER, or check the path you gave"
        )


def discard(folder: Path, revision_id: str) -> None:
    """Remove a revision's files."""
    shutil.rmtree(folder / "revisions" / revision_id, ignore_errors=True)


def _freeze(
    draft: Path, revision_id: str, bundle: UnpackedBundle, archive_digest: str, entry: str, overrides: Overrides
) -> Prepared:
    values = parameters({pack.pack_id: pack.manifest.setup for pack in bundle.packs}, entry, overrides)
    base = f"revisions/{revision_id}"
    lock = PackListLock(
        revision_id=revision_id,
        packs=tuple(
            sorted(
                (
                    LockedPack(pack_id=pack.pack_id, path=f"{base}/bundle/{pack.archive}", digest=pack.digest)
                    for pack in bundle.packs
                ),
                key=lambda locked: locked.path,
            )
        ),
    )
    _write(draft / "pack-list.lock", lock.to_json())
    for pack_id, answers in values.items():
        config = PackConfig(pack_id=pack_id, revision_id=revision_id, non_secret=answers)
        (draft / "pack-configs").mkdir(exist_ok=True, mode=0o700)
        _write(draft / "pack-configs" / f"{pack_id}.json", config.to_json())
    return Prepared(
        archive_digest,
        bundle.manifest.version,
        tuple(PackListEntry(pack_id=pack.pack_id, version=pack.version, digest=pack.digest) for pack in bundle.packs),
        f"{base}/pack-list.lock",
        tuple(f"{base}/pack-configs/{pack_id}.json" for pack_id in sorted(values)),
        parameters_digest(values),
    )


def parameters(
    setups: Mapping[str, tuple[SetupQuestion, ...]], entry: str, overrides: Overrides
) -> dict[str, dict[str, Any]]:
    """What each pack is given, by pack: `overrides` with the defaults of the pack's questions; nothing for the others.

    `setups` are the questions of each pack of the bundle, `entry` is the pack that runs. Raises InvalidArgument for a
    pack that is not there and for answers that do not fit.
    """
    for pack_id in overrides:
        if pack_id not in setups:
            raise InvalidArgument(
                f"the bundle has no pack '{pack_id}' to configure; it has {', '.join(sorted(setups))}",
                details={"packs": sorted(setups)},
            )
    values: dict[str, dict[str, Any]] = {}
    for pack_id, setup in setups.items():
        given = dict(overrides.get(pack_id, {}))
        answers = validate_answers(pack_id, setup, given) if pack_id == entry or setup else given
        if answers:
            values[pack_id] = answers
    return values


def parameters_digest(values: Mapping[str, Mapping[str, Any]]) -> str:
    """The digest of frozen parameters, as a revision records it in `config_digest`."""
    return f"sha256:{digest(values)}" if values else content_digest(b"")


def _require_capabilities(environment: Environment, asked: Mapping[str, Sequence[str]]) -> None:
    bound = {binding.slot.value for binding in environment.packs}
    extensions = {binding.kind.partition("@")[0] for binding in environment.extensions}
    if environment.messaging_endpoints:
        bound.add(Slot.MESSAGING.value)
    for pack_id, capabilities in asked.items():
        for capability in capabilities:
            name, _, extension = capability.partition(":")
            if name in bound or (name == Slot.EXTENSION.value and extension in extensions):
                continue
            raise Conflict(
                f"the pack '{pack_id}' asks for the capability '{capability}', which the environment "
                f"'{environment.environment_id}' does not have",
                details={"pack_id": pack_id, "capability": capability, "bound": sorted(bound)},
                next_step=f"bind an env-pack in the slot '{name}', or take the capability out of pack.yaml",
            )


def _write(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    path.chmod(0o600)


def _sync(folder: Path) -> None:
    """Make the tree durable before the record that names it."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
