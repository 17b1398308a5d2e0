"""The runtime's end of the control socket: JSON lines in, progress and results out (see `wire`).

Only the owner's processes (and root's) may speak. What is malformed is answered with an error and harms nobody; what is
too long ends that connection. A caller that goes away cancels what it asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from greentic.envpacks import calls
from greentic.envpacks.deployer import Progress
from greentic.providers.local import wire
from greentic.providers.local.journal import Journal
from greentic.spec.errors import Conflict, GreenticError, InvalidArgument, ProviderError

Handler = Callable[[Mapping[str, Any], Progress], Awaitable[Any]]
_CREDENTIALS = struct.Struct("3i")
_SHOWN_BYTES = 200


class ControlServer:
    """Serves `handlers` by method name at `path`."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler], journal: Journal) -> None:
        self._path = path
        self._handlers = handlers
        self._journal = journal
        self._server: asyncio.Server | None = None
        self._stopping = False
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. The caller holds the runtime's lock, so a socket that is there is nobody's."""
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Private from its first moment: the folder is 0700, and so is the mask while it is made.
            mask = os.umask(0o177)
            try:
                with calls.making("socket.listen", self._path.name):
                    listener.bind(str(self._path))
            finally:
                os.umask(mask)
            listener.listen(128)
            self._server = await asyncio.start_unix_server(self._accept, sock=listener, limit=wire.LIMIT_BYTES)
        except BaseException:
            listener.close()
            raise

    async def stop(self) -> None:
        """Take no more connections and end those there are."""
        self._stopping = True
        self._path.unlink(missing_ok=True)
        if self._server is not None:
            self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if _may_speak(writer):
                await self._converse(reader, writer)
            else:
                self._journal.event("control-refused", reason="another user")
        except (OSError, asyncio.CancelledError):
            pass  # the caller is gone, or the runtime ends
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls: set[asyncio.Task[None]] = set()
        try:
            while True:
                try:
                    line = await reader.readuntil(b"\n")
                except asyncio.IncompleteReadError:
                    return
                except asyncio.LimitOverrunError:
                    _refuse(writer, None, InvalidArgument(f"a message is at most {wire.LIMIT_BYTES} bytes"))
                    return
                call = asyncio.create_task(self._answer(line, writer))
                calls.add(call)
                call.add_done_callback(calls.discard)
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        number: Any = None
        try:
            request = _request(line)
            number = request.get("id")
            handler = self._handlers.get(str(request.get("method")))
            if handler is None:
                raise InvalidArgument(f"the runtime has no method '{str(request.get('method'))[:_SHOWN_BYTES]}'")

            def progress(text: str) -> None:
                writer.write(wire.encode({"id": number, "progress": text}))

            result = await handler(request["params"], progress)
            writer.write(wire.encode({"id": number, "result": result}))
        except asyncio.CancelledError:
            if self._stopping:
                _refuse(
                    writer, number, Conflict("the runtime was stopped meanwhile", next_step="run the command again")
                )
            raise
        except GreenticError as error:
            _refuse(writer, number, error)
        except Exception as error:
            self._journal.event("internal-error", error=type(error).__name__, reason=str(error))
            _refuse(
                writer,
                number,
                ProviderError(
                    f"the runtime failed: {type(error).__name__}: {error}", next_step="look into logs/runtime.log"
                ),
            )
        with contextlib.suppress(OSError):
            await writer.drain()


def _request(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"a request is one JSON object in one line: {error}") from None
    if not isinstance(request, dict) or not isinstance(request.setdefault("params", {}), dict):
        raise InvalidArgument("a request is an object with id, method and params")
    return request


def _refuse(writer: asyncio.StreamWriter, number: Any, error: GreenticError) -> None:
    writer.write(wire.encode({"id": number, "error": error.document()}))


def _may_speak(writer: asyncio.StreamWriter) -> bool:
    """Whether the other end is a process of this user or of root. Elsewhere than on Linux the modes alone decide."""
    if sys.platform != "linux":
        return True
    peer: socket.socket = writer.get_extra_info("socket")
    data = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(data)
    return user in {os.getuid(), 0}
