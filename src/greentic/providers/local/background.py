"""Start the runtime in the background and wait until it serves."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import select
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from greentic.envpacks import calls
from greentic.envpacks.deployer import DesiredState, Progress
from greentic.envpacks.variables import passed
from greentic.providers.local import address, client, lock, wire
from greentic.providers.local.layout import Layout
from greentic.spec.errors import ProviderError, TimedOut

START_SECONDS = 20.0
RUNTIME = "greentic.providers.local.runtime"
PROGRAM = ("-m", RUNTIME)
_READY_FD, _DESIRED_FD = 3, 4
_POLL_SECONDS = 0.01


async def start(
    layout: Layout,
    desired: DesiredState,
    progress: Progress,
    operator: Mapping[str, str],
    program: Sequence[str] = PROGRAM,
) -> None:
    """Start the runtime of the environment with `desired` and wait until it can be spoken to.

    `program` are the interpreter's arguments that run the runtime.

    When another one is starting at the same moment, one of them gives way; either way one serves afterwards. Raises
    what it says is wrong (an address in use), ProviderError when it ends without a word, TimedOut after START_SECONDS.
    """
    layout.prepare()
    environment_id = desired.environment.environment_id
    progress("starting the runtime")
    document = wire.encode(wire.desired_document(desired))
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _begun(layout, environment_id, document, operator, program):
                progress("another one is starting it")
                if await _answers(layout):
                    return
    except TimeoutError:
        raise TimedOut(
            f"the runtime of '{environment_id}' did not serve within {START_SECONDS:g} s",
            details={"log": str(layout.runtime_log)},
            next_step=f"read {layout.runtime_log}",
        ) from None


async def _begun(
    layout: Layout, environment_id: str, document: bytes, operator: Mapping[str, str], program: Sequence[str]
) -> bool:
    """Start one; False when another holds the lock. Raises what it says is wrong."""
    with calls.making("process.start", "runtime"):
        told = await asyncio.to_thread(_spawn, layout, environment_id, document, operator, program)
    if told is None:
        raise ProviderError(
            f"the runtime of '{environment_id}' ended before it served",
            details={"log": str(layout.runtime_log), "last_lines": _last_lines(layout.runtime_log)},
            next_step=f"read {layout.runtime_log}",
        )
    if "error" in told:
        await lock.released(layout.lock, START_SECONDS)
        raise wire.error_from(told["error"])
    return "held" not in told


_GIVEN = ("XDG_RUNTIME_DIR", "GREENTIC_ENV_PACKS")
"""Where its sockets may lie, and where the executables that fill other slots are installed."""


def _spawn(
    layout: Layout, environment_id: str, document: bytes, operator: Mapping[str, str], program: Sequence[str]
) -> dict[str, Any] | None:
    """Start it and return what it says of itself; None when it says nothing."""
    ready_read, ready_write = map(_high, os.pipe())
    desired_read, desired_write = map(_high, os.pipe())
    log = _high(os.open(layout.runtime_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
    variables = passed(operator)
    variables |= {name: operator[name] for name in _GIVEN if name in operator}
    try:
        process = os.posix_spawn(
            sys.executable,
            [
                *(sys.executable, "-P", *program, "--detach"),
                *("--folder", str(layout.folder), "--environment-id", environment_id),
                *("--ready-fd", str(_READY_FD), "--desired-fd", str(_DESIRED_FD)),
            ],
            variables,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                (os.POSIX_SPAWN_DUP2, ready_write, _READY_FD),
                (os.POSIX_SPAWN_DUP2, desired_read, _DESIRED_FD),
            ],
        )
    finally:
        for descriptor in (ready_write, desired_read, log):
            os.close(descriptor)
    with contextlib.suppress(BrokenPipeError), os.fdopen(desired_write, "wb") as file:
        file.write(document)
    with os.fdopen(ready_read, "rb") as file:
        waiting = select.poll()
        waiting.register(file, select.POLLIN)
        line = file.readline() if waiting.poll(START_SECONDS * 1000) else b""
    os.waitpid(process, 0)  # it went into the background at once: what is left of the first process is to be reaped
    return json.loads(line) if line else None


def _high(descriptor: int) -> int:
    """The same file under a number that is none of those a child is given; the old number is closed."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    finally:
        os.close(descriptor)


async def _answers(layout: Layout) -> bool:
    """Wait until the one that holds the lock answers; False when it gives the lock back instead."""
    while True:
        with contextlib.suppress(client.NotRunning):
            await client.call(address.find(layout), "observe", {})
            return True
        if not lock.held(layout.lock):
            return False
        await asyncio.sleep(_POLL_SECONDS)


def _last_lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()[-10:]
    except OSError:
        return []
