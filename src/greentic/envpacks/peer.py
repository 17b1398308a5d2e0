"""An executable that is kept: one process answers many questions, several at a time, until it is closed.

For contracts that are asked too often for a process per call. What the process does is an error of the questions that
wait for it then; the next question starts another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack
from typing import Any, Final

from greentic.envpacks.conversation import failure, is_answer, request, understood
from greentic.envpacks.streams import Started, Streams
from greentic.envpacks.wire import encode
from greentic.spec.errors import GreenticError, ProviderError, TimedOut

MOST_UNREAD: Final = 1024 * 1024
"""Bytes that a process may leave unread; one that reads nothing is ended, or it would fill our memory."""

Prepare = Callable[[], AbstractContextManager[Started]]
"""Makes ready what is started; left when the process has ended. Called in a thread: it reads files."""


class Peer:
    """One kept process. It belongs to the event loop that asks first."""

    def __init__(self, prepare: Prepare, name: str) -> None:
        self._prepare = prepare
        self._name = name
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[asyncio.Future[Any], str]] = {}
        self._running: asyncio.Task[None] | None = None
        self._streams: asyncio.Future[Streams] | None = None

    async def ask(self, method: str, params: Mapping[str, Any], seconds: float) -> Any:
        """What the process answers to `method`, within `seconds`, its start included.

        As `conversation.ask`. A question that is cancelled or late is taken back; the process goes on.
        """
        number = next(self._numbers)
        message = request(number, method, params)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        sent: Streams | None = None
        try:
            async with asyncio.timeout(seconds):
                sent = await asyncio.shield(self._started())
                self._waiting[number] = (answer, method)
                self._send(sent, message)
                return await answer
        except TimeoutError:
            self._take_back(sent, number)
            raise TimedOut(f"{self._name} did not answer {method} within {seconds:g} s") from None
        except asyncio.CancelledError:
            self._take_back(sent, number)
            raise
        finally:
            self._waiting.pop(number, None)

    def kill(self) -> None:
        """End the process at once; from any thread."""
        streams = self._streams
        if streams is not None and streams.done() and not streams.cancelled() and streams.exception() is None:
            streams.result().kill()

    async def close(self) -> None:
        """Close the process' input, and see it end."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _started(self) -> asyncio.Future[Streams]:
        """The streams of the process that runs, or will in a moment."""
        if self._running is None or self._running.done() or self._streams is None:
            self._streams = asyncio.get_running_loop().create_future()
            self._running = asyncio.create_task(self._run(self._streams))
        return self._streams

    async def _run(self, started: asyncio.Future[Streams]) -> None:
        """The life of one process."""
        error: GreenticError = ProviderError(f"{self._name} was closed")
        try:
            async with AsyncExitStack() as stack:
                prepared = self._prepare()
                found = await asyncio.to_thread(prepared.__enter__)
                stack.push(prepared)
                streams = await stack.enter_async_context(Streams.of(found))
                started.set_result(streams)
                error = await self._listened(streams)
                streams.kill()  # it has said what it should not, or nothing can be heard of it any more
        except GreenticError as problem:
            error = problem
        except Exception as problem:
            error = ProviderError(f"{self._name} cannot be started: {type(problem).__name__}")
        finally:
            if not started.done():
                started.set_exception(error)
                started.exception()  # seen: nobody has to be waiting
            self._streams = None
            waiting, self._waiting = self._waiting, {}
            for answer, _ in waiting.values():
                if not answer.done():
                    answer.set_exception(error)
                    answer.exception()

    async def _listened(self, streams: Streams) -> GreenticError:
        """Give answers to whoever waits for them; why there are no more."""
        while True:
            line = await streams.line()
            if line is None:
                return ProviderError(f"{self._name} ended ({await streams.ended()})", details=await streams.evidence())
            said = understood(line)
            if said is None or not ("method" in said or is_answer(said)):
                return ProviderError(
                    f"{self._name} said something that is no answer",
                    details=await streams.evidence(),
                    next_step="report it to whoever publishes the env-pack",
                )
            if "method" in said:
                continue  # a notification; nobody listens to progress here
            answer, method = self._waiting.get(said["id"], (None, ""))
            if answer is None or answer.done():
                continue  # whoever asked has gone on
            if "error" in said:
                answer.set_exception(await failure(streams, said["error"], method))
            else:
                answer.set_result(said["result"])

    def _send(self, streams: Streams, message: bytes) -> None:
        if streams.unread > MOST_UNREAD:
            streams.kill()
            raise ProviderError(f"{self._name} does not read what it is asked")
        with contextlib.suppress(ConnectionError):
            streams.write(message)

    def _take_back(self, streams: Streams | None, number: int) -> None:
        if streams is not None:
            with contextlib.suppress(ConnectionError, RuntimeError, ProviderError):
                self._send(streams, encode({"jsonrpc": "2.0", "method": "cancel", "params": {"id": number}}))
