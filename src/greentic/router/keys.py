"""The key ring that signs cookies and preview tokens, shared by every replica of the router.

One key is active and signs; all keys of the ring verify, so a key can be rotated without losing a session. A
signature is HMAC-SHA256 (RFC 2104). The two pad blocks of each key are hashed once, which makes a signature
two short hash calls.
"""

from __future__ import annotations

import binascii
import hashlib
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final, Generic, Protocol, TypeVar

SECRET_BYTES: Final = 32
RING_LIMIT: Final = 4
"""A verification tries every key of the ring, so the ring is short."""
VERIFIED_LIMIT: Final = 8192

T = TypeVar("T")


class Hash(Protocol):
    """A hash that goes on (`hashlib` names no type for it), the same one as no other."""

    def __hash__(self) -> int:
        """By identity."""

    def copy(self) -> Hash:
        """Another that stands where this one stands."""

    def update(self, data: bytes, /) -> None:
        """Take `data` in."""

    def digest(self) -> bytes:
        """Of all that was taken in."""


_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_STANDARD = bytes.maketrans(b"-_+/=", b"+/!!!")
"""What is not of the URL-safe alphabet becomes what is of none."""
_PADDING = (b"", b"=", b"==", b"===")
_BLOCK_BYTES = 64
_INNER_PAD = bytes(value ^ 0x36 for value in range(256))
_OUTER_PAD = bytes(value ^ 0x5C for value in range(256))


def encode(data: bytes) -> bytes:
    """`data` as base64url without padding (RFC 4648 section 5)."""
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE).rstrip(b"=")


def decode(text: bytes) -> bytes:
    """The bytes of base64url text without padding. Raises ValueError when it is anything else."""
    return binascii.a2b_base64(text.translate(_STANDARD) + _PADDING[-len(text) % 4], strict_mode=True)


class SigningKey:
    """One secret of the ring, 32 bytes, ready to sign. Its representation never shows the secret."""

    __slots__ = ("_inner", "_outer", "kid")

    def __init__(self, kid: str, secret: bytes) -> None:
        block = secret.ljust(_BLOCK_BYTES, b"\0")
        self.kid = kid
        self._inner = hashlib.sha256(block.translate(_INNER_PAD))
        self._outer = hashlib.sha256(block.translate(_OUTER_PAD))

    def begun(self, message: bytes) -> Hash:
        """A signature begun with `message`, for `sign` to go on from as often as it likes."""
        inner = self._inner.copy()
        inner.update(message)
        return inner

    def sign(self, message: bytes, begun: Hash | None = None) -> bytes:
        """HMAC-SHA256 of `message`, after what `begun` began with: 32 bytes."""
        inner = (begun or self._inner).copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SigningKey):
            return NotImplemented
        return self.kid == other.kid and compare_digest(self._inner.digest(), other._inner.digest())

    def __hash__(self) -> int:
        return hash(self.kid)

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r})"


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys in the order in which they are tried: the active one first."""

    keys: tuple[SigningKey, ...]

    @property
    def active(self) -> SigningKey:
        """The key that signs."""
        return self.keys[0]

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether any key of the ring made `signature` (raw bytes) over `message`; each comparison in
        constant time.
        """
        for key in self.keys:  # noqa: SIM110 (a generator costs as much as the hash)
            if compare_digest(key.sign(message), signature):
                return True
        return False


class Verified(Generic[T]):
    """What signed texts that were verified already say: a visitor sends the same one with every request. And, the other
    way round, the texts that were made: a session gets the same one with every response.

    Only genuine ones are kept, at most VERIFIED_LIMIT, and no longer than the ring that verified them. The key holds
    the whole text and everything else that it was verified for.
    """

    __slots__ = ("_said", "get")

    def __init__(self) -> None:
        self._said: dict[object, T] = {}
        self.get = self._said.get

    def add(self, key: object, said: T) -> None:
        """Remember what a genuine text says."""
        if len(self._said) >= VERIFIED_LIMIT:
            self._said.clear()
        self._said[key] = said
