"""`gtc env-pack` as a publisher and an operator use it: sealed, signed, installed, bound, damaged, taken away."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.integration.command_line import CommandLine
from tests.integration.executable_packs import SERVED, write


@pytest.fixture
def gtc(tmp_path: Path) -> Any:
    line = CommandLine(tmp_path / "environments")
    line.environment["GREENTIC_ENV_PACKS"] = str(tmp_path / "env-packs")
    line.environment["GTC_OPERATOR_KEY_PATH"] = str(tmp_path / "operator" / "key.pem")
    yield line
    line("stop")


def publisher(gtc: CommandLine, tmp_path: Path) -> CommandLine:
    """Somebody else, with a key of their own."""
    other = CommandLine(tmp_path / "of the publisher")
    other.environment = {**gtc.environment, "GTC_OPERATOR_KEY_PATH": str(tmp_path / "publisher" / "key.pem")}
    return other


def test_from_the_publisher_to_a_running_worker(gtc: CommandLine, tmp_path: Path, bundles: dict[str, Path]) -> None:
    gtc.init()
    needs = [{"id": "jobs.create", "description": "start workers"}]
    source = write(tmp_path / "source", SERVED, summary="the local one, over the wire", capabilities=needs)
    sealed = publisher(gtc, tmp_path)("env-pack", "seal", str(source)).result
    key = sealed["signed_by"]
    assert sealed["files"] == 1
    refused = gtc("env-pack", "install", str(source))
    assert refused.error["details"]["reason"] == "no-trusted-key"
    assert not (tmp_path / "env-packs").exists()
    trusting = ("op", "trust-root", "add", "local", "--public-key-file", sealed["public_key_file"])
    assert gtc(*trusting).status == 0
    installed = gtc("env-pack", "install", str(source)).result
    assert installed["signed_by"] == [key]
    assert installed["changed"]
    assert not gtc("env-pack", "install", str(source)).result["changed"]
    rows = {row["path"]: row for row in gtc("op", "env-packs", "available", "deployer").result["env_packs"]}
    assert rows["acme.deployer.test"]["origin"]["kind"] == "executable"
    assert rows["acme.deployer.test"]["loads"]
    described = gtc("op", "env-packs", "describe", "acme.deployer.test").result
    assert described["origin"]["signed_by"] == [key]
    assert described["capabilities"] == needs
    assert gtc("op", "env-packs", "update", "deployer", "acme.deployer.test@1.4.0").status == 0
    assert gtc("op", "deploy", "--bundle", str(bundles["v1"]), "web").status == 0
    assert gtc.get()[1]["version"] == "1.0.0"
    assert gtc("op", "status").status == 0
    # Whom the environment trusts no more, of them it uses nothing.
    assert gtc("op", "trust-root", "remove", "local", "--key-id", key).status == 0
    before = gtc("op", "status").result["generation"]
    refused = gtc("op", "deploy", "--bundle", str(bundles["v2"]), "web")
    assert "does not trust the env-pack" in refused.error["message"]
    assert gtc("op", "status").result["generation"] == before
    # But to see what it runs, and to end that.
    assert gtc.get()[1]["version"] == "1.0.0"
    seen = gtc("op", "status").result
    assert seen["running"]
    assert "observation_error" not in seen
    assert "does not trust the env-pack" in seen["notices"][0]["message"]
    assert "trust-root add" in seen["notices"][0]["next_step"]
    assert "does not trust" in gtc("op", "status", as_json=False).out
    for words in (("op", "traffic", "clear", "web"), ("start", "--background"), ("op", "router", "restart")):
        assert "does not trust" in gtc(*words).error["message"], words
        assert gtc("op", "status").result["generation"] == seen["generation"], words
    assert gtc("stop").result["stopped"]
    assert not gtc("op", "status").result["running"]
    assert "does not trust" in gtc("start", "--background").error["message"]
    assert gtc("op", "trust-root", "add", "local", "--key-id", key, "--restore").status == 0
    assert gtc("env-pack", "uninstall", "acme.deployer.test").error["details"]["environment_ids"] == ["local"]
    assert gtc("stop").status == 0


def test_an_unsigned_one_is_vouched_for_and_told_everywhere(gtc: CommandLine, tmp_path: Path) -> None:
    gtc.init()
    source = write(tmp_path / "source", SERVED)
    assert gtc("env-pack", "install", str(source)).error["details"]["reason"] == "unsigned"
    said = gtc("env-pack", "install", str(source), "--unsigned", as_json=False)
    assert said.status == 0
    assert "NOBODY WHO IS TRUSTED SIGNED" in said.out
    record = json.loads((tmp_path / "env-packs" / "acme.deployer.test" / "installed.json").read_text())
    assert record["unsigned_by"]
    assert record["signed_by"] == []
    assert "UNSIGNED" in gtc("op", "env-packs", "available", as_json=False).out
    assert gtc("op", "env-packs", "update", "deployer", "acme.deployer.test").status == 0
    findings = json.loads(gtc("op", "env", "doctor").out)["result"]["findings"]
    assert any("nobody signed" in finding["message"] for finding in findings)


def test_every_flipped_byte_is_found(gtc: CommandLine, tmp_path: Path) -> None:
    """In the manifest, in the signature and in a file, before anything is installed."""
    from greentic.envpacks import executables, manifest
    from greentic.spec.errors import GreenticError
    from greentic.trust.keys import OperatorKey

    key = OperatorKey.from_seed(b"k" * 32)
    source = write(tmp_path / "source", SERVED)
    (source / manifest.SIGNATURE).write_bytes(
        manifest.sign(manifest.read(source)[0], (source / manifest.MANIFEST).read_bytes(), key)
    )

    def install(root: Path) -> Any:
        return executables.install(source, root, trusted=(key.public,), unsigned=False, by="t", now="now")

    for name in (manifest.MANIFEST, manifest.SIGNATURE, "provider"):
        whole = (source / name).read_bytes()
        for position in range(0, len(whole), 7):
            root = tmp_path / "other"
            data = bytearray(whole)
            data[position] ^= 1
            (source / name).write_bytes(data)
            try:
                executable, _ = install(root)
            except GreenticError:
                assert not (root / "acme.deployer.test").exists()
            else:
                # The envelope has fields that mean nothing: what was installed is what was signed all the same.
                assert name == manifest.SIGNATURE
                assert executable.record.signed_by == (key.key_id,)
                executables.uninstall(root, "acme.deployer.test")
        (source / name).write_bytes(whole)
    assert install(tmp_path / "other")[0].record.signed_by == (key.key_id,)


def test_an_upgrade_replaces_and_a_failed_one_changes_nothing(gtc: CommandLine, tmp_path: Path) -> None:
    first = write(tmp_path / "first", SERVED)
    second = write(tmp_path / "second", SERVED + "\n", version="1.1.0")
    gtc("env-pack", "install", str(first), "--unsigned")
    place = tmp_path / "env-packs" / "acme.deployer.test"
    before = sorted(path.name for path in place.iterdir())
    (second / "provider").write_text(SERVED + "# changed after it was sealed\n")
    assert "digest differs" in gtc("env-pack", "install", str(second), "--unsigned").error["message"]
    assert sorted(path.name for path in place.iterdir()) == before
    (second / "provider").write_text(SERVED + "\n")
    assert gtc("env-pack", "install", str(second), "--unsigned").result["replaced"] == "1.0.0"
    after = sorted(path.name for path in place.iterdir())
    assert len(after) == len(before) == 2
    assert after != before
    assert gtc("env-pack", "uninstall", "acme.deployer.test").result["version"] == "1.1.0"
    assert gtc("env-pack", "uninstall", "acme.deployer.test").status == 5
    for elsewhere in ("../environments", "/etc", "..", ".", "acme.deployer.test/../../x"):
        assert gtc("env-pack", "uninstall", elsewhere).status == 5
    assert not place.exists()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"slot": "messaging"}, "cannot fill the slot 'messaging'; it can fill deployer"),
        ({"slot": 7}, "cannot fill the slot '7'"),
        ({"slot": "extension"}, "unless it offers a bench"),
        ({"bench": ["./looker"]}, "the bench begins with './looker', which is no executable file"),
        ({"schema": "greentic.env-pack.v2"}, "schema"),
        ({"protocol": 2}, "protocol"),
        ({"path": "nodot"}, "path"),
        ({"path": "../../etc"}, "path"),
        ({"path": ".."}, "path"),
        ({"path": "."}, "path"),
        ({"path": ".running.x"}, "path"),
        ({"versions": ">=1"}, "versions"),
        ({"command": []}, "command"),
        ({"command": ["/bin/sh"]}, "no executable file"),
        ({"command": ["../provider"]}, "no executable file"),
        ({"variables": ["LD_PRELOAD"]}, "variables"),
        ({"variables": ["GTC_OPERATOR_KEY_PATH"]}, "variables"),
        ({"timeouts": {"observe": 0}}, "timeouts"),
        ({"files": {"../x": {"digest": "sha256:" + "0" * 64, "size": 1}}}, "files"),
    ],
)
def test_a_manifest_that_cannot_be(gtc: CommandLine, tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    source = write(tmp_path / "source", SERVED)
    document = json.loads((source / "env-pack.json").read_text())
    (source / "env-pack.json").write_text(json.dumps({**document, **fields}))
    refused = gtc("env-pack", "install", str(source), "--unsigned")
    assert words in refused.error["message"]
    assert not (tmp_path / "env-packs" / "acme.deployer.test").exists()


def test_what_is_no_env_pack(gtc: CommandLine, tmp_path: Path) -> None:
    assert gtc("env-pack", "install", str(tmp_path / "nowhere"), "--unsigned").status == 5
    source = write(tmp_path / "source", SERVED)
    (source / "link").symlink_to("/etc/passwd")
    assert "symbolic link" in gtc("env-pack", "seal", str(source)).error["message"]
    (source / "link").unlink()
    (source / "provider").chmod(0o644)
    assert "no executable file" in gtc("env-pack", "seal", str(source)).error["message"]
    (source / "provider").unlink()
    os.mkfifo(source / "provider")
    assert "not a regular file" in gtc("env-pack", "seal", str(source)).error["message"]
    greentic = write(tmp_path / "shadow", SERVED, path="greentic.deployer.local-process")
    assert "greentic 0" in gtc("env-pack", "install", str(greentic), "--unsigned").error["message"]
