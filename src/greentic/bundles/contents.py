"""What an archive holds once it is on disk: manifest, lock and packs, and whether they agree."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pydantic

from greentic.bundles import digests, documents
from greentic.bundles.admission import Budget, fold
from greentic.bundles.extraction import extract
from greentic.bundles.formats import Format
from greentic.bundles.limits import MIB, Limits
from greentic.bundles.manifest import (
    FORMAT_VERSION,
    LOCK_FILE,
    MANIFEST_FILE,
    PACK_FILE,
    BundleLock,
    BundleManifest,
    LockedPack,
    PackManifest,
    PackSummary,
    is_foreign_identifier,
)
from greentic.bundles.placement import file_system
from greentic.bundles.refusals import Rule, refusal, shown
from greentic.bundles.snapshot import Snapshot

APPS = "apps"
"""Folder of an unpacked bundle that holds each pack, opened. An archive may not have one of its own."""

PACK_SUFFIX = ".gtpack"
_PACK_FOLDERS = ("packs",)
_MOST_DOCUMENT_BYTES = 4 * MIB

Model = TypeVar("Model", bound=pydantic.BaseModel)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    `warning`: it holds well enough, but is weaker than in a bundle that this platform builds. `rule` names what was
    broken when `ok` is false.
    """

    name: str
    ok: bool
    detail: str
    warning: bool = False
    rule: Rule | None = None


@dataclass(frozen=True, slots=True)
class OpenedPack:
    """A pack as found: `path` in the archive, digest of its file, and its manifest."""

    path: str
    digest: str
    size_bytes: int
    manifest: PackManifest


@dataclass(frozen=True, slots=True)
class Contents:
    """A whole bundle as found; `files` and `uncompressed_bytes` count the archive's entries and those of its packs."""

    form: Format
    manifest: BundleManifest
    lock: BundleLock
    packs: tuple[OpenedPack, ...]
    files: int
    uncompressed_bytes: int


def open_contents(held: Snapshot, root: Path, limits: Limits, *, whole: bool) -> Contents:
    """Unpacks `held` below `root`, an empty folder, and insists that everything agrees.

    With `whole` every file is written and each pack is opened in `apps/<pack_id>`; otherwise only what has to be read.
    Raises BundleError at the first thing that is wrong, and InputOutput.
    """
    budget = Budget(limits)
    form = unfold(held, root, limits, budget, whole=whole)
    manifest, lock = read_manifest(root), read_lock(root)
    for check in agreement(root, manifest, lock):
        if not check.ok:
            assert check.rule is not None
            raise refusal(check.rule, check.detail)
    packs = tuple(
        open_pack(root, path, manifest, lock, limits, budget, whole=whole) for path in pack_paths(root, manifest)
    )
    return Contents(form, manifest, lock, packs, budget.files, budget.total_bytes)


def unfold(held: Snapshot, root: Path, limits: Limits, budget: Budget, *, whole: bool) -> Format:
    """Unpacks the archive itself; see `open_contents`."""

    def wanted(path: str) -> bool:
        return whole or path in (MANIFEST_FILE, LOCK_FILE) or path.endswith(PACK_SUFFIX)

    return extract(held.file, held.size_bytes, root, limits, budget, reserved=frozenset({APPS}), wanted=wanted)


def read_manifest(root: Path) -> BundleManifest:
    """The manifest of the bundle unpacked in `root`. Raises BundleError when it is missing or not sound."""
    manifest = _read(root / MANIFEST_FILE, MANIFEST_FILE, BundleManifest)
    if manifest.format_version != FORMAT_VERSION:
        raise refusal(
            Rule.MANIFEST_INVALID,
            f"{MANIFEST_FILE} has the format version {shown(manifest.format_version)!r}; {FORMAT_VERSION} is read",
            entry=MANIFEST_FILE,
        )
    return manifest


def read_lock(root: Path) -> BundleLock:
    """The lock of the bundle unpacked in `root`. Raises BundleError when it is missing or not sound."""
    lock = _read(root / LOCK_FILE, LOCK_FILE, BundleLock)
    if lock.schema_version != 1 or lock.build_format_version != FORMAT_VERSION:
        raise refusal(
            Rule.MANIFEST_INVALID,
            f"{LOCK_FILE} has the version {lock.schema_version} of the format "
            f"{shown(lock.build_format_version)!r}; 1 of {FORMAT_VERSION} is read",
            entry=LOCK_FILE,
        )
    return lock


def read_pack_manifest(folder: Path, pack_id: str) -> PackManifest:
    """The manifest of the pack opened in `folder`; one without `pack.json` is a pack of the reference."""
    path = folder / PACK_FILE
    if not path.exists():
        return PackManifest.of_reference(pack_id)
    what = f"{pack_id}/{PACK_FILE}"
    manifest = _read(path, what, PackManifest)
    if manifest.pack_id != pack_id or manifest.kind != "application":
        raise refusal(
            Rule.MANIFEST_INVALID,
            f"{what} is of the pack {manifest.pack_id} and the kind {manifest.kind}; "
            f"an application called {pack_id} is expected",
            entry=what,
        )
    return manifest


def pack_id_of(path: str) -> str:
    """The id of the pack in the file `path`: its name without the suffix, as in the reference (reference 01)."""
    return path.rpartition("/")[2].removesuffix(PACK_SUFFIX)


def pack_paths(root: Path, manifest: BundleManifest) -> list[str]:
    """Paths of the packs in the archive, in the order of the manifest; a reference bundle has them sorted by path."""
    return [summary.path for summary in manifest.packs] or _present(root)


def open_pack(
    root: Path,
    path: str,
    manifest: BundleManifest,
    lock: BundleLock,
    limits: Limits,
    budget: Budget,
    *,
    whole: bool,
) -> OpenedPack:
    """Judges the pack at `path`, opens it in `apps/<pack_id>`, and compares it with what the bundle says of it."""
    pack_id = pack_id_of(path)
    folder = root / APPS / pack_id
    archive = root / path
    with file_system(f"writing {pack_id}", root):
        for made in (folder.parent, folder):
            made.mkdir(exist_ok=True)
            made.chmod(0o755)
    with file_system(f"reading {path}", archive):
        file = archive.open("rb")
        size = archive.stat().st_size
    with file:
        extract(file, size, folder, limits, budget, wanted=None if whole else PACK_FILE.__eq__)
    found = read_pack_manifest(folder, pack_id)
    digest = digests.digest_file(archive)
    _compare(found, next((summary for summary in manifest.packs if summary.path == path), None))
    locked = _digests(lock.app_packs).get(path)
    if locked is None and found.runnable:
        raise refusal(Rule.PACK_DIGEST_MISSING, f"{LOCK_FILE} has no digest of {path}", entry=path)
    return OpenedPack(path, digest, size, found)


def _compare(found: PackManifest, summary: PackSummary | None) -> None:
    if summary is not None and summary != summarise(found, summary.path):
        raise refusal(
            Rule.LOCK_MISMATCH,
            f"{MANIFEST_FILE} and the pack {found.pack_id} itself say different things of it",
            entry=summary.path,
        )


def summarise(pack: PackManifest, path: str) -> PackSummary:
    """What the bundle manifest says of `pack`, whose file is at `path`."""
    return PackSummary(
        pack_id=pack.pack_id,
        version=pack.version,
        path=path,
        application=None if pack.application is None else pack.application.kind,
        health=pack.health,
        capabilities=pack.capabilities,
        setup=pack.setup,
    )


def agreement(root: Path, manifest: BundleManifest, lock: BundleLock) -> list[Check]:
    """Whether manifest, lock and the packs that are there agree; nothing is raised but InputOutput."""
    present = _present(root)
    checks = [_same_identity(manifest, lock), _same_lists(manifest, lock), _distinct_ids(present)]
    if all(check.ok for check in checks):
        checks.append(_same_packs(manifest, present))
        if checks[-1].ok:
            checks += [_locked_digest(root, path, lock) for path in pack_paths(root, manifest)]
            checks += _provider_digests(root, lock)
    return checks


def _same_identity(manifest: BundleManifest, lock: BundleLock) -> Check:
    for field in ("bundle_id", "requested_mode"):
        ours, theirs = getattr(manifest, field), getattr(lock, field)
        if ours != theirs:
            detail = f"the manifest has the {field} {shown(ours)}, the lock {shown(theirs)}"
            return Check("identity", False, detail, rule=Rule.LOCK_MISMATCH)
    return Check("identity", True, f"bundle {manifest.bundle_id}")


def _same_lists(manifest: BundleManifest, lock: BundleLock) -> Check:
    for field in ("app_packs", "extension_providers"):
        listed: list[str] = sorted(getattr(manifest, field))
        locked = sorted(pack.reference for pack in getattr(lock, field))
        if listed != locked or len(set(listed)) < len(listed):
            detail = f"manifest and lock do not list the same {field}"
            return Check("lists", False, detail, rule=Rule.LOCK_MISMATCH)
    paths = [summary.path for summary in manifest.packs]
    if paths and sorted(paths) != sorted(manifest.app_packs):
        return Check("lists", False, "the manifest's packs and app_packs differ", rule=Rule.LOCK_MISMATCH)
    for summary in manifest.packs:
        if pack_id_of(summary.path) != summary.pack_id:
            detail = f"the pack {summary.pack_id} is in {shown(summary.path)}"
            return Check("lists", False, detail, rule=Rule.LOCK_MISMATCH)
    if manifest.entry is not None and manifest.entry not in [summary.pack_id for summary in manifest.packs]:
        return Check("lists", False, f"the entry {manifest.entry} is no pack", rule=Rule.LOCK_MISMATCH)
    return Check("lists", True, f"{len(manifest.app_packs)} packs, the same in manifest and lock")


def _distinct_ids(present: list[str]) -> Check:
    seen: dict[str, str] = {}
    for path in present:
        pack_id = pack_id_of(path)
        if not is_foreign_identifier(pack_id):
            return Check("pack ids", False, f"{shown(path)} gives no pack id", rule=Rule.MANIFEST_INVALID)
        other = seen.setdefault(fold(pack_id), path)
        if other != path:
            detail = f"{shown(other)} and {shown(path)} give one pack id"
            return Check("pack ids", False, detail, rule=Rule.NAME_COLLISION)
    return Check("pack ids", True, f"{len(present)} distinct")


def _same_packs(manifest: BundleManifest, present: list[str]) -> Check:
    """Every pack listed is there and the other way round; references that are no path are the reference's own."""
    if not present:
        return Check("packs", False, "the archive holds no pack", rule=Rule.PACK_MISSING)
    remote = []
    for reference in manifest.app_packs:
        if reference in present:
            continue
        if manifest.packs or reference.startswith(_PACK_FOLDERS):
            return Check("packs", False, f"{shown(reference)} is not in the archive", rule=Rule.PACK_MISSING)
        remote.append(shown(reference))
    unlisted = [path for path in present if path not in manifest.app_packs]
    if manifest.packs and unlisted:
        detail = f"{shown(unlisted[0])} is in the archive, but the manifest does not list it"
        return Check("packs", False, detail, rule=Rule.PACK_UNLISTED)
    if remote or unlisted:
        named = "; ".join(
            [f"{reference} is not a path in the archive" for reference in remote]
            + [f"{shown(path)} is not listed" for path in unlisted]
        )
        return Check("packs", True, named, warning=True)
    return Check("packs", True, f"all {len(present)} are in the archive")


def _locked_digest(root: Path, path: str, lock: BundleLock) -> Check:
    name = f"digest of {path}"
    locked = _digests(lock.app_packs).get(path)
    if locked is None:
        return Check(name, True, "the lock has none, as bundles of the reference may", warning=True)
    actual = digests.digest_file(root / path)
    if not digests.same_digest(locked, actual):
        detail = f"{path} has the digest {actual}, the lock says {locked}"
        return Check(name, False, detail, rule=Rule.PACK_DIGEST_MISMATCH)
    return Check(name, True, actual)


def _provider_digests(root: Path, lock: BundleLock) -> list[Check]:
    """Extension providers are kept, not opened; those in the archive that are locked must be what the lock says."""
    present = set(_files(root, "providers"))
    checks = []
    for path, locked in _digests(lock.extension_providers).items():
        if path in present:
            actual = digests.digest_file(root / path)
            ok = digests.same_digest(locked, actual)
            detail = actual if ok else f"{path} has the digest {actual}, the lock says {locked}"
            rule = None if ok else Rule.PACK_DIGEST_MISMATCH
            checks.append(Check(f"digest of {path}", ok, detail, rule=rule))
    return checks


def _digests(packs: tuple[LockedPack, ...]) -> dict[str, str]:
    return {pack.reference: pack.digest for pack in packs if pack.digest is not None}


def _present(root: Path) -> list[str]:
    return sorted(path for folder in _PACK_FOLDERS for path in _files(root, folder))


def _files(root: Path, folder: str) -> list[str]:
    """Paths of the packs below a folder, relative to `root`. The tree is ours: it holds no link."""
    found = []
    with file_system(f"reading {folder}", root):
        for place, _, names in os.walk(root / folder, onerror=_raise_unless_missing):
            inner = Path(place).relative_to(root).as_posix()
            found += [f"{inner}/{name}" for name in names if name.endswith(PACK_SUFFIX)]
    return found


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _read(path: Path, what: str, model: type[Model]) -> Model:
    with file_system(f"reading {what}", path):
        if not path.is_file() or path.is_symlink():
            raise refusal(Rule.MANIFEST_MISSING, f"the bundle has no {what}", entry=what)
        if path.stat().st_size > _MOST_DOCUMENT_BYTES:
            raise refusal(Rule.MANIFEST_INVALID, f"{what} is larger than {_MOST_DOCUMENT_BYTES} bytes", entry=what)
        data = path.read_bytes()
    try:
        return model.model_validate(documents.parse_json(data))
    except pydantic.ValidationError as error:
        problems = documents.problems(error, model)
        listed = "; ".join(f"{problem['path']}: {problem['problem']}" for problem in problems[:_MOST_LISTED])
        raise refusal(
            Rule.MANIFEST_INVALID,
            f"{what} is not sound: {shown(listed)}",
            entry=what,
            problems=problems[:_MOST_LISTED],
        ) from error
    except ValueError as error:
        raise refusal(Rule.MANIFEST_INVALID, f"{what} is not JSON: {shown(str(error))}", entry=what) from error


_MOST_LISTED = 10
"""Problems named of one document; one that is hostile can have any number."""
