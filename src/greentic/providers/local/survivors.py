"""End what a runtime that was killed has left running.

On Linux the kernel kills workers and routers with their runtime (see `greentic.worker.guard`); what a worker itself had
started may survive, and is known by the path of its parameters in its environment. Elsewhere the groups that were
recorded are ended when the process at their head is still the one that was recorded.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

from greentic.providers.local.layout import Layout

_PROC = Path("/proc")


def end(layout: Layout) -> list[int]:
    """End every process that a former runtime of `layout` left; their ids. The caller holds the runtime's lock."""
    found = _by_environment(layout) if sys.platform == "linux" else []
    for process in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)
    return found


def _by_environment(layout: Layout) -> list[int]:
    mark = b"GREENTIC_CONFIG_FILE=" + os.fsencode(layout.run / "workers") + b"/"
    own = os.getpid()
    found = []
    for folder in _PROC.iterdir():
        if not folder.name.isdecimal() or int(folder.name) == own:
            continue
        with contextlib.suppress(OSError):
            if any(entry.startswith(mark) for entry in (folder / "environ").read_bytes().split(b"\0")):
                found.append(int(folder.name))
    return found
