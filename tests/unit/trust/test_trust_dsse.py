"""Envelopes and statements: what passes and what does not."""

from __future__ import annotations

import base64
import json

import pytest

from greentic.spec.errors import SpecViolation
from greentic.trust import dsse, statement
from greentic.trust.dsse import Envelope, Signature, pae
from greentic.trust.errors import NotTrusted, SignatureInvalid
from greentic.trust.keys import OperatorKey
from greentic.trust.statement import Statement

ALICE = OperatorKey.from_seed(b"\1" * 32)
BOB = OperatorKey.from_seed(b"\2" * 32)
DIGEST = "ab" * 32


def changed(envelope: Envelope, **fields: object) -> Envelope:
    return envelope.model_copy(update=fields)


def resigned(*signatures: Signature) -> Envelope:
    return changed(dsse.sign(b"payload", ALICE), signatures=signatures)


def test_the_example_of_the_specification() -> None:
    # https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("", b"") == b"DSSEv1 0  0 "
    assert pae("é", b"\xff") == b"DSSEv1 2 \xc3\xa9 1 \xff"


def test_what_was_signed_is_read() -> None:
    envelope = dsse.read(dsse.sign(b"payload", ALICE).to_bytes())
    verified = dsse.verify(envelope, [BOB.public, ALICE.public])
    assert verified.payload == b"payload"
    assert verified.key_ids == (ALICE.key_id,)


def test_the_wire_form() -> None:
    document = json.loads(dsse.sign(b"payload", ALICE).to_bytes())
    assert list(document) == ["payloadType", "payload", "signatures"]
    assert document["payloadType"] == "application/vnd.in-toto+json"
    assert document["payload"] == "cGF5bG9hZA=="
    assert list(document["signatures"][0]) == ["keyid", "sig"]
    assert len(base64.b64decode(document["signatures"][0]["sig"])) == 64


def test_unknown_fields_survive_and_mean_nothing() -> None:
    document = json.loads(dsse.sign(b"payload", ALICE).to_bytes())
    document["note"] = {"a": 1}
    document["signatures"][0]["cert"] = "x"
    envelope = dsse.read(json.dumps(document).encode())
    assert json.loads(envelope.to_bytes()) == document
    assert dsse.verify(envelope, [ALICE.public]).payload == b"payload"


def test_nobody_is_trusted_by_default() -> None:
    with pytest.raises(NotTrusted, match="trust root is empty") as caught:
        dsse.verify(dsse.sign(b"payload", ALICE), [])
    assert caught.value.details["reason"] == "no-trusted-key"
    assert caught.value.kind == "trust-root"


def test_a_stranger_and_a_forger_are_told_apart() -> None:
    with pytest.raises(NotTrusted) as caught:
        dsse.verify(dsse.sign(b"payload", ALICE), [BOB.public])
    assert not isinstance(caught.value, SignatureInvalid)
    with pytest.raises(SignatureInvalid):
        dsse.verify(changed(dsse.sign(b"payload", ALICE), payload="b3RoZXI="), [ALICE.public])


def test_no_signature_is_no_signer() -> None:
    with pytest.raises(NotTrusted, match="signed by nobody"):
        dsse.verify(resigned(), [ALICE.public])


def test_a_key_id_is_compared_in_either_case() -> None:
    good = dsse.sign(b"payload", ALICE).signatures[0]
    upper = good.model_copy(update={"keyid": good.keyid.upper()})
    assert dsse.verify(resigned(upper), [ALICE.public]).key_ids == (ALICE.key_id,)


@pytest.mark.parametrize("keyid", ["", " ", ALICE.key_id + " ", ALICE.key_id[:31], "0x" + ALICE.key_id, BOB.key_id])
def test_another_key_id_is_nobodys(keyid: str) -> None:
    good = dsse.sign(b"payload", ALICE).signatures[0]
    with pytest.raises(NotTrusted):
        dsse.verify(resigned(good.model_copy(update={"keyid": keyid})), [ALICE.public])


def test_a_missing_key_id_is_nobodys() -> None:
    document = json.loads(dsse.sign(b"payload", ALICE).to_bytes())
    del document["signatures"][0]["keyid"]
    with pytest.raises(NotTrusted):
        dsse.verify(dsse.read(json.dumps(document).encode()), [ALICE.public])


def test_one_bad_signature_spoils_no_good_one() -> None:
    good = dsse.sign(b"payload", ALICE).signatures[0]
    bad = (
        Signature(keyid=BOB.key_id, sig=good.sig),
        Signature(keyid=ALICE.key_id, sig="AAAA"),
        Signature(keyid=ALICE.key_id, sig="!"),
        Signature(keyid="", sig=""),
    )
    for place in range(len(bad) + 1):
        verified = dsse.verify(resigned(*bad[:place], good, *bad[place:]), [ALICE.public, BOB.public])
        assert verified.key_ids == (ALICE.key_id,)


def test_every_trusted_signer_is_named_once() -> None:
    both = (dsse.sign(b"payload", BOB).signatures[0], dsse.sign(b"payload", ALICE).signatures[0])
    verified = dsse.verify(resigned(*both, both[0]), [ALICE.public, BOB.public])
    assert verified.key_ids == tuple(sorted((ALICE.key_id, BOB.key_id)))


def test_another_payload_type_is_refused() -> None:
    envelope = dsse.sign(b"payload", ALICE, "text/plain")
    with pytest.raises(SpecViolation, match="text/plain"):
        dsse.verify(envelope, [ALICE.public])
    assert dsse.verify(envelope, [ALICE.public], "text/plain").payload == b"payload"
    with pytest.raises(SignatureInvalid):
        dsse.verify(changed(envelope, payload_type=dsse.IN_TOTO), [ALICE.public])


@pytest.mark.parametrize(
    "payload", ["cGF5bG9hZA", "cGF5bG9hZB==", "cGF5\nbG9hZA==", "cGF5bG9hZA==\n", "é", "_w==", "a"]
)
def test_base64_has_one_form(payload: str) -> None:
    with pytest.raises(SpecViolation, match="base64"):
        dsse.verify(changed(dsse.sign(b"payload", ALICE), payload=payload), [ALICE.public])


def test_caps() -> None:
    good = dsse.sign(b"payload", ALICE)
    document = json.loads(good.to_bytes())
    document["signatures"] *= dsse.MAX_SIGNATURES
    assert dsse.verify(dsse.read(json.dumps(document).encode()), [ALICE.public])
    document["signatures"].append(document["signatures"][0])
    with pytest.raises(SpecViolation):
        dsse.read(json.dumps(document).encode())
    with pytest.raises(SpecViolation, match="larger"):
        dsse.read(good.to_bytes() + b" " * dsse.MAX_BYTES)
    with pytest.raises(SpecViolation, match="larger"):
        dsse.sign(b"\0" * (dsse.MAX_PAYLOAD + 1), ALICE)
    largest = dsse.sign(b"\0" * dsse.MAX_PAYLOAD, ALICE)
    largest = changed(largest, signatures=largest.signatures * dsse.MAX_SIGNATURES)
    assert dsse.verify(dsse.read(largest.to_bytes()), [ALICE.public]).payload == b"\0" * dsse.MAX_PAYLOAD


@pytest.mark.parametrize(
    "data",
    [
        b"", b"null", b"[]", b"{}", b"\xff", b'{"payload":"","payload":"","payloadType":"","signatures":[]}',
        b'{"payload":1,"payloadType":"t","signatures":[]}', b'{"payload":"","payloadType":"t","signatures":null}',
        b'{"payload":"","payloadType":"t","signatures":[{"keyid":"a"}]}',
        b'{"payload":"","payloadType":"t","signatures":[{"keyid":null,"sig":""}]}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_envelope(data: bytes) -> None:
    with pytest.raises(SpecViolation):
        dsse.read(data)


class TestStatements:
    def test_the_wire_form(self) -> None:
        claim = statement.about("web.gtbundle", f"sha256:{DIGEST}", statement.SLSA_PROVENANCE, {"builder_id": "b"})
        assert json.loads(claim.to_bytes()) == {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "web.gtbundle", "digest": {"sha256": DIGEST}}],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {"builder_id": "b"},
        }
        signed = statement.verify(statement.sign(claim, ALICE), [ALICE.public], statement.SLSA_PROVENANCE)
        assert signed.statement == claim
        assert signed.key_ids == (ALICE.key_id,)

    def test_another_predicate_is_refused(self) -> None:
        claim = statement.about("n", DIGEST, statement.SLSA_PROVENANCE, {})
        with pytest.raises(SpecViolation) as caught:
            statement.verify(statement.sign(claim, ALICE), [ALICE.public], "greentic.revenue-policy-predicate.v1")
        assert caught.value.rule == "PredicateType"

    @pytest.mark.parametrize(
        "payload",
        [
            {"_type": "https://in-toto.io/Statement/v0.1", "subject": [], "predicateType": "p"},
            {"subject": [{"name": "n", "digest": {"sha256": DIGEST}}], "predicateType": "p", "predicate": {}},
            {"_type": statement.TYPE, "subject": [], "predicateType": "p", "predicate": {}},
            {"_type": statement.TYPE, "subject": [{"name": "n"}], "predicateType": "p", "predicate": {}},
            {"_type": statement.TYPE, "subject": [{"name": "n", "digest": {}}], "predicateType": "p", "predicate": 1},
            [],
        ],
    )
    def test_what_is_no_statement(self, payload: object) -> None:
        with pytest.raises(SpecViolation):
            statement.verify(dsse.sign(json.dumps(payload).encode(), ALICE), [ALICE.public], "p")

    @pytest.mark.parametrize("stored", [DIGEST, f"sha256:{DIGEST}", DIGEST.upper(), f"SHA256:{DIGEST.upper()}"])
    @pytest.mark.parametrize("asked", [DIGEST, f"sha256:{DIGEST}", f"sha256:{DIGEST.upper()}"])
    def test_a_digest_matches_with_or_without_its_prefix(self, stored: str, asked: str) -> None:
        assert statement.subject_matches(subjects({"sha256": stored}), asked)

    @pytest.mark.parametrize(
        "digest", [{}, {"sha256": ""}, {"sha256": "cd" * 32}, {"sha512": DIGEST}, {"sha256": "ab"}]
    )
    @pytest.mark.parametrize("asked", [DIGEST, "", "sha256:", "ab"])
    def test_no_digest_matches_nothing(self, digest: dict[str, str], asked: str) -> None:
        assert not statement.subject_matches(subjects(digest), asked)

    def test_any_subject_may_match(self) -> None:
        assert statement.subject_matches(subjects({"sha256": "cd" * 32}, {"sha512": "x"}, {"sha256": DIGEST}), DIGEST)

    @pytest.mark.parametrize("digest", ["", "ab", f"md5:{DIGEST}", f"sha256:sha256:{DIGEST}"])
    def test_a_claim_is_about_a_digest(self, digest: str) -> None:
        with pytest.raises(SpecViolation):
            statement.about("n", digest, "p", {})


def subjects(*digests: dict[str, str]) -> Statement:
    return Statement.model_validate(
        {
            "_type": statement.TYPE,
            "subject": [{"name": "n", "digest": digest} for digest in digests],
            "predicateType": "p",
            "predicate": {},
        }
    )
