"""The store of session pins, in a router's process. `greentic.router.pins` says what it must guarantee.

A router has one thread: whatever may wait does so in another one, and no longer than QUESTION_SECONDS. A store that
fails has no pins; it raises nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from greentic.router.pins import CAP_PER_TENANT, Admissible, Pin, PinScope

QUESTION_SECONDS = 0.25
_T = TypeVar("_T")
_TABLE = """
CREATE TABLE IF NOT EXISTS pin (
  environment TEXT, deployment TEXT, tenant TEXT, hint BLOB, revision TEXT NOT NULL, generation INTEGER NOT NULL,
  expires INTEGER NOT NULL, slot INTEGER NOT NULL, PRIMARY KEY (environment, deployment, tenant, hint)
) WITHOUT ROWID
"""
_MINE = "environment = ? AND deployment = ? AND tenant = ?"


class ExamplePins:
    """See `greentic.router.pins.PinStore`."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._path = Path(str(settings["file"]))
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._failures: dict[str, int] = {}
        self._skipped = 0

    async def lookup(self, scope: PinScope, hint: bytes, admissible: Admissible, now: float) -> Pin | None:
        """The session's pin if it holds."""
        return await self._ask(lambda database: _held(database, scope, hint, admissible, now))

    async def try_pin(self, scope: PinScope, hint: bytes, pin: Pin, admissible: Admissible, now: float) -> Pin | None:
        """Keep `pin` unless the session has one that holds; the one that is kept."""

        def work(database: sqlite3.Connection) -> Pin | None:
            held = _held(database, scope, hint, admissible, now)
            if held is not None:
                return held
            database.execute(f"DELETE FROM pin WHERE {_MINE} AND (expires <= ? OR hint = ?)", (*scope, now, hint))
            (count,) = database.execute(f"SELECT count(*) FROM pin WHERE {_MINE}", scope).fetchone()
            if pin.expires <= now:
                return None
            if count >= CAP_PER_TENANT:
                self._skipped += 1
                return None
            database.execute("INSERT INTO pin VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*scope, hint, *pin))
            return pin

        return await self._ask(work)

    async def counts(self, scope: PinScope, now: float) -> Mapping[str, int]:
        """Live pins by revision, whoever wrote them."""

        def work(database: sqlite3.Connection) -> dict[str, int]:
            asked = f"SELECT revision, count(*) FROM pin WHERE {_MINE} AND expires > ? GROUP BY revision"
            return dict(database.execute(asked, (*scope, now)).fetchall())

        return await self._ask(work) or {}

    def document(self) -> dict[str, Any]:
        """Failures by kind, and pins that found no room."""
        return {"failures": dict(self._failures), "skipped": self._skipped}

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _ask(self, work: Callable[[sqlite3.Connection], _T]) -> _T | None:
        def transact() -> _T:
            with contextlib.closing(
                sqlite3.connect(self._path, timeout=QUESTION_SECONDS / 2, isolation_level=None)
            ) as database:
                database.execute("PRAGMA synchronous = OFF")  # a pin may be lost with the machine
                database.execute(_TABLE)
                database.execute("BEGIN IMMEDIATE")
                try:
                    result = work(database)
                except BaseException:
                    database.execute("ROLLBACK")
                    raise
                database.execute("COMMIT")
                return result

        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                return await asyncio.to_thread(transact)
        except (sqlite3.Error, OSError) as error:  # a TimeoutError is an OSError
            kind = type(error).__name__
            self._failures[kind] = self._failures.get(kind, 0) + 1
            return None


def _held(database: sqlite3.Connection, scope: PinScope, hint: bytes, admissible: Admissible, now: float) -> Pin | None:
    asked = f"SELECT revision, generation, expires, slot FROM pin WHERE {_MINE} AND hint = ? AND expires > ?"
    row = database.execute(asked, (*scope, hint, now)).fetchone()
    if row is None or row[1] < admissible.get(row[0], 1 << 63):
        return None
    return Pin(*row)
