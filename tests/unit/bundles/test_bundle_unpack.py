"""Unpacking, reading what was unpacked, verifying and inspecting; with sound bundles."""

from __future__ import annotations

import os
import threading

import pytest
from crafted import Member, bundle, pack, sha256, tar, tar_zst, zip_

from greentic.bundles import snapshot as snapshots
from greentic.bundles.build import build
from greentic.bundles.digests import digest_file
from greentic.bundles.inspect import inspect
from greentic.bundles.limits import Limits
from greentic.bundles.manifest import AsgiApplication
from greentic.bundles.placement import new_file, new_folder
from greentic.bundles.scaffold import init
from greentic.bundles.unpack import load, unpack
from greentic.bundles.verify import verify
from greentic.spec.errors import BundleError, Conflict, InputOutput, InvalidArgument, NotFound


@pytest.fixture
def built(tmp_path):
    init(tmp_path / "source", "helpdesk")
    return build(tmp_path / "source", tmp_path / "helpdesk.gtbundle")


def test_tree(built, tmp_path):
    unpacked = unpack(built.path, tmp_path / "out")
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")) == [
        "apps",
        "apps/helpdesk",
        "apps/helpdesk/main.py",
        "apps/helpdesk/pack.json",
        "bundle-lock.json",
        "bundle-manifest.json",
        "packs",
        "packs/helpdesk.gtpack",
    ]
    assert unpacked.path == tmp_path / "out"
    assert unpacked.digest == built.digest
    entry = unpacked.entry
    assert entry.directory == tmp_path / "out/apps/helpdesk"
    assert entry.archive == "packs/helpdesk.gtpack"
    assert entry.manifest.application == AsgiApplication(app="main:app")
    source = tmp_path / "source/packs/helpdesk/main.py"
    assert (entry.directory / "main.py").read_bytes() == source.read_bytes()


def test_load(built, tmp_path):
    unpacked = unpack(built.path, tmp_path / "out")
    loaded = load(tmp_path / "out")
    assert loaded.packs == unpacked.packs
    assert loaded.manifest == unpacked.manifest
    assert loaded.entry == unpacked.entry
    assert loaded.digest is None


def test_load_of_what_is_damaged(built, tmp_path):
    with pytest.raises(NotFound):
        load(tmp_path / "out")
    unpack(built.path, tmp_path / "out")
    (tmp_path / "out/apps/helpdesk/pack.json").write_text("{}")
    with pytest.raises(BundleError):
        load(tmp_path / "out")
    (tmp_path / "out/apps/helpdesk").rename(tmp_path / "out/apps/other")
    with pytest.raises(BundleError) as caught:
        load(tmp_path / "out")
    assert caught.value.details["rule"] == "pack-missing"
    (tmp_path / "out/bundle-lock.json").unlink()
    with pytest.raises(BundleError) as caught:
        load(tmp_path / "out")
    assert caught.value.details["rule"] == "manifest-missing"


def test_digest(built, tmp_path):
    with pytest.raises(BundleError) as caught:
        unpack(built.path, tmp_path / "out", expected_digest="sha256:" + "0" * 64)
    assert caught.value.details == {
        "rule": "digest-mismatch",
        "expected": "sha256:" + "0" * 64,
        "actual": built.digest,
    }
    for wrong in ("", built.digest.upper(), built.digest[7:], built.digest + "\n"):
        with pytest.raises(InvalidArgument):
            unpack(built.path, tmp_path / "out", expected_digest=wrong)
    assert not (tmp_path / "out").exists()
    unpack(built.path, tmp_path / "out", expected_digest=built.digest)


@pytest.mark.parametrize("kind", ["folder", "file", "link", "full folder"])
def test_destination_exists(built, tmp_path, kind):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("x")
    elif kind == "link":
        out.symlink_to("nowhere")
    else:
        out.mkdir()
        if kind == "full folder":
            (out / "x").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Conflict):
        unpack(built.path, out)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_no_archive(tmp_path):
    with pytest.raises(NotFound):
        unpack(tmp_path / "missing", tmp_path / "out")
    with pytest.raises(InvalidArgument):
        unpack(tmp_path, tmp_path / "out")
    os.mkfifo(tmp_path / "fifo")
    for use in (lambda path: unpack(path, tmp_path / "out"), verify, inspect):
        with pytest.raises(InvalidArgument):
            use(tmp_path / "fifo")
    (tmp_path / "a").write_bytes(tar(bundle()))
    with pytest.raises(NotFound):
        unpack(tmp_path / "a", tmp_path / "nowhere/out")
    with pytest.raises(NotFound):
        digest_file(tmp_path / "missing")
    with pytest.raises(InputOutput):
        digest_file(tmp_path)


def test_names_beyond_the_path_limit_are_typed(tmp_path):
    """4096 bytes are admitted; below a destination they are more than the system takes."""
    path = "/".join(["n" * 99] * 40 + ["m" * 96])
    assert len(path) == 4096
    (tmp_path / "a").write_bytes(tar(bundle(Member(path))))
    with pytest.raises(InputOutput):
        unpack(tmp_path / "a", tmp_path / "out")
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


class Interrupted(BaseException):
    """Stands for KeyboardInterrupt, which pytest itself listens to."""


def test_an_interrupt_leaves_nothing(tmp_path):

    def fill_folder():
        with new_folder(tmp_path / "out") as folder:
            (folder / "x").write_text("x")
            raise Interrupted

    def fill_file():
        with new_file(tmp_path / "file") as file:
            file.write(b"x")
            raise Interrupted

    for fill in (fill_folder, fill_file):
        with pytest.raises(Interrupted):
            fill()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_private_until_it_is_whole(tmp_path):
    with new_folder(tmp_path / "out") as folder:
        assert oct(folder.stat().st_mode & 0o777) == "0o700"
        assert not (tmp_path / "out").exists()
    assert oct((tmp_path / "out").stat().st_mode & 0o777) == "0o755"


def test_a_destination_that_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(Conflict), new_folder(tmp_path / "out"):
        (tmp_path / "out").write_text("mine")
    assert (tmp_path / "out").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_judged_is_what_was_hashed(built, tmp_path):
    """The file is overwritten in place after it was copied; digest and content stay those of the copy."""
    original = built.path.read_bytes()
    with snapshots.snapshot(built.path, Limits()) as held:
        with built.path.open("r+b") as file:
            file.write(b"X" * len(original))
        assert held.file.read() == original
        assert held.digest == built.digest


def test_concurrent_unpacking_gives_one_winner(built, tmp_path):
    outcomes = []

    def run():
        try:
            outcomes.append(unpack(built.path, tmp_path / "out").digest)
        except (Conflict, InputOutput) as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(built.digest) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["helpdesk.gtbundle", "out", "source"]
    assert load(tmp_path / "out").entry.pack_id == "helpdesk"


def reference_pack() -> bytes:
    return zip_([Member("manifest.cbor", b"\xa0"), Member("flows/main.ygtc", b"id: main\n")])


def reference_bundle(*extra: Member, references=("packs/web.gtpack",)):
    """Without versions, summaries and digests, as the reference writes them."""
    return bundle(
        *extra,
        gtpack=reference_pack(),
        manifest={"packs": [], "entry": None, "version": None, "app_packs": list(references)},
        lock={"app_packs": [{"reference": reference} for reference in references]},
    )


def test_a_reference_bundle(tmp_path):
    (tmp_path / "a").write_bytes(tar_zst(reference_bundle()))
    unpacked = unpack(tmp_path / "a", tmp_path / "out")
    assert [(item.pack_id, item.version, item.manifest.application) for item in unpacked.packs] == [
        ("web", "0.0.0", None)
    ]
    assert (unpacked.packs[0].directory / "flows/main.ygtc").exists()
    assert load(tmp_path / "out").packs == unpacked.packs
    with pytest.raises(BundleError) as caught:
        _ = unpacked.entry
    assert caught.value.details == {"rule": "no-entry", "candidates": []}
    report = verify(tmp_path / "a")
    assert report.ok
    assert [check.name for check in report.warnings] == ["digest of packs/web.gtpack", "entry"]
    info = inspect(tmp_path / "a")
    assert (info.version, info.entry) == (None, None)
    assert (info.packs[0].version, info.packs[0].runnable) == (None, None)


def test_references_that_are_no_paths_and_packs_that_are_not_listed(tmp_path):
    members = reference_bundle(references=("oci://ghcr.io/acme/web:1",))
    (tmp_path / "a").write_bytes(tar(members))
    report = verify(tmp_path / "a")
    assert report.ok
    assert "oci://ghcr.io/acme/web:1 is not a path" in report.warnings[0].detail
    assert "packs/web.gtpack is not listed" in report.warnings[0].detail
    assert [item.pack_id for item in unpack(tmp_path / "a", tmp_path / "out").packs] == ["web"]


def test_providers_of_the_reference_are_checked_when_they_are_locked(tmp_path):
    for digest, ok in (("sha256:" + "0" * 64, False), (None, True)):
        provider = {"reference": "providers/messaging/x.gtpack", "digest": digest}
        members = bundle(
            Member("providers/messaging/x.gtpack", reference_pack()),
            manifest={"extension_providers": ["providers/messaging/x.gtpack"]},
            lock={"extension_providers": [provider]},
        )
        (tmp_path / "a").write_bytes(tar(members))
        assert verify(tmp_path / "a").ok is ok


def test_candidates_are_named_when_several_could_run(tmp_path):
    other = {
        "pack_id": "other",
        "version": "1.0.0",
        "application": {"kind": "process", "command": ["python3"]},
    }
    gtpack, second = pack(), pack(manifest=other)
    digests = {"packs/other.gtpack": second, "packs/web.gtpack": gtpack}
    members = bundle(
        Member("packs/other.gtpack", second),
        gtpack=gtpack,
        manifest={"packs": [], "entry": None, "app_packs": list(digests)},
        lock={"app_packs": [{"reference": name, "digest": sha256(data)} for name, data in digests.items()]},
    )
    (tmp_path / "a").write_bytes(tar(members))
    unpacked = unpack(tmp_path / "a", tmp_path / "out")
    with pytest.raises(BundleError) as caught:
        _ = unpacked.entry
    assert caught.value.details["candidates"] == ["other", "web"]
    assert [check.name for check in verify(tmp_path / "a").checks if not check.ok] == ["entry"]


def test_verify(built):
    report = verify(built.path, expected_digest=built.digest)
    assert report.ok
    assert not report.warnings
    assert (report.digest, report.size_bytes) == (built.digest, built.size_bytes)
    assert [check.name for check in report.checks] == [
        "digest",
        "archive",
        "manifest",
        "lock",
        "identity",
        "lists",
        "pack ids",
        "packs",
        "digest of packs/helpdesk.gtpack",
        "packs/helpdesk.gtpack",
        "entry",
    ]


def test_verify_goes_on_behind_a_wrong_digest(built):
    report = verify(built.path, expected_digest="sha256:" + "0" * 64)
    assert [check.name for check in report.checks if not check.ok] == ["digest"]
    assert len(report.checks) == 11


def test_inspect(built, tmp_path):
    info = inspect(built.path)
    assert (info.digest, info.size_bytes, info.format) == (built.digest, built.size_bytes, "tar.zst")
    assert (info.bundle_id, info.bundle_name, info.version, info.entry) == (
        "helpdesk",
        "helpdesk",
        "0.1.0",
        "helpdesk",
    )
    (found,) = info.packs
    assert (found.pack_id, found.version, found.runnable) == ("helpdesk", "0.1.0", "asgi")
    assert (found.digest, found.size_bytes) == (built.packs[0].digest, built.packs[0].size_bytes)
    assert (found.health.path, found.health.timeout_seconds) == ("/healthz", 30)
    unpack(built.path, tmp_path / "out")
    sizes = [path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert (info.files, info.uncompressed_bytes) == (len(sizes), sum(sizes))


def test_scratch_is_gone(built, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    verify(built.path)
    inspect(built.path)
    (tmp_path / "bad").write_bytes(tar(bundle(Member("../x"))))
    verify(tmp_path / "bad")
    with pytest.raises(BundleError):
        inspect(tmp_path / "bad")
    assert list(scratch.iterdir()) == []
