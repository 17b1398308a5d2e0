"""The operator key file: golden vectors, and every way in which it is refused."""

from __future__ import annotations

import base64
import copy
import os
import pickle
import stat
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from greentic.spec.errors import GreenticError
from greentic.trust import keys
from greentic.trust.errors import OperatorKeyError, TrustRootError
from greentic.trust.keys import OperatorKey
from greentic.trust.public import PublicKey, key_id, pem_of

SEED = b"\1" * 32
RAW = bytes.fromhex("8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c")
SPKI = "MCowBQYDK2VwAyEAiojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="
V1 = "MC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
V2 = "MFECAQEwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBgSEAiojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="


def private_pem(body: str) -> str:
    return f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"


def place(folder: Path, seed: bytes = SEED) -> Path:
    """A sound key file in `folder`."""
    path = folder / "key.pem"
    keys.load_or_create(path, lambda _: seed)
    return path


class TestGoldenVectors:
    """Reference 02, section 15."""

    def test_key_ids(self) -> None:
        assert key_id(RAW) == "34750f98bd59fcfc946da45aaabe933b"
        assert OperatorKey.from_seed(SEED).public.raw == RAW
        assert OperatorKey.from_seed(SEED).key_id == "34750f98bd59fcfc946da45aaabe933b"
        assert OperatorKey.from_seed(b"\2" * 32).key_id == "6a3803d5f059902a1c6dafbc9ba47292"

    def test_the_public_key_is_written_and_read(self) -> None:
        pem = f"-----BEGIN PUBLIC KEY-----\n{SPKI}\n-----END PUBLIC KEY-----\n"
        assert OperatorKey.from_seed(SEED).public_pem == pem
        assert PublicKey.from_pem(pem).raw == RAW
        assert PublicKey.from_pem("\n" + pem.replace("\n", "\r\n")).raw == RAW

    @pytest.mark.parametrize("body", [V1, V2, V2[:64] + "\n" + V2[64:]])
    def test_both_versions_of_pkcs8_are_read(self, body: str) -> None:
        assert keys.parse(private_pem(body)).key_id == "34750f98bd59fcfc946da45aaabe933b"

    def test_the_first_version_is_written(self, tmp_path: Path) -> None:
        assert place(tmp_path).read_text() == private_pem(V1)


class TestLocation:
    def test_the_variable_wins(self) -> None:
        assert keys.location({keys.VARIABLE: "/etc/k.pem", "HOME": "/home/a"}) == Path("/etc/k.pem")

    def test_an_empty_variable_is_none(self, tmp_path: Path) -> None:
        found = keys.location({keys.VARIABLE: "", "HOME": str(tmp_path)})
        assert found == tmp_path / ".greentic" / "operator" / "key.pem"

    def test_the_way_to_home_may_be_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "home").symlink_to("real")
        path = keys.location({"HOME": str(tmp_path / "home")})
        assert keys.load_or_create(path).key_id == keys.load(path).key_id

    @pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"HOME": "relative"}])
    def test_no_home_is_refused(self, environ: dict[str, str]) -> None:
        with pytest.raises(OperatorKeyError, match="HOME"):
            keys.location(environ)


class TestCreation:
    def test_modes_do_not_depend_on_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0o777)
        try:
            path = place(tmp_path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "key.pem.pub").stat().st_mode) == 0o644

    def test_new_folders_are_for_the_owner_alone(self, tmp_path: Path) -> None:
        keys.load_or_create(tmp_path / "a" / "b" / "key.pem")
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700

    def test_a_second_call_keeps_the_key_and_leaves_no_drafts(self, tmp_path: Path) -> None:
        path = tmp_path / "key.pem"
        first = keys.load_or_create(path)
        assert keys.load_or_create(path).key_id == first.key_id == keys.load(path).key_id
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["key.pem", "key.pem.pub"]

    def test_loading_writes_nothing(self, tmp_path: Path) -> None:
        path = place(tmp_path)
        path.with_name("key.pem.pub").unlink()
        keys.load(path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["key.pem"]
        keys.load_or_create(path)
        assert path.with_name("key.pem.pub").exists()

    def test_loading_does_not_create(self, tmp_path: Path) -> None:
        with pytest.raises(OperatorKeyError, match="no operator key") as caught:
            keys.load(tmp_path / "a" / "key.pem")
        assert caught.value.kind == "operator-key"
        assert "bootstrap" in (caught.value.next_step or "")
        assert list(tmp_path.iterdir()) == []

    def test_threads_that_race_end_with_one_key(self, tmp_path: Path) -> None:
        for number in range(20):
            path = tmp_path / str(number) / "key.pem"
            with ThreadPoolExecutor(8) as pool:
                found = set(pool.map(created, [path] * 8))
            assert found == {keys.load(path).key_id}
            assert len(list(path.parent.iterdir())) == 2

    def test_processes_that_race_end_with_one_key(self, tmp_path: Path) -> None:
        paths = [tmp_path / str(number % 10) / "key.pem" for number in range(40)]
        with ProcessPoolExecutor(3, mp_context=get_context("forkserver")) as pool:
            found = list(pool.map(created, paths))
        assert all(found[number] == keys.load(paths[number]).key_id for number in range(40))

    @pytest.mark.parametrize("before_its_public_half", [False, True])
    def test_the_loser_reads_what_the_winner_wrote(self, tmp_path: Path, before_its_public_half: bool) -> None:
        path = tmp_path / "key.pem"

        def overtaken(size: int) -> bytes:
            place(tmp_path, b"\2" * size)
            if before_its_public_half:
                path.with_name("key.pem.pub").unlink()
            return b"\1" * size

        assert keys.load_or_create(path, overtaken).key_id == OperatorKey.from_seed(b"\2" * 32).key_id

    def test_the_loser_checks_what_the_winner_wrote(self, tmp_path: Path) -> None:
        path = tmp_path / "key.pem"

        def overtaken(size: int) -> bytes:
            place(tmp_path).chmod(0o644)
            return b"\2" * size

        with pytest.raises(OperatorKeyError, match="0600"):
            keys.load_or_create(path, overtaken)


def created(path: Path) -> str:
    return keys.load_or_create(path).key_id


class TestRefusals:
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o601, 0o644, 0o777])
    def test_a_mode_that_lets_others_in(self, tmp_path: Path, mode: int) -> None:
        path = place(tmp_path)
        path.chmod(mode)
        for call in (keys.load, keys.load_or_create):
            with pytest.raises(OperatorKeyError, match="0600") as caught:
                call(path)
            assert f"chmod 600 {path}" in (caught.value.next_step or "")

    def test_a_link_as_key(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        place(tmp_path / "real")
        path = tmp_path / "key.pem"
        path.symlink_to("real/key.pem")
        for call in (keys.load, keys.load_or_create):
            with pytest.raises(OperatorKeyError, match="symbolic link"):
                call(path)

    def test_a_dangling_link_as_key_is_not_written_through(self, tmp_path: Path) -> None:
        path = tmp_path / "key.pem"
        path.symlink_to(tmp_path / "elsewhere.pem")
        with pytest.raises(OperatorKeyError, match="symbolic link"):
            keys.load_or_create(path)
        assert not (tmp_path / "elsewhere.pem").exists()

    def test_a_link_on_the_way(self, tmp_path: Path) -> None:
        place(tmp_path / "real" / "operator")
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / ".greentic").symlink_to("../real")
        path = tmp_path / "home" / ".greentic" / "operator" / "key.pem"
        assert path.exists()
        for call in (keys.load, keys.load_or_create):
            with pytest.raises(OperatorKeyError, match="symbolic link") as caught:
                call(path)
            assert str(path.parent.parent) in caught.value.message

    def test_a_folder_that_everybody_may_write(self, tmp_path: Path) -> None:
        path = place(tmp_path / "open")
        path.parent.chmod(0o777)
        with pytest.raises(OperatorKeyError, match="writable by all"):
            keys.load(path)
        path.parent.chmod(0o1777)
        keys.load(path)

    @pytest.mark.parametrize("path", ["relative/key.pem", "/tmp/../tmp/key.pem"])
    def test_a_path_that_can_mean_two_places(self, path: str) -> None:
        with pytest.raises(OperatorKeyError, match="absolute"):
            keys.load(Path(path))

    def test_a_path_with_nul(self) -> None:
        with pytest.raises(GreenticError):
            keys.load(Path("/tmp/\0/key.pem"))

    def test_a_pipe_does_not_block(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "key.pem", 0o600)
        with pytest.raises(OperatorKeyError, match="regular file"):
            keys.load(tmp_path / "key.pem")

    def test_a_folder_as_key(self, tmp_path: Path) -> None:
        (tmp_path / "key.pem").mkdir()
        with pytest.raises(OperatorKeyError, match="regular file"):
            keys.load(tmp_path / "key.pem")

    def test_a_file_as_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OperatorKeyError, match="Not a directory"):
            keys.load_or_create(tmp_path / "file" / "key.pem")

    @pytest.mark.parametrize("stale", [OperatorKey.from_seed(b"\2" * 32).public_pem, "garbage", ""])
    def test_a_public_half_of_another_key(self, tmp_path: Path, stale: str) -> None:
        path = place(tmp_path)
        path.with_name("key.pem.pub").write_text(stale)
        for call in (keys.load, keys.load_or_create):
            with pytest.raises(OperatorKeyError, match="not the public half"):
                call(path)

    def test_a_public_half_that_is_a_link(self, tmp_path: Path) -> None:
        path = place(tmp_path)
        beside = path.with_name("key.pem.pub")
        beside.rename(tmp_path / "elsewhere")
        beside.symlink_to("elsewhere")
        with pytest.raises(OperatorKeyError, match="symbolic link"):
            keys.load(path)

    def test_a_public_half_without_a_key(self, tmp_path: Path) -> None:
        path = place(tmp_path)
        path.unlink()
        with pytest.raises(OperatorKeyError, match="lost or moved"):
            keys.load_or_create(path)
        assert not path.exists()

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "PEM"),
            ("not a key", "PEM"),
            (private_pem("AAAA"), "not an Ed25519 key"),
            (private_pem("A"), "base64"),
            (private_pem(V1[:-1] + "C"), None),  # another seed, well-formed
            (private_pem(V1[:-4]), "not an Ed25519 key"),
            (private_pem(base64.b64encode(base64.b64decode(V1) + b"\0").decode()), "not an Ed25519 key"),
            (private_pem(V2[:-4] + "b1x="), "base64|belong"),
            (private_pem(V2.replace("gSEAioj", "gSEAioh")), "does not belong"),
            (private_pem(V1).replace("PRIVATE", "ENCRYPTED PRIVATE"), "passphrase"),
            (private_pem(V1).replace("PRIVATE", "OPENSSH PRIVATE"), "labelled"),
            (private_pem(V1) + private_pem(V1), "PEM"),
            ("preface\n" + private_pem(V1), "PEM"),
            (private_pem(V1).replace("END PRIVATE", "END PUBLIC"), "labelled"),
            (private_pem("A" * 5000), "longer"),
        ],
    )
    def test_what_is_no_key(self, text: str, reason: str | None) -> None:
        if reason is None:
            assert keys.parse(text).key_id != "34750f98bd59fcfc946da45aaabe933b"
            return
        with pytest.raises(OperatorKeyError, match=reason) as caught:
            keys.parse(text)
        assert "AQEBAQEB" not in f"{caught.value} {caught.value.document()}"

    def test_keys_of_other_kinds(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec, ed448, x25519
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

        for key in (
            ec.generate_private_key(ec.SECP256R1()),
            ed448.Ed448PrivateKey.generate(),
            x25519.X25519PrivateKey.generate(),
        ):
            private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
            public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
            with pytest.raises(OperatorKeyError, match="not an Ed25519 key"):
                keys.parse(private)
            with pytest.raises(TrustRootError, match="another kind") as caught:
                PublicKey.from_pem(public)
            assert caught.value.details["reason"] == "wrong-key-type"

    def test_a_small_order_public_key(self) -> None:
        der = bytes.fromhex("302a300506032b6570032100") + (1).to_bytes(32, "little")
        with pytest.raises(TrustRootError, match="small order"):
            PublicKey.from_pem(pem_of(der, "PUBLIC KEY"))


class TestSecrecy:
    def test_a_key_shows_only_its_id(self) -> None:
        key = OperatorKey.from_seed(SEED)
        assert repr(key) == str(key) == "OperatorKey(34750f98bd59fcfc946da45aaabe933b)"
        with pytest.raises(TypeError):
            pickle.dumps(key)
        with pytest.raises(TypeError):
            copy.copy(key)

    def test_an_error_carries_no_chain_of_causes(self, tmp_path: Path) -> None:
        path = place(tmp_path)
        path.write_text(private_pem(V1[:-4]))
        with pytest.raises(OperatorKeyError) as caught:
            keys.load(path)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
