"""`greentic.state.in-memory`: state in the memory of one process, which ends with it."""

from __future__ import annotations

import itertools
from typing import Final

from greentic.envpacks.state import StateScope, StateValue, check_bounds
from greentic.spec.errors import Conflict

CAP_BYTES: Final = 16 * 1024 * 1024
"""Bytes of one scope's keys and values together, as far as they have not ended: nobody fills another's room."""


class MemoryState:
    """See `greentic.envpacks.state.State`. Clients of one process that share the object share its values."""

    def __init__(self, cap_bytes: int = CAP_BYTES) -> None:
        self._values: dict[tuple[StateScope, str], StateValue] = {}
        self._versions = itertools.count(1)
        self._cap = cap_bytes
        self._bytes: dict[StateScope, int] = {}

    async def get(self, scope: StateScope, key: str, now: float) -> StateValue | None:
        """The value, None when there is none."""
        check_bounds(key)
        return self._live(scope, key, now)

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
        """Keep `data`; the version it got."""
        check_bounds(key, data)
        held = self._live(scope, key, now)
        self._expect(key, held, expected)
        added = len(key.encode()) + len(data) - _size(key, held)
        if self._bytes.get(scope, 0) + added > self._cap:
            self._sweep(now)
            if self._bytes.get(scope, 0) + added > self._cap:
                raise Conflict(
                    f"state in memory is full: a tenant of a deployment keeps at most {self._cap:,} bytes",
                    next_step="delete what is not needed, or bind another env-pack in the slot 'state'",
                )
        self._forget(scope, key)
        value = StateValue(bytes(data), next(self._versions), expires)
        self._values[scope, key] = value
        self._bytes[scope] = self._bytes.get(scope, 0) + _size(key, value)
        return value.version

    async def delete(self, scope: StateScope, key: str, now: float, *, expected: int | None = None) -> bool:
        """Forget the value; False when there was none."""
        check_bounds(key)
        held = self._live(scope, key, now)
        self._expect(key, held, expected)
        self._forget(scope, key)
        return held is not None

    async def keys(self, scope: StateScope, prefix: str, now: float) -> tuple[str, ...]:
        """The keys that begin with `prefix`, sorted."""
        self._sweep(now)
        return tuple(sorted(key for owner, key in self._values if owner == scope and key.startswith(prefix)))

    async def close(self) -> None:
        """Nothing is held but memory."""

    def _live(self, scope: StateScope, key: str, now: float) -> StateValue | None:
        value = self._values.get((scope, key))
        if value is not None and _ended(value, now):
            self._forget(scope, key)
            return None
        return value

    @staticmethod
    def _expect(key: str, held: StateValue | None, expected: int | None) -> None:
        version = held.version if held is not None else 0
        if expected is not None and expected != version:
            raise Conflict(
                f"'{key}' is at version {version}, not {expected}: somebody else was there",
                details={"version": version, "expected": expected},
                next_step="read the value again and decide anew",
            )

    def _forget(self, scope: StateScope, key: str) -> None:
        left = self._bytes.get(scope, 0) - _size(key, self._values.pop((scope, key), None))
        self._bytes[scope] = left
        if not left:
            del self._bytes[scope]

    def _sweep(self, now: float) -> None:
        for scope, key in [place for place, value in self._values.items() if _ended(value, now)]:
            self._forget(scope, key)


def _ended(value: StateValue, now: float) -> bool:
    return value.expires is not None and value.expires <= now


def _size(key: str, value: StateValue | None) -> int:
    return 0 if value is None else len(key.encode()) + len(value.data)
