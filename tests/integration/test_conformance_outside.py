"""Somebody else's distribution takes the driving test: on the command line, in pytest, from outside the repository."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from greentic.conformance.checking import PROFILES
from greentic.envpacks import scaffold
from greentic.spec.capabilities import Slot

MODULE = """
from greentic.conformance.plain.bench import PlainBench
from greentic.conformance.zoo import mutants
from greentic.envpacks.registry import EnvPack
from greentic.spec.capabilities import Slot

WRONG = {mutant.name: mutant.bench for mutant in mutants()}

def good():
    return EnvPack("acme.deployer.good", Slot.DEPLOYER, "^2.1.0", "does it right", bench=PlainBench)

def wrong():
    return EnvPack("acme.deployer.wrong", Slot.DEPLOYER, "^2.1.0", "drops tenants", bench=WRONG["drops-the-tenant"])
"""
METADATA = "Metadata-Version: 2.1\nName: acme-greentic\nVersion: 2.1.3\n"
POINTS = "[greentic.env_packs]\nacme.deployer.good = acme_greentic:good\nacme.deployer.wrong = acme_greentic:wrong\n"


@pytest.fixture
def outside(tmp_path: Path) -> dict[str, str]:
    """Variables with which that distribution is installed."""
    site = tmp_path / "site"
    information = site / "acme_greentic-2.1.3.dist-info"
    information.mkdir(parents=True)
    (site / "acme_greentic.py").write_text(MODULE)
    (information / "METADATA").write_text(METADATA)
    (information / "entry_points.txt").write_text(POINTS)
    (tmp_path / "tmp").mkdir()
    return {**os.environ, "PYTHONPATH": str(site), "TMPDIR": str(tmp_path / "tmp")}


def gtc(variables: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "greentic.cli.main", "--json", "conformance", "run", *words]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=400)


def test_a_good_one_is_certified(outside: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "certificate"
    ended = gtc(outside, "--deployer", "acme.deployer.good", "--profile", "tenancy", "--out", str(out))
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)["result"]
    assert found["passed"]
    assert found["subject"]["distribution"] == "acme-greentic"
    assert found["subject"]["version"] == "2.1.3"
    assert json.loads((out / "report.json").read_text())["checks"] == found["checks"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_wrong_one_is_not_and_the_other_checks_run(outside: dict[str, str]) -> None:
    ended = gtc(outside, "--deployer", "acme.deployer.wrong@2.1.0", "--profile", "tenancy")
    assert ended.returncode == 7
    outcomes = {one["name"]: one["outcome"] for one in json.loads(ended.stdout)["result"]["checks"]}
    assert outcomes.pop("tenancy.own-worker") == "failed"
    assert set(outcomes.values()) == {"passed"}


def test_in_pytest_each_check_is_a_test(outside: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    command += ["--greentic-deployer", "acme.deployer.wrong", "--greentic-profile", "tenancy"]
    ended = subprocess.run(
        [*command, "-k", "own-worker or foreign-host"],
        cwd=tmp_path,
        env=outside,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "1 failed, 1 passed" in ended.stdout
    assert "the worker of customer-one says" in ended.stdout


def test_an_interrupted_run_leaves_nothing(outside: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "greentic.cli.main", "conformance", "run"]
    command += ["--deployer", "greentic.deployer.local-process", "--profile", "drain"]
    with subprocess.Popen(command, env=outside, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        calls = tmp_path / "tmp"
        deadline = time.monotonic() + 60
        while not list(calls.glob("gtc-bench-*/bench/conformance/run/workers/*")):
            assert time.monotonic() < deadline, "no worker was ever started"
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert list(calls.iterdir()) == []
    running = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
    assert not any(str(tmp_path).encode() in line for line in running)


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `gtc env-pack new` writes and the tutorial starts from, installed outside of the repository."""
    place = tmp_path_factory.mktemp("skeleton")
    scaffold.new(place / "project", "acme.deployer.nomad", Slot.DEPLOYER)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(place / "site"), str(place / "project")], check=True, timeout=120)
    return {**os.environ, "PYTHONPATH": str(place / "site")}


@pytest.mark.timeout(420)
@pytest.mark.parametrize("profile", PROFILES)
def test_the_deployer_of_the_tutorial_passes(skeleton: dict[str, str], profile: str) -> None:
    ended = gtc(skeleton, "--deployer", "acme.deployer.nomad", "--profile", profile)
    assert ended.stdout, ended.stderr
    found = json.loads(ended.stdout)["result"]
    assert [(one["name"], one["evidence"]) for one in found["checks"] if one["outcome"] != "passed"] == []
    assert ended.returncode == 0
