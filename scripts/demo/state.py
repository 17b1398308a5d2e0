"""The demo's own folder, what an earlier run left in it, and whether anything is left at the end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from demo.commands import Gtc

MARK = "made-by-make-demo"
MODULES = ("greentic.router", "greentic.worker", "greentic.providers")
ENVIRONMENT = "local"


class StateError(Exception):
    """The folder cannot be used."""


@dataclass(frozen=True, slots=True)
class State:
    """The folder of one demo."""

    folder: Path
    repository: Path

    @property
    def gtc(self) -> Gtc:
        return Gtc(self.folder / "environments", self.repository)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the demo for this process; StateError when another one runs here.

        The folder above is what is locked: the demo's own comes and goes.
        """
        try:
            held = os.open(self.folder.parent, os.O_RDONLY)
        except OSError as error:
            raise StateError(f"{self.folder.parent} cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise StateError("another demo is running here; wait for it, or stop it with Ctrl-C") from None
        finally:
            os.close(held)

    def make(self) -> None:
        """An empty folder; StateError when what is there is not ours."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / MARK).touch()
        except OSError as error:
            raise StateError(f"{self.folder} cannot be made: {error.strerror}") from None

    def left(self) -> bool:
        """Whether an earlier run left something. StateError when the folder holds something else."""
        if not self.folder.exists():
            return False
        # Also without environments so far: a command of a demo that was killed may be about to make them.
        if (self.folder / MARK).exists():
            return True
        if any(self.folder.iterdir()):
            raise StateError(f"{self.folder} was not made by the demo; move it away")
        return False

    def committed(self) -> int:
        """When the newest change was committed: nanoseconds since the epoch.

        That is the rename of `environment.json` (docs/architecture.md). The kernel's clock for it ticks every few
        milliseconds and is never ahead, so what is measured from here is rather too long than too short.
        """
        return (self.folder / "environments" / ENVIRONMENT / "environment.json").stat().st_ctime_ns

    def stop(self) -> list[int]:
        """End everything that runs in the folder, politely first; the processes that had to be killed.

        Commands come before what they start: one of a demo that was killed would start it again.
        """
        _end(self.commands)
        if (self.folder / "environments" / ENVIRONMENT).exists():
            self.gtc.call("stop", ENVIRONMENT)
        return _end(self.running)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def running(self) -> list[int]:
        """The processes of the platform that belong to the folder.

        Only processes that run a module of the platform count: a shell that has the folder in its variables or stands
        in it is a person's.
        """
        return self._found(lambda command: any(module.encode() in command for module in MODULES))

    def commands(self) -> list[int]:
        """The processes of `gtc` that work on the folder's environments."""
        return self._found(lambda command: any(word.endswith(b"/gtc") for word in command.split(b"\0")[:3]))

    def _found(self, ours: Callable[[bytes], bool]) -> list[int]:
        place = os.fsencode(self.folder)
        return [pid for pid, command, more in _processes() if ours(command) and place in command + b"\0" + more]


def _end(found: Callable[[], list[int]]) -> list[int]:
    """Wait for what is found to end by itself, 5 s at most, and kill what has not by then."""
    killed = []
    until = time.monotonic() + 5
    while left := found():
        if time.monotonic() > until:
            killed = left
            for process in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(process, signal.SIGKILL)
            until = time.monotonic() + 5
        time.sleep(0.05)
    return killed


def _processes() -> Iterator[tuple[int, bytes, bytes]]:
    """Process id, command line, and what else tells where it belongs: its folder and its variables."""
    if sys.platform == "linux":
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            with contextlib.suppress(OSError):
                state = (entry / "stat").read_bytes().rpartition(b")")[2].split()[0]
                if state == b"Z":
                    continue
                command = (entry / "cmdline").read_bytes()
                more = (entry / "environ").read_bytes() + b"\0" + os.fsencode((entry / "cwd").readlink())
                yield int(entry.name), command, more
        return
    listing = subprocess.run(["ps", "-axo", "pid=,command="], capture_output=True, check=False).stdout
    for line in listing.splitlines():
        pid, _, command = line.strip().partition(b" ")
        if pid.isdigit():
            yield int(pid), command, b""


def answers(host: str, port: int) -> bool:
    """Whether anything listens there."""
    with socket.socket() as trial:
        trial.settimeout(1)
        return trial.connect_ex((host, port)) == 0
