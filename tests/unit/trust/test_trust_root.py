"""The trust root: what is refused, the outcomes of the reference, and a removed key that stays away."""

from __future__ import annotations

import json

import pytest

from greentic.engine import trust_root as rules
from greentic.spec.errors import Conflict
from greentic.trust import root as trust_root
from greentic.trust.errors import KeyRemoved, OperatorKeyNotTrusted, TrustRootError
from greentic.trust.keys import OperatorKey
from greentic.trust.root import AddTrustedKeyPayload, TrustRoot

ALICE = OperatorKey.from_seed(b"\1" * 32).public
BOB = OperatorKey.from_seed(b"\2" * 32).public
NOW = "2026-07-24T10:00:00Z"


def asked(key=ALICE, *, restore: bool = False, key_id: str | None = None) -> AddTrustedKeyPayload:
    return AddTrustedKeyPayload(key_id=key_id or key.key_id, public_key_pem=key.pem, restore=restore)


def trusting(*keys) -> TrustRoot:
    root = trust_root.empty()
    for key in keys:
        root = trust_root.add(root, asked(key)).root
    return root


def entry(key, **changes: object) -> dict[str, object]:
    return {"key_id": key.key_id, "public_key_pem": key.pem, **changes}


def written(**changes: object) -> bytes:
    return json.dumps({"schema": "greentic.trust-root.v1", "keys": [entry(ALICE)], **changes}).encode()


class TestReading:
    def test_a_document_of_the_reference(self) -> None:
        root = trust_root.read(written())
        assert root.trusted() == (ALICE,)
        assert json.loads(root.to_bytes()) == json.loads(written())
        assert root.to_bytes().endswith(b"}\n")

    def test_a_missing_document_trusts_nobody(self) -> None:
        assert trust_root.read(None).trusted() == ()

    def test_an_upper_case_id_is_the_same_key(self) -> None:
        root = trust_root.read(written(keys=[entry(ALICE, key_id=ALICE.key_id.upper())]))
        assert root.trusts(ALICE.key_id)
        assert trust_root.remove(root, ALICE.key_id, NOW).root.trusted() == ()

    def test_unknown_fields_survive_every_change(self) -> None:
        root = trust_root.read(written(note="n", keys=[entry(ALICE, added_by="x")]))
        root = trust_root.add(root, asked(BOB)).root
        root = trust_root.remove(root, BOB.key_id, NOW).root
        document = json.loads(root.to_bytes())
        assert document["note"] == "n"
        assert document["keys"] == [entry(ALICE, added_by="x")]

    @pytest.mark.parametrize(
        "data",
        [
            b"", b"[]", b"null", b"{}", b"\xff\xfe", b'{"schema":"greentic.trust-root.v1"}',
            written(schema="greentic.trust-root.v2"), written(schema=None), written(keys=None), written(keys={}),
            b'{"keys":[]}', written(keys=[entry(ALICE), entry(ALICE)]),
            written(keys=[entry(ALICE), entry(ALICE, key_id=ALICE.key_id.upper())]),
            written(keys=[entry(ALICE, key_id=BOB.key_id)]), written(keys=[entry(ALICE, key_id="")]),
            written(keys=[entry(ALICE, public_key_pem="x")]), written(keys=[entry(ALICE), {"key_id": BOB.key_id}]),
            written(removed=[entry(ALICE)]), written(removed=[entry(BOB), entry(BOB)]),
            written(removed=[entry(BOB, key_id=ALICE.key_id)], keys=[]), written(removed=[entry(BOB, removed_at="x")]),
            written().replace(b'"keys"', b'"keys":[],"keys"'), b" " * (trust_root.MAX_BYTES + 1),
        ],
    )  # fmt: skip
    def test_one_fault_makes_the_whole_unusable(self, data: bytes) -> None:
        with pytest.raises(TrustRootError) as caught:
            trust_root.read(data)
        assert caught.value.kind == "trust-root"


class TestChanges:
    def test_outcomes_are_those_of_the_reference(self) -> None:
        added = trust_root.add(trust_root.empty(), asked(ALICE, key_id=ALICE.key_id.upper()))
        assert added.outcome.to_json() == {"added_key_id": ALICE.key_id.upper(), "trusted_key_count": 1}
        assert added.root.keys[0].key_id == ALICE.key_id
        removed = trust_root.remove(added.root, ALICE.key_id.upper(), NOW)
        assert removed.outcome.to_json() == {
            "removed_key_id": ALICE.key_id.upper(),
            "removed_public_key_pem": ALICE.pem,
            "trusted_key_count": 0,
        }
        again = trust_root.remove(removed.root, ALICE.key_id, NOW)
        assert again.outcome.removed_public_key_pem is None
        assert again.outcome.to_json()["removed_public_key_pem"] is None
        seeded = trust_root.seed(None, BOB)
        assert seeded.outcome is not None
        assert seeded.outcome.to_json() == {"key_id": BOB.key_id, "public_key_pem": BOB.pem, "trusted_key_count": 1}

    def test_what_changes_nothing_returns_the_same_document(self) -> None:
        root = trusting(ALICE)
        assert trust_root.add(root, asked(ALICE)).root is root
        assert trust_root.bootstrap(root, ALICE).root is root
        assert trust_root.remove(root, BOB.key_id, NOW).root is root
        assert trust_root.seed(root, BOB).root is root

    def test_a_removal_keeps_the_others_and_remembers(self) -> None:
        root = trust_root.remove(trusting(ALICE, BOB), ALICE.key_id, NOW).root
        assert root.trusted() == (BOB,)
        assert root.once_trusted() == (ALICE,)
        assert root.removed[0].removed_at == NOW
        assert trust_root.read(root.to_bytes()) == root

    def test_a_seed_respects_any_document(self) -> None:
        for root in (trust_root.empty(), trusting(BOB)):
            seeded = trust_root.seed(root, ALICE)
            assert seeded.outcome is None
            assert not seeded.root.trusts(ALICE.key_id)

    @pytest.mark.parametrize("key_id", ["", "x", BOB.key_id, ALICE.key_id + " "])
    def test_an_id_must_be_derived_from_its_key(self, key_id: str) -> None:
        with pytest.raises(TrustRootError) as caught:
            trust_root.add(trust_root.empty(), AddTrustedKeyPayload(key_id=key_id, public_key_pem=ALICE.pem))
        assert caught.value.details == {"reason": "key-id-mismatch", "derived_key_id": ALICE.key_id}

    def test_a_removed_key_comes_back_only_when_asked_for(self) -> None:
        root = trust_root.remove(trusting(ALICE), ALICE.key_id, NOW).root
        for attempt in (lambda: trust_root.add(root, asked(ALICE)), lambda: trust_root.bootstrap(root, ALICE)):
            with pytest.raises(KeyRemoved, match="does not come back by itself") as caught:
                attempt()
            assert "--restore" in (caught.value.next_step or "")
        assert trust_root.seed(root, ALICE).outcome is None
        restored = trust_root.add(root, asked(ALICE, restore=True)).root
        assert restored.trusts(ALICE.key_id)
        assert restored.removed == ()
        assert "removed" not in restored.to_json()

    def test_restore_needs_no_removal(self) -> None:
        assert trust_root.add(trust_root.empty(), asked(ALICE, restore=True)).root == trusting(ALICE)

    def test_a_payload_of_the_reference_has_no_restore(self) -> None:
        assert asked(ALICE).to_json() == entry(ALICE)

    def test_the_number_of_keys_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rules, "MAX_KEYS", 1)
        root = trusting(ALICE)
        with pytest.raises(TrustRootError, match="at most"):
            trust_root.add(root, asked(BOB))
        root = trust_root.remove(root, ALICE.key_id, NOW).root
        with pytest.raises(TrustRootError, match="no more fit"):
            trust_root.remove(trust_root.add(root, asked(BOB)).root, BOB.key_id, NOW)


class TestOperator:
    def test_a_trusted_operator_may_sign(self) -> None:
        trust_root.require_operator(trusting(BOB, ALICE), ALICE)

    def test_an_unknown_operator_is_told_to_bootstrap(self) -> None:
        with pytest.raises(OperatorKeyNotTrusted) as caught:
            trust_root.require_operator(trusting(BOB), ALICE)
        assert isinstance(caught.value, Conflict)
        assert "bootstrap" in (caught.value.next_step or "")

    def test_a_removed_operator_is_told_what_happened(self) -> None:
        root = trust_root.remove(trusting(ALICE), ALICE.key_id, NOW).root
        with pytest.raises(OperatorKeyNotTrusted, match="was removed") as caught:
            trust_root.require_operator(root, ALICE)
        assert "--restore" in (caught.value.next_step or "")
