"""Makes the SquashFS images beside this file anew: python make_images.py (needs mksquashfs of squashfs-tools 4.5).

They are committed, so that the tests do not need the tool.
"""

import io
import json
import struct
import subprocess
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
QUIET = ["-noappend", "-no-progress", "-quiet", "-all-root", "-nopad", "-mkfs-time", "0", "-all-time", "0"]


def image(name, tree, *options):
    target = HERE / f"{name}.squashfs"
    target.unlink(missing_ok=True)
    subprocess.run(["mksquashfs", str(tree), str(target), *QUIET, *options], check=True, stdout=subprocess.DEVNULL)
    return target


def pack():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.cbor", b"\xa1\x68schema_v\x67pack-v1")
        archive.writestr("flows/main.ygtc", "id: main\n" * 50)
        archive.writestr("assets/empty", "")
    return data.getvalue()


def reference(tree):
    """A bundle as the reference makes it: no versions, no digests in the lock."""
    (tree / "packs").mkdir()
    (tree / "packs/hello.gtpack").write_bytes(pack())
    (tree / "providers/messaging").mkdir(parents=True)
    (tree / "providers/messaging/telegram.gtpack").write_bytes(pack())
    (tree / "resolved").mkdir()
    (tree / "resolved/default.yaml").write_text("tenant: default\n")
    (tree / "assets").mkdir()
    (tree / "assets/large.txt").write_text("a line of an asset\n" * 20_000)
    (tree / "assets/run.sh").write_text("#!/bin/sh\n")
    (tree / "assets/run.sh").chmod(0o4775)
    (tree / "bundle.yaml").write_text("bundle_id: demo\n")
    manifest = {
        "format_version": "gtbundle-v1",
        "bundle_id": "demo",
        "bundle_name": "Demo",
        "requested_mode": "create",
        "locale": "en",
        "artifact_extension": ".gtbundle",
        "app_packs": ["packs/hello.gtpack"],
        "extension_providers": ["providers/messaging/telegram.gtpack"],
        "catalogs": [],
        "capabilities": ["greentic.cap.messaging"],
        "resolved_targets": [{"path": "resolved/default.yaml", "tenant": "default", "default_policy": "forbidden"}],
    }
    lock = {
        "schema_version": 1,
        "bundle_id": "demo",
        "requested_mode": "create",
        "execution": "execute",
        "cache_policy": "workspace-local",
        "tool_version": "0.4.0",
        "build_format_version": "gtbundle-v1",
        "workspace_root": "bundle.yaml",
        "lock_file": "bundle.lock.json",
        "catalogs": [],
        "app_packs": [{"reference": "packs/hello.gtpack"}],
        "extension_providers": [{"reference": "providers/messaging/telegram.gtpack", "digest": None}],
        "setup_state_files": [],
    }
    (tree / "bundle-manifest.json").write_text(json.dumps(manifest))
    (tree / "bundle-lock.json").write_text(json.dumps(lock))


def patch_loop(path):
    """Makes the entry of the one folder name the root instead: a tree without end."""
    data = bytearray(path.read_bytes())
    root = struct.unpack_from("<Q", data, 32)[0]
    directory_table = struct.unpack_from("<Q", data, 72)[0]
    assert root >> 16 == 0
    # Behind the 2 bytes of block length: a header of 12 bytes, then the entry, which begins with its inode's offset.
    entry = directory_table + 2 + 12
    assert data[entry + 8 : entry + 12] == b"loop", data[entry : entry + 16]
    struct.pack_into("<H", data, entry, root & 0xFFFF)
    path.write_bytes(data)


def main():
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "reference"
        tree.mkdir()
        reference(tree)
        for compression in ("gzip", "xz", "zstd", "lzo"):
            image(f"reference-{compression}", tree, "-comp", compression)
        for name, target in (("link-inside", "bundle.yaml"), ("link-escape", "../../etc/passwd")):
            tree = Path(scratch) / name
            tree.mkdir()
            (tree / "link").symlink_to(target)
            image(name, tree)
        tree = Path(scratch) / "device"
        tree.mkdir()
        image("device", tree, "-p", "null c 666 root root 1 3")
        image("fifo", tree, "-p", "pipe i 666 root root f")
        tree = Path(scratch) / "loop"
        (tree / "loop").mkdir(parents=True)
        patch_loop(image("loop", tree, "-noI", "-noId", "-noD", "-noF", "-noX"))
        tree = Path(scratch) / "bomb"
        tree.mkdir()
        with (tree / "zeros").open("wb") as file:
            file.truncate(512 * 1024 * 1024)
        image("sparse-bomb", tree)


main()
