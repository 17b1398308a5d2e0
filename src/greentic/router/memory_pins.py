"""Session pins in the memory of one router process: nothing to install, nothing to wait for.

Each router process has its own: a session that moves between them is held by each on its own account. With several
routers, and across restarts, bind a store that they share in the slot `sessions`.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any, Final

from greentic.router.pins import CAP_PER_TENANT, IN_MEMORY, Admissible, Pin, PinScope

LIMIT: Final = 16_384
"""Pins in all (reference 04 section 1.5); beyond it the one that ends soonest gives way."""

_Key = tuple[PinScope, bytes]


class MemoryPins:
    """See `greentic.router.pins`; `look` and `put` are the same without waiting."""

    def __init__(self, limit: int = LIMIT, cap: int = CAP_PER_TENANT) -> None:
        self._limit = limit
        self._cap = cap
        self._pins: dict[_Key, Pin] = {}
        self._ends: list[tuple[int, _Key]] = []
        """A heap of ends. An entry whose pin was replaced is dropped when it comes up, or when they are too many."""
        self._held: dict[PinScope, dict[str, int]] = {}
        self._skipped = self._evicted = 0

    def look(self, scope: PinScope, hint: bytes, admissible: Admissible, now: float) -> Pin | None:
        """The session's pin if it holds."""
        pin = self._pins.get((scope, hint))
        if pin is None or pin.expires <= now:
            return None
        lowest = admissible.get(pin.revision_id)
        return pin if lowest is not None and pin.generation >= lowest else None

    def put(self, scope: PinScope, hint: bytes, pin: Pin, admissible: Admissible, now: float) -> Pin | None:
        """Keep `pin` unless the session has one that holds; the one that is kept, None when there was no room."""
        held = self.look(scope, hint, admissible, now)
        if held is not None:
            return held
        key = (scope, hint)
        self._drop(key)
        if pin.expires <= now:
            return None
        self._forget_ended(now)
        if sum(self._held.get(scope, {}).values()) >= self._cap:
            self._skipped += 1
            return None
        while len(self._pins) >= self._limit:
            self._evicted += self._end_soonest()
        self._pins[key] = pin
        heapq.heappush(self._ends, (pin.expires, key))
        counts = self._held.setdefault(scope, {})
        counts[pin.revision_id] = counts.get(pin.revision_id, 0) + 1
        if len(self._ends) > 2 * len(self._pins) + 64:
            self._ends = [(kept.expires, name) for name, kept in self._pins.items()]
            heapq.heapify(self._ends)
        return pin

    def live(self, scope: PinScope, now: float) -> Mapping[str, int]:
        """Live pins by revision."""
        self._forget_ended(now)
        return dict(self._held.get(scope, {}))

    async def lookup(self, scope: PinScope, hint: bytes, admissible: Admissible, now: float) -> Pin | None:
        """`look`."""
        return self.look(scope, hint, admissible, now)

    async def try_pin(self, scope: PinScope, hint: bytes, pin: Pin, admissible: Admissible, now: float) -> Pin | None:
        """`put`."""
        return self.put(scope, hint, pin, admissible, now)

    async def counts(self, scope: PinScope, now: float) -> Mapping[str, int]:
        """`live`."""
        return self.live(scope, now)

    def document(self) -> dict[str, Any]:
        """How many pins there are, and how many found no room or gave way to others."""
        return {
            "kind": IN_MEMORY.kind,
            "failures": {},
            "skipped": self._skipped,
            "evicted": self._evicted,
            "pins": len(self._pins),
        }

    async def close(self) -> None:
        """Nothing to let go of."""

    def _forget_ended(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            self._end_soonest()

    def _end_soonest(self) -> bool:
        """Take the soonest end off the heap, and its pin away unless the session has another one by now."""
        expires, key = heapq.heappop(self._ends)
        pin = self._pins.get(key)
        if pin is None or pin.expires != expires:
            return False
        self._drop(key)
        return True

    def _drop(self, key: _Key) -> None:
        pin = self._pins.pop(key, None)
        if pin is None:
            return
        counts = self._held[key[0]]
        counts[pin.revision_id] -= 1
        if not counts[pin.revision_id]:
            del counts[pin.revision_id]
            if not counts:
                del self._held[key[0]]
