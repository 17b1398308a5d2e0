"""The store of state that the environment is bound to now: workers go on while another one is bound."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from greentic.envpacks.registry import Registry
from greentic.envpacks.state import State, StateContext, StateScope, StateValue
from greentic.providers.local.sessions import answers_of, secrets_of
from greentic.spec.capabilities import Slot
from greentic.spec.environment import Environment
from greentic.spec.errors import GreenticError, ProviderError


class _Opened:
    """One store, and how many ask it."""

    def __init__(self, binding: tuple[str, str | None, int], state: State) -> None:
        self.binding = binding
        self.state = state
        self.asking = 0
        self.idle = asyncio.Event()
        self.idle.set()


class BoundState:
    """See `greentic.envpacks.state.State`. `environment` tells what is recorded, anew at each call.

    A store is opened when it is first asked. When another is bound, the one before is closed as soon as nobody asks it
    any more. ProviderError where none is bound or it cannot be opened.
    """

    def __init__(self, environment: Callable[[], Environment], folder: Path, registry: Registry | None = None) -> None:
        self._environment = environment
        self._folder = folder
        self._registry = registry
        self._opened: _Opened | None = None
        self._turn = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def get(self, scope: StateScope, key: str, now: float) -> StateValue | None:
        """See `State.get`."""
        async with self._asked() as state:
            return await state.get(scope, key, now)

    async def put(
        self,
        scope: StateScope,
        key: str,
        data: bytes,
        now: float,
        *,
        expires: float | None = None,
        expected: int | None = None,
    ) -> int:
        """See `State.put`."""
        async with self._asked() as state:
            return await state.put(scope, key, data, now, expires=expires, expected=expected)

    async def delete(self, scope: StateScope, key: str, now: float, *, expected: int | None = None) -> bool:
        """See `State.delete`."""
        async with self._asked() as state:
            return await state.delete(scope, key, now, expected=expected)

    async def keys(self, scope: StateScope, prefix: str, now: float) -> tuple[str, ...]:
        """See `State.keys`."""
        async with self._asked() as state:
            return await state.keys(scope, prefix, now)

    async def close(self) -> None:
        """Close what is open."""
        opened, self._opened = self._opened, None
        if opened is not None:
            self._retire(opened)
        await asyncio.gather(*self._closing, return_exceptions=True)

    @asynccontextmanager
    async def _asked(self) -> AsyncIterator[State]:
        async with self._turn:  # of many that find another binding, one opens it
            opened = await self._current()
            opened.asking += 1
            opened.idle.clear()
        try:
            yield opened.state
        finally:
            opened.asking -= 1
            if not opened.asking:
                opened.idle.set()

    async def _current(self) -> _Opened:
        environment = self._environment()
        found = environment.binding(Slot.STATE)
        binding = ("", None, 0) if found is None else (found.kind, found.answers_ref, found.generation)
        before = self._opened
        if before is not None and before.binding == binding:
            return before
        try:
            opened = _Opened(binding, await asyncio.to_thread(self._open, environment))
        except GreenticError as error:  # a worker must not take a missing env-pack for a missing value
            raise ProviderError(error.message, details=error.details, next_step=error.next_step) from error
        self._opened = opened
        if before is not None:
            self._retire(before)
        return opened

    def _open(self, environment: Environment) -> State:
        registry = self._registry if self._registry is not None else Registry.installed()
        context = StateContext(
            environment.environment_id,
            self._folder,
            answers_of(environment.binding(Slot.STATE), self._folder),
            secrets_of(environment, self._folder, registry),
        )
        return registry.state(environment, context)

    def _retire(self, opened: _Opened) -> None:
        async def closed() -> None:
            await opened.idle.wait()
            with contextlib.suppress(Exception):  # nobody waits for it
                await opened.state.close()

        task = asyncio.create_task(closed())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
