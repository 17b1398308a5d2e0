"""The remote client over a real server keeps what the port of the store promises."""

from __future__ import annotations

import pytest

from greentic.store import conformance
from greentic.store.files import FilesStore


@pytest.mark.parametrize("place", ["database", "folder"])
@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_remote_store(check, place, server):
    if place == "folder":
        server.desk.store = FilesStore(server.root / "environments")
    check(lambda: (server.client(), server.client(folder="other")))
