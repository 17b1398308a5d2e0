"""The store of session pins that a router uses, as its table says: in memory, or one that an installed distribution
offers. Counts of a store that has to be waited for are fetched now and then, so that a report waits for nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any, Final, cast

from greentic.router.compiled import CompiledDeployment
from greentic.router.memory_pins import MemoryPins
from greentic.router.pins import ENTRY_POINTS, IN_MEMORY, Pin, PinScope, PinSettings, PinStore
from greentic.spec.errors import SpecViolation

COUNT_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 2.0
"""The end of any store's patience: beyond what each may take by its own settings."""

_log = logging.getLogger(__name__)


class SessionPins:
    """What a table's settings opened. `local` is the store when it is in this process, None when it is to be waited
    for."""

    def __init__(self, settings: PinSettings = IN_MEMORY) -> None:
        """Raises SpecViolation (`pins`) when nothing installed offers the store, or it refuses the settings."""
        self.settings = settings
        self.local = MemoryPins() if settings.kind == IN_MEMORY.kind else None
        self.store: PinStore = self.local if self.local is not None else _opened(settings)
        self._broken: dict[str, int] = {}
        self._counts: dict[PinScope, Mapping[str, int]] = {}
        self._counting: asyncio.Task[None] | None = None
        self._counted = float("-inf")

    async def ask(self, deployment: CompiledDeployment, hint: bytes, promise: Pin | None) -> Pin | None:
        """The session's pin that holds; with a `promise`, that one is kept when there is none. For a store that is
        waited for, which may not raise and may not take long: one that does has no pin.
        """
        now = time.time()
        admissible = deployment.admissible(now)
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                if promise is None:
                    return await self.store.lookup(deployment.scope, hint, admissible, now)
                return await self.store.try_pin(deployment.scope, hint, promise, admissible, now)
        except Exception as error:
            kind = type(error).__name__
            _log.warning("session pins: %s broke its contract (%s)", self.settings.kind, kind)
            self._broken[kind] = self._broken.get(kind, 0) + 1
            return None

    def counts(self, deployment: CompiledDeployment, now: float) -> Mapping[str, int]:
        """Live pins by revision; of a store that is waited for, as it was at most a little over COUNT_SECONDS ago."""
        if self.local is not None:
            return self.local.live(deployment.scope, now)
        return self._counts.get(deployment.scope, {})

    def refresh(self, deployments: Iterable[CompiledDeployment], now: float) -> None:
        """Fetch counts when they are due; `now` is a clock's seconds. Called often."""
        if self.local is None and now - self._counted >= COUNT_SECONDS and self._counting is None:
            self._counted = now
            self._counting = asyncio.get_running_loop().create_task(self._count([one.scope for one in deployments]))

    def document(self) -> dict[str, Any]:
        """What a report says of the store."""
        told = self.store.document()
        return {"kind": self.settings.kind, **told, "failures": {**told.get("failures", {}), **self._broken}}

    async def close(self) -> None:
        """Let go of the store."""
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.gather(self._counting, return_exceptions=True)
        await self.store.close()

    async def _count(self, scopes: list[PinScope]) -> None:
        try:
            counts = {}
            for scope in scopes:
                found = await self.store.counts(scope, time.time())
                if found:
                    counts[scope] = found
            self._counts = counts
        except Exception as error:
            _log.warning("session pins: %s broke its contract (%s)", self.settings.kind, type(error).__name__)
        finally:
            self._counting = None


def _opened(settings: PinSettings) -> PinStore:
    for point in entry_points(group=ENTRY_POINTS, name=settings.kind):
        try:
            return cast("PinStore", point.load()(settings.settings))
        except Exception as error:
            # Whatever it is, the settings may be in its words: the kind of error has to do.
            raise SpecViolation(
                "pins", f"the session pins of {settings.kind} cannot be opened here ({type(error).__name__})"
            ) from None
    raise SpecViolation("pins", f"no installed distribution offers session pins of the kind {settings.kind}")
