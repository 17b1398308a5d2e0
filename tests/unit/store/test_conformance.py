"""The store of one machine keeps what the contract promises."""

from __future__ import annotations

import pytest

from greentic.store import conformance
from greentic.store.files import FilesStore


@pytest.mark.parametrize("check", [*conformance.CHECKS, *conformance.SERVED_CHECKS], ids=lambda check: check.__name__)
def test_files_store(check, tmp_path):
    place = tmp_path / "with a space" / "environments"
    check(lambda: (FilesStore(place), FilesStore(place)))
