"""What `greentic.envpacks.secrets` asks, guarantee by guarantee."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from greentic.envpacks.secrets import Secrets, SecretsContext, SecretValue
from greentic.spec.errors import CorruptDocument, InvalidArgument
from greentic.spec.secrets import SecretAddress

from acme_example import pack

ADDRESS = SecretAddress("local", "acme", "_", "openai", "api_key")
NOW = "2026-01-01T00:00:00Z"


def store(folder: Path) -> Secrets:
    make = pack().secrets
    assert make is not None
    return make(SecretsContext("local", folder))


def test_what_was_put_is_what_everybody_gets(tmp_path: Path) -> None:
    assert store(tmp_path).get(ADDRESS) is None
    assert not store(tmp_path).put(ADDRESS, SecretValue("hunter2"), NOW)
    assert store(tmp_path).put(ADDRESS, SecretValue("hunter3"), NOW)
    assert store(tmp_path).get(ADDRESS) == SecretValue("hunter3")
    assert [entry.address for entry in store(tmp_path).names()] == [ADDRESS]
    assert store(tmp_path).delete(ADDRESS)
    assert not store(tmp_path).delete(ADDRESS)
    assert store(tmp_path).names() == ()


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    store(tmp_path).put(ADDRESS, SecretValue("hunter2"), NOW)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)


def test_another_environment_is_not_reached(tmp_path: Path) -> None:
    other = SecretAddress("other", "acme", "_", "openai", "api_key")
    for act in (store(tmp_path).get, store(tmp_path).delete):
        with pytest.raises(InvalidArgument):
            act(other)
    with pytest.raises(InvalidArgument):
        store(tmp_path).get(SecretAddress("local", "..", "_", "openai", "api_key"))


def test_a_damaged_value_is_told_without_showing_it(tmp_path: Path) -> None:
    store(tmp_path).put(ADDRESS, SecretValue("hunter2"), NOW)
    (path,) = [path for path in tmp_path.rglob("api_key") if path.is_file()]
    path.write_bytes(b"hunter2\xff")
    with pytest.raises(CorruptDocument) as caught:
        store(tmp_path).get(ADDRESS)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_mark_tells_values_apart_and_nothing_else(tmp_path: Path) -> None:
    mark = store(tmp_path).mark(ADDRESS, SecretValue("a"), "k")
    assert mark == store(tmp_path).mark(ADDRESS, SecretValue("a"), "k")
    assert mark != store(tmp_path).mark(ADDRESS, SecretValue("b"), "k")
    assert mark != store(tmp_path / "elsewhere").mark(ADDRESS, SecretValue("a"), "k")
