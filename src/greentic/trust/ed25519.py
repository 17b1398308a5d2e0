"""Strict Ed25519: one encoding per signature, no key or signature that fits many messages.

RFC 8032 section 5.1.7 leaves room that OpenSSL uses: measured with OpenSSL 4.0, it refuses S >= L and a non-canonical
R, and accepts points of small order, non-canonical public keys and 32 bytes that are no point at all. This module adds
what is missing and ends where dalek's `verify_strict` is (Chalkias, Garillot, Nikolaenko: "Taming the many EdDSAs",
section 4): S < L, R and A canonical, on the curve and not of small order, the equation without cofactor.
"""

from __future__ import annotations

PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ORDER_EIGHT = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
"""y of two of the four points of order eight; its negative is that of the other two."""
_SMALL = frozenset({0, 1, _P - 1, _ORDER_EIGHT, _P - _ORDER_EIGHT})
"""y of the eight points whose order divides eight; a test computes the orders."""


def check_public(raw: bytes) -> None:
    """ValueError with the reason when the 32 bytes `raw` are no public key that can stand for a signer."""
    if len(raw) != PUBLIC_BYTES:
        raise ValueError(f"an Ed25519 public key has {PUBLIC_BYTES} bytes, not {len(raw)}")
    y = _y(raw)
    if y >= _P:
        raise ValueError("it is not the canonical encoding of a point")
    if y in _SMALL:
        raise ValueError("it is a point of small order: signatures under it fit any message")
    # x² = (y² - 1) / (d·y² + 1) has a root exactly when numerator · denominator is a square (Euler's criterion).
    square = y * y % _P
    if pow((square - 1) * (_D * square + 1) % _P, (_P - 1) // 2, _P) != 1:
        raise ValueError("it is not a point of the curve")


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` (64 bytes: R, S) by the raw key `public` over `message` holds, strictly. Never raises."""
    try:
        check_public(public)
    except ValueError:
        return False
    if len(signature) != SIGNATURE_BYTES:
        return False
    commitment = _y(signature[:32])
    if commitment >= _P or commitment in _SMALL or int.from_bytes(signature[32:], "little") >= _L:
        return False
    from cryptography.exceptions import InvalidSignature  # slow to import
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _y(encoded: bytes) -> int:
    return int.from_bytes(encoded, "little") & (2**255 - 1)
