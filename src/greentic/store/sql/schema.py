"""The tables, and how a database comes to have them: migrations that are never edited, told apart by their checksums.

Texts that callers choose (keys, documents, audit entries) are bytes: what is hashed is what is kept, and no database
has an opinion on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from greentic.spec.errors import StoreError
from greentic.store.sql.database import Connection

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # `generation` 0: never made. `sequence` and `head`: the newest audit entry. `audit_from`: the oldest one kept.
        # `history_from`: the oldest generation whose rows are all kept. `signed`: the newest signed head.
        """CREATE TABLE environments (
            env_id TEXT NOT NULL PRIMARY KEY, generation BIGINT NOT NULL, etag TEXT NOT NULL,
            sequence BIGINT NOT NULL, head TEXT NOT NULL, audit_from BIGINT NOT NULL, history_from BIGINT NOT NULL,
            signed {bytes})""",
        """CREATE TABLE elements (
            env_id TEXT NOT NULL, section TEXT NOT NULL, position BIGINT NOT NULL, generation BIGINT NOT NULL,
            data {bytes}, PRIMARY KEY (env_id, section, position, generation)){clustered}""",
        """CREATE TABLE ledger (
            env_id TEXT NOT NULL, key {bytes} NOT NULL, fingerprint TEXT NOT NULL, generation BIGINT NOT NULL,
            etag TEXT NOT NULL, sequence BIGINT NOT NULL, stored_at TEXT NOT NULL, record {bytes} NOT NULL,
            PRIMARY KEY (env_id, key)){clustered}""",
        "CREATE INDEX ledger_age ON ledger (env_id, sequence)",
        """CREATE TABLE audit (
            env_id TEXT NOT NULL, sequence BIGINT NOT NULL, line {bytes} NOT NULL,
            PRIMARY KEY (env_id, sequence)){clustered}""",
        """CREATE TABLE files (
            env_id TEXT NOT NULL, path TEXT NOT NULL, digest TEXT NOT NULL, data {bytes} NOT NULL,
            PRIMARY KEY (env_id, path)){clustered}""",
        """CREATE TABLE backups (
            env_id TEXT NOT NULL, name TEXT NOT NULL, created_at TEXT NOT NULL, generation BIGINT NOT NULL,
            origin TEXT NOT NULL, etag TEXT NOT NULL, size BIGINT NOT NULL, digest TEXT NOT NULL,
            data {bytes} NOT NULL, signature {bytes}, PRIMARY KEY (env_id, name))""",
        "CREATE TABLE probes (name TEXT NOT NULL PRIMARY KEY, moment TEXT NOT NULL)",
    ),
)
"""By version, from 1: its statements. `{bytes}` is the type of bytes, `{clustered}` keeps a table in the order of its
key where that has to be said."""


def migrate(connection: Connection, words: Mapping[str, str], now: str) -> None:
    """Bring the database up to date within the caller's transaction, which no other server does meanwhile.

    StoreError for one that another version of this program made, or whose migrations are not ours.
    """
    connection.query(
        "CREATE TABLE IF NOT EXISTS migrations "
        "(version BIGINT NOT NULL PRIMARY KEY, checksum TEXT NOT NULL, applied_at TEXT NOT NULL)"
    )
    known: dict[int, str] = dict(connection.query("SELECT version, checksum FROM migrations ORDER BY version"))
    for version, checksum in known.items():
        if version > len(MIGRATIONS):
            raise StoreError(
                f"the database is of version {max(known)}, this program knows up to {len(MIGRATIONS)}",
                details={"version": max(known), "known": len(MIGRATIONS)},
                next_step="run the newer version of the program",
            )
        if checksum != _checksum(version):
            raise StoreError(
                f"migration {version} of the database is not the one of this program",
                details={"version": version, "checksum": checksum, "expected": _checksum(version)},
                next_step="use the program that made the database, or another database",
            )
    for version, statements in enumerate(MIGRATIONS, start=1):
        if version not in known:
            for statement in statements:
                connection.query(statement.format_map(words))
            connection.query("INSERT INTO migrations VALUES (?, ?, ?)", version, _checksum(version), now)


def _checksum(version: int) -> str:
    return hashlib.sha256("\n".join(MIGRATIONS[version - 1]).encode()).hexdigest()
