"""The server side of TLS: a context from PEM text that came over the control socket.

TLS 1.2 and 1.3; of 1.2 only forward-secret AEAD suites (RFC 9325 section 4.2). ALPN offers `http/1.1`. With client
authorities a client may show a certificate: a good one makes it a trusted caller, none is fine, a bad one ends the
handshake; sessions are then not resumed, because a resumed session is not judged again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from greentic.spec.errors import SpecViolation

RULE: Final = "router-tls"
LONGEST_PEM: Final = 32 * 1024
"""Characters of a certificate chain or a key: what fits into a pipe, see `_readable`."""
LONGEST_AUTHORITIES: Final = 512 * 1024
_SUITES: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """PEM text: the certificate chain, its private key, and the authorities of clients. Never shows the key."""

    certificate: str
    private_key: str
    client_authorities: str | None = None

    @staticmethod
    def parse(document: Any) -> TlsMaterial | None:
        """The material in a `configure` message; None when there is none. SpecViolation (`router-tls`) otherwise."""
        if document is None:
            return None
        if not isinstance(document, Mapping):
            raise SpecViolation(RULE, "tls must be an object")
        authorities = document.get("client_authorities")
        return TlsMaterial(
            certificate=_text(document.get("certificate"), "certificate", LONGEST_PEM),
            private_key=_text(document.get("private_key"), "private key", LONGEST_PEM),
            client_authorities=None
            if authorities is None
            else _text(authorities, "file of client authorities", LONGEST_AUTHORITIES),
        )

    @property
    def fingerprint(self) -> str:
        """Tells one material from another without holding it."""
        parts = (self.certificate, self.private_key, self.client_authorities or "")
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"TlsMaterial({self.fingerprint[:12]})"


def context_of(material: TlsMaterial) -> ssl.SSLContext:
    """A context that serves with `material`. SpecViolation (`router-tls`) with the reason when it cannot."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_SUITES)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if "ENCRYPTED" in material.private_key:
        raise SpecViolation(RULE, "the private key has a password, which the router could only ask a person for")
    try:
        with _readable(material.certificate) as certificate, _readable(material.private_key) as key:
            context.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:  # which SSLError is
        raise SpecViolation(RULE, _reason(getattr(error, "reason", None) or "")) from None
    if material.client_authorities is not None:
        try:
            context.load_verify_locations(cadata=material.client_authorities)
        except ssl.SSLError:
            raise SpecViolation(RULE, "the file of client authorities holds no PEM certificate") from None
        context.verify_mode = ssl.CERT_OPTIONAL
        # Whoever is named in the file is an authority, whether or not it signed itself.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def _no_password() -> str:
    """No password, given so that OpenSSL does not ask for one at the terminal."""
    return ""


@contextmanager
def _readable(text: str) -> Iterator[str]:
    """A path at which OpenSSL, which takes a private key from a file only, reads `text`: in memory, on no disk."""
    with contextlib.ExitStack() as open_:
        if hasattr(os, "memfd_create"):
            reading = os.memfd_create("pem", os.MFD_CLOEXEC)
            open_.callback(os.close, reading)
            os.write(reading, text.encode())
            os.lseek(reading, 0, os.SEEK_SET)
        else:  # a pipe cannot be sought in, so that OpenSSL's reason for a refusal is lost
            reading, writing = os.pipe()
            open_.callback(os.close, reading)
            os.write(writing, text.encode())
            os.close(writing)
        yield f"/dev/fd/{reading}"


def _reason(reason: str) -> str:
    """OpenSSL's `reason` in a person's words."""
    if reason in ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED", "KEY_TYPE_MISMATCH"):
        return "the private key is not the certificate's"
    if "KEY_TOO_SMALL" in reason or "MD_TOO_WEAK" in reason:
        return "the certificate's key or signature is too weak (RSA needs 2048 bits, the signature SHA-256)"
    return "the certificate or its private key is not PEM, or broken"


def _text(value: Any, what: str, longest: int) -> str:
    if not isinstance(value, str) or not value.isascii():
        raise SpecViolation(RULE, f"the {what} is not PEM text")
    if len(value) > longest:
        raise SpecViolation(RULE, f"the {what} is longer than {longest} characters")
    return value
