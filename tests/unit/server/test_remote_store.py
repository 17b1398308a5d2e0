"""The remote client over a real server keeps what the port of the store promises."""

from __future__ import annotations

import pytest

from greentic.store import conformance


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_remote_store(check, server):
    check(lambda: (server.client(), server.client(folder="other")))
