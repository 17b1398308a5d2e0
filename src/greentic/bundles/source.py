"""The folder that an author works in, read for a build.

    helpdesk/
      bundle.yaml
      .gtignore                    optional
      packs/<pack_id>/pack.yaml    and the application's files

The same policy that judges archives judges these files, so that what is built can be unpacked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from greentic.bundles import authored
from greentic.bundles.admission import Admission, Budget
from greentic.bundles.application import AsgiApplication, ProcessApplication
from greentic.bundles.entries import Entry, Kind
from greentic.bundles.ignored import Ignored
from greentic.bundles.limits import Limits
from greentic.bundles.manifest import IDENTIFIER, PACK_FILE, BundleSource, PackManifest
from greentic.bundles.refusals import shown
from greentic.spec.errors import BundleError, InputOutput, InvalidArgument, NotFound

BUNDLE_YAML = "bundle.yaml"
PACK_YAML = "pack.yaml"
PACKS = "packs"

_SECRET_NAMES = (".dev.secrets.env",)
_SECRET_FOLDERS = ("/.greentic/dev/", "/.greentic/state/dev/")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a pack: its path inside the pack, and where it is."""

    path: str
    location: bytes
    executable: bool


@dataclass(frozen=True, slots=True)
class SourcePack:
    """A pack's manifest and its files, sorted by path; `pack.yaml` is not among them."""

    manifest: PackManifest
    files: tuple[SourceFile, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Everything a build needs to know."""

    bundle: BundleSource
    packs: tuple[SourcePack, ...]


def read_source(directory: Path) -> Source:
    """The source of a bundle in `directory`.

    Raises NotFound when there is none, InvalidArgument when what the author wrote is not accepted (see
    `authored.read`), a file may not be part of a bundle (links, devices, stores of development secrets) or a pack
    could not run, and InputOutput.
    """
    if not directory.is_dir():
        raise NotFound(
            f"there is no folder {directory}",
            details={"path": str(directory)},
            next_step="make a new bundle with: gtc bundle init",
        )
    bundle = authored.read(directory / BUNDLE_YAML, BundleSource)
    ignored = Ignored.of(directory)
    budget = Budget(Limits())
    packs = tuple(_read_pack(directory, pack_id, ignored, budget) for pack_id in _pack_ids(directory, ignored))
    _check_entry(directory, bundle, [pack.manifest.pack_id for pack in packs])
    return Source(bundle=bundle, packs=packs)


def _pack_ids(directory: Path, ignored: Ignored) -> list[str]:
    folder = directory / PACKS
    if folder.is_symlink() or not folder.is_dir():
        raise NotFound(
            f"there is no folder {PACKS} in {directory}; a bundle has at least one pack",
            details={"path": str(folder)},
            next_step=f"make {PACKS}/<pack_id>/{PACK_YAML}",
        )
    found = []
    for name, location, told in _listing(os.fsencode(folder)):
        text = _text(name, location)
        if ignored(f"{PACKS}/{text}", directory=stat.S_ISDIR(told.st_mode)):
            continue
        if not stat.S_ISDIR(told.st_mode):
            raise InvalidArgument(
                f"{PACKS}/{shown(text)} is not a folder; each pack is a folder of {PACKS}",
                details={"path": f"{PACKS}/{shown(text)}"},
            )
        if not IDENTIFIER.fullmatch(text):
            raise InvalidArgument(
                f"{shown(text)} cannot be a pack id: it must be 1 to 63 of a-z 0-9 . _ - "
                "and begin with a letter or a digit",
                details={"path": f"{PACKS}/{shown(text)}"},
            )
        found.append(text)
    if not found:
        raise InvalidArgument(
            f"{folder} is empty; a bundle has at least one pack",
            details={"path": str(folder)},
            next_step=f"make {PACKS}/<pack_id>/{PACK_YAML}",
        )
    return found


def _read_pack(directory: Path, pack_id: str, ignored: Ignored, budget: Budget) -> SourcePack:
    folder = directory / PACKS / pack_id
    manifest = authored.read(folder / PACK_YAML, PackManifest)
    file = f"{PACKS}/{pack_id}/{PACK_YAML}"
    if manifest.kind != "application":
        raise InvalidArgument(
            f"{file}: kind: only application can be built", details={"file": file, "kind": manifest.kind}
        )
    if manifest.pack_id != pack_id:
        raise InvalidArgument(
            f"{file}: pack_id is {manifest.pack_id}, but the folder is called {pack_id}",
            details={"file": file, "pack_id": manifest.pack_id, "folder": pack_id},
            next_step=f"rename the folder to {manifest.pack_id} or write pack_id: {pack_id}",
        )
    admission = Admission(Limits(), budget)
    files = []
    for path, location, told in _walk(os.fsencode(folder), f"{PACKS}/{pack_id}", ignored):
        inner = path.removeprefix(f"{PACKS}/{pack_id}/")
        if inner == PACK_YAML:
            continue
        if inner == PACK_FILE:
            raise InvalidArgument(
                f"{path} may not exist: the build writes {PACK_FILE} itself, from {PACK_YAML}",
                details={"path": path},
            )
        _refuse_secrets(path)
        try:
            admission.admit(Entry(inner.encode(), Kind.FILE))
            budget.count_bytes(told.st_size, inner.encode())
        except BundleError as error:
            raise InvalidArgument(
                f"{shown(path)} cannot be part of a bundle: {error.message}",
                details={"path": shown(path), **error.details},
            ) from error
        if told.st_size > Limits().max_entry_bytes:
            raise InvalidArgument(
                f"{shown(path)} has {told.st_size} bytes; a file of a bundle has at most {Limits().max_entry_bytes}",
                details={"path": shown(path), "size_bytes": told.st_size},
                next_step="let the worker fetch it, or list it in .gtignore",
            )
        files.append(SourceFile(inner, location, bool(told.st_mode & stat.S_IXUSR)))
    pack = SourcePack(manifest, tuple(sorted(files, key=lambda file: file.path.encode())))
    _check_application(pack, file)
    return pack


def _walk(folder: bytes, prefix: str, ignored: Ignored) -> Iterator[tuple[str, bytes, os.stat_result]]:
    """The plain files under `folder`: path from the bundle's folder, location, what the file system tells of it."""
    for name, location, told in _listing(folder):
        mode = told.st_mode
        path = f"{prefix}/{_text(name, location)}"
        if ignored(path, directory=stat.S_ISDIR(mode)):
            continue
        if stat.S_ISDIR(mode):
            if path.count("/") > Limits().max_depth:
                raise InvalidArgument(f"{shown(path)} is too deep", details={"path": shown(path)})
            yield from _walk(location, path, ignored)
        elif stat.S_ISREG(mode):
            yield path, location, told
        else:
            what = "a symbolic link" if stat.S_ISLNK(mode) else "a device, FIFO or socket"
            raise InvalidArgument(
                f"{shown(path)} is {what}; bundles hold files and folders only",
                details={"path": shown(path)},
                next_step="put a copy in its place, or list it in .gtignore",
            )


def _listing(folder: bytes) -> list[tuple[bytes, bytes, os.stat_result]]:
    """Name, location and status of what a folder holds, sorted by name; links are not followed."""
    try:
        with os.scandir(folder) as listing:
            found = [(entry.name, entry.path, entry.stat(follow_symlinks=False)) for entry in listing]
    except OSError as error:
        raise InputOutput(f"{shown(folder)} cannot be read: {error.strerror}") from error
    return sorted(found, key=lambda one: one[0])


def _text(name: bytes, location: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"the name {shown(location)} is not UTF-8", details={"path": shown(location)}) from error


def _refuse_secrets(path: str) -> None:
    if path.endswith(_SECRET_NAMES) or any(folder in f"/{path}" for folder in _SECRET_FOLDERS):
        raise InvalidArgument(
            f"{shown(path)} looks like a store of development secrets; secrets are never part of a bundle",
            details={"path": shown(path)},
            next_step="move it out of the pack, or list it in .gtignore",
        )


def _check_application(pack: SourcePack, file: str) -> None:
    """Finds what would only show when a worker starts."""
    executable = {item.path: item.executable for item in pack.files}
    match pack.manifest.application:
        case AsgiApplication(app=app, vendor=vendor, dependencies=dependencies):
            if vendor is not None and not any(path.startswith(f"{vendor}/") for path in executable):
                raise InvalidArgument(
                    f"{file}: application.vendor: the pack has no files in {vendor}",
                    details={"file": file, "vendor": vendor},
                )
            top = app.partition(":")[0].partition(".")[0]
            places = ["", f"{vendor}/"] if vendor else [""]
            present = any(
                path in (f"{place}{top}.py", f"{place}{top}.so") or path.startswith(f"{place}{top}/")
                for place in places
                for path in executable
            )
            if not present and not dependencies:
                raise InvalidArgument(
                    f"{file}: application.app: the pack has no module {top}",
                    details={"file": file, "app": app},
                )
        case ProcessApplication() as application:
            program = application.program
            if program is None:
                return
            if program not in executable:
                raise InvalidArgument(
                    f"{file}: application.command: the pack has no file {program}",
                    details={"file": file, "program": program},
                )
            if not executable[program]:
                raise InvalidArgument(
                    f"{file}: application.command: {program} is not executable",
                    details={"file": file, "program": program},
                    next_step=f"chmod +x {program}",
                )


def _check_entry(directory: Path, bundle: BundleSource, pack_ids: list[str]) -> None:
    file = str(directory / BUNDLE_YAML)
    if bundle.entry is None and len(pack_ids) > 1:
        raise InvalidArgument(
            f"{BUNDLE_YAML}: entry: is missing, and {len(pack_ids)} packs could run: {', '.join(pack_ids)}",
            details={"file": file, "candidates": pack_ids},
            next_step=f"name the one that runs, as in entry: {pack_ids[0]}",
        )
    if bundle.entry is not None and bundle.entry not in pack_ids:
        raise InvalidArgument(
            f"{BUNDLE_YAML}: entry: there is no pack {bundle.entry}; the packs: {', '.join(pack_ids)}",
            details={"file": file, "candidates": pack_ids},
        )
