"""The certificate of an environment's routers: what is read, what is refused, what stays in force."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest
from tests.integration.certificates import Identity, identity

from greentic.providers.local.certificates import Certificates, load
from greentic.router import tls
from greentic.spec.errors import SpecViolation
from greentic.spec.router_settings import RouterTls

ONE = identity("one")
TWO = identity("two")
NOW = datetime.datetime.now(datetime.UTC)


def put(folder: Path, pair: Identity, key: Identity | None = None) -> RouterTls:
    certificate, private = folder / "chain.pem", folder / "key.pem"
    certificate.write_text(pair.pem)
    private.write_text((key or pair).key_pem)
    return RouterTls(certificate=str(certificate), private_key=str(private))


def test_a_good_pair_is_kept_while_the_files_are_broken(tmp_path: Path) -> None:
    asked = put(tmp_path, ONE)
    found = Certificates()
    first = found.material(asked)
    assert first is not None
    assert not found.changed()
    assert found.material(asked) is first
    put(tmp_path, TWO, key=ONE)
    assert found.changed()
    assert found.material(asked) == first
    assert [notice.message for notice in found.notices(NOW)] == [
        "the certificate before the newest is served: the private key is not the certificate's: "
        f"{asked.certificate}, {asked.private_key}"
    ]
    (tmp_path / "key.pem").unlink()
    assert found.material(asked) == first
    put(tmp_path, TWO)
    second = found.material(asked)
    assert second is not None
    assert second.certificate == TWO.pem
    assert found.notices(NOW) == ()
    assert not found.changed()
    assert found.material(None) is None


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes replaces mounted secrets."""
    for name, pair in (("a", ONE), ("b", TWO)):
        (tmp_path / name).mkdir()
        put(tmp_path / name, pair)
    (tmp_path / "now").symlink_to("a")
    asked = RouterTls(certificate=str(tmp_path / "now/chain.pem"), private_key=str(tmp_path / "now/key.pem"))
    found = Certificates()
    found.material(asked)
    (tmp_path / "next").symlink_to("b")
    (tmp_path / "next").replace(tmp_path / "now")
    assert found.changed()
    material = found.material(asked)
    assert material is not None
    assert material.certificate == TWO.pem


def test_a_first_pair_that_is_broken_is_refused(tmp_path: Path) -> None:
    asked = put(tmp_path, ONE, key=TWO)
    found = Certificates()
    for _ in range(2):
        with pytest.raises(SpecViolation, match="not the certificate's") as caught:
            found.material(asked)
    assert caught.value.rule == "router-tls"
    assert caught.value.next_step is not None
    put(tmp_path, ONE)
    assert found.material(asked) is not None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("key.pem", None, "cannot be read: No such file"),
        ("key.pem", b"\xff\xfe", "not PEM text"),
        ("chain.pem", b"x" * 40_000, "longer than"),
        ("chain.pem", b"", "not PEM"),
        ("authorities.pem", b"nothing", "authorities holds no PEM"),
        (
            "key.pem",
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "a password",
        ),
    ],
)
def test_reasons(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    asked = put(tmp_path, ONE)
    (tmp_path / "authorities.pem").write_text(TWO.pem)
    asked = asked.model_copy(update={"client_authorities": str(tmp_path / "authorities.pem")})
    assert load(asked).ends == ONE.certificate.not_valid_after_utc
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecViolation, match=words) as caught:
        load(asked)
    assert "PRIVATE" not in caught.value.message


def test_an_end_that_is_near_is_told(tmp_path: Path) -> None:
    for days, words in ((13.0, "expires on"), (-1.0, "expired on")):
        found = Certificates()
        found.material(put(tmp_path, identity("short", days=days)))
        (notice,) = found.notices(NOW)
        assert words in notice.message


def test_material_shows_no_key_and_is_read_without_a_file_in_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    material = tls.TlsMaterial(ONE.pem, ONE.key_pem)
    assert "BEGIN" not in repr(material)
    monkeypatch.delattr(os, "memfd_create")
    tls.context_of(material)
    with pytest.raises(SpecViolation):
        tls.context_of(tls.TlsMaterial(ONE.pem, TWO.key_pem))
