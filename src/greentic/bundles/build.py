"""Building a bundle: the same source gives the same bytes.

Nothing but the content of the source goes in: no time, no user, no mode other than whether a file is executable, no
order but that of the names. The compressed bytes are those of the zstd that the locked `zstandard` brings; another
libzstd may compress differently, which changes the digest and not the content.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from greentic.bundles import contents, digests, documents
from greentic.bundles.entries import CHUNK_BYTES
from greentic.bundles.limits import Limits
from greentic.bundles.manifest import (
    FORMAT_VERSION,
    LOCK_FILE,
    MANIFEST_FILE,
    PACK_FILE,
    BundleLock,
    BundleManifest,
    LockedPack,
)
from greentic.bundles.placement import file_system, new_file
from greentic.bundles.refusals import shown
from greentic.bundles.snapshot import Snapshot
from greentic.bundles.source import PACKS, Source, SourceFile, SourcePack, read_source
from greentic.spec.errors import BundleError, InvalidArgument, NotFound

if TYPE_CHECKING:
    import tarfile

SUFFIX = ".gtbundle"

_ZSTD_LEVEL = 10
_UNIX = 3
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest date that zip can say."""


@dataclass(frozen=True, slots=True)
class _Generated:
    """A file of a pack that the build makes."""

    path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class BuiltPack:
    """A pack as built: `path` in the archive, digest and bytes of its `.gtpack` file."""

    pack_id: str
    version: str
    path: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BuiltBundle:
    """A bundle as built; `digest` is that of the file at `path`, which has `size_bytes` bytes."""

    path: Path
    digest: str
    size_bytes: int
    bundle_id: str
    version: str
    packs: tuple[BuiltPack, ...]


def build(source: Path, output: Path | None = None) -> BuiltBundle:
    """Builds the bundle in the folder `source` and writes it to `output`, replacing what is there.

    Without `output` it is `<bundle_id>-<version>.gtbundle` in the working directory. The file appears whole or not at
    all.

    Raises NotFound, InvalidArgument with everything that is wrong with `bundle.yaml` or a `pack.yaml`, or with the
    file that cannot be part of a bundle, and InputOutput.
    """
    source = Path(source)
    found = read_source(source)
    path = (
        Path(output) if output is not None else Path.cwd() / f"{found.bundle.bundle_id}-{found.bundle.version}{SUFFIX}"
    )
    _check_output(source, path)
    with tempfile.TemporaryDirectory(prefix="greentic-build-") as scratch:
        packs = [_write_pack(pack, Path(scratch)) for pack in found.packs]
        with new_file(path) as file:
            with file_system(f"writing {path}", path):
                _write_archive(file, found, packs, Path(scratch))
                size = file.tell()
                file.seek(0)
            digest = digests.digest(file)
            _prove(Snapshot(file, digest, size), Path(scratch) / "proof")
    return BuiltBundle(
        path=path,
        digest=digest,
        size_bytes=size,
        bundle_id=found.bundle.bundle_id,
        version=found.bundle.version,
        packs=tuple(packs),
    )


def _prove(built: Snapshot, scratch: Path) -> None:
    """Reads what was built as strictly as any archive, so that whatever is built can be unpacked."""
    scratch.mkdir()
    try:
        contents.open_contents(built, scratch, Limits(), whole=False)
    except BundleError as error:
        raise InvalidArgument(
            f"the source makes a bundle that would not be unpacked: {error.message}",
            details=error.details,
            next_step=error.next_step,
        ) from error


def _check_output(source: Path, path: Path) -> None:
    if path.is_dir():
        raise InvalidArgument(f"{path} is a folder; name a file to write", details={"path": str(path)})
    if not path.parent.is_dir():
        raise NotFound(f"there is no folder {path.parent}", details={"path": str(path.parent)})
    if path.parent.resolve().is_relative_to((source / PACKS).resolve()):
        raise InvalidArgument(f"{path} is inside a pack; the next build would take it in", details={"path": str(path)})


def _write_pack(pack: SourcePack, scratch: Path) -> BuiltPack:
    """A `.gtpack`: a zip of stored files in lexical order with the date 1980-01-01 (reference 04, section 4.6)."""
    import zipfile

    name = f"{pack.manifest.pack_id}{contents.PACK_SUFFIX}"
    place = scratch / name
    manifest = _Generated(PACK_FILE, documents.canonical_json(pack.manifest.model_dump(mode="json", exclude_none=True)))
    members: list[_Generated | SourceFile] = [manifest, *pack.files]
    with file_system(f"writing {name}", place), zipfile.ZipFile(place, "w") as archive:
        for member in sorted(members, key=lambda member: member.path.encode()):
            executable = isinstance(member, SourceFile) and member.executable
            info = zipfile.ZipInfo(member.path, date_time=_ZIP_DATE)
            info.create_system = _UNIX
            info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
            with _open(member) as content, archive.open(info, "w") as target:
                shutil.copyfileobj(content, target, CHUNK_BYTES)
    return BuiltPack(
        pack_id=pack.manifest.pack_id,
        version=pack.manifest.version,
        path=f"{PACKS}/{name}",
        digest=digests.digest_file(place),
        size_bytes=place.stat().st_size,
    )


def _open(member: _Generated | SourceFile) -> BinaryIO:
    if isinstance(member, _Generated):
        return io.BytesIO(member.content)
    # What was a plain file when the source was read must still be one.
    descriptor = os.open(member.location, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise InvalidArgument(f"{shown(member.location)} changed while it was read", details={"path": member.path})
    return file


def _write_archive(file: BinaryIO, source: Source, packs: list[BuiltPack], scratch: Path) -> None:
    import tarfile

    import zstandard

    manifest, lock = _manifest(source, packs), _lock(source, packs)
    # One thread: several split the input, and their number would show in the bytes.
    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, threads=0, write_checksum=True)
    with (
        compressor.stream_writer(file, closefd=False) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        # Both sort before packs/: the archive is in lexical order.
        for name, document in ((LOCK_FILE, lock), (MANIFEST_FILE, manifest)):
            content = documents.canonical_json(document.model_dump(mode="json", exclude_none=True))
            archive.addfile(_tar_info(name, len(content)), io.BytesIO(content))
        for pack in packs:
            with (scratch / Path(pack.path).name).open("rb") as content_file:
                archive.addfile(_tar_info(pack.path, pack.size_bytes), content_file)


def _tar_info(name: str, size: int) -> tarfile.TarInfo:
    """A plain header: the defaults of TarInfo are no owner, no time."""
    import tarfile

    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info


def _manifest(source: Source, packs: list[BuiltPack]) -> BundleManifest:
    bundle = source.bundle
    by_id = {pack.pack_id: pack for pack in packs}
    return BundleManifest(
        format_version=FORMAT_VERSION,
        bundle_id=bundle.bundle_id,
        bundle_name=bundle.bundle_name or bundle.bundle_id,
        locale=bundle.locale,
        app_packs=tuple(pack.path for pack in packs),
        capabilities=tuple(sorted({name for pack in source.packs for name in pack.manifest.capabilities})),
        version=bundle.version,
        entry=bundle.entry or source.packs[0].manifest.pack_id,
        packs=tuple(contents.summarise(pack.manifest, by_id[pack.manifest.pack_id].path) for pack in source.packs),
    )


def _lock(source: Source, packs: list[BuiltPack]) -> BundleLock:
    return BundleLock(
        schema_version=1,
        bundle_id=source.bundle.bundle_id,
        app_packs=tuple(LockedPack(reference=pack.path, digest=pack.digest) for pack in packs),
    )
