"""did:web: the Ed25519 keys that a domain says are its own (W3C did:web method; DID Core section 5.2).

The document is fetched over HTTPS, from the host that the DID names and from no other; what it says is believed as far
as the web's certificates are.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from greentic.spec.errors import InputOutput, InvalidArgument
from greentic.trust.public import PublicKey

MAX_BYTES = 256 * 1024
MAX_KEYS = 32
FETCH_SECONDS = 10.0

_DID = re.compile(r"did:web:((?:[A-Za-z0-9-]+\.)+[A-Za-z][A-Za-z0-9-]*(?:%3A[0-9]{1,5})?)((?::[A-Za-z0-9._~%-]+)*)")
"""A domain name: the method forbids addresses (did:web section 3.1), which would reach into one's own network."""
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_ED25519_CODE = b"\xed\x01"
"""Multicodec of an Ed25519 public key."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def url_of(did: str) -> str:
    """Where the document of a did:web is; InvalidArgument for what is none."""
    match = _DID.fullmatch(did)
    if match is None:
        raise InvalidArgument(f"'{did[:200]}' is not a did:web identifier, such as did:web:trust.example.com")
    segments = [unquote(segment) for segment in match[2].split(":")[1:]]
    if any(not segment or segment in {".", ".."} or "/" in segment for segment in segments):
        raise InvalidArgument(f"'{did[:200]}' names a path that leads elsewhere")
    return f"https://{unquote(match[1])}/{'/'.join(segments) or '.well-known'}/did.json"


def fetch(did: str) -> tuple[PublicKey, ...]:
    """The keys that `did` names now. InputOutput when its document cannot be had, or names no Ed25519 key."""
    url = url_of(did)
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(url, timeout=FETCH_SECONDS) as response:
            data = response.read(MAX_BYTES + 1)
    except (OSError, urllib.error.URLError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise InputOutput(
            f"the keys of {did} cannot be had from {url}: {reason}",
            next_step="trust them by hand: gtc op trust-root add --public-key-file FILE, "
            "and write trust_did: null in the manifest",
        ) from None
    if len(data) > MAX_BYTES:
        raise InputOutput(f"{url} is longer than {MAX_BYTES:,} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise InputOutput(f"{url} is not JSON") from None
    return keys_of(did, document)


def keys_of(did: str, document: Any) -> tuple[PublicKey, ...]:
    """The Ed25519 keys that a DID document makes assertions with, each once.

    Those of `assertionMethod`, by reference or embedded; keys that it only logs in with are not among them. InputOutput
    when the document is another's or asserts with none.
    """
    if not isinstance(document, Mapping) or document.get("id") != did:
        raise InputOutput(f"the document of {did} says that it is another's")
    listed = {one["id"]: one for one in _objects(document, "verificationMethod") if isinstance(one.get("id"), str)}
    asserted = document.get("assertionMethod")
    found: dict[str, PublicKey] = {}
    for entry in (asserted if isinstance(asserted, list) else [])[:MAX_KEYS]:
        name = f"{did}{entry}" if isinstance(entry, str) and entry.startswith("#") else entry
        method = listed.get(name, listed.get(entry)) if isinstance(name, str) else entry
        raw = _raw(method) if isinstance(method, Mapping) else None
        if raw is not None:
            key = PublicKey(raw)
            found[key.key_id] = key
    if not found:
        raise InputOutput(f"the document of {did} asserts with no Ed25519 key")
    return tuple(found.values())


def _objects(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = document.get(name)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _raw(method: Mapping[str, Any]) -> bytes | None:
    """The 32 bytes of a verification method's key; None for one of another kind."""
    jwk, multibase = method.get("publicKeyJwk"), method.get("publicKeyMultibase")
    if isinstance(jwk, Mapping) and (jwk.get("kty"), jwk.get("crv")) == ("OKP", "Ed25519"):
        text = jwk.get("x")
        if isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9_-]{43}", text):
            return base64.urlsafe_b64decode(text + "=")
    if isinstance(multibase, str) and re.fullmatch(rf"z[{_BASE58}]{{40,60}}", multibase):
        decoded = _base58(multibase[1:])
        if decoded.startswith(_ED25519_CODE) and len(decoded) == 34:
            return decoded[2:]
    return None


def _base58(text: str) -> bytes:
    number = 0
    for character in text:
        number = number * 58 + _BASE58.index(character)
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")
