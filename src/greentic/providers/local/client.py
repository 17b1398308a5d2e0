"""The caller's end of the control socket: one connection per call."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from greentic.envpacks.deployer import Progress, silent
from greentic.providers.local import wire
from greentic.spec.errors import InputOutput, ProviderError


class NotRunning(Exception):
    """Nobody listens at the control socket."""


async def call(
    path: Path, method: str, params: Mapping[str, Any], progress: Progress = silent, *, until_closed: bool = False
) -> Any:
    """The result of `method` with `params`, from the runtime whose control socket is at `path`.

    Raises NotRunning when there is no runtime, ProviderError when it goes away without an answer, and what it answers
    when that is an error. `until_closed`: return only when the runtime has closed the connection.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=wire.LIMIT_BYTES)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotRunning from error
    except OSError as error:
        raise InputOutput(f"the control socket {path} cannot be used: {error.strerror}") from error
    try:
        writer.write(wire.encode({"id": 1, "method": method, "params": params}))
        answer = await _answer(reader, progress)
        if until_closed:
            await reader.read()
        return answer
    except (OSError, asyncio.IncompleteReadError) as error:
        raise ProviderError(
            f"the runtime ended while it was asked to {method.replace('_', ' ')}",
            next_step="look into logs/runtime.log of the environment, then run the command again",
        ) from error
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader, progress: Progress) -> Any:
    while True:
        message = json.loads(await reader.readuntil(b"\n"))
        if "progress" in message:
            progress(message["progress"])
        elif "error" in message:
            raise wire.error_from(message["error"])
        else:
            return message["result"]
