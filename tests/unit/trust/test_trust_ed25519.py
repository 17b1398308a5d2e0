"""Strict Ed25519: what OpenSSL lets through is refused."""

from __future__ import annotations

import pytest

from greentic.trust import ed25519
from greentic.trust.keys import OperatorKey

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
IDENTITY = (1).to_bytes(32, "little")


def encoded(y: int, sign: int = 0) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


def root(square: int) -> int | None:
    candidate = pow(square, (P + 3) // 8, P)
    for factor in (1, pow(2, (P - 1) // 4, P)):
        if candidate * factor % P * candidate * factor % P == square % P:
            return candidate * factor % P
    return None


def doubled(point: tuple[int, int]) -> tuple[int, int]:
    x, y = point
    product = D * x * x * y * y % P
    return 2 * x * y * pow(1 + product, -1, P) % P, (y * y + x * x) * pow(1 - product, -1, P) % P


def test_rfc_8032_vectors() -> None:
    # RFC 8032, section 7.1, tests 1 to 3.
    for seed, public, message, signature in (
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ):
        key = OperatorKey.from_seed(bytes.fromhex(seed))
        assert key.public.raw.hex() == public
        assert key.sign(bytes.fromhex(message)).hex() == signature
        assert ed25519.verify(key.public.raw, bytes.fromhex(signature), bytes.fromhex(message))


def test_the_list_of_small_order_points_is_complete_and_right() -> None:
    points = []
    for y in ed25519._SMALL:
        x = root((y * y - 1) * pow(D * y * y + 1, -1, P))
        assert x is not None
        points += [(x, y), (-x % P, y)]
        assert doubled(doubled(doubled((x, y)))) == (0, 1)
    assert len(set(points)) == 8  # the torsion subgroup of the curve has eight elements


@pytest.mark.parametrize("y", [*sorted(ed25519._SMALL), P, P + 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_a_key_of_small_order_is_no_key(y: int, sign: int) -> None:
    key = encoded(y, sign)
    with pytest.raises(ValueError, match=r"small order|canonical"):
        ed25519.check_public(key)
    # Under some of them OpenSSL accepts R = identity, S = 0 for one message in eight, under two for every message.
    assert not any(ed25519.verify(key, IDENTITY + bytes(32), bytes([number])) for number in range(32))


def test_a_signature_has_one_form() -> None:
    key = OperatorKey.from_seed(b"\1" * 32)
    good = key.sign(b"m")
    scalar = int.from_bytes(good[32:], "little")
    assert ed25519.verify(key.public.raw, good, b"m")
    for multiple in range(1, 16):
        if scalar + multiple * L < 2**256:
            other = good[:32] + (scalar + multiple * L).to_bytes(32, "little")
            assert not ed25519.verify(key.public.raw, other, b"m")
    for other in (b"", good[:63], good + b"\0", good[:31] + bytes([good[31] ^ 0x80]) + good[32:]):
        assert not ed25519.verify(key.public.raw, other, b"m")


def test_a_commitment_of_small_order_is_refused() -> None:
    # With R = identity and S = k·a the equation holds, for whoever holds the key: it would commit to nothing.
    import hashlib

    key = OperatorKey.from_seed(b"\1" * 32)
    secret = bytearray(hashlib.sha512(b"\1" * 32).digest()[:32])
    secret[0] &= 248
    secret[31] = secret[31] & 63 | 64
    challenge = int.from_bytes(hashlib.sha512(IDENTITY + key.public.raw + b"m").digest(), "little")
    scalar = challenge * int.from_bytes(secret, "little") % L
    assert not ed25519.verify(key.public.raw, IDENTITY + scalar.to_bytes(32, "little"), b"m")


def test_what_is_no_point_is_no_key() -> None:
    rejected = 0
    for y in range(2, 40):
        on_curve = root((y * y - 1) * pow(D * y * y + 1, -1, P)) is not None
        try:
            ed25519.check_public(encoded(y))
            accepted = True
        except ValueError:
            accepted = False
        assert accepted == on_curve
        rejected += not accepted
    assert rejected > 5
    with pytest.raises(ValueError, match="32 bytes"):
        ed25519.check_public(b"short")
