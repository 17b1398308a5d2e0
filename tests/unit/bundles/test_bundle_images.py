"""SquashFS images, made by mksquashfs (see data/make_images.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from greentic.bundles.inspect import inspect
from greentic.bundles.limits import Limits
from greentic.bundles.unpack import load, unpack
from greentic.bundles.verify import verify
from greentic.spec.errors import BundleError, GreenticError

DATA = Path(__file__).parent / "data"
SOUND = ["reference-gzip", "reference-xz", "reference-zstd"]


def image(name: str) -> Path:
    return DATA / f"{name}.squashfs"


@pytest.mark.parametrize("name", SOUND)
def test_a_reference_image(tmp_path, name):
    unpacked = unpack(image(name), tmp_path / "out")
    assert unpacked.manifest.bundle_id == "demo"
    assert [pack.pack_id for pack in unpacked.packs] == ["hello"]
    assert load(tmp_path / "out").packs == unpacked.packs
    assert (tmp_path / "out/assets/large.txt").read_text() == "a line of an asset\n" * 20_000
    assert (tmp_path / "out/apps/hello/flows/main.ygtc").read_text() == "id: main\n" * 50
    assert (tmp_path / "out/apps/hello/assets/empty").read_bytes() == b""
    assert (tmp_path / "out/providers/messaging/telegram.gtpack").exists()
    assert oct((tmp_path / "out/assets/run.sh").stat().st_mode & 0o7777) == "0o755"
    assert oct((tmp_path / "out/assets/large.txt").stat().st_mode & 0o7777) == "0o644"
    report = verify(image(name), expected_digest=unpacked.digest)
    assert report.ok
    assert [check.name for check in report.warnings] == ["digest of packs/hello.gtpack", "entry"]
    info = inspect(image(name))
    assert info.format == "squashfs"
    assert info.bundle_name == "Demo"


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("link-inside", "link"),
        ("link-escape", "link-escape"),
        ("device", "special-file"),
        ("fifo", "special-file"),
        ("loop", "too-deep"),
        ("sparse-bomb", "ratio-too-high"),
        ("reference-lzo", "unsupported-feature"),
    ],
)
def test_hostile_images(tmp_path, name, rule):
    with pytest.raises(BundleError) as caught:
        unpack(image(name), tmp_path / "out")
    assert caught.value.details["rule"] == rule
    assert list(tmp_path.iterdir()) == []


LIMITS = {
    "too-many-entries": Limits(max_entries=8),
    "entry-too-large": Limits(max_entry_bytes=300_000),
    "total-too-large": Limits(max_total_bytes=300_000),
    "ratio-too-high": Limits(max_ratio=10, ratio_floor_bytes=1),
    "too-deep": Limits(max_depth=2),
    "archive-too-large": Limits(max_archive_bytes=1000),
}


@pytest.mark.parametrize("rule", LIMITS)
@pytest.mark.parametrize("name", SOUND)
def test_limits(tmp_path, name, rule):
    with pytest.raises(BundleError) as caught:
        unpack(image(name), tmp_path / "out", limits=LIMITS[rule])
    assert caught.value.details["rule"] == rule
    assert list(tmp_path.iterdir()) == []


def test_padding_and_what_stands_behind(tmp_path):
    data = image("reference-gzip").read_bytes()
    (tmp_path / "padded").write_bytes(data + bytes(4096))
    unpack(tmp_path / "padded", tmp_path / "out")
    for more in (b"x", bytes(2 * 1024 * 1024)):
        (tmp_path / "more").write_bytes(data + more)
        with pytest.raises(BundleError) as caught:
            unpack(tmp_path / "more", tmp_path / "none")
        assert caught.value.details["rule"] == "trailing-data"


def test_every_truncation_is_refused(tmp_path):
    data = image("reference-zstd").read_bytes()
    for length in range(0, len(data), 17):
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(BundleError):
            unpack(tmp_path / "cut", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]


@pytest.mark.parametrize("name", ["reference-xz", "loop"])
def test_the_superblock_with_every_field_extreme(tmp_path, name):
    """Sizes, counts and offsets that an honest writer never says."""
    data = image(name).read_bytes()
    for offset in range(4, 96, 2):
        for value in (b"\0\0", b"\xff\xff", b"\xff\x7f"):
            (tmp_path / "a").write_bytes(data[:offset] + value + data[offset + 2 :])
            try:
                unpack(tmp_path / "a", tmp_path / "out").path.rename(tmp_path / f"ok{offset}{value.hex()}")
            except GreenticError:
                assert not (tmp_path / "out").exists()
    assert all(path.name.startswith(("a", "ok")) for path in tmp_path.iterdir())
