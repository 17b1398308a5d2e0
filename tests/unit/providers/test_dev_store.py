"""The dev store: what its contract promises, and what a damaged or foreign file does."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greentic.envpacks.secrets import MAX_BYTES, SecretsContext, SecretValue
from greentic.providers.local.secrets import DevStore
from greentic.spec.errors import CorruptDocument, GreenticError, InvalidArgument, ProviderError
from greentic.spec.secrets import SecretAddress

NOW = "2026-07-24T10:00:00Z"
CANARY = "hunter2-s3cr3t"
KEY = SecretAddress.of_path("dev", "acme/_/openai/api_key")
OTHER = SecretAddress.of_path("dev", "acme/_/openai/other")


@pytest.fixture
def store(tmp_path: Path) -> DevStore:
    return DevStore(SecretsContext("dev", tmp_path / "dev"))


def folder(tmp_path: Path) -> Path:
    return tmp_path / "dev" / ".greentic" / "dev"


def file(tmp_path: Path) -> Path:
    return folder(tmp_path) / ".dev.secrets.json"


def test_what_is_put_is_found_by_every_reader(store: DevStore, tmp_path: Path) -> None:
    assert not store.put(KEY, SecretValue(CANARY), NOW)
    for reader in (store, DevStore(SecretsContext("dev", tmp_path / "dev"))):
        found = reader.get(KEY)
        assert found is not None
        assert found.reveal() == CANARY
    assert store.get(OTHER) is None
    assert store.put(KEY, SecretValue("next"), NOW)
    assert [(one.address, one.updated_at) for one in store.names()] == [(KEY, NOW)]


def test_a_store_that_was_never_used_is_empty_and_stays_so(store: DevStore, tmp_path: Path) -> None:
    assert store.names() == ()
    assert store.get(KEY) is None
    assert not store.delete(KEY)
    assert not (tmp_path / "dev").exists()


def test_delete_forgets(store: DevStore) -> None:
    store.put(KEY, SecretValue(CANARY), NOW)
    store.put(OTHER, SecretValue("stays"), NOW)
    assert store.delete(KEY)
    assert not store.delete(KEY)
    assert store.get(KEY) is None
    assert [one.address for one in store.names()] == [OTHER]


def test_the_same_value_again_rewrites_nothing(store: DevStore, tmp_path: Path) -> None:
    store.put(KEY, SecretValue(CANARY), NOW)
    before = file(tmp_path).read_bytes()
    assert store.put(KEY, SecretValue(CANARY), "2027-01-01T00:00:00Z")
    assert file(tmp_path).read_bytes() == before


def test_everything_belongs_to_its_owner_alone(store: DevStore, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store.put(KEY, SecretValue(CANARY), NOW)
    finally:
        os.umask(old)
    for path in (file(tmp_path), folder(tmp_path) / "key"):
        assert path.stat().st_mode & 0o777 == 0o600
    for path in (folder(tmp_path), folder(tmp_path).parent):
        assert path.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in folder(tmp_path).iterdir()) == [".dev.secrets.json", ".lock", "key"]


def test_no_file_holds_the_value_and_every_write_looks_different(store: DevStore, tmp_path: Path) -> None:
    store.put(KEY, SecretValue(CANARY), NOW)
    first = json.loads(file(tmp_path).read_text())["secrets"][KEY.path]
    store.put(KEY, SecretValue("other"), NOW)
    store.put(KEY, SecretValue(CANARY), NOW)
    second = json.loads(file(tmp_path).read_text())["secrets"][KEY.path]
    assert first["nonce"] != second["nonce"]
    assert first["value"] != second["value"]
    for path in folder(tmp_path).rglob("*"):
        assert CANARY.encode() not in path.read_bytes()


def test_a_value_that_was_moved_is_not_opened(store: DevStore, tmp_path: Path) -> None:
    store.put(KEY, SecretValue(CANARY), NOW)
    store.put(OTHER, SecretValue("other"), NOW)
    document = json.loads(file(tmp_path).read_text())
    secrets = document["secrets"]
    secrets[KEY.path], secrets[OTHER.path] = secrets[OTHER.path], secrets[KEY.path]
    file(tmp_path).write_text(json.dumps(document))
    with pytest.raises(CorruptDocument):
        store.get(KEY)


def test_a_value_of_another_environment_is_not_opened(store: DevStore, tmp_path: Path) -> None:
    store.put(KEY, SecretValue(CANARY), NOW)
    foreign = SecretAddress.of_path("prod", KEY.path)
    for call in (store.get, store.delete, lambda at: store.put(at, SecretValue("x"), NOW)):
        with pytest.raises(InvalidArgument):
            call(foreign)
    elsewhere = DevStore(SecretsContext("prod", tmp_path / "dev"))
    with pytest.raises(CorruptDocument, match="not this environment's"):
        elsewhere.get(foreign)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_one_flipped_bit_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("flip")
    store = DevStore(SecretsContext("dev", root / "dev"))
    store.put(KEY, SecretValue(CANARY), NOW)
    path = data.draw(st.sampled_from([file(root), folder(root) / "key"]))
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(raw))
    told, found = "", None
    try:
        found = store.get(KEY)
    except GreenticError as error:
        told = str(error.document())
    # What may change unnoticed is white space, the date, or the name, which then is another one.
    assert found is None or found.reveal() == CANARY
    assert CANARY not in told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        "[]",
        "null",
        '{"schema":"greentic.dev-secrets.v1","environment_id":"dev"}',
        '{"schema":"other","environment_id":"dev","secrets":{}}',
        '{"schema":"greentic.dev-secrets.v1","environment_id":"dev","secrets":[]}',
        '{"schema":"greentic.dev-secrets.v1","environment_id":"dev","secrets":{"a":{}}}',
        '{"schema":"greentic.dev-secrets.v1","environment_id":"dev","secrets":{"a/_/c/d":{"nonce":1,"value":"x"}}}',
        '{"schema":"greentic.dev-secrets.v1","environment_id":"dev","secrets":{"a/_/c/d":7}}',
    ],
)
def test_a_malformed_file_is_refused_and_left_alone(store: DevStore, tmp_path: Path, text: str) -> None:
    store.put(KEY, SecretValue(CANARY), NOW)
    file(tmp_path).write_text(text)
    for call in (store.names, lambda: store.get(KEY), lambda: store.put(KEY, SecretValue("x"), NOW)):
        with pytest.raises(CorruptDocument):
            call()
    assert file(tmp_path).read_text() == text


def test_a_lost_key_is_never_replaced_over_secrets(store: DevStore, tmp_path: Path) -> None:
    store.put(KEY, SecretValue(CANARY), NOW)
    (folder(tmp_path) / "key").unlink()
    for call in (lambda: store.get(KEY), lambda: store.put(OTHER, SecretValue("x"), NOW)):
        with pytest.raises(CorruptDocument, match="is gone"):
            call()
    assert not (folder(tmp_path) / "key").exists()
    assert [one.address for one in store.names()] == [KEY], "names need no key"


@pytest.mark.parametrize("name", ["key", ".dev.secrets.json"])
def test_files_that_others_can_read_are_refused(store: DevStore, tmp_path: Path, name: str) -> None:
    store.put(KEY, SecretValue(CANARY), NOW)
    (folder(tmp_path) / name).chmod(0o640)
    with pytest.raises(ProviderError, match="read by others"):
        store.get(KEY)


@pytest.mark.parametrize("name", ["key", ".dev.secrets.json"])
def test_links_are_not_followed(store: DevStore, tmp_path: Path, name: str) -> None:
    store.put(KEY, SecretValue(CANARY), NOW)
    path = folder(tmp_path) / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GreenticError):
        store.get(KEY)


@pytest.mark.parametrize("text", ["", "x" * (MAX_BYTES + 1), "\ud800"])
def test_values_that_cannot_be_kept(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        SecretValue(text)
    assert "xxx" not in str(caught.value.document())


def test_a_value_shows_itself_to_nobody() -> None:
    value = SecretValue(CANARY)
    assert CANARY not in f"{value!r} {value} {[value]}"
    assert not hasattr(value, "__dict__")
    with pytest.raises(TypeError):
        pickle.dumps(value)
    with pytest.raises(TypeError):
        json.dumps(value)
    try:
        raise ValueError(value)
    except ValueError:
        assert CANARY not in traceback.format_exc()


def test_a_mark_tells_values_apart_and_nothing_else(store: DevStore, tmp_path: Path) -> None:
    one = store.mark(KEY, SecretValue("a"), "k")
    assert one == store.mark(KEY, SecretValue("a"), "k")
    different = {
        store.mark(KEY, SecretValue("b"), "k"),
        store.mark(OTHER, SecretValue("a"), "k"),
        store.mark(KEY, SecretValue("a"), "k2"),
        DevStore(SecretsContext("dev", tmp_path / "another")).mark(KEY, SecretValue("a"), "k"),
        one,
    }
    assert len(different) == 5


WRITER = """
import sys
from pathlib import Path
from greentic.envpacks.secrets import SecretsContext, SecretValue
from greentic.providers.local.secrets import DevStore
from greentic.spec.secrets import SecretAddress
store = DevStore(SecretsContext("dev", Path(sys.argv[1])))
for number in range(10):
    store.put(SecretAddress.of_path("dev", f"t/_/c/s{sys.argv[2]}_{number}"), SecretValue(f"{sys.argv[2]}-{number}"),
              "2026-07-24T10:00:00Z")
"""


def test_writers_at_once_lose_nothing(store: DevStore, tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "dev"), str(one)]) for one in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert len(store.names()) == 40
    for entry in store.names():
        found = store.get(entry.address)
        assert found is not None
        assert found.reveal() == entry.address.name.removeprefix("s").replace("_", "-")
