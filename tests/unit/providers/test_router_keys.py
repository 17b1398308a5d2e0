"""Turning the key ring: what older keys signed stays valid, and nobody's slot moves."""

from __future__ import annotations

import base64
import json
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from greentic.providers.local import keys
from greentic.providers.local.layout import write_private
from greentic.providers.local.tokens import token, trust_token
from greentic.router import preview, trust
from greentic.router.table import RoutingTable
from greentic.spec import errors

END = int(time.time()) + 24 * 3600  # the whole run may come between


def ring_of(path: Path) -> Any:
    """The ring as a router takes it, and the secret of its slots."""
    table = RoutingTable.parse({"version": 1, "env_id": "local", "keys": keys.ensure(path), "deployments": []})
    return table.keys, table.slot_secret


def test_a_key_verifies_everywhere_before_it_signs(tmp_path: Path) -> None:
    path = tmp_path / "router-keys.json"
    before = keys.ensure(path)
    assert keys.stage(path) is None
    staged = keys.ensure(path)
    assert (staged["active"], len(staged["ring"])) == (before["active"], 2)
    assert staged["ring"][1:] == before["ring"]
    # One that began and did not end is gone on with.
    assert keys.stage(path) is None
    assert keys.ensure(path) == staged
    turned = keys.activate(path)
    assert turned["active"] == turned["ring"][0]["kid"] != before["active"]
    assert keys.activate(path) == turned
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["router-keys.json"]


def test_what_was_signed_is_valid_for_three_rotations_and_slots_stay(tmp_path: Path) -> None:
    path = tmp_path / "router-keys.json"
    tokens = [token(path, "D1", "R1", END)]
    vouched = trust_token(path, "local", None, END).encode()
    _, slots = ring_of(path)
    dropped: list[str | None] = []
    for _ in range(5):
        dropped.append(keys.stage(path))
        keys.activate(path)
        tokens.append(token(path, "D1", "R1", END))
        ring, same = ring_of(path)
        assert same == slots
        for text in tokens[-keys.RING_LIMIT :]:
            assert preview.verify(ring, "D1", text.encode(), time.time()).revision_id == "R1"
        for text in tokens[: -keys.RING_LIMIT]:
            with pytest.raises(errors.Denied):
                preview.verify(ring, "D1", text.encode(), time.time())
        assert trust.proves(ring, "local", "D1", vouched, time.time()) == (len(tokens) <= keys.RING_LIMIT)
    assert dropped[:3] == [None] * 3
    assert None not in dropped[3:]
    assert len(keys.ensure(path)["ring"]) == keys.RING_LIMIT


def test_a_ring_of_before_slots_gets_their_secret_once(tmp_path: Path) -> None:
    path = tmp_path / "router-keys.json"
    old = keys.ensure(path)
    old.pop("slots")
    write_private(path, json.dumps(old).encode())
    found: list[str] = []
    start = threading.Barrier(8)

    def ensure() -> None:
        start.wait()
        found.append(keys.ensure(path)["slots"])

    threads = [threading.Thread(target=ensure) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 8
    assert len(base64.b64decode(found[0])) == keys.SECRET_BYTES
    assert keys.ensure(path)["ring"] == old["ring"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_rotations_at_once_lose_none(tmp_path: Path) -> None:
    path = tmp_path / "router-keys.json"
    keys.ensure(path)

    def turn() -> None:
        keys.stage(path)
        keys.activate(path)

    threads = [threading.Thread(target=turn) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    document = keys.ensure(path)
    assert document["active"] == document["ring"][0]["kid"]


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.update(slots="c2hvcnQ="),
        lambda found: found.update(slots=None),
        lambda found: found.update(slots=3),
        lambda found: found.update(
            ring=[{**found["ring"][0], "kid": f"k{number}"} for number in range(5)], active="k0"
        ),
    ],
)
def test_broken_keys_are_refused_without_showing_them(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "router-keys.json"
    found = keys.ensure(path)
    secrets = (found["slots"], found["ring"][0]["secret"])
    change(found)
    write_private(path, json.dumps(found).encode())
    for use in (keys.ensure, keys.stage, keys.activate):
        with pytest.raises(errors.CorruptDocument) as caught:
            use(path)
        assert not any(secret in str(caught.value.document()) for secret in secrets)
