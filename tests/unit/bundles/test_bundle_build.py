"""Building: same source, same bytes; whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from greentic.bundles.build import build
from greentic.bundles.digests import digest_file
from greentic.bundles.scaffold import init
from greentic.bundles.unpack import unpack
from greentic.spec.errors import GreenticError, InputOutput, InvalidArgument, NotFound


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    init(folder, "helpdesk")
    pack = folder / "packs/helpdesk"
    (pack / "lib/ärger").mkdir(parents=True)
    (pack / "lib/ärger/naïve file.txt").write_text("x")
    (pack / "lib/tool").write_text("#!/bin/sh\n")
    (pack / "lib/tool").chmod(0o755)
    (pack / "B").write_bytes(bytes(range(256)) * 100)
    return folder


def test_what_the_archive_holds(source, tmp_path):
    built = build(source, tmp_path / "b.gtbundle")
    data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(built.path.read_bytes())).read()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
        lock, manifest, gtpack = (archive.extractfile(member).read() for member in members)
    assert [member.name for member in members] == [
        "bundle-lock.json",
        "bundle-manifest.json",
        "packs/helpdesk.gtpack",
    ]
    for member in members:
        assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
        assert member.mode == 0o644
    assert json.loads(manifest)["packs"][0]["application"] == "asgi"
    assert json.loads(manifest)["format_version"] == "gtbundle-v1"
    assert json.loads(lock)["app_packs"] == [{"reference": "packs/helpdesk.gtpack", "digest": built.packs[0].digest}]
    assert b"tool_version" not in lock
    with zipfile.ZipFile(io.BytesIO(gtpack)) as archive:
        infos = archive.infolist()
        assert archive.testzip() is None
    assert [info.filename for info in infos] == [
        "B",
        "lib/tool",
        "lib/ärger/naïve file.txt",
        "main.py",
        "pack.json",
    ]
    for info in infos:
        assert info.date_time == (1980, 1, 1, 0, 0, 0)
        assert info.compress_type == zipfile.ZIP_STORED
        assert oct(info.external_attr >> 16) == ("0o100755" if info.filename == "lib/tool" else "0o100644")


def test_what_is_returned(source, tmp_path):
    built = build(source, tmp_path / "b.gtbundle")
    assert built.digest == digest_file(built.path)
    assert built.size_bytes == built.path.stat().st_size
    assert (built.bundle_id, built.version) == ("helpdesk", "0.1.0")
    assert [(pack.pack_id, pack.version, pack.path) for pack in built.packs] == [
        ("helpdesk", "0.1.0", "packs/helpdesk.gtpack")
    ]
    unpacked = unpack(built.path, tmp_path / "out", expected_digest=built.digest)
    archive = unpacked.path / unpacked.packs[0].archive
    assert unpacked.packs[0].digest == built.packs[0].digest == digest_file(archive)
    assert built.packs[0].size_bytes == archive.stat().st_size


BUILD = "import sys; from greentic.bundles.build import build; print(build(sys.argv[1], sys.argv[2]).digest)"


def test_bytes_do_not_depend_on_the_surroundings(source, tmp_path):
    """Another umask, locale, time zone, working directory, hash seed, place with a space, and copy with other times."""
    here = build(source, tmp_path / "here").digest
    place = tmp_path / "other plàce" / "x"
    shutil.copytree(source, place)
    for number, path in enumerate(sorted(place.rglob("*"), reverse=True)):
        os.utime(path, (number * 1000, number * 1000))
        if path.is_file() and path.name != "tool":
            path.chmod(0o600)
    (place / "packs/helpdesk/lib/tool").chmod(0o711)
    for variables in (
        {"LC_ALL": "C", "TZ": "UTC", "PYTHONHASHSEED": "1"},
        {"LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "2", "SOURCE_DATE_EPOCH": "1", "PYTHONUTF8": "0"},
    ):
        done = subprocess.run(
            [sys.executable, "-c", BUILD, str(place), str(tmp_path / "there")],
            env={"PATH": os.environ["PATH"], "USER": "nobody", **variables},
            cwd=place.parent,
            umask=0o077,
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == here


def test_golden_digest(tmp_path):
    """A change of what is written, unnoticed otherwise, changes the identity of every bundle."""
    folder = tmp_path / "s"
    pack = folder / "packs/web"
    pack.mkdir(parents=True)
    (folder / "bundle.yaml").write_text("bundle_id: web\nversion: 1.0.0\n")
    (pack / "pack.yaml").write_text(
        "pack_id: web\nversion: 1.0.0\napplication: {kind: asgi, app: main:app}\ncapabilities: [secrets]\n"
    )
    (pack / "main.py").write_text("app = None\n")
    built = build(folder, tmp_path / "b")
    assert built.packs[0].digest == "sha256:0be2e390a1ce84a2a043d019e62b8d4bf78b8307c08b8525d3dab1c1ab9470e3"
    data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(built.path.read_bytes())).read()
    # Of the tar inside: the bytes around it are those of the zstd at hand.
    assert hashlib.sha256(data).hexdigest() == "399a23b473293890ce5bf6010d2daf00cfc964db0aaa2da18c7f8709df6cbd20"


def test_default_output(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert build(Path("source")).path == tmp_path / "helpdesk-0.1.0.gtbundle"


def test_the_file_is_replaced_and_has_the_mode_of_new_files(source, tmp_path):
    output = tmp_path / "out/b.gtbundle"
    output.parent.mkdir()
    output.write_text("old")
    mask = os.umask(0o027)
    try:
        build(source, output)
    finally:
        os.umask(mask)
    assert oct(output.stat().st_mode & 0o777) == "0o640"
    assert [path.name for path in output.parent.iterdir()] == ["b.gtbundle"]


def test_failure_leaves_what_was_there(source, tmp_path):
    output = tmp_path / "out/b.gtbundle"
    output.parent.mkdir()
    output.write_text("old")
    (source / "packs/helpdesk/pack.yaml").write_text("x")
    with pytest.raises(InvalidArgument):
        build(source, output)
    assert output.read_text() == "old"
    assert len(list(output.parent.iterdir())) == 1


def test_what_could_not_be_unpacked_is_not_built(source, tmp_path):
    """A file that compresses like a bomb is refused when it is built, not when it is deployed."""
    with (source / "packs/helpdesk/zeros").open("wb") as file:
        file.truncate(20 * 1024 * 1024)
    with pytest.raises(InvalidArgument) as caught:
        build(source, tmp_path / "b")
    assert caught.value.details["rule"] == "ratio-too-high"
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_outputs_that_cannot_be(source, tmp_path):
    with pytest.raises(NotFound):
        build(source, tmp_path / "nowhere/b")
    with pytest.raises(InvalidArgument):
        build(source, tmp_path)
    with pytest.raises(InvalidArgument, match="inside a pack"):
        build(source, source / "packs/helpdesk/b")
    build(source, source / "b.gtbundle")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(source, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir(mode=0o500)
    with pytest.raises(InputOutput):
        build(source, folder / "b")


def test_unreadable_output_folder_is_typed(source):
    with pytest.raises(GreenticError):
        build(source, Path("/proc/b.gtbundle"))
