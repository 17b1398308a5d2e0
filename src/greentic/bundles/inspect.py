"""What an archive says of itself."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from greentic.bundles import contents
from greentic.bundles.contents import OpenedPack
from greentic.bundles.formats import Format
from greentic.bundles.limits import Limits
from greentic.bundles.manifest import Application, Health, SetupQuestion
from greentic.bundles.snapshot import snapshot


@dataclass(frozen=True, slots=True)
class PackInfo:
    """A pack of a bundle. `version` and `application` are None for a pack of the reference: it cannot be run here."""

    pack_id: str
    version: str | None
    digest: str
    size_bytes: int
    path: str
    application: Application | None
    health: Health
    capabilities: tuple[str, ...]
    setup: tuple[SetupQuestion, ...]

    @property
    def runnable(self) -> str | None:
        """The kind of its application ("asgi", "process"); None when it cannot be run here."""
        return None if self.application is None else self.application.kind


@dataclass(frozen=True, slots=True)
class BundleInfo:
    """A bundle: digest ("sha256:…") and bytes of the archive, its names, its packs.

    `files` and `uncompressed_bytes` count the files of the archive and those inside its packs. `version` and `entry`
    are None when the manifest has none, as in bundles of the reference.
    """

    digest: str
    size_bytes: int
    format: Format
    bundle_id: str
    bundle_name: str
    version: str | None
    entry: str | None
    locale: str
    packs: tuple[PackInfo, ...]
    files: int
    uncompressed_bytes: int


def inspect(archive: Path, *, limits: Limits = Limits()) -> BundleInfo:  # noqa: B008  # frozen
    """Reads `archive` whole, as strictly as `unpack`, and keeps nothing.

    Raises NotFound, InvalidArgument, BundleError with a `rule` of `refusals.Rule`, and InputOutput.
    """
    with (
        snapshot(Path(archive), limits) as held,
        tempfile.TemporaryDirectory(prefix="greentic-inspect-") as scratch,
    ):
        found = contents.open_contents(held, Path(scratch), limits, whole=False)
        return BundleInfo(
            digest=held.digest,
            size_bytes=held.size_bytes,
            format=found.form,
            bundle_id=found.manifest.bundle_id,
            bundle_name=found.manifest.bundle_name,
            version=found.manifest.version,
            entry=found.manifest.entry,
            locale=found.manifest.locale,
            packs=tuple(_pack(pack) for pack in found.packs),
            files=found.files,
            uncompressed_bytes=found.uncompressed_bytes,
        )


def _pack(pack: OpenedPack) -> PackInfo:
    manifest = pack.manifest
    return PackInfo(
        pack_id=manifest.pack_id,
        version=manifest.version if manifest.runnable else None,
        digest=pack.digest,
        size_bytes=pack.size_bytes,
        path=pack.path,
        application=manifest.application,
        health=manifest.health,
        capabilities=manifest.capabilities,
        setup=manifest.setup,
    )
