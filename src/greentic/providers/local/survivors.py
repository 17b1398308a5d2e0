"""End what a runtime that was killed has left running.

On Linux the kernel kills workers and routers with their runtime (see `greentic.worker.guard`), a moment after it; what
a worker itself had started may survive. All of them are known by a path of the environment in their variables.
Elsewhere the processes are written down while they run, each with its start, and ended by that record when they are
still the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from greentic.envpacks import calls
from greentic.providers.local.layout import Layout, write_private

_PROC = Path("/proc")


ROUTER_MARK = "GREENTIC_ROUTER_OF"
"""The variable of a router that names the environment's `run` folder."""
_END_SECONDS = 2.0
_POLL_SECONDS = 0.002


async def end(layout: Layout) -> list[int]:
    """End every process that a former runtime of `layout` left, and wait until they are gone; their ids.

    No runtime may live: the caller holds its lock, or has seen that it is free.
    """
    ended: set[int] = set()
    deadline = time.monotonic() + _END_SECONDS
    while (found := left(layout)) and time.monotonic() < deadline:
        for process in found:
            if process in ended:
                _kill(process)
            else:
                with calls.making("process.end", process):
                    _kill(process)
                ended.add(process)
        await asyncio.sleep(_POLL_SECONDS)
    return sorted(ended)


def left(layout: Layout) -> list[int]:
    """The processes that a former runtime of `layout` has left, when none lives now."""
    return marked(layout) if sys.platform == "linux" else recorded(layout)


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, signal.SIGKILL)


def remember(layout: Layout, processes: Iterable[int]) -> None:
    """Write down the `processes` that run now, for a successor that cannot find them otherwise."""
    entries = [{"pid": process, "started": _started(process)} for process in processes]
    write_private(layout.processes, json.dumps(entries).encode())


def recorded(layout: Layout) -> list[int]:
    """The processes that were written down and are still the same; with them their groups' other members."""
    try:
        entries = json.loads(layout.processes.read_bytes())
        heads = {int(entry["pid"]) for entry in entries if entry["started"] == (_started(entry["pid"]) or False)}
    except (OSError, ValueError, KeyError, TypeError):
        return []
    listing = _ps("-A", "-o", "pid=", "-o", "pgid=")
    members = (tuple(map(int, line.split())) for line in listing.splitlines())
    return sorted(pid for pid, group in members if group in heads)


def marked(layout: Layout) -> list[int]:
    """The processes whose variables name the parameters of a worker in `layout`, or its `run` folder as a router's."""
    worker = b"GREENTIC_CONFIG_FILE=" + os.fsencode(layout.run / "workers") + b"/"
    router = f"{ROUTER_MARK}=".encode() + os.fsencode(layout.run)
    found = []
    for folder in _PROC.iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            variables = (folder / "environ").read_bytes().split(b"\0")
            if any(entry.startswith(worker) or entry == router for entry in variables):
                found.append(int(folder.name))
    return found


def _started(process: int) -> str:
    """When the process was started, as ps(1) has it; empty when there is none."""
    return _ps("-o", "lstart=", "-p", str(int(process))).strip()


def _ps(*arguments: str) -> str:
    command = ["ps", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=5).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
