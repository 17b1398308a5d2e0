"""Where the control socket is.

The address of a Unix socket is at most 104 to 108 bytes long, depending on the system. An environment whose path is too
long for that has its socket in a private folder elsewhere, whose name follows from the environment's path.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from greentic.providers.local.layout import Layout, write_private
from greentic.spec.errors import Denied

LONGEST_BYTES = 100


def find(layout: Layout) -> Path:
    """Where a running runtime is to be reached."""
    try:
        return Path(os.fsdecode(layout.control_address.read_bytes()))
    except OSError:
        return layout.control_socket


def choose(layout: Layout, variables: Mapping[str, str]) -> Path:
    """Where a runtime that starts is to listen; recorded for `find`.

    Denied when the folder for long paths is somebody else's.
    """
    if len(os.fsencode(layout.control_socket)) <= LONGEST_BYTES:
        layout.control_address.unlink(missing_ok=True)
        return layout.control_socket
    base = Path(variables.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    name = hashlib.sha256(os.fsencode(layout.folder)).hexdigest()[:16]
    folder = base / f"greentic-{os.getuid()}-{name}"
    if len(os.fsencode(folder)) > LONGEST_BYTES - len("/control.sock"):
        folder = Path("/tmp") / folder.name  # noqa: S108 - made and checked to be private below
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise Denied(
            f"{folder} is not a private folder of yours",
            next_step=f"remove {folder}, or name a private folder in XDG_RUNTIME_DIR",
        )
    path = folder / "control.sock"
    write_private(layout.control_address, os.fsencode(path))
    return path


def release(layout: Layout, path: Path) -> None:
    """Remove what `choose` made for `path`, once the socket is gone; a folder of the environment itself stays."""
    if path != layout.control_socket:
        layout.control_address.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: somebody else's business
            path.parent.rmdir()
