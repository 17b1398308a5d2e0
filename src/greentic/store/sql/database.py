"""The seam to a database: what the store asks of one, and how it fails. Statements are written with `?` for values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from greentic.spec.errors import StoreError

Values = tuple[Any, ...]


class Interrupted(Exception):
    """A transaction that came to no known end: the connection broke, or others stood in its way.

    `certain`: it did not happen. It may be tried again either way, for what it does is known by its keys.
    """

    def __init__(self, reason: str, *, certain: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.certain = certain


class DatabaseFailed(StoreError):
    """The database does not do what it is told."""


class Connection(Protocol):
    """One connection. Methods raise Interrupted, TimedOut for a lock that others keep, and DatabaseFailed; for values
    that cannot be kept, what the driver raises."""

    def query(self, statement: str, *values: Any) -> list[Values]:
        """Carry out one statement; its rows."""
        ...

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Values], *, key: Sequence[str] = ()) -> None:
        """Insert `rows`; with `key`, a row that has the key of another takes its place."""
        ...

    def batch(self) -> AbstractContextManager[None]:
        """Send what is asked within the block together, where that saves time. Nobody needs the rows of it."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Database(Protocol):
    """A database of ours, its schema up to date."""

    lanes: bool
    """Whether environments can be written side by side. If not, all of them share one writer."""
    shared: bool
    """Whether others may write at the same time, so that what was read before has to be looked at again."""
    place: str
    """How it is called in messages; no password in it."""

    def writing(self, lane: str) -> AbstractContextManager[Connection]:
        """A transaction that has the environment `lane` to itself (all of them, without `lanes`), durable when the
        block ends; rolled back when the block raises. One at a time for a thread."""
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of everything and changes nothing."""
        ...

    def ask(self, statement: str, *values: Any) -> list[Values]:
        """One question outside of any transaction; its rows."""
        ...

    def announce(self, connection: Connection, lane: str, generation: int) -> None:
        """Tell other servers, when the transaction ends, that the environment has this generation."""
        ...

    def listen(self, heard: Callable[[str, int], None]) -> None:
        """Call `heard` for what other servers announce. Nothing, where there are none."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


def blob(value: Any) -> bytes:
    """What stands in a column of bytes; SQLite lets others put a text there."""
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)


def listed(statement: str, values: Iterable[Any]) -> tuple[str, list[Any]]:
    """`statement` with `(?)` for a list made to hold `values`, and the values; few different texts, so that they stay
    prepared. The last value is repeated to fill up."""
    found = list(values)
    size = 1 << max(len(found) - 1, 0).bit_length()
    found += found[-1:] * (size - len(found))
    return statement.replace("(?)", f"({','.join('?' * size)})"), found


def failed(place: str, reason: str, **details: Any) -> DatabaseFailed:
    """The error of a database that does not do what it is told; `away` among the details: it cannot be reached now."""
    return DatabaseFailed(
        f"the database {place} failed: {reason}",
        details={"place": place, **details},
        next_step="look after the database, then run the same command again under the same key",
    )
