"""`greentic.state.sqlite`: state in a database file of the environment's folder, `state/values.db`.

What was acknowledged is on the disk (a write-ahead log, synchronised at each commit), so it outlives workers, the data
plane and the machine's power. Each scope has room of its own: who fills theirs takes nobody else's.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from greentic.envpacks.state import StateContext, StateScope, StateValue, check_bounds
from greentic.spec.errors import Conflict, ProviderError

FILE: Final = "state/values.db"
DEFAULT_MIB: Final = 64
ANSWERS: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "scope_mib": {
            "type": "integer",
            "minimum": 1,
            "maximum": 65536,
            "default": DEFAULT_MIB,
            "description": "how many MiB of keys and values one tenant of one deployment may keep",
        }
    },
}
_T = TypeVar("_T")
_WAIT_SECONDS = 5.0
_SWEPT = 64
"""Values that have ended, taken out with each write: more than one write adds, so they do not pile up."""
_TABLES = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "BEGIN IMMEDIATE",
    """CREATE TABLE IF NOT EXISTS entry (
      environment TEXT NOT NULL, deployment TEXT NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL,
      data BLOB NOT NULL, version INTEGER NOT NULL, expires REAL,
      PRIMARY KEY (environment, deployment, tenant, key)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS ending ON entry (expires) WHERE expires IS NOT NULL",
    """CREATE TABLE IF NOT EXISTS room (
      environment TEXT NOT NULL, deployment TEXT NOT NULL, tenant TEXT NOT NULL, bytes INTEGER NOT NULL,
      PRIMARY KEY (environment, deployment, tenant)
    ) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS counter (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO counter VALUES (1, 0)",
    """CREATE TRIGGER IF NOT EXISTS kept AFTER INSERT ON entry BEGIN
      INSERT INTO room VALUES (new.environment, new.deployment, new.tenant,
                               length(CAST(new.key AS BLOB)) + length(new.data))
      ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes; END""",
    """CREATE TRIGGER IF NOT EXISTS forgotten AFTER DELETE ON entry BEGIN
      UPDATE room SET bytes = bytes - length(CAST(old.key AS BLOB)) - length(old.data)
      WHERE environment = old.environment AND deployment = old.deployment AND tenant = old.tenant; END""",
    "COMMIT",
)
_GET = """SELECT data, version, expires FROM entry WHERE environment = ? AND deployment = ? AND tenant = ? AND key = ?
AND (expires IS NULL OR expires > ?)"""
_FORGET = "DELETE FROM entry WHERE environment = ? AND deployment = ? AND tenant = ? AND key = ?"
_KEYS = """SELECT key FROM entry WHERE environment = ? AND deployment = ? AND tenant = ?
AND (expires IS NULL OR expires > ?)"""
_SWEEP = """DELETE FROM entry WHERE (environment, deployment, tenant, key) IN (
SELECT environment, deployment, tenant, key FROM entry WHERE expires IS NOT NULL AND expires <= ? LIMIT ?)"""
_SWEEP_MINE = "DELETE FROM entry WHERE environment = ? AND deployment = ? AND tenant = ? AND expires <= ?"
_USED = "SELECT bytes FROM room WHERE environment = ? AND deployment = ? AND tenant = ?"


class SqliteState:
    """See `greentic.envpacks.state.State`. Calls are made one after the other, in a thread of its own."""

    def __init__(self, context: StateContext) -> None:
        self._path = context.folder / FILE
        self._limit = int(context.answers.get("scope_mib", DEFAULT_MIB)) * 1024 * 1024
        self._thread = ThreadPoolExecutor(1, "state")
        self._database: sqlite3.Connection | None = None

    async def get(self, scope: StateScope, key: str, now: float) -> StateValue | None:
        """The value, None when there is none."""
        check_bounds(key)
        return await self._do(lambda database: _held(database, scope, key, now))

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
            database.execute(_FORGET, (*scope, key))
            database.execute(_SWEEP, (now, _SWEPT))
            self._require_room(database, scope, len(key.encode()) + len(data), now)
            (version,) = database.execute("UPDATE counter SET version = version + 1 RETURNING version").fetchone()
            database.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)", (*scope, key, data, version, expires))
            return int(version)

        return await self._do(work, writes=True)

    async def delete(self, scope: StateScope, key: str, now: float, *, expected: int | None = None) -> bool:
        """Forget the value; False when there was none."""
        check_bounds(key)

        def work(database: sqlite3.Connection) -> bool:
            held = _held(database, scope, key, now)
            _expect(held, key, expected)
            database.execute(_FORGET, (*scope, key))
            return held is not None

        return await self._do(work, writes=True)

    async def keys(self, scope: StateScope, prefix: str, now: float) -> tuple[str, ...]:
        """The keys that begin with `prefix`, sorted."""

        def work(database: sqlite3.Connection) -> tuple[str, ...]:
            rows = database.execute(_KEYS, (*scope, now))
            return tuple(sorted(key for (key,) in rows if key.startswith(prefix)))

        return await self._do(work)

    async def close(self) -> None:
        """Close the file when what was begun has ended."""
        await asyncio.to_thread(self._closed)

    def _closed(self) -> None:
        self._thread.submit(self._let_go).result()
        self._thread.shutdown()

    def _let_go(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _require_room(self, database: sqlite3.Connection, scope: StateScope, size: int, now: float) -> None:
        if self._used(database, scope) + size <= self._limit:
            return
        # What has ended takes no room: the sweep may not have come by yet.
        database.execute(_SWEEP_MINE, (*scope, now))
        if self._used(database, scope) + size > self._limit:
            raise Conflict(
                f"there is no room: a tenant of a deployment keeps at most {self._limit // 1024 // 1024} MiB here",
                next_step="delete what is not needed, or bind greentic.state.sqlite with a larger scope_mib",
            )

    @staticmethod
    def _used(database: sqlite3.Connection, scope: StateScope) -> int:
        row = database.execute(_USED, scope).fetchone()
        return 0 if row is None else int(row[0])

    async def _do(self, work: Callable[[sqlite3.Connection], _T], *, writes: bool = False) -> _T:
        """One transaction, in the thread: it ends whole also when whoever waits for it is cancelled."""

        def transact() -> _T:
            database = self._connected()
            database.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            try:
                result = work(database)
                database.execute("COMMIT")
            except BaseException:
                database.execute("ROLLBACK")
                raise
            return result

        try:
            return await asyncio.wrap_future(self._thread.submit(transact))
        except (sqlite3.Error, OSError) as error:
            raise ProviderError(
                f"the state in {self._path} cannot be used: {error}",
                details={"path": str(self._path)},
                next_step="see whether the disk is full and whose the file is",
            ) from None

    def _connected(self) -> sqlite3.Connection:
        if self._database is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(0o600)
            database = sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                for statement in _TABLES:
                    database.execute(statement)
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database


def _held(database: sqlite3.Connection, scope: StateScope, key: str, now: float) -> StateValue | None:
    row = database.execute(_GET, (*scope, key, now)).fetchone()
    return None if row is None else StateValue(*row)


def _expect(held: StateValue | None, key: str, expected: int | None) -> None:
    version = held.version if held is not None else 0
    if expected is not None and expected != version:
        raise Conflict(
            f"'{key}' is at version {version}, not {expected}: somebody else was there",
            details={"version": version, "expected": expected},
            next_step="read the value again and decide anew",
        )
