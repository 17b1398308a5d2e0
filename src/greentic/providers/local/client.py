"""The caller's end of the control socket: one connection per call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from greentic.envpacks.deployer import Progress, silent
from greentic.providers.local import wire
from greentic.providers.local.address import LONGEST_BYTES
from greentic.spec.errors import InputOutput


class NotRunning(Exception):
    """Nobody listens at the control socket."""


class Died(NotRunning):
    """Who listened was gone before it answered. What was asked may have been done; every method can be asked again."""


async def call(
    path: Path, method: str, params: Mapping[str, Any], progress: Progress = silent, *, until_closed: bool = False
) -> Any:
    """The result of `method` with `params`, from the runtime whose control socket is at `path`.

    Raises NotRunning when there is no runtime, Died when it goes away without an answer, and what it answers when that
    is an error. `until_closed`: return only when the runtime has closed the connection.
    """
    if len(os.fsencode(path)) > LONGEST_BYTES:
        raise NotRunning  # a runtime would have recorded a shorter one
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
        raise Died from error
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
