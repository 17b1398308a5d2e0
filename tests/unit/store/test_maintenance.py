"""What changes files beside the document is an attempt like any other: announced, and closed however it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from greentic.engine.command import Command
from greentic.spec.errors import Conflict
from greentic.spec.parsing import Payload
from greentic.spec.payloads import CreateEnvironmentPayload
from greentic.store.files import FilesStore


class Nothing(Payload):
    """Asks for nothing."""


def test_an_effect_that_is_refused_closes_its_intent(tmp_path: Path) -> None:
    store = FilesStore(tmp_path)
    payload = CreateEnvironmentPayload(environment_id="local", name="local")
    store.apply(Command("local", "env", "create", payload, "a", "me"))

    def refuse(_: object) -> dict[str, str]:
        raise Conflict("not like this")

    with pytest.raises(Conflict):
        store.maintain(Command("local", "secrets", "put", Nothing(), "b", "me"), refuse)
    last = store.audit("local").tail(1)[0]
    assert (last["phase"], last["result"]) == (
        "outcome",
        {"outcome": "error", "kind": "conflict", "message": "not like this"},
    )
    assert store.verify_audit("local").ok
