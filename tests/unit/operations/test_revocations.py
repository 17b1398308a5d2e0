"""A revoked bundle is neither staged nor warmed, and a list that cannot be read allows nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from greentic.envpacks.revocation import RevocationContext
from greentic.providers.local.revocation import RevocationFile
from greentic.spec.errors import CorruptDocument, GreenticError, NotFound, SpecViolation

DIGEST = "sha256:" + "a" * 64
ENTRY = {"kind": "bundle", "subject": DIGEST, "since": "2026-01-01T00:00:00Z", "reason": "leaks"}


def listed(folder: Path, text: str) -> RevocationFile:
    (folder / "revocations.json").write_text(text)
    return RevocationFile(RevocationContext("local", folder))


def test_what_is_listed_is_revoked_and_nothing_else(tmp_path: Path) -> None:
    found = listed(tmp_path, json.dumps({"schema": "greentic.revocations.v1", "entries": [ENTRY]}))
    entry = found.find("bundle", DIGEST)
    assert entry is not None
    assert entry.reason == "leaks"
    assert found.find("key", DIGEST) is None
    assert found.find("bundle", DIGEST[:-1]) is None
    (tmp_path / "revocations.json").write_text('{"schema": "greentic.revocations.v1", "entries": []}')
    assert found.find("bundle", DIGEST) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"entries": []}',
        '{"schema": "greentic.revocations.v2", "entries": []}',
        '{"schema": "greentic.revocations.v1"}',
        '{"schema": "greentic.revocations.v1", "entries": [{"kind": "bundle"}]}',
        '{"schema": "greentic.revocations.v1", "entries": [], "entries": []}',
    ],
)
def test_a_list_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path, text: str) -> None:
    with pytest.raises(CorruptDocument):
        listed(tmp_path, text).find("bundle", DIGEST)


def test_a_missing_list_and_one_that_lies_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no list"):
        RevocationFile(RevocationContext("local", tmp_path)).find("bundle", DIGEST)
    with pytest.raises(SpecViolation):
        RevocationFile(RevocationContext("local", tmp_path, {"file": "../elsewhere.json"}))
    (tmp_path / "revocations.json").mkdir()
    with pytest.raises(GreenticError):
        RevocationFile(RevocationContext("local", tmp_path)).find("bundle", DIGEST)
