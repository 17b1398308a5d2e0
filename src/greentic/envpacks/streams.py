"""The process of an executable and its three streams; it never outlives whoever holds it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from greentic.envpacks.heard import Heard
from greentic.envpacks.wire import encode
from greentic.spec.errors import ProviderError

ANSWER_BYTES: Final = 16 * 1024 * 1024
"""Bytes of one line of the process."""
CANCEL_SECONDS: Final = 10.0
"""How long a cancelled process has to come to an end by itself."""
END_SECONDS: Final = 2.0
"""How long a process may go on after it has answered and its input was closed."""


@dataclass(frozen=True, slots=True)
class Started:
    """How the process is started: its words, its folder, its variables, and descriptors that it inherits.

    `name` is what errors call it, `log` takes its standard error (None: nothing does), `hidden` are texts that may be
    shown nowhere. `withheld`: nothing of its standard error is shown before `Heard.hide` names the rest of those.
    """

    name: str
    command: Sequence[str]
    folder: Path
    variables: Mapping[str, str]
    log: Path | None = None
    inherited: tuple[int, ...] = ()
    hidden: tuple[str, ...] = field(default=(), repr=False)
    withheld: bool = False


class Streams:
    """The running process and its streams. Made by `Streams.of`."""

    def __init__(self, process: subprocess.Popen[bytes], heard: Heard) -> None:
        self.heard = heard
        self._process = process
        self._transports: list[asyncio.BaseTransport] = []
        self._hearing: asyncio.Task[None] | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, started: Started) -> AsyncIterator[Streams]:
        """Start the process; it has ended when this ends. ProviderError when it cannot be started."""
        heard = Heard(started.name, started.log, started.hidden, withheld=started.withheld)
        try:
            process = subprocess.Popen(  # noqa: ASYNC220 - a fork, which does not wait
                list(started.command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=started.folder,
                env=dict(started.variables),
                pass_fds=started.inherited,
                start_new_session=True,
            )
        except OSError as error:
            raise ProviderError(
                f"{started.name} cannot be started: {error.strerror}",
                details={"command": list(started.command)},
                next_step="see that the interpreter in its first line is here, and that its file system may hold "
                "programs",
            ) from None
        streams = cls(process, heard)
        try:
            await streams._open()
            yield streams
        finally:
            await streams._close()

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        self._reader = asyncio.StreamReader(limit=ANSWER_BYTES)
        errors = asyncio.StreamReader(limit=65_536)
        for reader, pipe in ((self._reader, self._process.stdout), (errors, self._process.stderr)):
            read = asyncio.StreamReaderProtocol(reader)
            transport, _ = await loop.connect_read_pipe(partial(_same, read), pipe)
            self._transports.append(transport)
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
        transport_, _ = await loop.connect_write_pipe(partial(_same, protocol), self._process.stdin)
        self._transports.append(transport_)
        self._writer = asyncio.StreamWriter(transport_, protocol, None, loop)
        self._hearing = asyncio.create_task(self.heard.listen(errors))

    @property
    def unread(self) -> int:
        """Bytes that the process has not taken from us."""
        return self._writer.transport.get_write_buffer_size()

    def write(self, message: bytes) -> None:
        """Have `message` on its way."""
        self._writer.write(message)

    async def send(self, message: bytes) -> None:
        """Write `message`; one that the process does not want is no error here: what it says or how it ends tells."""
        with contextlib.suppress(ConnectionError):
            self._writer.write(message)
            await self._writer.drain()

    async def line(self) -> bytes | None:
        """The next line, None when the process has closed its output; ProviderError for one that is too long."""
        try:
            return await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            return error.partial or None
        except asyncio.LimitOverrunError:
            raise ProviderError(f"{self.heard.name} said more than {ANSWER_BYTES:,} bytes in one line") from None

    async def cancel(self) -> None:
        """Tell the process that nobody waits any more, and wait until it has ended, but not for ever."""
        await self.send(encode({"jsonrpc": "2.0", "method": "cancel", "params": {"id": 1}}))
        self._writer.close()
        draining = asyncio.create_task(self._drained())
        try:
            await self._exit(CANCEL_SECONDS)
        finally:
            draining.cancel()

    async def _drained(self) -> None:
        """What it still says is read, or a process that says much would wait for us for ever."""
        while await self._reader.read(65_536):
            pass

    async def ended(self) -> str:
        """How the process ended, in a person's words."""
        await self._exit(END_SECONDS)
        if not self._exited():
            return "it closed its output and runs on"
        self.kill()
        status = self._process.wait()
        return f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"

    async def evidence(self) -> dict[str, Any]:
        """The last lines of its standard error, for the details of an error; they are given a moment to arrive."""
        if self._hearing is not None:
            await asyncio.wait((self._hearing,), timeout=0.2)
        return self.heard.evidence()

    def kill(self) -> None:
        """End the process and what it left in its group: what did not go its own way does not outlive us."""
        if self._process.returncode is None:  # reaped, its number may be another's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _exit(self, seconds: float) -> None:
        """Wait until the process has ended, but not for ever. It is left to be reaped: its group keeps its number."""
        deadline = time.monotonic() + seconds
        pause = 0.001
        while not self._exited() and time.monotonic() < deadline:
            await asyncio.sleep(pause)
            pause = min(0.05, pause * 2)

    def _exited(self) -> bool:
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    async def _close(self) -> None:
        try:
            if hasattr(self, "_writer"):
                self._writer.close()
            await self._exit(END_SECONDS)
        finally:
            self.kill()
            self._process.wait()
            if self._hearing is not None:
                await asyncio.wait((self._hearing,), timeout=0.2)
                self._hearing.cancel()
                await asyncio.gather(self._hearing, return_exceptions=True)
            for transport in self._transports:
                if isinstance(transport, asyncio.WriteTransport) and transport.get_write_buffer_size():
                    transport.abort()  # nobody is left to read it
                else:
                    transport.close()
            await asyncio.sleep(0)
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


def _same(protocol: asyncio.StreamReaderProtocol) -> asyncio.StreamReaderProtocol:
    return protocol
