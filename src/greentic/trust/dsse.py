"""DSSE envelopes: bytes with a type and signatures over both (DSSE v1.0.2; reference 02, section 9.3).

What is signed is the pre-authentication encoding of type and payload, so a payload is never taken for one of another
type. A reader verifies bytes and uses those bytes: nothing is decoded before a trusted key stands behind it.
Of what the specification leaves open we take the narrow reading: base64 is the standard alphabet with padding, a
signature without a key id counts for nobody, and fields that we do not know are kept and mean nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from greentic.spec.errors import SpecViolation
from greentic.spec.parsing import Document, parse, parse_json
from greentic.trust import ed25519
from greentic.trust.errors import NotTrusted, SignatureInvalid
from greentic.trust.keys import OperatorKey
from greentic.trust.public import PublicKey, canonical_key_id, decode_base64

IN_TOTO = "application/vnd.in-toto+json"
"""The payload type of every statement of ours."""
MAX_BYTES = 1024 * 1024
"""Bytes of an envelope; the reference reads no larger sidecar."""
MAX_PAYLOAD = MAX_BYTES // 4 * 3 - 16 * 1024
"""Bytes of a payload: as base64, with its signatures, it is an envelope that everybody reads."""
MAX_SIGNATURES = 16
_MAX_WORD = 1_024


class Signature(Document):
    """One signature: who claims to have signed, and 64 bytes in base64."""

    keyid: Annotated[str, Field(max_length=_MAX_WORD)] = ""
    sig: Annotated[str, Field(max_length=_MAX_WORD)]


class Envelope(Document):
    """A payload (base64), its type and its signatures, as it travels."""

    payload_type: Annotated[str, Field(max_length=_MAX_WORD)] = Field(alias="payloadType")
    payload: Annotated[str, Field(max_length=MAX_BYTES)]
    signatures: Annotated[tuple[Signature, ...], Field(max_length=MAX_SIGNATURES)]

    def to_bytes(self) -> bytes:
        """The envelope as it is stored: JSON, indented by two."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class VerifiedEnvelope:
    """What a trusted key stands behind: the payload's bytes, and the ids of all trusted keys that signed, sorted."""

    payload: bytes
    key_ids: tuple[str, ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: what is signed. Lengths are in bytes, in decimal."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, key: OperatorKey, payload_type: str = IN_TOTO) -> Envelope:
    """`payload` in an envelope with one signature by `key`; SpecViolation when no reader would take it for its size."""
    if len(payload) > MAX_PAYLOAD:
        raise SpecViolation("TooLarge", f"what is to be signed is larger than {MAX_PAYLOAD:,} bytes")
    signature = base64.b64encode(key.sign(pae(payload_type, payload))).decode()
    return Envelope(
        payloadType=payload_type,
        payload=base64.b64encode(payload).decode(),
        signatures=(Signature(keyid=key.key_id, sig=signature),),
    )


def read(data: bytes, what: str = "the envelope") -> Envelope:
    """The envelope in the JSON bytes `data`; SpecViolation when it is too large or malformed."""
    if len(data) > MAX_BYTES:
        raise SpecViolation("TooLarge", f"{what} is larger than {MAX_BYTES:,} bytes")
    return parse(Envelope, parse_json(data, what), what)


def verify(envelope: Envelope, trusted: Iterable[PublicKey], payload_type: str = IN_TOTO) -> VerifiedEnvelope:
    """What at least one of the `trusted` keys signed.

    A signature that does not hold spoils no other one. SpecViolation for another payload type or base64 that is none;
    NotTrusted when no signature names a trusted key, SignatureInvalid when those that do are wrong.
    """
    if envelope.payload_type != payload_type:
        raise SpecViolation(
            "PayloadType", f"the envelope holds '{envelope.payload_type[:100]}', where '{payload_type}' is expected"
        )
    payload = decode_base64(envelope.payload)
    if payload is None:
        raise SpecViolation("Malformed", "the payload of the envelope is not standard base64")
    by_id = {key.key_id: key for key in trusted}
    message = pae(payload_type, payload)
    named: set[str] = set()
    good: set[str] = set()
    for signature in envelope.signatures:
        name = canonical_key_id(signature.keyid)
        if name is None or name not in by_id:
            continue
        named.add(name)
        raw = decode_base64(signature.sig)
        if raw is not None and len(raw) == ed25519.SIGNATURE_BYTES and by_id[name].verifies(raw, message):
            good.add(name)
    if good:
        return VerifiedEnvelope(payload, tuple(sorted(good)))
    if named:
        raise SignatureInvalid(
            "the signature does not hold: the content or the signature was changed",
            reason="signature-invalid",
            details={"key_ids": sorted(named)},
            next_step="take the document from where it was made; do not use this copy",
        )
    raise _nobody(envelope, by_id)


def _nobody(envelope: Envelope, by_id: dict[str, PublicKey]) -> NotTrusted:
    # Only what has the form of a key id is repeated: the rest is whatever somebody put there.
    signers = sorted({name for signature in envelope.signatures if (name := canonical_key_id(signature.keyid))})
    trusted = "the trust root is empty" if not by_id else f"the trust root holds {len(by_id)} other key(s)"
    return NotTrusted(
        f"no trusted key signed this: signed by {', '.join(signers) or 'nobody'}; {trusted}",
        reason="no-trusted-key",
        details={"signed_by": signers, "trusted_key_count": len(by_id)},
        next_step="when you know the signer: gtc op trust-root add ENV --key-id ID --public-key-file FILE",
    )
