"""What is started, from the pack to the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from greentic.bundles.manifest import PackManifest
from greentic.bundles.unpack import UnpackedPack
from greentic.envpacks.variables import passed
from greentic.spec.errors import BundleError
from greentic.worker.launch import Identity, Launch, plan

IDENTITY = Identity("local", "R1", "D1", "web", "sha256:00", "1.2.3", "acme", "t1", "blue", 7)
OPERATOR = {"PATH": "/bin", "HOME": "/home/x", "TOKEN": "hunter2", "PYTHONPATH": "/evil", "LD_PRELOAD": "/evil.so"}


def pack(folder: Path, application: dict[str, Any] | None, **fields: Any) -> UnpackedPack:
    kind = {"kind": "reference"} if application is None else {"application": application}
    manifest = PackManifest.model_validate({"pack_id": "web", "version": "1.0.0", **kind, **fields})
    return UnpackedPack("web", "1.0.0", "sha256:00", "packs/web.gtpack", folder, manifest)


def planned(folder: Path, application: dict[str, Any], dependencies: Path | None = None, **fields: Any) -> Launch:
    return plan(
        pack(folder, application, **fields),
        IDENTITY,
        port=4711,
        configuration=Path("/c.json"),
        operator=OPERATOR,
        dependencies=dependencies,
    )


def test_an_asgi_application(tmp_path: Path) -> None:
    launch = planned(tmp_path, {"kind": "asgi", "app": "main:app"}, health={"path": "/up", "timeout_seconds": 3})
    expected = (sys.executable, "-P", "-u", "-m", "greentic.worker", "--app", "main:app", "--port", "4711")
    assert launch.argv == (*expected, "--path", str(tmp_path))
    assert (launch.directory, launch.port, launch.health_path, launch.health_timeout) == (tmp_path, 4711, "/up", 3.0)


def test_vendored_and_installed_libraries_come_first(tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    launch = planned(tmp_path, {"kind": "asgi", "app": "main:app", "vendor": "vendor"}, installed)
    assert launch.argv[-6:] == (
        *("--path", str(tmp_path / "vendor")),
        *("--path", str(installed)),
        *("--path", str(tmp_path)),
    )


def test_the_environment_is_built_from_nothing(tmp_path: Path) -> None:
    environment = planned(tmp_path, {"kind": "asgi", "app": "main:app"}).environment
    assert environment["GREENTIC_REVISION_NAME"] == "v7"
    assert environment["PORT"] == "4711"
    assert environment["HOST"] == "127.0.0.1"
    assert set(environment) - {name for name in environment if name.startswith("GREENTIC_")} == {
        *("PATH", "HOME", "HOST", "PORT"),
    }


def test_a_path_is_given_when_the_operator_has_none() -> None:
    assert passed({"SECRET": "x"}) == {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    assert passed({"PATH": "/p", "LC_TIME": "C", "SSL_CERT_FILE": "/f", "TZ": "UTC", "TMPDIR": "/t"}) == {
        "PATH": "/p",
        "LC_TIME": "C",
        "SSL_CERT_FILE": "/f",
        "TZ": "UTC",
        "TMPDIR": "/t",
    }


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["node", "server.js", "--port", "$PORT"], ("node", "server.js", "--port", "4711")),
        (["node", "--port=${PORT}"], ("node", "--port=4711")),
        (["/usr/bin/env", "$HOME; rm -rf /"], ("/usr/bin/env", "$HOME; rm -rf /")),
    ],
)
def test_a_command_is_substituted_and_never_a_shell(
    tmp_path: Path, command: list[str], expected: tuple[str, ...]
) -> None:
    assert planned(tmp_path, {"kind": "process", "command": command}).argv == expected


@pytest.mark.parametrize("program", ["./bin/server", "bin/server"])
def test_a_program_of_the_pack(tmp_path: Path, program: str) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "server").write_text("")
    launch = planned(tmp_path, {"kind": "process", "command": [program]})
    assert Path(launch.argv[0]) == tmp_path / "bin" / "server"


@pytest.mark.parametrize("program", ["./absent", "../outside", "./../../bin/sh", "a/../../b"])
def test_a_program_that_is_not_in_the_pack(tmp_path: Path, program: str) -> None:
    with pytest.raises(BundleError):
        planned(tmp_path, {"kind": "process", "command": [program]})


def test_a_pack_without_an_application(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no application"):
        plan(pack(tmp_path, None), IDENTITY, port=1, configuration=Path("/c"), operator={})
