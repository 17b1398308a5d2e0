"""Archives that must be refused: each by its rule, in every format that can say it, leaving nothing behind."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard
from crafted import FORMATS, Member, bundle, changed, pack, tar, tar_gz, tar_zst, without, zip_

from greentic.bundles.inspect import inspect
from greentic.bundles.limits import Limits
from greentic.bundles.unpack import unpack
from greentic.bundles.verify import verify
from greentic.spec.errors import BundleError

DEFAULT = Limits()
KIB, MIB = 1024, 1024 * 1024
LONG = "n" * 256
DEEP = "/".join("d" * 65)


def refused(folder: Path, data: bytes, limits: Limits = DEFAULT) -> str:
    """The rule by which unpacking refuses `data`; verifying must find the same, and neither may leave a trace."""
    archive = folder / "hostile.gtbundle"
    archive.write_bytes(data)
    with pytest.raises(BundleError) as caught:
        unpack(archive, folder / "out", limits=limits)
    assert sorted(path.name for path in folder.iterdir()) == ["hostile.gtbundle"]
    failed = [check for check in verify(archive, limits=limits).checks if not check.ok]
    assert failed[0].rule == caught.value.details["rule"]
    return caught.value.details["rule"]


ENTRIES: dict[str, tuple[list[Member], str]] = {
    "absolute": ([Member("/etc/cron.d/x")], "absolute-path"),
    "two slashes": ([Member("//etc/x")], "absolute-path"),
    "parent": ([Member("../x")], "parent-segment"),
    "parent inside": ([Member("a/../../x")], "parent-segment"),
    "parent at the end": ([Member("a/..")], "parent-segment"),
    "parent folder": ([Member("..", kind="directory")], "parent-segment"),
    "dot": ([Member("./x")], "dot-segment"),
    "dot inside": ([Member("a/./x")], "dot-segment"),
    "empty segment": ([Member("a//x")], "empty-segment"),
    "backslash": ([Member("a\\..\\..\\x")], "backslash"),
    "UNC": ([Member("\\\\server\\share")], "backslash"),
    "drive": ([Member("C:/Windows/x")], "drive-letter"),
    "drive, relative": ([Member("c:x")], "drive-letter"),
    "line feed": ([Member("a\nb")], "control-character"),
    "escape sequence": ([Member("a\x1b[2Jb")], "control-character"),
    "delete": ([Member("a\x7f")], "control-character"),
    "C1": ([Member("a\u0085")], "control-character"),
    "not UTF-8": ([Member(b"a\xff\xfe")], "name-not-utf8"),
    "overlong UTF-8": ([Member(b"a/\xc0\xae\xc0\xae/x")], "name-not-utf8"),
    "long name": ([Member("a/" + LONG)], "name-too-long"),
    "long name in bytes": ([Member("ä" * 128)], "name-too-long"),
    "long path": ([Member("/".join(["n" * 99] * 41))], "path-too-long"),
    "deep": ([Member(DEEP)], "too-deep"),
    "apps": ([Member("apps/web/pack.json")], "reserved-path"),
    "apps, folded": ([Member("APPS/web/pack.json")], "reserved-path"),
    "duplicate": ([Member("x", b"1"), Member("x", b"2")], "duplicate"),
    "duplicate folder": ([Member("x", kind="directory"), Member("x", kind="directory")], "duplicate"),
    "duplicate manifest": ([Member("bundle-manifest.json", b"{}")], "duplicate"),
    "case": ([Member("a/README"), Member("a/readme")], "name-collision"),
    "case of a folder": ([Member("a/x"), Member("A/y")], "name-collision"),
    "case of the manifest": ([Member("Bundle-Manifest.json", b"{}")], "name-collision"),
    "normal form": ([Member("caf\u00e9"), Member("cafe\u0301")], "name-collision"),
    "sharp s": ([Member("stra\u00dfe"), Member("STRASSE")], "name-collision"),
    "Kelvin": ([Member("\u212a"), Member("k")], "name-collision"),
    "file, then folder": ([Member("a", b"1"), Member("a/b")], "file-as-directory"),
    "folder, then file": ([Member("a/b"), Member("a", b"1")], "file-as-directory"),
    "file over a folder": ([Member("a", kind="directory"), Member("a", b"1")], "file-as-directory"),
    "link": ([Member("a/l", kind="symlink", target="../bundle-lock.json")], "link"),
    "link, absolute": ([Member("l", kind="symlink", target="/etc/passwd")], "link-escape"),
    "link, relative": ([Member("a/l", kind="symlink", target="../../x")], "link-escape"),
    "link, then through it": (
        [Member("a", kind="symlink", target="/tmp"), Member("a/pwned", b"x")],
        "link-escape",
    ),
    "device": ([Member("null", kind="device")], "special-file"),
    "fifo": ([Member("pipe", kind="fifo")], "special-file"),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ENTRIES)
def test_entry(tmp_path, form, name):
    members, rule = ENTRIES[name]
    assert refused(tmp_path, FORMATS[form](bundle(*members))) == rule


@pytest.mark.parametrize(
    "name", sorted(set(ENTRIES) - {"apps", "apps, folded", "duplicate manifest", "case of the manifest"})
)
def test_entry_of_a_pack(tmp_path, name):
    members, rule = ENTRIES[name]
    assert refused(tmp_path, tar_zst(bundle(gtpack=pack(*members)))) == rule


@pytest.mark.parametrize("form", ["tar", "pax", "tar.gz", "tar.zst"])
@pytest.mark.parametrize(
    ("target", "rule"), [("bundle-lock.json", "link"), ("/etc/passwd", "link-escape"), ("../x", "link-escape")]
)
def test_hard_link(tmp_path, form, target, rule):
    assert refused(tmp_path, FORMATS[form](bundle(Member("l", kind="hardlink", target=target)))) == rule


@pytest.mark.parametrize("form", ["pax", "zip"])
def test_nul_in_a_name(tmp_path, form):
    assert refused(tmp_path, FORMATS[form](bundle(Member("a\0.txt")))) in ("control-character", "malformed")


def test_modes_are_normalised(tmp_path):
    members = bundle(
        Member("tool", b"#!", mode=0o6777),
        Member("data", b"", mode=0o007),
        Member("dir", kind="directory", mode=0o1000),
    )
    for form, write in FORMATS.items():
        (tmp_path / form).write_bytes(write(members))
        tree = unpack(tmp_path / form, tmp_path / f"{form}.out").path
        modes = {path.name: oct(path.stat().st_mode & 0o7777) for path in tree.iterdir()}
        assert modes["tool"] == "0o755"
        assert modes["data"] == modes["bundle-lock.json"] == "0o644"
        assert modes["dir"] == modes["packs"] == modes["apps"] == "0o755"
        assert oct(tree.stat().st_mode & 0o7777) == "0o755"


LIMITS: dict[str, tuple[Limits, list[Member], str]] = {
    "archive": (Limits(max_archive_bytes=500), [], "archive-too-large"),
    "entries": (Limits(max_entries=9), [Member(f"f{number}") for number in range(9)], "too-many-entries"),
    "entry": (Limits(max_entry_bytes=9_000), [Member("f", bytes(9_001))], "entry-too-large"),
    "total": (
        Limits(max_total_bytes=20_000),
        [Member(f"f{number}", bytes(5_000)) for number in range(4)],
        "total-too-large",
    ),
    "depth": (Limits(max_depth=3), [Member("a/b/c/d")], "too-deep"),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", LIMITS)
def test_limit(tmp_path, form, name):
    limits, members, rule = LIMITS[name]
    archive = tmp_path / "hostile.gtbundle"
    archive.write_bytes(FORMATS[form](bundle(*members)))
    with pytest.raises(BundleError) as caught:
        unpack(archive, tmp_path / "out", limits=limits)
    assert caught.value.details["rule"] == rule
    assert caught.value.details["limit"]
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.gtbundle"]


@pytest.mark.parametrize("form", FORMATS)
def test_limits_are_reached_and_not_passed(tmp_path, form):
    """What a bundle has is exactly what it may have; one less is too little."""
    members = bundle(Member("a/b/c", bytes(9_000)))
    (tmp_path / "a").write_bytes(FORMATS[form](members))
    info = inspect(tmp_path / "a")
    exact = {
        "max_archive_bytes": info.size_bytes,
        "max_entries": len(members) + 2,
        "max_entry_bytes": 9_000,
        "max_total_bytes": info.uncompressed_bytes,
        "max_depth": 3,
    }
    assert inspect(tmp_path / "a", limits=Limits(**exact)) == info
    for limit, value in exact.items():
        with pytest.raises(BundleError):
            inspect(tmp_path / "a", limits=Limits(**{**exact, limit: value - 1}))


def test_packs_count_toward_the_same_totals(tmp_path):
    gtpack = pack(*(Member(f"f{number}", bytes(1000)) for number in range(20)))
    data = tar_zst(bundle(gtpack=gtpack))
    assert refused(tmp_path, data, Limits(max_entries=24)) == "too-many-entries"
    assert refused(tmp_path, data, Limits(max_total_bytes=len(gtpack) + 10_000)) == "total-too-large"


@pytest.mark.parametrize("form", ["tar.gz", "tar.zst", "zip"])
def test_bomb_stops_early(tmp_path, form):
    """64 MiB of zeros: refused by ratio after about the floor, long before it is whole."""
    data = FORMATS[form](bundle(Member("zeros", bytes(64 * MIB))))
    limits = Limits(ratio_floor_bytes=MIB, max_ratio=100)
    archive = tmp_path / "bomb"
    archive.write_bytes(data)
    with pytest.raises(BundleError) as caught:
        unpack(archive, tmp_path / "out", limits=limits)
    assert caught.value.details["rule"] == "ratio-too-high"
    grown = int(caught.value.message.split(" grew to ")[1].split()[0])
    assert grown < 16 * MIB
    assert len(list(tmp_path.iterdir())) == 1


def test_bomb_in_a_pack(tmp_path):
    gtpack = zip_([Member("pack.json", b"{}"), Member("zeros", bytes(64 * MIB))])
    limits = Limits(ratio_floor_bytes=MIB, max_ratio=100)
    assert refused(tmp_path, tar(bundle(gtpack=gtpack)), limits) == "ratio-too-high"


def test_small_files_of_zeros_are_no_bomb(tmp_path):
    (tmp_path / "a").write_bytes(tar_zst(bundle(Member("zeros", bytes(8 * MIB)))))
    unpack(tmp_path / "a", tmp_path / "out")
    assert (tmp_path / "out/zeros").stat().st_size == 8 * MIB


def header(block: bytes, **fields: bytes) -> bytes:
    """A tar header with some fields replaced and its checksum made anew."""
    places = {"name": 0, "mode": 100, "size": 124, "type": 156, "magic": 257, "prefix": 345}
    data = bytearray(block)
    for field, value in fields.items():
        data[places[field] : places[field] + len(value)] = value
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def first(members: list[Member], **fields: bytes) -> bytes:
    data = tar(members)
    return header(data[:512], **fields) + data[512:]


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while len(str(length)) + len(key) + len(value) + 3 != length:
        length = len(str(length)) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (length, key, value)


PLAIN = Member("f", b"12345678")


def with_pax(records: bytes, typeflag: bytes = b"x", member: Member = PLAIN) -> bytes:
    """A bundle whose last entry follows an extended header with `records`."""
    body = _entries(tar(bundle()))
    extended = header(tar([Member("pax", records)])[:512], type=typeflag)
    padded = records + bytes(-len(records) % 512)
    return body + extended + padded + tar([member])


def _entries(data: bytes) -> bytes:
    """A tar archive without its end."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        last = archive.getmembers()[-1]
    return data[: last.offset_data + last.size + -last.size % 512]


END = bytes(1024)
SOUND = tar(bundle())
TARS: dict[str, tuple[bytes, str]] = {
    "checksum": (SOUND[:148] + b"000000\0 " + SOUND[156:], "malformed"),
    "checksum is no number": (SOUND[:148] + b"zzzzzzzz" + SOUND[156:], "malformed"),
    "damaged second header": (SOUND[:1024] + b"X" + SOUND[1025:], "malformed"),
    "no end": (_entries(SOUND), "malformed"),
    "one empty block": (_entries(SOUND) + bytes(512), "malformed"),
    "one empty block inside": (_entries(SOUND) + bytes(512) + tar([Member("x")]), "malformed"),
    "cut in a file": (SOUND[:700], "malformed"),
    "cut in a header": (SOUND[:1100], "malformed"),
    "behind the end": (_entries(SOUND) + END + b"more", "trailing-data"),
    "second archive": (SOUND + SOUND, "trailing-data"),
    "endless padding": (_entries(SOUND) + bytes(2 * MIB), "trailing-data"),
    "negative size": (first(bundle(), size=b"\xff" * 12), "malformed"),
    "negative octal size": (first(bundle(), size=b"-0000000001\0"), "malformed"),
    "huge base-256 size": (first(bundle(), size=b"\x80\0\0\0" + b"\xff" * 8), "entry-too-large"),
    "version 7": (first(bundle(), magic=bytes(8)), "unknown-format"),
    "name goes on": (first(bundle(), name=b"a\0b"), "malformed"),
    "sparse": (first(bundle(), type=b"S"), "sparse-file"),
    "contiguous": (first(bundle(), type=b"7"), "unsupported-feature"),
    "volume header": (first(bundle(), type=b"V"), "unsupported-feature"),
    "folder with content": (tar(bundle(Member("d/", b"x", kind="directory"))), "malformed"),
    "pax sparse": (with_pax(record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.name", b"x")), "sparse-file"),
    "pax size lies": (with_pax(record(b"size", b"600")), "malformed"),
    "pax size is no number": (with_pax(record(b"size", b"-1")), "malformed"),
    "pax size is huge": (with_pax(record(b"size", b"9" * 18)), "malformed"),
    "pax escapes": (with_pax(record(b"path", b"../x")), "parent-segment"),
    "pax NUL": (with_pax(record(b"path", b"a\0b")), "control-character"),
    "pax twice": (with_pax(record(b"path", b"a") + record(b"path", b"b")), "malformed"),
    "pax not UTF-8": (with_pax(record(b"hdrcharset", b"ISO-8859-1")), "unsupported-feature"),
    "pax length too long": (with_pax(b"99 path=a\n"), "malformed"),
    "pax length too short": (with_pax(b"3 path=a\n"), "malformed"),
    "pax length zero": (with_pax(b"0 path=a\n"), "malformed"),
    "pax garbage": (with_pax(b"hello"), "malformed"),
    "pax huge": (with_pax(record(b"comment", bytes(65 * KIB))), "malformed"),
    "pax global path": (with_pax(record(b"path", b"x"), b"g"), "unsupported-feature"),
    "pax link path": (
        with_pax(record(b"linkpath", b"/etc"), b"x", Member("l", kind="symlink", target="x")),
        "link-escape",
    ),
    "GNU long name escapes": (with_pax(b"../x\0", b"L"), "parent-segment"),
    "pax, then the end": (
        _entries(SOUND)
        + header(tar([Member("p", b"7 a=bc\n")])[:512], type=b"x")
        + b"7 a=bc\n".ljust(512, b"\0")
        + END,
        "malformed",
    ),
}


@pytest.mark.parametrize("name", TARS)
def test_tar(tmp_path, name):
    data, rule = TARS[name]
    assert refused(tmp_path, data) == rule


def test_pax_comments_and_times_are_read_over(tmp_path):
    for number, data in enumerate(
        (
            with_pax(record(b"comment", b"of git archive"), b"g"),
            with_pax(record(b"mtime", b"1.5") + record(b"path", "grüße".encode())),
        )
    ):
        (tmp_path / str(number)).write_bytes(data)
        unpack(tmp_path / str(number), tmp_path / f"out{number}")
    assert (tmp_path / "out1/grüße").read_bytes() == b"12345678"


ZSTD = tar_zst(bundle())
STREAMS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "unknown-format"),
    "text": (b"#!/bin/sh\nrm -rf /\n", "unknown-format"),
    "zstd of text": (zstandard.compress(b"hello " * 200), "malformed"),
    "zstd without its checksum": (ZSTD[:-4], "malformed"),
    "zstd with another checksum": (ZSTD[:-1] + bytes([ZSTD[-1] ^ 1]), "malformed"),
    "zstd magic only": (ZSTD[:4], "malformed"),
    "zstd, then more": (ZSTD + b"more", "trailing-data"),
    "zstd, then a frame": (ZSTD + ZSTD, "trailing-data"),
    "zstd window": (
        zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters.from_level(3, window_log=28))
        .compressobj()
        .compress(bytes(MIB))
        or b"\x28\xb5\x2f\xfd\x00\x90" + bytes(16),
        "unsupported-feature",
    ),
    "zstd skippable frame": (b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + ZSTD, "unknown-format"),
    "gzip cut": (tar_gz(bundle())[:-6], "malformed"),
    "gzip with another checksum": (tar_gz(bundle())[:-8] + bytes(8), "malformed"),
    "gzip, then more": (tar_gz(bundle()) + b"more", "trailing-data"),
    "gzip, then a member": (tar_gz(bundle()) + gzip.compress(b""), "trailing-data"),
    "gzip of zip": (gzip.compress(zip_(bundle())), "malformed"),
    "SquashFS magic only": (b"hsqs", "malformed"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_stream(tmp_path, name):
    data, rule = STREAMS[name]
    assert refused(tmp_path, data) == rule


ZIP = zip_(bundle(Member("f", b"content of a file" * 9)))
END_RECORD = ZIP.rindex(b"PK\5\6")
CENTRAL = ZIP.index(b"PK\1\2")
LAST_CENTRAL = ZIP.rindex(b"PK\1\2")
LAST_LOCAL = ZIP.rindex(b"PK\3\4")


def patched(offset: int, value: bytes, data: bytes = ZIP) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


def overlapping() -> bytes:
    """An entry whose content is another entry, header and all, as in the bomb that quotes its files."""
    quoted = zip_([Member("g2", b"content")], zipfile.ZIP_STORED)
    quoted = quoted[: quoted.index(b"PK\1\2")]
    data = zip_([*bundle(), Member("g1", quoted), Member("g2", b"content")], zipfile.ZIP_STORED)
    return patched(data.rindex(b"PK\1\2") + 42, struct.pack("<L", data.index(quoted)), data)


def with_local_name(name: bytes) -> bytes:
    return patched(LAST_LOCAL + 30, name)


ZIPS: dict[str, tuple[bytes, str]] = {
    "no end": (ZIP[:END_RECORD], "malformed"),
    "cut": (ZIP[:-1], "malformed"),
    "prefix": (b"PK\3\4" + ZIP, "trailing-data"),
    "behind the end": (ZIP + b"x", "trailing-data"),
    "more entries than said": (patched(END_RECORD + 8, b"\3\0\3\0"), "malformed"),
    "fewer entries than said": (patched(END_RECORD + 8, b"\5\0\5\0"), "malformed"),
    "several disks": (patched(END_RECORD + 4, b"\1\0"), "unsupported-feature"),
    "ZIP64": (patched(END_RECORD + 8, b"\xff\xff\xff\xff"), "unsupported-feature"),
    "ZIP64 locator": (
        ZIP[:END_RECORD] + b"PK\6\7" + bytes(16) + ZIP[END_RECORD:],
        "unsupported-feature",
    ),
    "directory elsewhere": (patched(END_RECORD + 16, struct.pack("<L", CENTRAL - 1)), "trailing-data"),
    "encrypted": (patched(LAST_CENTRAL + 8, b"\1\0"), "encrypted"),
    "strongly encrypted": (patched(LAST_CENTRAL + 8, b"\x41\0"), "encrypted"),
    "bzip2": (patched(LAST_CENTRAL + 10, b"\x0c\0"), "unsupported-feature"),
    "two names": (with_local_name(b"e"), "malformed"),
    "no local header": (patched(LAST_LOCAL, b"PK\3\5"), "malformed"),
    "another checksum": (patched(LAST_CENTRAL + 16, b"\0\0\0\0"), "malformed"),
    "smaller than said": (patched(LAST_CENTRAL + 24, struct.pack("<L", 9999)), "malformed"),
    "larger than said": (patched(LAST_CENTRAL + 24, struct.pack("<L", 3)), "malformed"),
    "stored with two sizes": (patched(LAST_CENTRAL + 10, b"\0\0"), "malformed"),
    "overlap": (overlapping(), "malformed"),
    "reaches into the directory": (patched(LAST_CENTRAL + 20, struct.pack("<L", 9999)), "malformed"),
    "folder with content": (patched(LAST_CENTRAL + 40, b"\xed\x41"), "malformed"),
    "damaged data": (patched(LAST_LOCAL + 31, b"\xff\xff\xff"), "malformed"),
}


@pytest.mark.parametrize("name", ZIPS)
def test_zip(tmp_path, name):
    data, rule = ZIPS[name]
    assert refused(tmp_path, data) == rule


def test_zip_with_a_comment(tmp_path):
    data = io.BytesIO(ZIP)
    with zipfile.ZipFile(data, "a") as archive:
        archive.comment = b"made by hand"
    (tmp_path / "a").write_bytes(data.getvalue())
    unpack(tmp_path / "a", tmp_path / "out")


def test_zip_directory_that_claims_a_million_entries(tmp_path):
    """The count is judged before any list of them is made."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", *[0] * 4, *[0] * 4, 0, 0, 0, 1, *[0] * 4, 0, 0) + b"f"
    count = 60_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(entry) * count, 4, 0)
    data = b"PK\3\4" + entry * count + end
    assert refused(tmp_path, data, Limits(max_entries=50_000)) == "too-many-entries"


SAYS: dict[str, tuple[list[Member], str]] = {
    "no manifest": (without(bundle(), "bundle-manifest.json"), "manifest-missing"),
    "no lock": (without(bundle(), "bundle-lock.json"), "manifest-missing"),
    "manifest is a folder": (
        [*without(bundle(), "bundle-manifest.json"), Member("bundle-manifest.json/x")],
        "manifest-missing",
    ),
    "manifest is no JSON": (changed(bundle(), "bundle-manifest.json", b"{"), "manifest-invalid"),
    "manifest is a list": (changed(bundle(), "bundle-manifest.json", b"[]"), "manifest-invalid"),
    "manifest not UTF-8": (changed(bundle(), "bundle-manifest.json", b'{"a":"\xff"}'), "manifest-invalid"),
    "manifest with a key twice": (
        changed(bundle(), "bundle-manifest.json", b'{"bundle_id":"x",' + bundle()[1].data[1:]),
        "manifest-invalid",
    ),
    "manifest nested": (changed(bundle(), "bundle-manifest.json", b"[" * 100_000), "manifest-invalid"),
    "manifest with NaN": (changed(bundle(), "bundle-manifest.json", b'{"a":NaN}'), "manifest-invalid"),
    "manifest too large": (changed(bundle(), "bundle-manifest.json", b" " * (5 * MIB)), "manifest-invalid"),
    "lone surrogate": (bundle(manifest={"bundle_name": "\ud800"}), "manifest-invalid"),
    "another format": (bundle(manifest={"format_version": "gtbundle-v2"}), "manifest-invalid"),
    "another lock format": (bundle(lock={"schema_version": 2}), "manifest-invalid"),
    "two ids": (bundle(lock={"bundle_id": "other"}), "lock-mismatch"),
    "two modes": (bundle(lock={"requested_mode": "update"}), "lock-mismatch"),
    "lock without packs": (bundle(lock={"app_packs": []}), "lock-mismatch"),
    "a provider that is not locked": (bundle(manifest={"extension_providers": ["p.gtpack"]}), "lock-mismatch"),
    "entry is no pack": (bundle(manifest={"entry": "other"}), "lock-mismatch"),
    "pack is missing": (without(bundle(), "packs/web.gtpack"), "pack-missing"),
    "pack changed": (changed(bundle(), "packs/web.gtpack", pack(Member("more"))), "pack-digest-mismatch"),
    "pack not listed": (bundle(Member("packs/extra.gtpack", pack())), "pack-unlisted"),
    "no digest": (bundle(lock={"app_packs": [{"reference": "packs/web.gtpack"}]}), "pack-digest-missing"),
    "digest is none": (
        bundle(lock={"app_packs": [{"reference": "packs/web.gtpack", "digest": "sha256:00"}]}),
        "manifest-invalid",
    ),
    "downgraded to a reference bundle": (
        bundle(manifest={"packs": [], "entry": None}, lock={"app_packs": [{"reference": "packs/web.gtpack"}]}),
        "pack-digest-missing",
    ),
    "reference climbs": (
        bundle(
            manifest={"app_packs": ["../../etc/web.gtpack"], "packs": []},
            lock={"app_packs": [{"reference": "../../etc/web.gtpack"}]},
        ),
        "lock-mismatch",
    ),
    "pack is no zip": (bundle(gtpack=b"hello"), "unknown-format"),
    "pack of another id": (
        bundle(
            gtpack=zip_(
                [Member("pack.json", b'{"pack_id":"x","version":"1.0.0","application":{"kind":"asgi","app":"a:b"}}')]
            )
        ),
        "manifest-invalid",
    ),
    "pack of an unknown kind": (
        bundle(
            gtpack=zip_([Member("pack.json", b'{"pack_id":"web","version":"1.0.0","application":{"kind":"wasm"}}')])
        ),
        "manifest-invalid",
    ),
    "pack without an application": (
        bundle(gtpack=zip_([Member("pack.json", b'{"pack_id":"web","version":"1.0.0"}')])),
        "manifest-invalid",
    ),
    "manifest and pack differ": (
        bundle(
            gtpack=zip_(
                [Member("pack.json", b'{"pack_id":"web","version":"1.0.1","application":{"kind":"asgi","app":"a:b"}}')]
            )
        ),
        "lock-mismatch",
    ),
    "two packs of one id": (
        bundle(
            Member("packs/sub/WEB.gtpack", pack()),
            manifest={"packs": [], "entry": None},
        ),
        "name-collision",
    ),
    "id of a pack climbs": (
        bundle(
            Member("packs/..gtpack", zip_([Member("manifest.cbor")])),
            manifest={"packs": [], "entry": None},
        ),
        "manifest-invalid",
    ),
    "no pack": (
        without(
            bundle(manifest={"packs": [], "app_packs": [], "entry": None}, lock={"app_packs": []}), "packs/web.gtpack"
        ),
        "pack-missing",
    ),
}


@pytest.mark.parametrize("name", SAYS)
def test_what_a_bundle_says_of_itself(tmp_path, name):
    members, rule = SAYS[name]
    assert refused(tmp_path, tar(members)) == rule


def test_unknown_kind_names_the_kinds_known(tmp_path):
    data = tar(SAYS["pack of an unknown kind"][0])
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(BundleError, match=r"unknown kind 'wasm'; known kinds: 'asgi', 'process'"):
        unpack(tmp_path / "a", tmp_path / "out")


@pytest.mark.parametrize("form", FORMATS)
def test_the_sound_bundle_is_accepted(tmp_path, form):
    """The other tests refuse what they add to this one."""
    (tmp_path / "a").write_bytes(FORMATS[form](bundle(Member("d", kind="directory"), Member("d/e/f", b"f"))))
    unpacked = unpack(tmp_path / "a", tmp_path / "out")
    assert unpacked.entry.pack_id == "web"
    assert (tmp_path / "out/d/e/f").read_bytes() == b"f"
    assert verify(tmp_path / "a").ok


def test_hard_links_of_zip_do_not_exist():
    with pytest.raises(ValueError, match="no hard links"):
        zip_([Member("l", kind="hardlink")])
