"""Identifiers that follow from a caller's key: the same request names the same thing (reference 01, section 3.5)."""

from __future__ import annotations

import hashlib

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(purpose: str, key: str) -> str:
    """A ULID made of the first 16 bytes of the SHA-256 of `<purpose>:<key>`."""
    number = int.from_bytes(hashlib.sha256(f"{purpose}:{key}".encode()).digest()[:16], "big")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))
