"""The short form of `make store-kill`."""

from __future__ import annotations

import pytest
from tests.integration import databases
from tests.integration.store_kills import check, run

from greentic.store.conformance import Walk
from greentic.store.sql.store import open_store

SECONDS = 6


@pytest.fixture
def killable():
    """A PostgreSQL server of its own, for it is killed."""
    running = databases.server()
    yield running
    running.remove()


def test_a_server_on_sqlite_is_killed(tmp_path):
    counted = run(str(tmp_path / "store.db"), tmp_path, SECONDS, 1)
    assert counted["servers killed"] >= 4
    assert counted["acknowledged"] > 20


def test_servers_on_postgresql_and_the_database_itself_are_killed(tmp_path, killable):
    counted = run(killable.fresh(), tmp_path, SECONDS, 1, killable)
    assert counted["servers killed"] + counted["databases killed"] >= 4
    assert counted["acknowledged"] > 20


def test_what_is_lost_is_found(tmp_path):
    """The check itself: an acknowledgement of what never happened."""
    place, journals = str(tmp_path / "store.db"), tmp_path / "journals"
    journals.mkdir()
    store = open_store(place)
    for environment_id in ("e0", "e1", "e2"):
        store.apply(Walk(environment_id).create())
    store.close()
    (journals / "0-0").write_text("e0 0-0-0 1\n")
    with pytest.raises(AssertionError, match="acknowledged is gone"):
        check(place, journals)
