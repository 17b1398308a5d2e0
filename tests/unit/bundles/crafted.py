"""Archives made by hand, hostile ones included, with the writers of the standard library."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, replace

import zstandard

PACK_JSON = {
    "application": {"app": "main:app", "dependencies": [], "kind": "asgi"},
    "capabilities": ["secrets"],
    "health": {"path": "/healthz", "timeout_seconds": 30},
    "kind": "application",
    "pack_id": "web",
    "setup": [],
    "version": "1.0.0",
}


@dataclass(frozen=True)
class Member:
    """An entry to write; `kind` is file, directory, symlink, hardlink, device, fifo or a tar type byte."""

    name: str | bytes
    data: bytes = b""
    kind: str = "file"
    mode: int = 0o644
    target: str = ""

    @property
    def text(self) -> str:
        return self.name if isinstance(self.name, str) else self.name.decode("utf-8", "surrogateescape")


_TAR_TYPES = {
    "file": tarfile.REGTYPE,
    "directory": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "device": tarfile.CHRTYPE,
    "fifo": tarfile.FIFOTYPE,
}
_FORMS = {
    "file": stat.S_IFREG,
    "directory": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "device": stat.S_IFCHR,
    "fifo": stat.S_IFIFO,
}


def tar(members: Iterable[Member], form: int = tarfile.GNU_FORMAT) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as archive:
        for member in members:
            info = tarfile.TarInfo(member.text)
            info.type = _TAR_TYPES.get(member.kind, member.kind.encode())
            info.mode = member.mode
            info.linkname = member.target
            info.size = len(member.data)
            archive.addfile(info, io.BytesIO(member.data))
    return data.getvalue()


def pax(members: Iterable[Member]) -> bytes:
    return tar(members, tarfile.PAX_FORMAT)


def tar_gz(members: Iterable[Member]) -> bytes:
    return gzip.compress(tar(members), mtime=0)


def tar_zst(members: Iterable[Member]) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(tar(members))


class _RawZipInfo(zipfile.ZipInfo):
    """Writes names that are not UTF-8 and says that they are."""

    def _encodeFilenameFlags(self):
        return self.filename.encode("utf-8", "surrogateescape"), self.flag_bits | 0x800


def zip_(members: Iterable[Member], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(data, "w", method) as archive:
        warnings.simplefilter("ignore")  # zipfile warns of duplicates, which are wanted here
        for member in members:
            if member.kind == "hardlink":
                raise ValueError("zip has no hard links")
            name = member.text + ("/" if member.kind == "directory" else "")
            info = _RawZipInfo("x")
            # Set behind the constructor's back, which ends names at a NUL.
            info.filename = name
            info.external_attr = (_FORMS[member.kind] | member.mode) << 16
            info.compress_type = method
            archive.writestr(info, member.target.encode() if member.kind == "symlink" else member.data)
    return data.getvalue()


FORMATS = {"tar": tar, "pax": pax, "tar.gz": tar_gz, "tar.zst": tar_zst, "zip": zip_}


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def pack(*extra: Member, manifest: dict | None = None) -> bytes:
    """A `.gtpack` with an application and, behind it, `extra`."""
    document = json.dumps(manifest or PACK_JSON).encode()
    return zip_([Member("pack.json", document), Member("main.py", b"app = None\n"), *extra], zipfile.ZIP_STORED)


def bundle(*extra: Member, gtpack: bytes | None = None, manifest: dict | None = None, lock: dict | None = None):
    """The members of a sound bundle with one pack, then `extra`; `manifest` and `lock` replace some of their keys."""
    data = pack() if gtpack is None else gtpack
    summary = {key: PACK_JSON[key] for key in ("pack_id", "version", "health", "capabilities", "setup")}
    summary |= {"path": "packs/web.gtpack", "application": "asgi"}
    whole_manifest = {
        "format_version": "gtbundle-v1",
        "bundle_id": "web",
        "bundle_name": "web",
        "requested_mode": "create",
        "app_packs": ["packs/web.gtpack"],
        "version": "1.0.0",
        "entry": "web",
        "packs": [summary],
    } | (manifest or {})
    whole_lock = {
        "schema_version": 1,
        "bundle_id": "web",
        "requested_mode": "create",
        "build_format_version": "gtbundle-v1",
        "app_packs": [{"reference": "packs/web.gtpack", "digest": sha256(data)}],
    } | (lock or {})
    return [
        Member("bundle-lock.json", json.dumps(whole_lock).encode()),
        Member("bundle-manifest.json", json.dumps(whole_manifest).encode()),
        Member("packs/web.gtpack", data),
        *extra,
    ]


def without(members: list[Member], name: str) -> list[Member]:
    return [member for member in members if member.name != name]


def changed(members: list[Member], name: str, data: bytes) -> list[Member]:
    return [replace(member, data=data) if member.name == name else member for member in members]
