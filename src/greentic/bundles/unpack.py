"""Unpacking a bundle, and reading one that is unpacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from greentic.bundles import contents, digests
from greentic.bundles.contents import APPS
from greentic.bundles.limits import Limits
from greentic.bundles.manifest import BundleManifest, PackManifest
from greentic.bundles.placement import new_folder
from greentic.bundles.refusals import Rule, refusal
from greentic.bundles.snapshot import snapshot
from greentic.spec.errors import NotFound


@dataclass(frozen=True, slots=True)
class UnpackedPack:
    """A pack of an unpacked bundle.

    - `digest`: of the `.gtpack` file; `archive`: its path relative to the bundle's folder.
    - `directory`: the folder with the pack's files, `<bundle>/apps/<pack_id>`.
    """

    pack_id: str
    version: str
    digest: str
    archive: str
    directory: Path
    manifest: PackManifest


@dataclass(frozen=True, slots=True)
class UnpackedBundle:
    """A bundle on disk. `digest` is that of the archive; None when the tree was read by `load`, which never saw one."""

    path: Path
    digest: str | None
    manifest: BundleManifest
    packs: tuple[UnpackedPack, ...]

    @property
    def entry(self) -> UnpackedPack:
        """The pack that runs: the one the manifest names, else the only one that can.

        Raises BundleError (rule "no-entry") that names the candidates when none or several can run.
        """
        pack_id = entry_id(self.manifest.entry, {pack.pack_id: pack.manifest.runnable for pack in self.packs})
        return next(pack for pack in self.packs if pack.pack_id == pack_id)


def unpack(
    archive: Path,
    destination: Path,
    *,
    limits: Limits = Limits(),  # noqa: B008  # frozen
    expected_digest: str | None = None,
) -> UnpackedBundle:
    """Unpacks `archive` to `destination`, which must not exist, or leaves nothing behind.

    The tree is `bundle-manifest.json`, `bundle-lock.json`, `packs/<pack_id>.gtpack` and `apps/<pack_id>/…`, with the
    modes 0644 and 0755. It appears under its name in one rename. The archive is copied and hashed in one pass and
    only the copy is read, so what is unpacked has the digest that is returned, whatever happens to the file
    meanwhile.

    The tree is derived from the archive and is not synced to disk file by file: after a power cut, unpack again.

    Raises NotFound, InvalidArgument (an `expected_digest` that is none, an archive that is no file), Conflict (the
    destination exists), BundleError with a `rule` of `refusals.Rule`, and InputOutput.
    """
    archive, destination = Path(archive), Path(destination)
    if not destination.parent.is_dir():
        raise NotFound(f"there is no folder {destination.parent}", details={"path": str(destination.parent)})
    with snapshot(archive, limits) as held:
        held.expect(expected_digest)
        with new_folder(destination) as folder:
            found = contents.open_contents(held, folder, limits, whole=True)
        packs = [(pack.path, pack.digest, pack.manifest) for pack in found.packs]
        return _unpacked(destination, held.digest, found.manifest, packs)


def load(directory: Path) -> UnpackedBundle:
    """The bundle that `unpack` left in `directory`. Manifests are validated again; files are not hashed again.

    Raises NotFound, BundleError when a document is missing or not sound, and InputOutput.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise NotFound(f"there is no unpacked bundle {directory}", details={"path": str(directory)})
    manifest, lock = contents.read_manifest(directory), contents.read_lock(directory)
    locked = {pack.reference: pack.digest for pack in lock.app_packs}
    packs = []
    for path in contents.pack_paths(directory, manifest):
        pack_id = contents.pack_id_of(path)
        folder = directory / APPS / pack_id
        if not folder.is_dir():
            raise refusal(Rule.PACK_MISSING, f"the pack {pack_id} is not in {directory}", entry=path)
        digest = locked.get(path) or digests.digest_file(directory / path)
        packs.append((path, digest, contents.read_pack_manifest(folder, pack_id)))
    return _unpacked(directory, None, manifest, packs)


def entry_id(named: str | None, packs: Mapping[str, bool]) -> str:
    """The id of the pack that runs; `packs` tells of each whether it could. Raises BundleError with the candidates."""
    runnable = [pack_id for pack_id, could in packs.items() if could]
    if named in runnable:
        return named
    if named is None and len(runnable) == 1:
        return runnable[0]
    if not runnable:
        held = ", ".join(packs)
        reason = f"no pack of the bundle can be run here; it holds {held}"
    elif named is None:
        reason = f"the bundle does not say which pack runs; these could: {', '.join(runnable)}"
    else:
        reason = f"the bundle's entry {named} cannot be run here; these could: {', '.join(runnable)}"
    raise refusal(
        Rule.NO_ENTRY,
        reason,
        candidates=runnable,
        next_step="set entry in bundle.yaml and build again" if runnable else None,
    )


def _unpacked(
    path: Path, digest: str | None, manifest: BundleManifest, packs: Sequence[tuple[str, str, PackManifest]]
) -> UnpackedBundle:
    return UnpackedBundle(
        path=path,
        digest=digest,
        manifest=manifest,
        packs=tuple(
            UnpackedPack(
                pack_id=pack.pack_id,
                version=pack.version,
                digest=pack_digest,
                archive=archive,
                directory=path / APPS / pack.pack_id,
                manifest=pack,
            )
            for archive, pack_digest, pack in packs
        ),
    )
