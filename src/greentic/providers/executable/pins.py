"""Session pins that an executable keeps (see `greentic.router.pins`). Each router has a process of it, which is asked
for every request with a session: slow beside a store in memory, but bounded, and never in the way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from greentic.envpacks.breaker import Breaker
from greentic.envpacks.wire import from_json, to_json, verbs
from greentic.providers.executable import contracts
from greentic.router.pins import HINT_LIMIT, Admissible, Pin, PinScope, PinStore
from greentic.spec.errors import GreenticError, TimedOut

DEFAULT_TIMEOUT_MS: Final = 50
"""How long a router waits for an answer, unless the settings say so in `timeout_ms`."""
LONGEST_TIMEOUT_MS: Final = 1000
START_SECONDS: Final = 5.0
"""How long a question goes on that nobody waits for any more: the process is started by the first."""

_log = logging.getLogger(__name__)


class ExecutablePins:
    """See `greentic.router.pins.PinStore`."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._context = {"settings": settings["settings"]}
        wanted = settings["settings"].get("timeout_ms", DEFAULT_TIMEOUT_MS)
        self._seconds = min(max(int(wanted), 1), LONGEST_TIMEOUT_MS) / 1000
        self._path = str(settings["path"])
        self._peer = contracts.peer(settings)
        self._breaker = Breaker()
        self._questions: set[asyncio.Task[Any]] = set()
        self._failures: dict[str, int] = {}
        self._skipped = 0
        self._asked = 0

    async def lookup(self, scope: PinScope, hint: bytes, admissible: Admissible, now: float) -> Pin | None:
        """The session's pin if it holds."""
        if len(hint) > HINT_LIMIT:
            return None
        found: Pin | None = await self._ask("lookup", scope=scope, hint=hint, admissible=admissible, now=now)
        return found

    async def try_pin(self, scope: PinScope, hint: bytes, pin: Pin, admissible: Admissible, now: float) -> Pin | None:
        """Keep `pin` unless the session has one that holds; the one that is kept."""
        if len(hint) > HINT_LIMIT or pin.expires <= now:
            return None
        failed = sum(self._failures.values())
        kept: Pin | None = await self._ask("try_pin", scope=scope, hint=hint, pin=pin, admissible=admissible, now=now)
        if kept is None and sum(self._failures.values()) == failed:
            self._skipped += 1
        return kept

    async def counts(self, scope: PinScope, now: float) -> Mapping[str, int]:
        """Live pins by revision, whoever wrote them."""
        return await self._ask("counts", scope=scope, now=now) or {}

    def document(self) -> dict[str, Any]:
        """Questions asked, failures by kind, pins that found no room, and how often the executable was left alone."""
        return {
            "kind": self._path,
            "asked": self._asked,
            "failures": dict(self._failures),
            "skipped": self._skipped,
            "interruptions": self._breaker.openings,
        }

    async def close(self) -> None:
        """End the process; the pins stay where it keeps them."""
        for question in self._questions:
            question.cancel()
        await asyncio.gather(*self._questions, return_exceptions=True)
        await self._peer.close()

    async def _ask(self, verb: str, **arguments: Any) -> Any:
        """The answer; None when there is none in time, or one that is none."""
        if not self._breaker.allows(time.monotonic()):
            return self._failed("interrupted")
        self._asked += 1
        told = {name: to_json(value) for name, value in arguments.items()}
        asked = self._peer.ask(verb, contracts.params(self._context, **told), START_SECONDS)
        question = asyncio.ensure_future(asked)
        self._questions.add(question)
        question.add_done_callback(self._ended)
        try:
            await asyncio.wait((question,), timeout=self._seconds)
        except asyncio.CancelledError:
            self._breaker.failed(time.monotonic())
            raise
        try:
            if not question.done():
                raise TimedOut("late")
            found = from_json(verbs(PinStore)[verb].gives, question.result(), verb)
        except (GreenticError, asyncio.CancelledError) as error:
            kind = error.kind if isinstance(error, GreenticError) else "closed"
            if self._breaker.failed(time.monotonic()):
                _log.warning("session pins: %s does not answer (%s); sessions land by their slot", self._path, kind)
            return self._failed(kind)
        if self._breaker.succeeded():
            _log.warning("session pins: %s answers again", self._path)
        return found

    def _failed(self, kind: str) -> None:
        self._failures[kind] = self._failures.get(kind, 0) + 1

    def _ended(self, question: asyncio.Task[Any]) -> None:
        self._questions.discard(question)
        if not question.cancelled():
            question.exception()  # seen: whoever asked may be gone
