"""State in a database file. `greentic.envpacks.state` says what it must guarantee.

A real store is a service: then each method is one call of it. What must stay is that every write is a compare-and-swap
and that versions only grow, also over a deletion.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from greentic.envpacks.state import StateContext, StateScope, StateValue, check_bounds
from greentic.spec.errors import Conflict, ProviderError

_T = TypeVar("_T")
_TABLES = """
CREATE TABLE IF NOT EXISTS value (
  environment TEXT, deployment TEXT, tenant TEXT, key TEXT, data BLOB NOT NULL, version INTEGER NOT NULL, expires REAL,
  PRIMARY KEY (environment, deployment, tenant, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL);
INSERT OR IGNORE INTO counter VALUES (1, 0);
"""
_MINE = "environment = ? AND deployment = ? AND tenant = ?"
_LIVE = "(expires IS NULL OR expires > ?)"


class ExampleState:
    """See `greentic.envpacks.state.State`."""

    def __init__(self, context: StateContext) -> None:
        self._path = context.folder / "run" / "acme_example.db"

    async def get(self, scope: StateScope, key: str, now: float) -> StateValue | None:
        """The value, None when there is none."""
        check_bounds(key)

        def work(database: sqlite3.Connection) -> StateValue | None:
            return _held(database, scope, key, now)

        return await self._do(work)

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

        def work(database: sqlite3.Connection) -> int:
            _expect(_held(database, scope, key, now), key, expected)
            database.execute("DELETE FROM value WHERE NOT " + _LIVE, (now,))
            database.execute("UPDATE counter SET version = version + 1")
            (version,) = database.execute("SELECT version FROM counter").fetchone()
            database.execute("REPLACE INTO value VALUES (?, ?, ?, ?, ?, ?, ?)", (*scope, key, data, version, expires))
            return int(version)

        return await self._do(work)

    async def delete(self, scope: StateScope, key: str, now: float, *, expected: int | None = None) -> bool:
        """Forget the value; False when there was none."""
        check_bounds(key)

        def work(database: sqlite3.Connection) -> bool:
            held = _held(database, scope, key, now)
            _expect(held, key, expected)
            database.execute(f"DELETE FROM value WHERE {_MINE} AND key = ?", (*scope, key))
            return held is not None

        return await self._do(work)

    async def keys(self, scope: StateScope, prefix: str, now: float) -> tuple[str, ...]:
        """The keys that begin with `prefix`, sorted."""

        def work(database: sqlite3.Connection) -> tuple[str, ...]:
            rows = database.execute(f"SELECT key FROM value WHERE {_MINE} AND {_LIVE}", (*scope, now))
            return tuple(sorted(key for (key,) in rows if key.startswith(prefix)))

        return await self._do(work)

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _do(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """One transaction, in a thread, which a cancellation leaves to end whole."""

        def transact() -> _T:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=5, isolation_level=None)) as database:
                database.executescript(_TABLES)
                database.execute("BEGIN IMMEDIATE")
                try:
                    result = work(database)
                except BaseException:
                    database.execute("ROLLBACK")
                    raise
                database.execute("COMMIT")
                return result

        try:
            return await asyncio.to_thread(transact)
        except sqlite3.Error as error:
            raise ProviderError(f"the state in {self._path} cannot be used: {error}") from None


def _held(database: sqlite3.Connection, scope: StateScope, key: str, now: float) -> StateValue | None:
    row = database.execute(
        f"SELECT data, version, expires FROM value WHERE {_MINE} AND key = ? AND {_LIVE}", (*scope, key, now)
    ).fetchone()
    return None if row is None else StateValue(*row)


def _expect(held: StateValue | None, key: str, expected: int | None) -> None:
    version = held.version if held is not None else 0
    if expected is not None and expected != version:
        raise Conflict(
            f"'{key}' is at version {version}, not {expected}: somebody else was there",
            details={"version": version, "expected": expected},
            next_step="read the value again and decide anew",
        )
