"""The env-packs that are executables: installed, verified, found and started from.

    $GREENTIC_ENV_PACKS or ~/.greentic/env-packs/      0700
      <path>/installed.json                            greentic.installed-env-pack.v1: which bytes, on whose word
      <path>/<digest>/env-pack.json(.sig) and files    read-only; named by the digest of the manifest
      .running/<random>/                               what a call runs: a verified copy, removed afterwards

What is run is what was verified: each file is read once, those bytes are compared with the manifest and those bytes are
written to a folder of the call's own, from which it is started. `installed.json` pins the digest of the manifest.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from greentic.envpacks import manifest as manifests
from greentic.envpacks.manifest import MANIFEST, SIGNATURE, PackManifest
from greentic.envpacks.registry import EnvPack, Offer, Origin, checked
from greentic.spec.environment import Environment
from greentic.spec.errors import CorruptDocument, GreenticError, NotFound, ProviderError
from greentic.spec.integrity import content_digest
from greentic.spec.parsing import Document, Text, parse, parse_json
from greentic.trust.errors import NotTrusted
from greentic.trust.public import PublicKey

RECORD: Final = "installed.json"
_RUNNING = ".running"
_LOCK = ".lock"
_MAX_RECORD = 64 * 1024


class InstalledRecord(Document):
    """What was installed when, and on whose word: the keys that signed it, or, for one that nobody signed, who vouched
    (`unsigned_by`).
    """

    schema_: Literal["greentic.installed-env-pack.v1"] = Field("greentic.installed-env-pack.v1", alias="schema")
    path: Text
    version: Text
    manifest_digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    signed_by: tuple[Text, ...]
    unsigned_by: Text | None = None
    installed_at: Text
    installed_by: Text


@dataclass(frozen=True, slots=True)
class Executable:
    """An installed executable: where it is, what it says of itself, and on whose word it is here."""

    folder: Path
    manifest: PackManifest
    record: InstalledRecord

    @contextlib.contextmanager
    def prepared(self) -> Iterator[tuple[Path, int]]:
        """A folder that holds the files as they were verified, and the descriptor that keeps it from being swept away.

        Whoever runs in it inherits the descriptor. The folder is removed in the end, or, when something that was
        started there still runs, by a later call. CorruptDocument when a file is not the one that was installed.
        """
        running = self.folder.parent.parent / _RUNNING
        running.mkdir(mode=0o700, exist_ok=True)
        with _locked(running / _LOCK, fcntl.LOCK_EX):
            _sweep(running)
            place = running / secrets.token_hex(8)
            place.mkdir(mode=0o700)
            held = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(held, fcntl.LOCK_EX)
        try:
            _copied(self.folder, self.manifest, place)
            yield place, held
        finally:
            os.close(held)
            _sweep_one(place)


def offers(root: Path) -> tuple[Offer, ...]:
    """What is installed in `root`. Nothing is read but names until an offer is loaded."""
    try:
        names = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise ProviderError(f"the executables in {root} cannot be listed: {error.strerror}") from None
    return tuple(
        Offer(name, partial(_pack, root, name), partial(_origin, root, name))
        for name in names
        if (root / name / RECORD).exists()
    )


def find(root: Path, path: str) -> Executable:
    """The installed executable of that path.

    NotFound when there is none; ProviderError when its folder can be changed by others, CorruptDocument when its
    manifest is not the one that was installed.
    """
    record = _record(root, path)
    folder = root / path / _folder_name(record.manifest_digest)
    for place in (root, root / path, folder):
        _private(place)
    data = manifests.read_file(folder / MANIFEST, manifests.MAX_MANIFEST)
    if data is None or content_digest(data) != record.manifest_digest:
        raise CorruptDocument(
            f"the manifest of the env-pack '{path}' is not the one that was installed",
            details={"path": str(folder / MANIFEST)},
            next_step=f"install it again: gtc env-pack install FOLDER; or gtc env-pack uninstall {path}",
        )
    return Executable(folder, manifests.parsed(data, str(folder / MANIFEST)), record)


def install(
    folder: Path, root: Path, *, trusted: Iterable[PublicKey], unsigned: bool, by: str, now: str
) -> tuple[Executable, InstalledRecord | None]:
    """Install the env-pack in `folder`; what is installed then, and what was before.

    Without `unsigned` one of the `trusted` keys must have signed it. Errors as of `manifest.read`, `signers` and
    `verified`; nothing is installed then. The same again changes nothing.
    """
    manifest, data = manifests.read(folder)
    what = f"{manifest.path} {manifest.version}"
    manifests.complete(manifest, what)
    envelope = manifests.read_file(folder / SIGNATURE, manifests.MAX_MANIFEST)
    signed_by: tuple[str, ...] = ()
    if envelope is not None or not unsigned:
        try:
            signed_by = manifests.signers(data, envelope, trusted, what)
        except GreenticError:
            if not unsigned:
                raise
    record = InstalledRecord(
        path=manifest.path,
        version=manifest.version,
        manifest_digest=content_digest(data),
        signed_by=signed_by,
        unsigned_by=None if signed_by else by,
        installed_at=now,
        installed_by=by,
    )
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = root / manifest.path
    with _locked(root / _LOCK, fcntl.LOCK_EX):
        before = _earlier(root, manifest.path)
        final = place / _folder_name(record.manifest_digest)
        draft = place / f".{secrets.token_hex(8)}"
        place.mkdir(mode=0o700, exist_ok=True)
        try:
            draft.mkdir(mode=0o700)
            _copied(folder, manifest, draft)
            _write(draft / MANIFEST, data, 0o400)
            if envelope is not None and signed_by:
                _write(draft / SIGNATURE, envelope, 0o400)
            if final.exists():  # the same manifest again: what stands there may be damaged, or signed by others
                final.rename(place / f".{secrets.token_hex(8)}")
            draft.rename(final)
            _write(place / f".{RECORD}", json.dumps(record.to_json(), indent=2).encode() + b"\n", 0o600)
            (place / f".{RECORD}").rename(place / RECORD)
        except BaseException:
            _remove(draft)
            if before is None:
                _remove(place)
            raise
        for other in place.iterdir():
            if other.name not in (final.name, RECORD):
                _remove(other)
    return Executable(final, manifest, record), before


def uninstall(root: Path, path: str) -> InstalledRecord:
    """Take an executable away; NotFound when there is none."""
    with _locked(root / _LOCK, fcntl.LOCK_EX) if root.is_dir() else contextlib.nullcontext():
        record = _record(root, path)
        (root / path / RECORD).unlink()
        _remove(root / path)
    return record


def _pack(root: Path, path: str) -> EnvPack:
    try:
        found = find(root, path)
    except GreenticError as error:
        raise ProviderError(
            f"the env-pack '{path}' cannot be loaded: {error.message}", details=error.details, next_step=error.next_step
        ) from error
    from greentic.envpacks.offering import pack_of

    return checked(pack_of(found, partial(_admit, found)), path, f"the manifest in {found.folder}")


def _origin(root: Path, path: str) -> Origin:
    try:
        record = _record(root, path)
    except GreenticError:
        return Origin("executable", path, "", str(root / path), ())
    return Origin("executable", path, record.version, str(root / path), record.signed_by, record.manifest_digest)


def _admit(executable: Executable, environment: Environment) -> None:
    """An environment uses what a key that it trusts has signed, or what somebody here vouched for."""
    record = executable.record
    if record.unsigned_by is not None:
        return
    from greentic.trust import root as trust

    data = manifests.read_file(executable.folder / MANIFEST, manifests.MAX_MANIFEST)
    if data is None or content_digest(data) != record.manifest_digest:
        raise CorruptDocument(f"the manifest of the env-pack '{record.path}' is not the one that was installed")
    envelope = manifests.read_file(executable.folder / SIGNATURE, manifests.MAX_MANIFEST)
    trusted = trust.of(environment.trust_root).trusted()
    try:
        manifests.signers(data, envelope, trusted, f"{record.path} {record.version}")
    except NotTrusted as error:
        name, keys = environment.environment_id, ", ".join(record.signed_by)
        raise NotTrusted(
            f"the environment '{name}' does not trust the env-pack '{record.path}': {error.message}",
            details=error.details,
            next_step=f"when you know the signer: gtc op trust-root add {name} --key-id {keys} --public-key-file FILE",
        ) from None


def _record(root: Path, path: str) -> InstalledRecord:
    file = root / path / RECORD
    data = manifests.read_file(file, _MAX_RECORD) if manifests.PATH.fullmatch(path) else None
    if data is None:
        raise NotFound(
            f"no executable named '{path}' is installed in {root}",
            details={"path": path, "root": str(root)},
            next_step="gtc op env-packs available",
        )
    record = parse(InstalledRecord, parse_json(data, str(file)), str(file))
    if record.path != path:
        raise CorruptDocument(f"{file} is of another env-pack, '{record.path[:100]}'")
    return record


def _earlier(root: Path, path: str) -> InstalledRecord | None:
    try:
        return _record(root, path)
    except GreenticError:
        return None  # damaged: what is installed now takes its place


def _folder_name(digest: str) -> str:
    return digest.removeprefix("sha256:")[:32]


def _copied(source: Path, manifest: PackManifest, target: Path) -> None:
    """Write the files of the manifest to `target`, each as it was verified."""
    for name, wanted in manifest.files.items():
        data = manifests.verified(source, name, wanted)
        path = target / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, data, 0o500 if wanted.executable else 0o400)


def _write(path: Path, data: bytes, mode: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if path.name.endswith((MANIFEST, RECORD)):
            os.fsync(descriptor)


def _private(folder: Path) -> None:
    try:
        found = folder.lstat()
    except OSError as error:
        raise ProviderError(f"{folder} cannot be read: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), 0) or found.st_mode & 0o022:
        raise ProviderError(
            f"{folder} is no folder that you alone can change: nothing is started from there",
            details={"path": str(folder), "mode": f"{stat.S_IMODE(found.st_mode):04o}"},
            next_step=f"see whose it is and that it is no link, then chmod go-w {folder}",
        )


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


def _sweep(running: Path) -> None:
    """Remove the folders of calls that were killed."""
    for place in running.iterdir():
        if place.name != _LOCK:
            _sweep_one(place)


def _sweep_one(place: Path) -> None:
    """Remove the folder of a call unless somebody who runs there holds its lock."""
    try:
        with (place / _LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(place)
    except BlockingIOError:
        return
    except OSError:
        _remove(place)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
