"""One call of an executable: a process is started, asked one thing in JSON-RPC 2.0 over its standard streams, ended.

docs/env-packs.md describes the wire. Whatever the process does, the call ends: within its time, within bounds of memory
and of the log, and with the answer or with an error that says what the process did and what it wrote last to its
standard error. What is known to be secret is shown nowhere.

The process leads a process group of its own. When the call ends its input is closed, and what is left of the group is
killed; something that shall outlive the call has to leave the group (setsid).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from greentic.envpacks.deployer import Progress
from greentic.envpacks.heard import METHOD_NOT_FOUND, REFUSED
from greentic.envpacks.streams import Started, Streams
from greentic.envpacks.wire import LIMIT_BYTES, encode
from greentic.spec.errors import GreenticError, ProviderError, TimedOut

SPOKEN_BYTES: Final = 64 * 1024 * 1024
"""Bytes that it may say in one call, progress included."""
CANCELLED: Final = -32800


async def ask(
    started: Started, method: str, params: Mapping[str, Any], progress: Progress, seconds: float | None
) -> Any:
    """What the process answers to `method`, within `seconds` (None: however long it takes).

    Raises the error that it answers with, TimedOut, and ProviderError for whatever else it does instead. A call that is
    cancelled tells the process, waits until it has ended, and kills it after CANCEL_SECONDS.
    """
    message = request(1, method, params)
    async with Streams.of(started) as streams:
        try:
            async with asyncio.timeout(seconds):
                answer = await _answered(streams, message, method, progress)
        except TimeoutError:
            await streams.cancel()
            raise TimedOut(
                f"{started.name} did not answer {method} within {seconds:g} s",
                details=await streams.evidence(),
                next_step=_look(started.log),
            ) from None
        except asyncio.CancelledError:
            await streams.cancel()
            raise
        if started.withheld:
            streams.heard.hide(*_texts(answer))
        return answer


def request(number: int, method: str, params: Mapping[str, Any]) -> bytes:
    """The line that asks for `method`; ProviderError when it is longer than an executable is given."""
    message = encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
    if len(message) > LIMIT_BYTES:
        raise ProviderError(f"the record is larger than the {LIMIT_BYTES:,} bytes that an executable is given")
    return message


def understood(line: bytes) -> dict[str, Any] | None:
    """The JSON-RPC 2.0 message in `line`; None when it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("jsonrpc") == "2.0" else None


def is_answer(message: Mapping[str, Any]) -> bool:
    """Whether it has the shape of an answer: a number, and either a result or an error."""
    return type(message.get("id")) is int and ("result" in message) != ("error" in message)


async def failure(streams: Streams, error: Any, method: str) -> GreenticError:
    """The error that the process answered `method` with, in its words where those are of the contract."""
    chosen = isinstance(error, dict) and error.get("code") in (REFUSED, METHOD_NOT_FOUND)
    return streams.heard.error(error, method, {} if chosen else await streams.evidence())


async def _answered(streams: Streams, message: bytes, method: str, progress: Progress) -> Any:
    heard = streams.heard
    await streams.send(message)
    left = SPOKEN_BYTES
    while True:
        line = await streams.line()
        await asyncio.sleep(0)  # lines that are there already are no reason to forget the time
        if line is None:
            status = await streams.ended()
            raise ProviderError(
                f"{heard.name} ended ({status}) before it answered {method}",
                details=await streams.evidence(),
                next_step=_look(heard.log),
            )
        left -= len(line)
        if left < 0:
            raise await _babble(streams, f"said more than {SPOKEN_BYTES:,} bytes to {method}")
        said = understood(line)
        if said is None:
            raise await _babble(streams, f"answered {method} with something that is no JSON-RPC 2.0")
        if "method" in said:
            if said["method"] == "progress" and "id" not in said:
                heard.say(said.get("params"), progress)
            continue  # a notification that we do not know is none of ours
        if not is_answer(said) or said["id"] != 1:
            raise await _babble(streams, f"answered {method} with something that is no answer to it")
        if "error" in said:
            raise await failure(streams, said["error"], method)
        return said["result"]


async def _babble(streams: Streams, what: str) -> ProviderError:
    return ProviderError(
        f"{streams.heard.name} {what}",
        details=await streams.evidence(),
        next_step="read the last lines of its standard error; report it to whoever publishes the env-pack",
    )


def _look(log: object) -> str:
    again = "run the command again: it goes on where it was"
    return again if log is None else f"read {log}; {again}"


def _texts(answer: Any) -> list[str]:
    """Every text in an answer that is secret."""
    if isinstance(answer, str):
        return [answer]
    members = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, list) else ()
    return [text for member in members for text in _texts(member)]
