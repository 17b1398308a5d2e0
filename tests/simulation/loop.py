"""An event loop whose time is a number, and processes that can be stopped, frozen and killed at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

EPOCH = 1_800_000_000.0
"""What the wall clock says when the loop begins, in unix seconds."""
_OWNER: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Process:
    """Something that runs, and what belongs to it: every callback and task that it begins runs only while it does."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.name = name
        self.loop = loop
        self.alive = True
        self.frozen = False
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.on_kill: list[Callable[[], None]] = []
        self.context = contextvars.Context()
        self.context.run(_OWNER.set, self)
        self._backlog: list[tuple[contextvars.Context, Callable[..., Any], tuple[Any, ...], list[asyncio.Handle]]] = []

    def run(
        self,
        context: contextvars.Context,
        callback: Callable[..., Any],
        arguments: tuple[Any, ...],
        handles: list[asyncio.Handle],
    ) -> None:
        """What the loop calls instead of `callback`; `handles` holds what it was asked for with."""
        if self.frozen:
            self._backlog.append((context, callback, arguments, handles))
        else:
            handles.clear()  # they hold this very list
            callback(*arguments)

    def call(self, callback: Callable[..., Any], *arguments: Any) -> Any:
        """Call as this process."""
        return self.context.copy().run(callback, *arguments)

    def start(self, work: Any) -> asyncio.Task[Any]:
        """A task of this process."""
        return self.loop.create_task(work, context=self.context.copy())

    def freeze(self) -> None:
        """SIGSTOP."""
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT: what came meanwhile comes now, in its order."""
        self.frozen = False
        backlog, self._backlog = self._backlog, []
        for one in backlog:
            # As this process, and each may be taken back by those before it.
            asyncio.BaseEventLoop.call_soon(self.loop, self._catch_up, *one, context=one[0])

    def _catch_up(
        self,
        context: contextvars.Context,
        callback: Callable[..., Any],
        arguments: tuple[Any, ...],
        handles: list[asyncio.Handle],
    ) -> None:
        if not any(handle.cancelled() for handle in handles):
            self.run(context, callback, arguments, handles)

    def kill(self) -> None:
        """SIGKILL. Its tasks are cancelled, so that Python lets go of them; the world takes nothing from the dead."""
        if self.alive:
            self.alive = False
            for call in self.on_kill:
                call()
            for task in tuple(self.tasks):
                task.cancel()
            # A task that was to go on when it was frozen learns only so that it is cancelled; nothing else happens.
            self._backlog = [
                kept for kept in self._backlog if isinstance(getattr(kept[1], "__self__", 0), asyncio.Task)
            ]
            self.thaw()


def context_of(process: Process | None) -> contextvars.Context:
    """A context in which a callback belongs to `process`, or to the world, whoever asks for it."""
    return contextvars.Context() if process is None else process.context.copy()


def here() -> Process | None:
    """Whose code runs now; None for the world's."""
    return _OWNER.get()


class _Task(asyncio.Task[Any]):
    """Its place in a set follows from the life, not from where the memory was."""

    _numbers = itertools.count()

    def __new__(cls, *_: Any, **__: Any) -> _Task:
        made = super().__new__(cls)
        made._number = next(cls._numbers)
        return made

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[Any]):
    _numbers = itertools.count()

    def __new__(cls, *_: Any, **__: Any) -> _Future:
        made = super().__new__(cls)
        made._number = next(cls._numbers)
        return made

    def __hash__(self) -> int:
        return self._number


class Stuck(AssertionError):
    """Nobody has anything to do any more, and somebody waits."""


class _Clock:
    """In the place of a selector: there is nothing to wait for but time, so it goes by at once."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck("nothing is left to happen")
        self._loop.seconds += timeout
        return []

    def close(self) -> None:
        pass


class VirtualLoop(asyncio.BaseEventLoop):
    """Seconds pass when there is nothing to do. Wires and listeners of `tests.simulation.wires` stand for sockets."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._selector = _Clock(self)
        self._clock_resolution = 1e-9
        self.failures: list[BaseException] = []
        _Task._numbers = itertools.count()
        _Future._numbers = itertools.count()
        self.set_task_factory(self._task)
        self.set_exception_handler(self._failed)

    def time(self) -> float:
        return self.seconds

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def create_future(self) -> _Future:
        return _Future(loop=self)

    def _task(self, loop: asyncio.AbstractEventLoop, work: Any, context: Any = None) -> _Task:
        task = _Task(work, loop=loop, context=context)
        owner = (contextvars.copy_context() if context is None else context).get(_OWNER)
        if owner is not None:
            owner.tasks[task] = None
            task.add_done_callback(owner.tasks.pop)
        return task

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        context = contextvars.copy_context() if context is None else context
        owner = context.get(_OWNER)
        if owner is not None:
            handles: list[asyncio.Handle] = []
            handles.append(super().call_soon(owner.run, context, callback, args, handles, context=context))
            return handles[0]
        return super().call_soon(callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        context = contextvars.copy_context() if context is None else context
        owner = context.get(_OWNER)
        if owner is not None:
            handles: list[asyncio.Handle] = []
            handles.append(super().call_at(when, owner.run, context, callback, args, handles, context=context))
            return handles[0]
        return super().call_at(when, callback, *args, context=context)

    def _failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception") or AssertionError(str(context.get("message")))
        owner = here()
        if owner is None or owner.alive:
            self.failures.append(error)

    # Sockets

    async def create_unix_connection(
        self, protocol_factory: Any, path: Any = None, *, sock: Any = None, **_: Any
    ) -> Any:  # type: ignore[override]
        return sock.attach(protocol_factory())

    async def connect_accepted_socket(self, protocol_factory: Any, sock: Any, **_: Any) -> Any:  # type: ignore[override]
        return sock.attach(protocol_factory())

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        fd.watch(here(), callback)

    def remove_reader(self, fd: Any) -> bool:
        return bool(fd.unwatch(here()))

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:
        owner = here()
        assert owner is not None
        owner.context.run(_SIGNALS.set, {**owner.context.get(_SIGNALS, {}), int(sig): (callback, args)})


_SIGNALS: contextvars.ContextVar[dict[int, Any]] = contextvars.ContextVar("signals")


def signal_to(process: Process, number: int) -> None:
    """What `number` makes the process do; it is killed by what it does not handle."""
    handler = process.context.get(_SIGNALS, {}).get(int(number))
    if not process.alive:
        return
    if handler is None:
        process.kill()
    else:
        process.loop.call_soon(handler[0], *handler[1], context=context_of(process))


@contextlib.contextmanager
def virtual(loop: VirtualLoop, chance: random.Random) -> Iterator[None]:
    """Every clock of Python tells the loop's time, and what is secret and random follows from the seed."""

    def clock() -> float:
        return loop.seconds

    with contextlib.ExitStack() as stack:
        for target, name, stand_in in (
            (time, "time", lambda: EPOCH + loop.seconds),
            (time, "monotonic", clock),
            (time, "perf_counter", clock),
            (os, "urandom", chance.randbytes),
            (secrets, "token_bytes", lambda count=32: chance.randbytes(count)),
            (secrets, "token_hex", lambda count=32: chance.randbytes(count).hex()),
        ):
            stack.enter_context(mock.patch.object(target, name, stand_in))
        yield
