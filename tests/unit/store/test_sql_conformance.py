"""The stores in databases keep what the contract promises, the same functions for all."""

from __future__ import annotations

import pytest

from greentic.store import conformance


@pytest.mark.parametrize("check", [*conformance.CHECKS, *conformance.SERVED_CHECKS], ids=lambda check: check.__name__)
def test_sql_store(check, database, opened):
    one = opened(database)
    # A SQLite file belongs to one process and one store; its clients share it as those of a server do.
    other = one if database.endswith(".db") else opened(database)
    check(lambda: (one, other))
