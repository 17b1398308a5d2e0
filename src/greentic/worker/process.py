"""One process with its descendants: started in a session of its own, its output read into a log, ended for certain.

It is started through `guard.py`, so that it does not outlive the process that starts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from greentic.envpacks import calls
from greentic.spec.errors import GreenticError, ProviderError
from greentic.worker.logfile import LogFile

GUARD = Path(__file__).with_name("guard.py")
GRACE_SECONDS = 5.0
"""Between SIGTERM and SIGKILL."""
_CHUNK_BYTES = 64 * 1024
_LAST_OUTPUT_SECONDS = 0.5


class Subprocess:
    """A running process group. Made by `spawn`."""

    def __init__(self, process: asyncio.subprocess.Process, log: LogFile) -> None:
        self._process = process
        self._log = log
        self._reader = asyncio.create_task(self._read())
        self._exit = asyncio.create_task(self._wait())

    @classmethod
    async def spawn(
        cls,
        argv: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        log: LogFile,
        pass_fds: Collection[int] = (),
    ) -> Subprocess:
        """Start `argv` with exactly `environment` in `directory`. ProviderError when that cannot be done.

        A cancellation on the way leaves no process behind.
        """
        process: Subprocess | None = None
        try:
            with calls.making("process.start", log.path.stem):
                process = await cls._spawn(argv, environment, directory, log, pass_fds)
        except GreenticError:
            if process is not None:  # who is told that it failed will never end it
                await process.stop(0)
            raise
        return process

    @classmethod
    async def _spawn(
        cls,
        argv: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        log: LogFile,
        pass_fds: Collection[int],
    ) -> Subprocess:
        spawning = asyncio.create_task(
            asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), *argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(environment),
                cwd=directory,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
                limit=_CHUNK_BYTES,
            )
        )
        try:
            return cls(await asyncio.shield(spawning), log)
        except (OSError, ValueError) as error:
            raise ProviderError(f"{argv[0]} cannot be started in {directory}: {error}") from error
        except asyncio.CancelledError:
            with contextlib.suppress(OSError, ValueError):
                await cls(await spawning, log).stop(0)
            raise

    @property
    def pid(self) -> int:
        """The process id, which is also that of its group and session."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process has ended and its last output been read."""
        return self._exit.done()

    async def exit(self) -> int:
        """Wait for the end: the exit status, or minus the number of the signal that ended it."""
        return await asyncio.shield(self._exit)

    async def stop(self, grace_seconds: float = GRACE_SECONDS) -> int:
        """SIGTERM to the group, SIGKILL after `grace_seconds`; the exit status as of `exit`."""
        if not self._exit.done():
            with calls.making("process.end", self._log.path.stem):
                self._signal(signal.SIGTERM)
                try:
                    async with asyncio.timeout(grace_seconds):
                        return await self.exit()
                except TimeoutError:
                    pass
                finally:
                    self._signal(signal.SIGKILL)
        return await self.exit()

    def kill(self) -> None:
        """SIGKILL to the group, at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def _wait(self) -> int:
        status = await self._process.wait()
        # What it started and left behind ends with it. The group's number cannot have been given to another yet while a
        # member lives; when none does, there is nobody to find.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_OUTPUT_SECONDS):
                await asyncio.shield(self._reader)
        self._reader.cancel()
        return status

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while data := await self._process.stdout.read(_CHUNK_BYTES):
            self._log.write(data)


def describe(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
