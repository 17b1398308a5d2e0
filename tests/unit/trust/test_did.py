"""did:web: where a document is, and which keys it names."""

from __future__ import annotations

import base64

import pytest

from greentic.spec.errors import InputOutput, InvalidArgument
from greentic.trust import did
from greentic.trust.public import PublicKey

DID = "did:web:trust.example.com"
# RFC 8032 section 7.1, test 1, and the same key as the did:key specification writes keys (multicodec and base58).
RAW = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def multibase(data: bytes) -> str:
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, rest = divmod(number, 58)
        text = ALPHABET[rest] + text
    return "z" + text


JWK = {"kty": "OKP", "crv": "Ed25519", "x": base64.urlsafe_b64encode(RAW).decode().rstrip("=")}


@pytest.mark.parametrize(
    ("name", "url"),
    [
        (DID, "https://trust.example.com/.well-known/did.json"),
        ("did:web:example.com%3A8443", "https://example.com:8443/.well-known/did.json"),
        ("did:web:example.com:teams:one", "https://example.com/teams/one/did.json"),
    ],
)
def test_where_a_document_is(name: str, url: str) -> None:
    assert did.url_of(name) == url


@pytest.mark.parametrize(
    "name",
    [
        "",
        "did:key:z6Mk",
        "did:web:",
        "did:web:a/b",
        "did:web:a:..",
        "did:web:a:%2e%2e",
        "did:web:a:x%2Fy",
        "did:web:a b",
    ],
)
def test_what_is_no_did_web(name: str) -> None:
    with pytest.raises(InvalidArgument):
        did.url_of(name)


@pytest.mark.parametrize("method", [{"publicKeyJwk": JWK}, {"publicKeyMultibase": multibase(b"\xed\x01" + RAW)}])
def test_both_ways_of_writing_a_key_name_the_same_key(method: dict[str, object]) -> None:
    other = {"id": f"{DID}#login", "publicKeyJwk": {**JWK, "x": JWK["x"][:-2] + "AA"}}
    listed = [{"id": f"{DID}#one", **method}, other, {"publicKeyJwk": {"kty": "EC"}}, "no object"]
    for asserted in (f"{DID}#one", "#one", method):
        document = {
            "id": DID,
            "verificationMethod": listed,
            "authentication": [f"{DID}#login"],
            "assertionMethod": [asserted, asserted, "#unknown", 7],
        }
        assert did.keys_of(DID, document) == (PublicKey(RAW),)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"id": "did:web:other.example.com", "assertionMethod": [{"publicKeyJwk": JWK}]},
        {"id": DID},
        {"id": DID, "assertionMethod": {"publicKeyJwk": JWK}},
        {"id": DID, "verificationMethod": [{"id": "#a", "publicKeyJwk": JWK}], "authentication": ["#a"]},
        {"id": DID, "assertionMethod": [{"publicKeyJwk": {**JWK, "x": JWK["x"][:-1]}}]},
        {"id": DID, "assertionMethod": [{"publicKeyMultibase": multibase(b"\x12\x20" + RAW)}]},
        {"id": DID, "assertionMethod": [{"publicKeyMultibase": multibase(b"\xed\x01" + RAW[:31])}]},
    ],
)
def test_a_document_that_names_no_key_of_its_own_is_refused(document: object) -> None:
    with pytest.raises(InputOutput):
        did.keys_of(DID, document)


def test_a_host_that_cannot_be_reached_is_an_error_with_a_way_on() -> None:
    with pytest.raises(InputOutput) as refused:
        did.fetch("did:web:nobody.invalid")
    assert "trust-root add" in (refused.value.next_step or "")
