"""Others judge our keys and envelopes: securesystemslib (DSSE) and the openssl program."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope as TheirEnvelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from greentic.trust import chain, dsse, keys, statement
from greentic.trust.errors import SignatureInvalid
from greentic.trust.keys import OperatorKey

SEED = b"\7" * 32
KEY = OperatorKey.from_seed(SEED)
HASH = "ab" * 32
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl program is not installed")


def their_key() -> SSlibKey:
    return SSlibKey.from_crypto(load_pem_public_key(KEY.public_pem.encode()), keyid=KEY.key_id)


@pytest.mark.parametrize(
    "envelope",
    [
        dsse.sign(b"\x00\xff any bytes", KEY, "application/x-ä"),
        statement.sign(statement.about("web.gtbundle", HASH, statement.SLSA_PROVENANCE, {"builder_id": "b"}), KEY),
        chain.sign_head(KEY, "prod", 7, HASH, "2026-07-24T10:00:00Z"),
    ],
)
def test_securesystemslib_accepts_what_we_sign(envelope: dsse.Envelope) -> None:
    theirs = TheirEnvelope.from_dict(envelope.to_json())
    assert theirs.verify([their_key()], 1)
    assert theirs.pae() == dsse.pae(envelope.payload_type, theirs.payload)
    theirs.payload += b" "
    with pytest.raises(VerificationError):
        theirs.verify([their_key()], 1)


def test_we_accept_what_securesystemslib_signs() -> None:
    theirs = TheirEnvelope(b"payload", dsse.IN_TOTO, {})
    theirs.sign(CryptoSigner(Ed25519PrivateKey.from_private_bytes(SEED), their_key()))
    envelope = dsse.Envelope.model_validate(theirs.to_dict())
    verified = dsse.verify(envelope, [KEY.public])
    assert verified == dsse.VerifiedEnvelope(b"payload", (KEY.key_id,))
    theirs.payload = b"other"
    with pytest.raises(SignatureInvalid):
        dsse.verify(dsse.Envelope.model_validate(theirs.to_dict()), [KEY.public])


def openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True, timeout=30).stdout


@needs_openssl
def test_openssl_reads_our_key_files_and_verifies_our_signatures(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    key = keys.load_or_create(path)
    assert openssl("pkey", "-in", str(path), "-pubout") == key.public_pem == (tmp_path / "key.pem.pub").read_text()
    assert openssl("pkey", "-in", str(path)) == path.read_text()
    (tmp_path / "message").write_bytes(b"message")
    (tmp_path / "signature").write_bytes(key.sign(b"message"))
    verdict = openssl(
        "pkeyutl", "-verify", "-pubin", "-inkey", f"{path}.pub", "-rawin",
        "-in", str(tmp_path / "message"), "-sigfile", str(tmp_path / "signature"),
    )  # fmt: skip
    assert "Verified Successfully" in verdict


@needs_openssl
def test_we_read_a_key_that_openssl_makes(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", str(path))
    path.chmod(0o600)
    assert keys.load(path).public_pem == openssl("pkey", "-in", str(path), "-pubout")
