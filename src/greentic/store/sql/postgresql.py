"""PostgreSQL as a database of ours: any number of servers, serialised per environment by the database.

A writer takes the advisory lock of its environment for the length of its transaction; what it reads afterwards is what
the one before it committed. Connections that break are made anew. A commit of which nobody knows whether it happened is
tried again: the keys tell (see `lanes`).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import errors

from greentic.spec.errors import GreenticError, InvalidArgument, TimedOut
from greentic.store.clock import timestamp, wall_clock
from greentic.store.sql import schema
from greentic.store.sql.database import Connection, Interrupted, Values, failed

_WORDS = {"bytes": "BYTEA", "clustered": ""}
_TYPES = {
    **dict.fromkeys(("position", "generation", "sequence", "size"), "bigint"),
    **dict.fromkeys(("data", "key", "record", "line", "signed", "signature"), "bytea"),
}
"""The types of columns; the others are text."""
_SETTINGS = {
    "application_name": "greentic-store",
    "client_min_messages": "warning",
    "synchronous_commit": "on",
    "lock_timeout": "10s",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
}
_CHANNEL = "greentic_store"
_MIGRATING = 0x6772656E  # of no environment: those are 64 bits of a digest, this is small
_AGAIN = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.UniqueViolation,
    errors.InFailedSqlTransaction,
)


_NEVER = (errors.DiskFull, errors.OutOfMemory, errors.ReadOnlySqlTransaction, errors.QueryCanceled)
"""Operational errors that the next try would meet again."""


class PostgresqlConnection:
    """One connection, made anew when it broke."""

    def __init__(self, url: str, place: str) -> None:
        self._url = url
        self._place = place
        self._raw: psycopg.Connection[Any] | None = None
        self._committing = False
        self._batching = False

    def query(self, statement: str, *values: Any) -> list[Values]:
        """Carry out one statement; its rows."""
        return self._run(_translated(statement), values)

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Values], *, key: Sequence[str] = ()) -> None:
        """Insert `rows` by one statement, whose text does not depend on how many there are."""
        if rows:
            self._run(_inserting(table, tuple(columns), tuple(key)), list(map(list, zip(*rows, strict=True))))

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Send what is asked within the block together: one way to the server and back."""
        if self._raw is None:
            raise Interrupted("the connection is gone", certain=True)
        try:
            with self._raw.pipeline():
                self._batching = True
                yield
        except psycopg.Error as error:
            raise self._told(error) from error
        finally:
            self._batching = False

    def begin(self, statement: str, *values: Any) -> None:
        """Begin a transaction with `statement`, on a new connection when the old one broke."""
        self._committing = False
        if self._raw is not None and (self._raw.closed or self._raw.broken):
            self.close()
        if self._raw is not None:
            try:
                self._began(statement, values)
            except Interrupted:
                self.close()  # it broke while nobody used it
            else:
                return
        self._raw = self._connected()
        self._began(statement, values)

    def _began(self, statement: str, values: Sequence[Any]) -> None:
        if not values:
            self._run(statement, ())
            return
        with self.batch():
            self._run(statement, ())
            self._run("SELECT pg_advisory_xact_lock(%s)", values)

    def asked(self, statement: str, values: Sequence[Any]) -> list[Values]:
        """As `query`, outside of a transaction."""
        self._committing = False
        if self._raw is None or self._raw.closed or self._raw.broken:
            self.close()
            self._raw = self._connected()
        return self._run(_translated(statement), values)

    def commit(self) -> None:
        """End the transaction; Interrupted that is not `certain` when nobody knows how."""
        self._committing = True
        self._run("COMMIT", ())
        self._committing = False

    def rollback(self) -> None:
        """Give the transaction up."""
        if self._raw is not None:
            try:
                self._raw.execute("ROLLBACK")
            except psycopg.Error:
                self.close()

    def close(self) -> None:
        """Let go of it."""
        raw, self._raw = self._raw, None
        if raw is not None:
            with suppress(psycopg.Error):
                raw.close()

    def notices(self, heard: Callable[[str], None], ended: Callable[[], bool]) -> None:
        """Call `heard` for each notice until `ended` or the connection breaks."""
        assert self._raw is not None, "it was begun"
        while not ended():
            try:
                for notice in self._raw.notifies(timeout=0.5):
                    heard(notice.payload)
            except psycopg.Error:
                return

    def _connected(self) -> psycopg.Connection[Any]:
        try:
            raw = psycopg.connect(self._url, autocommit=True, prepare_threshold=2, connect_timeout=5)
            for name, value in _SETTINGS.items():
                raw.execute("SELECT set_config(%s, %s, false)", (name, value))
        except psycopg.OperationalError as error:
            raise Interrupted(_reason(error), certain=True) from error
        except psycopg.Error as error:
            raise failed(self._place, _reason(error)) from error
        return raw

    def _run(self, statement: str, values: Sequence[Any]) -> list[Values]:
        raw = self._raw
        if raw is None:
            raise Interrupted("the connection is gone", certain=not self._committing)
        try:
            cursor = raw.execute(statement, values or None)
            return [] if self._batching or cursor.description is None else cursor.fetchall()
        except psycopg.Error as error:
            raise self._told(error) from error

    def _told(self, error: psycopg.Error) -> Exception:
        """What an error of the driver means to a store."""
        if isinstance(error, errors.LockNotAvailable):
            return TimedOut(
                "the environment is busy: another server did not let go of it within 10 s",
                details={"place": self._place},
                next_step="wait for it to end and run the command again",
            )
        if isinstance(error, psycopg.DataError):
            return error  # it is the values, not the database
        if isinstance(error, _AGAIN) and not isinstance(error, _NEVER):
            return Interrupted(_reason(error), certain=not self._committing)
        return failed(self._place, _reason(error), sqlstate=error.sqlstate)


class PostgresqlDatabase:
    """The database at `url` (libpq's form; a password is better kept in PGPASSWORD or a password file)."""

    lanes = True
    shared = True

    def __init__(self, url: str) -> None:
        self._url = url
        self.place = _shown(url)
        self._idle: list[PostgresqlConnection] = []
        self._guard = threading.Lock()
        self._closed = threading.Event()
        self._listening: threading.Thread | None = None
        try:
            with self._using("BEGIN", _MIGRATING, commit=True) as connection:
                schema.migrate(connection, _WORDS, timestamp(wall_clock()))
        except Interrupted as stop:
            self.close()
            raise failed(self.place, stop.reason, away=True) from stop
        except BaseException:
            self.close()
            raise

    @contextmanager
    def writing(self, lane: str) -> Iterator[Connection]:
        """A transaction that has the environment `lane` to itself, durable when the block ends."""
        begin = "BEGIN ISOLATION LEVEL READ COMMITTED"
        with self._using(begin, _lock_of(lane), commit=True) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of everything; begun anew once when its connection broke meanwhile."""
        try:
            with self._using("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", commit=False) as connection:
                yield connection
        except Interrupted as stop:
            raise failed(self.place, stop.reason, away=True) from stop

    def ask(self, statement: str, *values: Any) -> list[Values]:
        """One question outside of any transaction; its rows. Asked again when the connection was broken."""
        for last in (False, True):
            connection = self._taken()
            try:
                rows = connection.asked(statement, values)
            except Interrupted as stop:
                connection.close()
                if last:
                    raise failed(self.place, stop.reason, away=True) from stop
                continue
            except BaseException:
                connection.close()
                raise
            self._back(connection)
            return rows
        raise AssertionError("it was asked twice")

    def announce(self, connection: Connection, lane: str, generation: int) -> None:
        """Tell other servers when the transaction ends."""
        connection.query("SELECT pg_notify(?, ?)", _CHANNEL, f"{id(self)} {lane} {generation}")

    def listen(self, heard: Callable[[str, int], None]) -> None:
        """Call `heard` for what other servers announce, until the database is closed."""

        def told(payload: str) -> None:
            sender, lane, generation = payload.split(" ")
            if sender != str(id(self)):
                heard(lane, int(generation))

        def run() -> None:
            connection = PostgresqlConnection(self._url, self.place)
            missed = False
            while not self._closed.is_set():
                try:
                    connection.begin(f"LISTEN {_CHANNEL}")
                    if missed:  # nobody knows what was announced meanwhile
                        for lane, generation in connection.query("SELECT env_id, generation FROM environments"):
                            heard(lane, generation)
                    missed = True
                    connection.notices(told, self._closed.is_set)
                except (Interrupted, GreenticError):
                    self._closed.wait(1.0)
            connection.close()

        self._listening = threading.Thread(target=run, name="greentic-store-listen", daemon=True)
        self._listening.start()

    def close(self) -> None:
        """Let go of all connections."""
        self._closed.set()
        if self._listening is not None:
            self._listening.join()
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _using(self, begin: str, *lock: int, commit: bool) -> Iterator[PostgresqlConnection]:
        connection = self._taken()
        try:
            connection.begin(begin, *lock)
            yield connection
            if commit:
                connection.commit()
            else:
                connection.rollback()
        except BaseException:
            connection.rollback()
            raise
        finally:
            self._back(connection)

    def _back(self, connection: PostgresqlConnection) -> None:
        with self._guard:
            keep = not self._closed.is_set() and len(self._idle) < 16
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()

    def _taken(self) -> PostgresqlConnection:
        with self._guard:
            return self._idle.pop() if self._idle else PostgresqlConnection(self._url, self.place)


@lru_cache(maxsize=512)
def _translated(statement: str) -> str:
    return statement.replace("?", "%s")


@lru_cache(maxsize=64)
def _inserting(table: str, columns: tuple[str, ...], key: tuple[str, ...]) -> str:
    arrays = ", ".join(f"%b::{_TYPES.get(name, 'text')}[]" for name in columns)
    replacing = ""
    if key:
        rest = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
        replacing = f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {rest}"
    names = ", ".join(columns)
    return f"INSERT INTO {table} ({names}) SELECT * FROM unnest({arrays}){replacing}"  # noqa: S608 - our own names


def _lock_of(lane: str) -> int:
    return int.from_bytes(hashlib.sha256(f"greentic:{lane}".encode()).digest()[:8], "big", signed=True)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _shown(url: str) -> str:
    """The URL without what may be a secret."""
    try:
        found = urlsplit(url)
        port = f":{found.port}" if found.port else ""
    except ValueError as error:
        raise InvalidArgument(f"the URL of the database cannot be read: {error}") from None
    return f"{found.scheme}://{found.hostname or ''}{port}{found.path}"
