"""`gtc env-pack new` writes projects that work: each is installed outside the repository and passes its own tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.command_line import CommandLine

from greentic.envpacks import scaffold
from greentic.spec.capabilities import Slot
from greentic.spec.errors import Conflict, GreenticError, InvalidArgument

ROOT = Path(__file__).parents[2]


def installed(project: Path, site: Path) -> dict[str, str]:
    """The project as pip installs it, and the variables by which it is found."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(site), str(project)], check=True, timeout=120, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(site)}


@pytest.mark.parametrize("slot", scaffold.SLOTS, ids=str)
def test_each_skeleton_passes_its_own_tests(slot: Slot, tmp_path: Path) -> None:
    path = f"my-firm.{slot}.some-thing"
    project = tmp_path / "project"
    scaffold.new(project, path, scaffold.slot_of(path))
    text = "".join(file.read_text() for file in project.rglob("*") if file.is_file())
    assert "acme" not in text.replace('"acme"', "").replace("acme-", ""), "the made-up names are gone"
    variables = installed(project, tmp_path / "site")
    # Its own sources must not be what makes it work: they are moved away, the tests run against what pip installed.
    (project / "src").rename(tmp_path / "moved")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(project / "tests")],
        cwd=project, env=variables, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_a_program_of_its_own_passes_the_same_tests(tmp_path: Path) -> None:
    project = tmp_path / "project"
    scaffold.new(project, "acme.deployer.nomad", Slot.DEPLOYER, "executable")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=project, env=dict(os.environ), capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "files" in json.loads((project / "env-pack.json").read_text())


def test_what_is_written_is_typed_and_tidy(tmp_path: Path) -> None:
    for slot in scaffold.SLOTS:
        scaffold.new(tmp_path / str(slot), f"acme.{slot}.thing", slot)
    sources = [str(path) for path in sorted(tmp_path.glob("*/src"))]
    variables = {**os.environ, "MYPYPATH": os.pathsep.join(sources)}
    packages = [f"-pacme_{slot}_thing" for slot in scaffold.SLOTS]
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file",
        os.devnull,
        "--cache-dir",
        str(tmp_path / "c"),
    ]
    done = subprocess.run(
        [*command, *packages], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (("check",), ("format", "--check")):
        tidy = [sys.executable, "-m", "ruff", *words, "--no-cache"]
        for slot in scaffold.SLOTS:
            ended = subprocess.run(tidy, cwd=tmp_path / str(slot), capture_output=True, text=True, timeout=60)
            assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_next_step_can_be_typed(gtc: CommandLine, tmp_path: Path) -> None:
    said = gtc("env-pack", "new", "acme.state.x", str(tmp_path / "a new place"), as_json=False).out
    assert f"pip install --editable '{tmp_path / 'a new place'}'" in " ".join(said.split())


@pytest.mark.parametrize(
    "path",
    ["nomad", "", "Acme.deployer.x", "acme..x", "acme/deployer", "../x.y", "greentic.deployer.x", "9.8",
     "acme.deployer.x@1.0.0", "acme." + "x" * 200, "class", ".x.y", "x.y.", "-a.b", "a.b-", "a.-b"],
)  # fmt: skip
def test_a_name_that_cannot_be(path: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument):
        scaffold.new(tmp_path / "new", path, Slot.DEPLOYER)
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(Conflict, match="not empty"):
        scaffold.new(tmp_path / "full", "acme.deployer.x", Slot.DEPLOYER)
    with pytest.raises(Conflict):
        scaffold.new(tmp_path / "full" / "mine", "acme.deployer.x", Slot.DEPLOYER)
    with pytest.raises(InvalidArgument, match="no skeleton for the slot"):
        scaffold.new(tmp_path / "new", "acme.messaging.x", Slot.MESSAGING)
    with pytest.raises(InvalidArgument, match="deployer"):
        scaffold.new(tmp_path / "new", "acme.secrets.x", Slot.SECRETS, "executable")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    assert scaffold.new(tmp_path / "empty", "acme.deployer.x", Slot.DEPLOYER)


def test_a_failure_on_the_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = scaffold._written
    left = [3]

    def failing(*arguments: object) -> Path:
        left[0] -= 1
        if not left[0]:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(scaffold, "_written", failing)
    with pytest.raises(OSError, match="No space"):
        scaffold.new(tmp_path / "new", "acme.deployer.x", Slot.DEPLOYER)
    assert list(tmp_path.iterdir()) == []


def test_the_command(gtc: CommandLine, tmp_path: Path) -> None:
    place = tmp_path / "nomad"
    told = gtc("env-pack", "new", "acme.secrets.vault", str(place)).result
    assert told["slot"] == "secrets"
    assert str(place / "src" / "acme_secrets_vault" / "secrets.py") in told["files"]
    assert gtc("env-pack", "new", "acme.secrets.vault", str(place)).error["kind"] == "conflict"
    assert gtc("env-pack", "new", "acme.deployer.x", str(tmp_path / "x"), "--slot", "nothing").status == 2
    assert gtc("env-pack", "new").status == 2
    assert issubclass(InvalidArgument, GreenticError)
