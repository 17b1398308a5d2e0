"""How much is kept of an environment, and how much of it a caller can fill."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from greentic.store.sql.database import Connection

_ASKERS = 10_000
"""Callers whose refusals are counted."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept of an environment, and how much a caller can make it keep.

    `keys`: idempotency keys and generations that can be looked at again, the newest. `audit_rows`: entries of the audit
    log, None for all. What is more is removed after every `tidy_every` entries. A caller's refusals leave `refusals`
    entries at once, and one more each `refusal_seconds`.
    """

    keys: int = 4_096
    audit_rows: int | None = None
    refusals: int = 64
    refusal_seconds: float = 1.0
    tidy_every: int = 512


@dataclass(slots=True)
class _Allowance:
    left: float
    moment: datetime
    unrecorded: int = 0


class Allowances:
    """How many refusals of each caller may still be recorded, and how many were not."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[tuple[str, str], _Allowance] = {}

    def take(self, environment_id: str, asker: str, moment: datetime) -> int | None:
        """None when a refusal at `moment` is not to be recorded, else how many before it were not."""
        if len(self._known) > _ASKERS:
            self._known.clear()  # whoever comes under as many names has them from somebody who knows them all
        one = self._known.setdefault((environment_id, asker), _Allowance(self._limits.refusals, moment))
        passed = max((moment - one.moment) / timedelta(seconds=self._limits.refusal_seconds), 0.0)
        one.left, one.moment = min(one.left + passed, self._limits.refusals), moment
        if one.left < 1:
            one.unrecorded += 1
            return None
        one.left -= 1
        unrecorded, one.unrecorded = one.unrecorded, 0
        return unrecorded


def forget_keys(connection: Connection, environment_id: str, keep: int) -> None:
    """Keep the newest `keep` records of keys."""
    connection.query(
        "DELETE FROM ledger WHERE env_id = ? AND sequence < (SELECT MIN(sequence) FROM (SELECT sequence "
        "FROM ledger WHERE env_id = ? ORDER BY sequence DESC LIMIT ?) AS newest)",
        environment_id,
        environment_id,
        keep,
    )


def forget_entries(connection: Connection, environment_id: str, oldest: int) -> None:
    """Keep the audit entries from number `oldest` on."""
    connection.query("DELETE FROM audit WHERE env_id = ? AND sequence < ?", environment_id, oldest)


def forget_generations(connection: Connection, environment_id: str, oldest: int) -> None:
    """Keep the rows that the generations from `oldest` on are made of."""
    connection.query(
        "DELETE FROM elements WHERE env_id = ? AND generation < ? AND EXISTS (SELECT 1 FROM elements AS newer "
        "WHERE newer.env_id = elements.env_id AND newer.section = elements.section AND newer.position = "
        "elements.position AND newer.generation > elements.generation AND newer.generation <= ?)",
        environment_id,
        oldest,
        oldest,
    )
    connection.query(
        "DELETE FROM elements WHERE env_id = ? AND generation <= ? AND data IS NULL", environment_id, oldest
    )
