"""No byte of an envelope can be changed, no two things share an encoding, and no input breaks a reader."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from greentic.spec import policy_files
from greentic.spec.errors import GreenticError
from greentic.trust import chain, dsse, keys, revenue, statement
from greentic.trust import root as trust_root
from greentic.trust.dsse import Envelope, Signature
from greentic.trust.keys import OperatorKey
from greentic.trust.public import PublicKey
from greentic.trust.root import AddTrustedKeyPayload

KEYS = [OperatorKey.from_seed(bytes([number]) * 32) for number in range(1, 4)]
KEY = KEYS[0]
PAYLOAD = statement.about("web.gtbundle", "ab" * 32, statement.SLSA_PROVENANCE, {"builder_id": "b"}).to_bytes()
ENVELOPE = dsse.sign(PAYLOAD, KEY)
SIGNATURE = ENVELOPE.signatures[0]
ROOT = trust_root.add(trust_root.empty(), AddTrustedKeyPayload(key_id=KEY.key_id, public_key_pem=KEY.public_pem)).root

patient = settings(deadline=None)  # a busy machine proves nothing
bits = st.tuples(st.integers(0, 2**16), st.integers(1, 255))


def flipped(data: bytes, flip: tuple[int, int]) -> bytes:
    place = flip[0] % len(data)
    return data[:place] + bytes([data[place] ^ flip[1]]) + data[place + 1 :]


def accepted(envelope: Envelope) -> bool:
    try:
        dsse.verify(envelope, [key.public for key in KEYS])
    except GreenticError:
        return False
    return True


def test_the_untouched_envelope_is_accepted() -> None:
    assert accepted(ENVELOPE)


@patient
@given(bits)
def test_a_flipped_byte_of_the_payload(flip: tuple[int, int]) -> None:
    changed = base64.b64encode(flipped(PAYLOAD, flip)).decode()
    assert not accepted(ENVELOPE.model_copy(update={"payload": changed}))


@patient
@given(bits)
def test_a_flipped_byte_of_the_payloads_text(flip: tuple[int, int]) -> None:
    changed = flipped(ENVELOPE.payload.encode(), flip).decode("latin-1")
    assert not accepted(ENVELOPE.model_copy(update={"payload": changed}))


@patient
@given(bits)
def test_a_flipped_byte_of_the_signature(flip: tuple[int, int]) -> None:
    changed = base64.b64encode(flipped(base64.b64decode(SIGNATURE.sig), flip)).decode()
    other = SIGNATURE.model_copy(update={"sig": changed})
    assert not accepted(ENVELOPE.model_copy(update={"signatures": (other,)}))


@patient
@given(bits)
def test_a_flipped_byte_of_the_signatures_text(flip: tuple[int, int]) -> None:
    changed = flipped(SIGNATURE.sig.encode(), flip).decode("latin-1")
    other = SIGNATURE.model_copy(update={"sig": changed})
    assert not accepted(ENVELOPE.model_copy(update={"signatures": (other,)}))


@patient
@given(bits)
def test_a_flipped_byte_of_the_key_id(flip: tuple[int, int]) -> None:
    changed = flipped(SIGNATURE.keyid.encode(), flip).decode("latin-1")
    assume(changed.lower() != SIGNATURE.keyid)  # the case of a hex digit means nothing
    other = SIGNATURE.model_copy(update={"keyid": changed})
    assert not accepted(ENVELOPE.model_copy(update={"signatures": (other,)}))


@patient
@given(bits)
def test_a_flipped_byte_of_the_type(flip: tuple[int, int]) -> None:
    changed = ENVELOPE.model_copy(
        update={"payload_type": flipped(ENVELOPE.payload_type.encode(), flip).decode("latin-1")}
    )
    assert not accepted(changed)
    with pytest.raises(GreenticError):  # nor for somebody who expects that very type
        dsse.verify(changed, [KEY.public], changed.payload_type)


@patient
@given(bits)
def test_a_flipped_byte_of_the_file_changes_nothing_that_counts(flip: tuple[int, int]) -> None:
    try:
        verified = dsse.verify(dsse.read(flipped(ENVELOPE.to_bytes(), flip)), [key.public for key in KEYS])
    except GreenticError:
        return
    assert verified == dsse.VerifiedEnvelope(PAYLOAD, (KEY.key_id,))  # white space, or the case of a key id


kinds = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
near = st.binary(max_size=12) | st.sampled_from([b"", b" ", b"1 ", b" 1 ", b"0  0 ", b"DSSEv1 0  0 "])


@patient
@given(kinds | st.sampled_from(["", " ", "1", "a 1"]), near, kinds | st.sampled_from(["", " ", "1", "a 1"]), near)
@example("a", b"b 1 c", "a 5 b", b"c")
def test_the_encoding_is_injective(kind: str, payload: bytes, other_kind: str, other: bytes) -> None:
    same = dsse.pae(kind, payload) == dsse.pae(other_kind, other)
    assert same == ((kind, payload) == (other_kind, other))


@patient
@given(kinds, near)
def test_the_encoding_can_be_read_back(kind: str, payload: bytes) -> None:
    # An inverse is a proof that nothing is lost.
    data = dsse.pae(kind, payload).removeprefix(b"DSSEv1 ")
    length, _, rest = data.partition(b" ")
    found, rest = rest[: int(length)], rest[int(length) :]
    assert found == kind.encode()
    length, _, rest = rest.removeprefix(b" ").partition(b" ")
    assert rest == payload
    assert len(rest) == int(length)


@patient
@given(st.text(min_size=1), st.text(min_size=1))
@example("..", "%2E%2E")
@example("a" * 300, "a" * 301)
@example("A" * 4096, policy_files.segment("A" * 4096))
def test_ids_never_share_a_folder(one: str, other: str) -> None:
    found, another = policy_files.segment(one), policy_files.segment(other)
    assert (found == another) == (one == other)
    assert found not in {".", ".."}
    assert not set(found) & set("/\\\0")
    assert 0 < len(found.encode()) <= 200
    assert policy_files.version_of(policy_files.signature_ref(one, other, 7), one, other) == 7


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)

GOOD: list[dict[str, Any]] = [
    ENVELOPE.to_json(),
    json.loads(PAYLOAD),
    trust_root.remove(ROOT, KEY.key_id, "2026-07-24T10:00:00Z").root.to_json(),
    ROOT.to_json(),
    {
        "schema": revenue.SCHEMA, "version": 1, "deployment_id": "01J0000000000000000000000A", "env_id": "e",
        "bundle_id": "b", "customer_id": "c", "created_at": "2026-07-24T10:00:00Z",
        "revenue_share": [{"party_id": "p", "basis_points": 10_000}],
    },
    {
        "schema": chain.PREDICATE, "env_id": "e", "sequence": 1, "hash": "ab" * 32,
        "signed_at": "2026-07-24T10:00:00Z",
    },
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A good document with some values, at any depth, replaced or taken away."""
    document = json.loads(json.dumps(draw(st.sampled_from(GOOD))))
    for _ in range(draw(st.integers(0, 3))):
        place: Any = document
        while isinstance(place, dict | list) and place:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or draw(st.booleans()):
                if isinstance(place, dict) and draw(st.booleans()):
                    del place[key]
                else:
                    place[key] = draw(json_values)
                break
            place = inner
    return document


def feed(data: bytes) -> None:
    """Everything that reads bytes from outside, alone and as what a trusted key signed; GreenticError or nothing."""
    trusted = [KEY.public]
    signed = dsse.sign(data[: dsse.MAX_PAYLOAD], KEY).to_bytes()
    for read in (
        lambda: dsse.verify(dsse.read(data), trusted),
        lambda: trust_root.read(data).trusted(),
        lambda: revenue.verify(data, signed, ROOT),
        lambda: revenue.verify(data, data, ROOT),
        lambda: statement.verify(dsse.read(signed), trusted, statement.SLSA_PROVENANCE),
        lambda: chain.read_head(data, trusted, "e"),
        lambda: chain.read_head(signed, trusted, "e"),
    ):
        try:
            read()
        except GreenticError as error:
            json.dumps(error.document()).encode()
    assert not revenue.verify_chain([data], [data], ROOT).ok
    assert not revenue.verify_chain([data], [signed], ROOT).ok


@settings(max_examples=150, deadline=None)
@given(damaged())
def test_damaged_documents_raise_only_our_errors(document: Any) -> None:
    feed(json.dumps(document).encode())


@settings(max_examples=60, deadline=None)
@given(json_values)
def test_any_json_raises_only_our_errors(value: Any) -> None:
    feed(json.dumps(value).encode())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | bits.map(lambda flip: flipped(ENVELOPE.to_bytes(), flip)))
def test_any_bytes_raise_only_our_errors(data: bytes) -> None:
    feed(data)


PUBLIC_PEM = KEY.public_pem
PRIVATE_PEM = (
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\n"
    "-----END PRIVATE KEY-----\n"
)


def refusal(parse: Callable[[str], object], pem: str) -> str:
    """What is said about `pem`; nothing when it is taken."""
    try:
        parse(pem)
    except GreenticError as error:
        return json.dumps(error.document())
    return ""


@patient
@given(st.text() | st.sampled_from([PUBLIC_PEM, PRIVATE_PEM]), bits, st.binary(min_size=1, max_size=100))
def test_any_pem_raises_only_our_errors(text: str, flip: tuple[int, int], der: bytes) -> None:
    written = base64.b64encode(der).decode()
    for label, parse in (("PUBLIC KEY", PublicKey.from_pem), ("PRIVATE KEY", keys.parse)):
        for pem in (
            text,
            flipped(text.encode() or b"\0", flip).decode("latin-1"),
            f"-----BEGIN {label}-----\n{written}\n-----END {label}-----",
        ):
            assert "AQEBAQEB" not in refusal(parse, pem)


@patient
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64), st.binary(max_size=8))
def test_random_keys_and_signatures_prove_nothing(raw: bytes, signature: bytes, message: bytes) -> None:
    try:
        key = PublicKey(raw)
    except GreenticError:
        return
    sig = base64.b64encode(signature).decode()
    envelope = ENVELOPE.model_copy(update={"signatures": (Signature(keyid=key.key_id, sig=sig),)})
    with pytest.raises(GreenticError):
        dsse.verify(envelope, [key])
    assert not key.verifies(signature, message)
