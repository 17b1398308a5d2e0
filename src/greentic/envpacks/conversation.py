"""One call of an executable: a process is started, asked one thing in JSON-RPC 2.0 over its standard streams, ended.

docs/env-packs.md describes the wire. Whatever the process does, the call ends: within its time, within bounds of memory
and of the log, and with the answer or with an error that says what the process did and what it wrote last to its
standard error. What is known to be secret is shown nowhere.

The process leads a process group of its own. When the call ends its input is closed, and what is left of the group is
killed; something that shall outlive the call has to leave the group (setsid).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from greentic.envpacks.deployer import Progress
from greentic.envpacks.wire import LIMIT_BYTES, encode, error_from
from greentic.spec.errors import GreenticError, ProviderError, TimedOut

ANSWER_BYTES: Final = 16 * 1024 * 1024
"""Bytes of one line of the process."""
SPOKEN_BYTES: Final = 64 * 1024 * 1024
"""Bytes that it may say in one call, progress included."""
LOGGED_BYTES: Final = 1024 * 1024
"""Bytes of standard error that one call leaves in the log, and of the log before it is begun anew."""
LAST_LINES: Final = 20
LINE_CHARACTERS: Final = 400
DETAIL_BYTES: Final = 64 * 1024
CANCEL_SECONDS: Final = 10.0
"""How long a cancelled process has to come to an end by itself."""
END_SECONDS: Final = 2.0
"""How long a process may go on after it has answered and its input was closed."""
METHOD_NOT_FOUND: Final = -32601
REFUSED: Final = -32000
"""The code of an error of the contract, which stands in `data`."""
CANCELLED: Final = -32800

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a0-\u200d\u2010-\u2027\u2030-\u2065\u2070-\ud7ff\uf900-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Started:
    """How the process is started: its words, its folder, its variables, and descriptors that it inherits.

    `name` is what errors call it, `log` takes its standard error, `hidden` are texts that may be shown nowhere.
    """

    name: str
    command: Sequence[str]
    folder: Path
    variables: Mapping[str, str]
    log: Path
    inherited: tuple[int, ...] = ()
    hidden: tuple[str, ...] = field(default=(), repr=False)


async def ask(
    started: Started, method: str, params: Mapping[str, Any], progress: Progress, seconds: float | None
) -> Any:
    """What the process answers to `method`, within `seconds` (None: however long it takes).

    Raises the error that it answers with, TimedOut, and ProviderError for whatever else it does instead. A call that is
    cancelled tells the process, waits until it has ended, and kills it after CANCEL_SECONDS.
    """
    told = _Told(started)
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
            next_step="see that the interpreter in its first line is here, and that its file system may hold programs",
        ) from None
    async with _Streams.of(process, told) as streams:
        try:
            async with asyncio.timeout(seconds):
                return await _answered(streams, told, method, params, progress)
        except TimeoutError:
            await streams.cancel()
            raise TimedOut(
                f"{started.name} did not answer {method} within {seconds:g} s",
                details=await told.evidence(streams),
                next_step=f"read {started.log}; run the command again: it goes on where it was",
            ) from None
        except asyncio.CancelledError:
            await streams.cancel()
            raise


async def _answered(streams: _Streams, told: _Told, method: str, params: Mapping[str, Any], progress: Progress) -> Any:
    message = encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    if len(message) > LIMIT_BYTES:
        raise ProviderError(f"the record is larger than the {LIMIT_BYTES:,} bytes that an executable is given")
    await streams.send(message)
    left = SPOKEN_BYTES
    while True:
        line = await streams.line()
        await asyncio.sleep(0)  # lines that are there already are no reason to forget the time
        if line is None:
            status = await streams.ended()
            raise ProviderError(
                f"{told.name} ended ({status}) before it answered {method}",
                details=await told.evidence(streams),
                next_step=f"read {told.log}; run the command again: it goes on where it was",
            )
        left -= len(line)
        if left < 0:
            raise await _babble(streams, told, f"said more than {SPOKEN_BYTES:,} bytes to {method}")
        message_ = _object(line)
        if message_ is None or message_.get("jsonrpc") != "2.0":
            raise await _babble(streams, told, f"answered {method} with something that is no JSON-RPC 2.0")
        if "method" in message_:
            if message_["method"] == "progress" and "id" not in message_:
                told.say(message_.get("params"), progress)
            continue  # a notification that we do not know is none of ours
        if (
            message_.get("id") != 1
            or type(message_.get("id")) is not int
            or ("result" in message_) == ("error" in message_)
        ):
            raise await _babble(streams, told, f"answered {method} with something that is no answer to it")
        if "error" in message_:
            raise await told.error(message_["error"], method, streams)
        return message_["result"]


async def _babble(streams: _Streams, told: _Told, what: str) -> ProviderError:
    return ProviderError(
        f"{told.name} {what}",
        details=await told.evidence(streams),
        next_step=f"read {told.log}; report it to whoever publishes the env-pack",
    )


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _same(protocol: asyncio.StreamReaderProtocol) -> asyncio.StreamReaderProtocol:
    return protocol


class _Told:
    """What the process says, made fit to be shown: without control characters, cut to size, and without secrets."""

    def __init__(self, started: Started) -> None:
        self.name = started.name
        self.log = started.log
        # Longest first, or a part of a secret would be left where another begins alike.
        parts = {part for text in started.hidden for part in (text, *text.splitlines()) if len(part) >= 4}
        self._hidden = sorted(parts, key=len, reverse=True)
        self._last: deque[str] = deque(maxlen=LAST_LINES)

    def clean(self, text: object, limit: int = LINE_CHARACTERS) -> str:
        """`text` as it may be shown."""
        found = text if isinstance(text, str) else json.dumps(text)
        for secret in self._hidden:
            found = found.replace(secret, "[hidden]")
        found = _UNPRINTABLE.sub("\ufffd", found.replace("\t", " ").replace("\n", " "))
        return found if len(found) <= limit else found[:limit] + "…"

    def say(self, params: object, progress: Progress) -> None:
        """One line of progress."""
        message = params.get("message") if isinstance(params, dict) else None
        if isinstance(message, str):
            progress(self.clean(message))

    async def error(self, document: object, method: str, streams: _Streams) -> GreenticError:
        """The error that it answered with."""
        found = document if isinstance(document, dict) else {}
        message = self.clean(found.get("message", "it gave no reason"), 4_000)
        data = found.get("data")
        if found.get("code") == METHOD_NOT_FOUND:
            return ProviderError(f"{self.name} does not know {method}", next_step="install a newer release of it")
        if found.get("code") != REFUSED or not isinstance(data, dict):
            details = await self.evidence(streams)
            return ProviderError(f"{self.name} failed to {method}: {message}", details=details)
        shown: dict[str, Any] = {"kind": data.get("kind"), "message": message}
        if isinstance(data.get("details"), dict):
            shown["details"] = self._details(data["details"])
        if isinstance(data.get("next_step"), str):
            shown["next_step"] = self.clean(data["next_step"], 1_000)
        return error_from(shown, self.name)

    def _details(self, details: dict[str, Any]) -> dict[str, Any]:
        text = json.dumps(details, ensure_ascii=False)
        if len(text.encode(errors="replace")) > DETAIL_BYTES:
            return {"left_out": f"more than {DETAIL_BYTES} bytes"}
        cleaned: dict[str, Any] = self._cleaned(details)
        return cleaned

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.clean(key): self._cleaned(member) for key, member in value.items()}
        if isinstance(value, list):
            return [self._cleaned(member) for member in value]
        return self.clean(value, 4_000) if isinstance(value, str) else value

    async def evidence(self, streams: _Streams) -> dict[str, Any]:
        """The last lines of its standard error, for the details of an error."""
        await streams.hear()
        return {"stderr": list(self._last), "log": str(self.log)}

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Read standard error to its end: the last lines are kept, the first LOGGED_BYTES go to the log."""
        left, partial = LOGGED_BYTES, b""
        with self._opened() as log:
            while piece := await reader.read(65_536):
                *lines, partial = (partial + piece).split(b"\n")
                if len(partial) > 4 * LINE_CHARACTERS:
                    lines, partial = [*lines, partial], b""
                left = self._keep(lines, log, left)
            self._keep([partial] if partial else [], log, left)

    def _keep(self, lines: list[bytes], log: int | None, left: int) -> int:
        for line in lines[-LAST_LINES:] if left <= 0 else lines:
            text = self.clean(line.decode(errors="replace").rstrip("\r"))
            self._last.append(text)
            if log is not None and left > 0:
                data = f"{text}\n".encode()
                left -= len(data)
                note = b"" if left > 0 else b"(more was said in this call; it is left out)\n"
                with contextlib.suppress(OSError):
                    os.write(log, data + note)
        return left

    @contextlib.contextmanager
    def _opened(self) -> Any:
        log: int | None = None
        with contextlib.suppress(OSError):
            self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.log.exists() and self.log.stat().st_size > LOGGED_BYTES:
                self.log.replace(self.log.with_name(self.log.name + ".1"))
            log = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            yield log
        finally:
            if log is not None:
                os.close(log)


class _Streams:
    """The process and its streams."""

    def __init__(self, process: subprocess.Popen[bytes], name: str) -> None:
        self._process = process
        self._name = name
        self._transports: list[asyncio.BaseTransport] = []
        self._hearing: asyncio.Task[None] | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, process: subprocess.Popen[bytes], told: _Told) -> Any:
        """The streams of `process`, which has ended when this ends."""
        streams = cls(process, told.name)
        try:
            await streams._open(told)
            yield streams
        finally:
            await streams._close()

    async def _open(self, told: _Told) -> None:
        loop = asyncio.get_running_loop()
        self._reader = asyncio.StreamReader(limit=ANSWER_BYTES)
        errors = asyncio.StreamReader(limit=65_536)
        for reader, pipe in ((self._reader, self._process.stdout), (errors, self._process.stderr)):
            heard = asyncio.StreamReaderProtocol(reader)
            transport, _ = await loop.connect_read_pipe(partial(_same, heard), pipe)
            self._transports.append(transport)
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
        transport_, _ = await loop.connect_write_pipe(partial(_same, protocol), self._process.stdin)
        self._transports.append(transport_)
        self._writer = asyncio.StreamWriter(transport_, protocol, None, loop)
        self._hearing = asyncio.create_task(told.listen(errors))

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
            raise ProviderError(f"{self._name} said more than {ANSWER_BYTES:,} bytes in one line") from None

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
        self._kill()
        status = self._process.wait()
        return f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"

    async def hear(self) -> None:
        """Give what it wrote to standard error a moment to arrive."""
        if self._hearing is not None:
            await asyncio.wait((self._hearing,), timeout=0.2)

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

    def _kill(self) -> None:
        """End the process and what it left in its group: what did not go its own way does not outlive the call."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _close(self) -> None:
        try:
            if hasattr(self, "_writer"):
                self._writer.close()
            await self._exit(END_SECONDS)
        finally:
            if self._process.returncode is None:
                self._kill()
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
