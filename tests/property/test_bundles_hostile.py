"""Whatever an archive says, nothing appears outside its destination, and every refusal is of the family of errors."""

from __future__ import annotations

import functools
import gzip
import io
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path

import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from greentic.bundles.build import build
from greentic.bundles.inspect import inspect
from greentic.bundles.limits import Limits
from greentic.bundles.scaffold import init
from greentic.bundles.unpack import unpack
from greentic.bundles.verify import verify
from greentic.spec.errors import BundleError, GreenticError

DEFAULT = Limits()
IMAGES = Path(__file__).parents[1] / "unit/bundles/data"

SEGMENTS = st.one_of(
    st.sampled_from(
        ["..", ".", "", "a", "A", "b", "packs", "apps", "é", "e\u0301", "c:", "\\", "..\\..", "~", "x" * 256]
    ),
    st.text(max_size=6),
)
NAMES = st.builds(
    lambda parts, lead: lead + "/".join(parts),
    st.lists(SEGMENTS, min_size=1, max_size=5),
    st.sampled_from(["", "", "/", "//"]),
)
KINDS = st.sampled_from(["file", "file", "file", "directory", "symlink", "hardlink", "fifo"])
TYPES = {
    "file": tarfile.REGTYPE,
    "directory": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
}
ENTRIES = st.lists(st.tuples(NAMES, KINDS, NAMES, st.binary(max_size=20)), min_size=1, max_size=6)


@functools.cache
def sound() -> dict[str, bytes]:
    """A sound bundle in every format that tests can write, and two images."""
    with tempfile.TemporaryDirectory() as scratch:
        init(Path(scratch) / "s", "web")
        built = build(Path(scratch) / "s", Path(scratch) / "b").path.read_bytes()
    plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(built)).read()
    zipped = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(plain)) as archive,
        zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as other,
    ):
        for member in archive:
            other.writestr(member.name, archive.extractfile(member).read())
    return {
        "tar.zst": built,
        "tar": plain.rstrip(b"\0") + bytes(1024 + 512 - len(plain.rstrip(b"\0")) % 512),
        "tar.gz": gzip.compress(plain, mtime=0),
        "zip": zipped.getvalue(),
        "squashfs gzip": (IMAGES / "reference-gzip.squashfs").read_bytes(),
        "squashfs xz": (IMAGES / "reference-xz.squashfs").read_bytes(),
        "squashfs zstd": (IMAGES / "reference-zstd.squashfs").read_bytes(),
        "squashfs plain": (IMAGES / "loop.squashfs").read_bytes(),
    }


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def attempt(data: bytes, limits: Limits = DEFAULT) -> bool:
    """Unpacks `data` deep inside a private folder; whether it was accepted. Anything but a typed error propagates."""
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        inner = base / "1/2/3"
        inner.mkdir(parents=True)
        archive = inner / "archive"
        archive.write_bytes(data)
        before = tree(base)
        try:
            unpack(archive, inner / "out", limits=limits)
            accepted = True
        except GreenticError:
            accepted = False
        after = tree(base)
        outside = {path: content for path, content in after.items() if not f"{path}/".startswith("1/2/3/out/")}
        assert outside == before
        assert (inner / "out").exists() is accepted
        for path in (inner / "out").rglob("*"):
            assert not path.is_symlink()
            assert path.is_dir() or path.is_file()
            assert path.stat().st_nlink == 1 or path.is_dir()
        assert verify(archive, limits=limits).ok is accepted
        try:
            inspect(archive, limits=limits)
            assert accepted
        except BundleError:
            assert not accepted
        return accepted


def as_tar(entries, form=tarfile.PAX_FORMAT) -> bytes:
    data = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sound()["tar"])) as base,
        tarfile.open(fileobj=data, mode="w", format=form, errors="surrogateescape") as archive,
    ):
        for member in base:
            archive.addfile(member, base.extractfile(member))
        for name, kind, target, content in entries:
            info = tarfile.TarInfo(name)
            info.type = TYPES[kind]
            info.linkname = target
            info.size = len(content) if kind == "file" else 0
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def as_zip(entries) -> bytes:
    data = io.BytesIO(sound()["zip"])
    forms = {"directory": 0o040755, "symlink": 0o120777, "fifo": 0o010644}
    with warnings.catch_warnings(), zipfile.ZipFile(data, "a") as archive:
        warnings.simplefilter("ignore")
        for name, kind, target, content in entries:
            info = zipfile.ZipInfo("x")
            info.filename = name + ("/" if kind == "directory" else "")
            info.external_attr = forms.get(kind, 0o100644) << 16
            archive.writestr(info, target if kind == "symlink" else b"" if kind == "directory" else content)
    return data.getvalue()


TEXT = st.text(st.characters(codec="utf-8"), max_size=5)


@settings(max_examples=40, deadline=None)
@given(ENTRIES)
def test_no_name_escapes_from_a_tar(entries):
    attempt(as_tar(entries))


@settings(max_examples=25, deadline=None)
@given(ENTRIES)
def test_no_name_escapes_from_a_gnu_tar(entries):
    attempt(gzip.compress(as_tar(entries, tarfile.GNU_FORMAT)))


@settings(max_examples=40, deadline=None)
@given(ENTRIES)
def test_no_name_escapes_from_a_zip(entries):
    attempt(as_zip(entries))


def judged_alike(entries) -> tuple[bool, bool]:
    return attempt(as_tar(entries)), attempt(as_zip(entries))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(
            NAMES.filter(lambda name: "\0" not in name and not name.endswith("/")),
            st.just("file"),
            st.just(""),
            st.binary(max_size=20),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_formats_are_judged_alike(entries):
    tar, zipped = judged_alike(entries)
    assert tar is zipped


def mutated(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for place, value in changes:
        changed[place % len(changed)] = value
    return bytes(changed)


CHANGES = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=4)
FORMS = st.sampled_from(
    ["tar.zst", "tar", "tar.gz", "zip", "squashfs gzip", "squashfs xz", "squashfs zstd", "squashfs plain"]
)
SMALL = Limits(
    max_entries=200, max_entry_bytes=1 << 20, max_total_bytes=1 << 22, ratio_floor_bytes=1 << 20, max_depth=8
)


@settings(max_examples=120, deadline=None)
@given(FORMS, CHANGES)
def test_corruption_gives_a_typed_error_or_the_same_content(form, changes):
    attempt(mutated(sound()[form], changes), SMALL)


@settings(max_examples=50, deadline=None)
@given(FORMS, st.integers(0, 2**20))
def test_truncation_is_always_refused(form, place):
    data = sound()[form]
    assert not attempt(data[: place % len(data)], SMALL)


@settings(max_examples=30, deadline=None)
@given(CHANGES)
def test_a_corrupted_bundle_of_ours_never_gives_other_content(changes):
    """The frame's checksum and the lock's digests cover every byte that becomes content."""
    data = mutated(sound()["tar.zst"], changes)
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        (base / "good").write_bytes(sound()["tar.zst"])
        (base / "bad").write_bytes(data)
        unpack(base / "good", base / "expected")
        try:
            unpack(base / "bad", base / "out")
        except BundleError:
            return
        assert tree(base / "out") == tree(base / "expected")


@settings(max_examples=30, deadline=None)
@given(
    st.binary(max_size=2000),
    st.sampled_from([b"", b"PK\3\4", b"hsqs", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"PK\5\6"]),
)
def test_noise_is_refused(data, magic):
    assert not attempt(magic + data, SMALL)


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=300))
def test_noise_in_bundle_yaml_is_refused(data):
    with tempfile.TemporaryDirectory() as scratch:
        init(Path(scratch) / "s", "web")
        for name in ("bundle.yaml", "packs/web/pack.yaml"):
            path = Path(scratch) / "s" / name
            before = path.read_bytes()
            path.write_bytes(data)
            try:
                build(Path(scratch) / "s", Path(scratch) / "b")
            except GreenticError:
                assert [item.name for item in Path(scratch).iterdir()] == ["s"]
            path.write_bytes(before)
