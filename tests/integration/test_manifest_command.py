"""One file describes an environment, through the real `gtc`, with real workers and routers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.certificates import identity
from tests.integration.command_line import CommandLine, free_port


@pytest.fixture
def folder(tmp_path: Path, bundles: dict[str, Path]) -> Path:
    """A folder with two bundles, where manifests are written."""
    place = tmp_path / "described"
    place.mkdir()
    for name in ("v1", "v2"):
        shutil.copy(bundles[name], place / f"{name}.gtbundle")
    return place


@pytest.fixture
def gtc(tmp_path: Path) -> Iterator[CommandLine]:
    command = CommandLine(tmp_path / "environments of mine")
    yield command
    for name in ("local", "staging"):
        command("stop", name)


def described(folder: Path, port: int, shares: dict[str, Any], name: str = "local", **entry: Any) -> Path:
    revisions = "".join(
        f"      - {{name: {one}, bundle_path: {one}.gtbundle, weight_percent: {share}}}\n"
        for one, share in shares.items()
    )
    more = "".join(f"    {key}: {value}\n" for key, value in entry.items())
    path = folder / f"{name}.yaml"
    path.write_text(
        f"schema: greentic.env-manifest.v1\nenvironment: {{id: {name}, listen_addr: '127.0.0.1:{port}'}}\n"
        f"bundles:\n  - bundle_id: web\n{more}    revisions:\n{revisions}"
    )
    return path


def acting(told: Any) -> list[tuple[str, str]]:
    return [(one["kind"], one["action"]) for one in told["steps"] if one["action"] != "no-op"]


def test_two_environments_from_one_folder(gtc: CommandLine, folder: Path) -> None:
    local = str(described(folder, gtc.port, {"v1": 100}))
    other = free_port()
    staging = str(described(folder, other, {"v2": 100}, "staging", customer_id="acme"))
    token = gtc("op", "env", "plan", "-f", local).result["token"]
    assert gtc("op", "env", "apply", "-f", local, "--plan", token).result["verify"]["failures"] == []
    told = gtc("op", "env", "apply", "--answers", staging, as_json=False)
    assert told.status == 0, told.err
    assert "live on 1/1 routers" in told.out
    assert "create" in told.err
    assert gtc.get()[1]["version"] == "1.0.0"
    gtc.port = other
    assert gtc.get()[1]["version"] == "2.0.0"
    assert gtc("op", "env", "apply", "-f", local, "--plan", token).status == 4
    assert gtc("op", "env", "apply", "-f", local, "--check").status == 0
    assert gtc("op", "env", "apply", "-f", local, "-e", "staging").status == 2


@pytest.mark.parametrize("made", [False, True])
def test_a_plan_that_could_not_be_served_is_refused_before_anything_is_changed(
    gtc: CommandLine, folder: Path, made: bool
) -> None:
    path = described(folder, gtc.port, {"v1": 100})
    if made:
        gtc("op", "env", "init", "--listen-addr", f"127.0.0.1:{gtc.port}").result  # noqa: B018 - asserts success
    one, other = identity("one.example"), identity("other.example")
    for name, text in ("cert.pem", one.pem), ("key.pem", other.key_pem):
        (folder / name).write_text(text)
    tls = f"tls: {{certificate: {folder / 'cert.pem'}, private_key: {folder / 'key.pem'}}}"
    text = path.read_text()
    path.write_text(text.replace(f"'127.0.0.1:{gtc.port}'", f"'127.0.0.1:{gtc.port}', router: {{{tls}}}"))
    for words in ["plan"], ["apply", "--yes"], ["apply", "--dry-run"], ["apply", "--check"]:
        told = gtc("op", "env", *words, "-f", str(path), as_json=False)
        assert (told.status, "the private key is not the certificate's" in told.err) == (2, True), told.err
    assert len(gtc("op", "env", "list").result["environments"]) == made
    (folder / "key.pem").write_text(one.key_pem)
    assert gtc("op", "env", "plan", "-f", str(path)).status == 0


def test_weight_moves_the_dial_and_check_says_so(gtc: CommandLine, folder: Path) -> None:
    path = str(described(folder, gtc.port, {"v1": 100, "v2": 0}))
    gtc("op", "env", "apply", "-f", path).result  # noqa: B018 - asserts success
    pid = gtc.get()[1]["pid"]
    described(folder, gtc.port, {"v1": 0, "v2": 100})
    checked = gtc("op", "env", "apply", "-f", path, "--check")
    assert checked.status == 3
    assert checked.error["kind"] == "differs"
    assert gtc("op", "env", "diff", "-f", path, "--check").status == 3
    told = gtc("op", "env", "apply", "-f", path).result
    assert acting(told) == [("move-traffic", "move")]
    assert told["receipt"]["acknowledged"] == 1
    assert gtc.get()[1]["version"] == "2.0.0"
    assert gtc("op", "env", "diff", "-f", path, "--check").status == 0
    described(folder, gtc.port, {"v1": 100, "v2": 0})
    gtc("op", "env", "apply", "-f", path).result  # noqa: B018
    assert gtc.get()[1] == {**gtc.get()[1], "version": "1.0.0", "pid": pid}
    described(folder, gtc.port, {"v1": 100})
    assert gtc("op", "env", "apply", "-f", path, "--prune").status == 2
    assert gtc("op", "env", "apply", "-f", path, "--prune", "--check").status == 3
    told = gtc("op", "env", "apply", "-f", path, "--prune", "--yes").result
    assert acting(told) == [("remove-revision", "remove")]
    exported = str(folder / "exported.yaml")
    gtc("op", "env", "export", "-o", exported).result  # noqa: B018
    assert gtc("op", "env", "apply", "-f", exported, "--check").status == 0


def test_killed_apply_is_gone_on_with(gtc: CommandLine, folder: Path) -> None:
    path = described(folder, gtc.port, {"v1": 50, "v2": 50})
    command = [sys.executable, "-m", "greentic.cli.main", "op", "env", "apply", "-f", str(path)]
    running = subprocess.Popen(command, env=gtc.environment, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    for line in running.stderr:
        if "warming web v1" in line:
            os.kill(running.pid, signal.SIGKILL)
            break
    running.wait(20)
    running.stderr.close()
    told = gtc("op", "env", "apply", "-f", str(path)).result
    assert ("publish", "update") in acting(told)
    revisions = gtc("op", "revisions", "list").result["revisions"]
    assert [(one["name"], one["lifecycle"], one["weight_bps"]) for one in revisions] == [
        ("v1", "ready", 5000),
        ("v2", "ready", 5000),
    ]
    assert gtc.get()[0] == 200
    assert gtc("op", "env", "apply", "-f", str(path), "--check").status == 0


def test_wrong_manifest_is_told_by_line_and_column(gtc: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "env.yaml"
    path.write_text("schema: greentic.env-manifest.v1\nenvironment: {id: local}\nbundels: []\n")
    told = gtc("op", "env", "apply", "-f", str(path))
    assert told.status == 2
    problem = {"path": "bundels", "message": "is not a known key", "line": 3, "column": 1}
    assert told.error["details"]["problems"] == [problem]
    assert gtc("op", "env", "apply", "-f", str(tmp_path / "none.yaml")).status == 5
    assert gtc("op", "env", "apply").status == 2


def test_template_and_schema(gtc: CommandLine, tmp_path: Path) -> None:
    template = str(tmp_path / "new.yaml")
    gtc("op", "env", "apply", "--emit-answers-template", template).result  # noqa: B018
    assert gtc("op", "env", "apply", "--emit-answers-template", template).status == 4
    told = gtc("op", "env", "plan", "-f", template).result
    assert [one["kind"] for one in told["missing"]] == ["bundle_artifact"]
    schema = json.loads(gtc("op", "env", "apply", "--schema", as_json=False).out)
    assert schema["additionalProperties"] is False


def test_migrations(gtc: CommandLine, tmp_path: Path) -> None:
    assert gtc("op", "env", "migrate-dev", "local", "--apply").result["clean"] is True
    gtc("op", "env", "create", "dev").result  # noqa: B018
    assert gtc("op", "env", "migrate-dev", "local", "--check").status == 3
    assert gtc("op", "env", "migrate-dev", "local").status == 2
    told = gtc("op", "env", "migrate-dev", "local", "--apply").result
    assert set(told["merged_slots"]) == {"deployer", "secrets", "telemetry", "sessions", "state"}
    assert Path(told["legacy_dir_renamed_to"]).is_dir()
    assert gtc("op", "env", "migrate-dev", "local", "--check").result["clean"] is True
    old = tmp_path / "state" / "deploy"
    old.mkdir(parents=True)
    (old / "a.json").write_text("{}")
    words = ("op", "env", "migrate-state", "local", "--state-dir", str(tmp_path / "state"))
    assert gtc(*words, "--check").status == 3
    told = gtc(*words, "--apply").result
    assert told["leaf_count"] == 1
    assert not old.exists()
    assert gtc(*words, "--check").result["clean"] is True
