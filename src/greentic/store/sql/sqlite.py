"""SQLite as a database of ours: one file, one process, one writer; readers on connections of their own.

Write-ahead log with full synchronisation: a commit is one sync. An exclusive `flock` on `<file>.lock` for as long as
the process has the database keeps a second process away, whatever file system locks do below.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from greentic.spec.errors import Conflict
from greentic.store.clock import timestamp, wall_clock
from greentic.store.sql import schema
from greentic.store.sql.database import Connection, DatabaseFailed, Values, failed

_WORDS = {"bytes": "BLOB", "clustered": " WITHOUT ROWID"}
_MOST_ROWS = 128
"""Rows in one statement; a power of two."""
Opener = Callable[[str], sqlite3.Connection]


def _open(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=10)


class SqliteConnection:
    """One connection."""

    def __init__(self, path: Path, opener: Opener) -> None:
        self._place = str(path)
        self._raw = opener(str(path))
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "trusted_schema=OFF", "cell_size_check=ON"):
            self.query(f"PRAGMA {pragma}")

    def query(self, statement: str, *values: Any) -> list[Values]:
        """Carry out one statement; its rows."""
        try:
            return self._raw.execute(statement, values).fetchall()
        except (sqlite3.DataError, sqlite3.IntegrityError):
            raise  # it is the values, not the database
        except sqlite3.Error as error:
            raise failed(self._place, str(error), sqlite=getattr(error, "sqlite_errorname", None)) from error

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Values], *, key: Sequence[str] = ()) -> None:
        """Insert `rows`, as many as possible by one statement: each lets other threads have the interpreter."""
        row = f"({','.join('?' * len(columns))})"
        replacing = ""
        if key:
            rest = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
            replacing = f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {rest}"
        begin = 0
        while begin < len(rows):
            size = min(_MOST_ROWS, 1 << (len(rows) - begin).bit_length() - 1)
            values = [value for found in rows[begin : begin + size] for value in found]
            head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # noqa: S608 - our own names
            self.query(head + ",".join([row] * size) + replacing, *values)
            begin += size

    def batch(self) -> AbstractContextManager[None]:
        """Statements cost no way here."""
        return nullcontext()

    def in_transaction(self) -> bool:
        """Whether one is open."""
        return self._raw.in_transaction

    def close(self) -> None:
        """Let go of it."""
        with suppress(sqlite3.Error):
            self._raw.close()


class SqliteDatabase:
    """The database in the file `path`, made with its folders when it is missing. Conflict when another process has it.

    `opener` is how the driver opens a file, `checkpoint_pages` how much the log holds before it is written back.
    """

    lanes = False
    shared = False

    def __init__(self, path: Path, *, opener: Opener = _open, checkpoint_pages: int = 2_000) -> None:
        self._path = path.absolute()
        self.place = str(self._path)
        self._opener = opener
        self._idle: list[SqliteConnection] = []
        self._guard = Lock()
        self._closed = False
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _locked(self._path)
        except OSError as error:
            raise failed(self.place, error.strerror or str(error)) from error
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._writer = SqliteConnection(self._path, opener)
            self._writer.query(f"PRAGMA wal_autocheckpoint={checkpoint_pages}")
            self._writer.query("PRAGMA journal_size_limit=67108864")
            with self.writing("") as connection:
                schema.migrate(connection, _WORDS, timestamp(wall_clock()))
        except OSError as error:
            os.close(self._lock)
            raise failed(self.place, error.strerror or str(error)) from error
        except BaseException:
            os.close(self._lock)
            raise

    @contextmanager
    def writing(self, lane: str) -> Iterator[Connection]:  # noqa: ARG002 - there is one
        """A transaction that has the database to itself, durable when the block ends."""
        connection = self._writer
        connection.query("BEGIN IMMEDIATE")
        try:
            yield connection
            try:
                connection.query("COMMIT")
            except DatabaseFailed as error:
                error.details["committed"] = "unconfirmed"  # what reached the log may be found there by the next start
                raise
        except BaseException:
            if connection.in_transaction():
                with suppress(Exception):
                    connection.query("ROLLBACK")
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of everything."""
        connection = self._taken()
        healthy = False
        try:
            connection.query("BEGIN")
            yield connection
            healthy = True
        finally:
            with suppress(Exception):
                connection.query("ROLLBACK")
                healthy = healthy or not connection.in_transaction()
            self._back(connection, healthy=healthy)

    def ask(self, statement: str, *values: Any) -> list[Values]:
        """One question outside of any transaction; its rows."""
        connection = self._taken()
        try:
            rows = connection.query(statement, *values)
        except BaseException:
            connection.close()
            raise
        self._back(connection, healthy=True)
        return rows

    def announce(self, connection: Connection, lane: str, generation: int) -> None:
        """There is nobody to tell."""

    def listen(self, heard: Callable[[str, int], None]) -> None:
        """There is nobody to hear."""

    def close(self) -> None:
        """Let go of everything; the file is complete in itself afterwards."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        self._writer.close()
        os.close(self._lock)

    def _taken(self) -> SqliteConnection:
        with self._guard:
            if self._closed:
                raise failed(self.place, "it was closed")
            if self._idle:
                return self._idle.pop()
        return SqliteConnection(self._path, self._opener)

    def _back(self, connection: SqliteConnection, *, healthy: bool) -> None:
        with self._guard:
            if healthy and not self._closed and len(self._idle) < 16:
                self._idle.append(connection)
                return
        connection.close()


def _locked(path: Path) -> int:
    name = path.with_name(f"{path.name}.lock")
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Conflict(
            f"another process has the database {path} open",
            details={"path": str(path), "lock": str(name)},
            next_step="stop the other server, or use PostgreSQL to run several",
        ) from None
    return descriptor
