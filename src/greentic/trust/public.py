"""Public keys: how they are written and what they are called (reference 02, section 9.1)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from greentic.spec.trust_root import TrustRootError, canonical_key_id
from greentic.trust import ed25519

__all__ = ["MAX_PEM", "PublicKey", "canonical_key_id", "decode_base64", "der_of", "key_id", "pem_of"]

MAX_PEM = 4_096
"""Characters of a PEM text of one key; the real ones have about 113."""
_SPKI = bytes.fromhex("302a300506032b6570032100")
"""Everything of a DER SubjectPublicKeyInfo of Ed25519 but the key (RFC 8410, section 4); DER allows no other."""
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----[ \t]*\r?\n([A-Za-z0-9+/=\r\n \t]*)-----END ([A-Z0-9 ]+)-----")


def key_id(public_raw: bytes) -> str:
    """The name of a key: lower-case hex of the first 16 bytes of SHA-256 over its raw 32 bytes."""
    return hashlib.sha256(public_raw).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key that can stand for a signer; TrustRootError for 32 bytes that cannot."""

    raw: bytes

    def __post_init__(self) -> None:
        try:
            ed25519.check_public(self.raw)
        except ValueError as error:
            raise TrustRootError(f"not an Ed25519 public key: {error}", reason="malformed-key") from None

    @classmethod
    def from_pem(cls, text: str) -> PublicKey:
        """The key in a PEM block `PUBLIC KEY` (SPKI); TrustRootError for anything else, text around it included."""
        try:
            der = der_of(text, "PUBLIC KEY")
        except ValueError as error:
            raise TrustRootError(f"not a public key in PEM form: {error}", reason="malformed-key") from None
        if not der.startswith(_SPKI) or len(der) != len(_SPKI) + ed25519.PUBLIC_BYTES:
            raise TrustRootError(
                "not an Ed25519 public key: the PEM block holds a key of another kind",
                reason="wrong-key-type",
                next_step="use the .pub file of an operator key, or: openssl pkey -in key.pem -pubout",
            )
        return cls(der[len(_SPKI) :])

    @property
    def key_id(self) -> str:
        """See `key_id`."""
        return key_id(self.raw)

    @property
    def pem(self) -> str:
        """The key as SPKI PEM, lines ended by LF."""
        return pem_of(_SPKI + self.raw, "PUBLIC KEY")

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` by this key over `message` holds, see `ed25519.verify`."""
        return ed25519.verify(self.raw, signature, message)


def der_of(text: str, label: str) -> bytes:
    """The bytes in the only PEM block of `text`, whose label is `label`; ValueError, without the text, otherwise.

    RFC 7468 with its explanatory text left out: what stands around a block is something a person should look at.
    """
    if len(text) > MAX_PEM:
        raise ValueError(f"it is longer than {MAX_PEM:,} characters")
    match = _BLOCK.fullmatch(text.strip(" \t\r\n"))
    if match is None:
        raise ValueError(f"it is not one PEM block -----BEGIN {label}-----")
    if match[1] != match[3] or match[1] != label:
        raise ValueError(f"its PEM block is labelled '{match[1][:40]}', not '{label}'")
    der = decode_base64(re.sub(r"[\r\n \t]", "", match[2]))
    if der is None:
        raise ValueError("what stands in its PEM block is not base64")
    return der


def pem_of(der: bytes, label: str) -> str:
    """`der` as a PEM block, 64 characters a line (RFC 7468)."""
    body = base64.b64encode(der).decode()
    lines = "\n".join(body[start : start + 64] for start in range(0, len(body), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"


def decode_base64(text: str) -> bytes | None:
    """The bytes in standard padded base64 (RFC 4648, section 4); None unless `text` is their only such form."""
    try:
        decoded = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    # The last character can hold bits that belong to no byte; two texts for the same bytes would be one too many.
    return decoded if base64.b64encode(decoded).decode() == text else None
