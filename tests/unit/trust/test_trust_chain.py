"""Signed heads: what they prove, and for whom."""

from __future__ import annotations

import json

import pytest

from greentic.spec.errors import SpecViolation
from greentic.trust import chain, dsse, statement
from greentic.trust.errors import NotTrusted, SignatureInvalid
from greentic.trust.keys import OperatorKey

ALICE = OperatorKey.from_seed(b"\1" * 32)
BOB = OperatorKey.from_seed(b"\2" * 32)
NOW = "2026-07-24T10:00:00.123456Z"
HASH = "ab" * 32


def test_a_head_is_signed_and_read() -> None:
    head = chain.verify_head(chain.sign_head(ALICE, "prod", 7, HASH, NOW), [ALICE.public], "prod")
    assert (head.environment_id, head.sequence, head.hash, head.signed_at) == ("prod", 7, HASH, NOW)
    assert head.key_ids == (ALICE.key_id,)


def test_a_signer_hands_out_bytes_that_anybody_reads() -> None:
    data = chain.signer(ALICE)("prod", 7, HASH, NOW)
    assert chain.read_head(data, [ALICE.public], "prod").sequence == 7
    payload = json.loads(dsse.verify(dsse.read(data), [ALICE.public]).payload)
    assert payload["subject"] == [{"name": "audit/prod/7", "digest": {"sha256": HASH}}]
    assert payload["predicate"]["sequence"] == 7


def test_a_head_of_another_environment_is_refused() -> None:
    with pytest.raises(SpecViolation) as caught:
        chain.verify_head(chain.sign_head(ALICE, "dev", 7, HASH, NOW), [ALICE.public], "prod")
    assert caught.value.rule == "EnvIdMismatch"


def test_a_strangers_head_is_refused() -> None:
    envelope = chain.sign_head(ALICE, "prod", 7, HASH, NOW)
    for trusted in ([], [BOB.public]):
        with pytest.raises(NotTrusted):
            chain.verify_head(envelope, trusted, "prod")
    payload = chain.sign_head(ALICE, "prod", 6, HASH, NOW).payload
    with pytest.raises(SignatureInvalid):
        chain.verify_head(envelope.model_copy(update={"payload": payload}), [ALICE.public], "prod")


def test_a_statement_of_another_kind_is_no_head() -> None:
    claim = statement.about("audit/prod/7", HASH, statement.SLSA_PROVENANCE, {"env_id": "prod", "sequence": 7})
    with pytest.raises(SpecViolation):
        chain.verify_head(statement.sign(claim, ALICE), [ALICE.public], "prod")


def test_a_head_with_two_hashes_is_refused() -> None:
    predicate = {"schema": chain.PREDICATE, "env_id": "prod", "sequence": 7, "hash": "cd" * 32, "signed_at": NOW}
    claim = statement.about("audit/prod/7", HASH, chain.PREDICATE, predicate)
    with pytest.raises(SpecViolation, match="two hashes"):
        chain.verify_head(statement.sign(claim, ALICE), [ALICE.public], "prod")


@pytest.mark.parametrize(
    ("environment", "sequence", "digest", "now"),
    [("..", 1, HASH, NOW), ("prod", 0, HASH, NOW), ("prod", 1, HASH.upper(), NOW), ("prod", 1, HASH + "\n", NOW),
     ("prod", 1, HASH, "today"), ("prod", True, HASH, NOW)],
)  # fmt: skip
def test_what_is_no_head(environment: str, sequence: int, digest: str, now: str) -> None:
    with pytest.raises(SpecViolation):
        chain.sign_head(ALICE, environment, sequence, digest, now)
