"""The remote client over a real server keeps what the port of the store promises."""

from __future__ import annotations

import pytest
from tests.integration.databases import spoil

from greentic.spec.errors import CorruptDocument
from greentic.store import conformance
from greentic.store.files import FilesStore
from greentic.store.sql.store import open_store


@pytest.mark.parametrize("place", ["database", "folder"])
@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_remote_store(check, place, server):
    if place == "folder":
        server.desk.store = FilesStore(server.root / "environments")
    check(lambda: (server.client(), server.client(folder="other")))


def test_a_backup_is_the_way_back_from_a_spoilt_row(server):
    client = server.client()
    before = client.apply(conformance.WALK.create())
    client.backups().create(before.environment.environment_id, idempotency_key="keep", actor="me")
    path = server.root / "store.db"
    server.desk.store.close()
    spoil(str(path), "UPDATE elements SET data = ?", b"{}")
    server.desk.store = open_store(str(path))
    server.closing.callback(server.desk.store.close)
    with pytest.raises(CorruptDocument):
        client.load(before.environment.environment_id)
    restored = client.backups().restore(before.environment.environment_id, idempotency_key="back", actor="me")
    assert (restored.etag, restored.generation) == (before.etag, 2)
    assert client.load(before.environment.environment_id).etag == before.etag
