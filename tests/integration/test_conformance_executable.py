"""A deployer that is an executable takes the driving test. It is written in the standard library alone; it speaks to
greentic over the wire, and a program of its own, or greentic itself, looks at what it does.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.integration.executable_packs import NOW

from greentic.conformance import certify, report
from greentic.conformance.checking import PROFILES, Check, checks
from greentic.conformance.runner import Verdict, conduct
from greentic.envpacks import executables, manifest
from greentic.envpacks.offering import pack_of
from greentic.envpacks.registry import EnvPack, Registry
from greentic.spec.errors import Conflict, NotFound

SOURCE = Path(__file__).parent / "executable_deployer"
PATH = "acme.deployer.machine"
PERMISSIONS = "process.start process.end socket.listen router.configure router.drain file.write file.remove"
CHECKS = {check.name: check for check in checks()}
BEGAN = datetime(2026, 11, 25, tzinfo=UTC)


def installed(place: Path, changed: tuple[str, str] | None = None, **fields: Any) -> EnvPack:
    """The example, with one thing of `machine.py` changed."""
    folder = place / "source"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    if changed is not None:
        text = (folder / "machine.py").read_text()
        assert changed[0] in text
        (folder / "machine.py").write_text(text.replace(*changed))
    document = {
        "schema": "greentic.env-pack.v1",
        "path": PATH,
        "slot": "deployer",
        "versions": "^1.0.0",
        "version": "1.0.0",
        "command": ["./provider"],
        "bench": ["./bench"],
        "capabilities": [{"id": one, "description": "on this machine"} for one in PERMISSIONS.split()],
        **fields,
    }
    (folder / "env-pack.json").write_text(json.dumps(document))
    found, _ = manifest.read(folder)
    sealed = found.model_copy(update={"files": manifest.listed(folder)})
    (folder / "env-pack.json").write_bytes(sealed.to_bytes())
    made = executables.install(folder, place / "env-packs", trusted=(), unsigned=True, by="test", now=NOW)[0]
    return pack_of(made, lambda _: None)


def take(pack: EnvPack, check: Check, bench: str | None = None) -> Verdict:
    subject = certify.candidate(Registry({pack.path: lambda: pack}), pack.path, bench)
    return asyncio.run(conduct(check, pack.descriptor, subject.open_bench))


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> EnvPack:
    return installed(tmp_path_factory.mktemp("example"))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("check", checks(), ids=lambda check: check.name)
def test_the_example(example: EnvPack, check: Check) -> None:
    verdict = take(example, check)
    assert verdict.passed, verdict.evidence


def test_greentic_looks_by_itself(example: EnvPack) -> None:
    for name in ("core.archive-leaves-nothing", "core.destroy-leaves-nothing", "credentials.exact-permissions"):
        verdict = take(example, CHECKS[name], certify.PROCESSES)
        assert verdict.passed, f"{name}: {verdict.evidence}"


MUTANTS = {
    "forgets the worker of a drain": (
        "core.drain-twice",
        (
            "                    os.killpg(worker.child.pid, signal.SIGKILL)\n                worker.child.wait()\n",
            "                    pass\n",
        ),
    ),
    "is off by one basis point": (
        "traffic.exact-basis-points",
        (
            '        return {\n            "deployment_id": name,\n            "bundle_id"',
            "        if len(slots) > 1:\n            slots[0][0], slots[1][0] = slots[0][0] - 1, slots[1][0] + 1\n"
            '        return {\n            "deployment_id": name,\n            "bundle_id"',
        ),
    ),
    "shows the routers' key to workers": (
        "credentials.no-secret-shown",
        ('"HOST": HOST, ', '"HOST": HOST, "KEY": (self.keys or {}).get("slots", ""), '),
    ),
}


@pytest.mark.parametrize("fault", MUTANTS)
def test_a_mutant_is_caught(tmp_path: Path, fault: str) -> None:
    name, change = MUTANTS[fault]
    verdict = take(installed(tmp_path, change), CHECKS[name])
    assert verdict.outcome == "failed", f"it {fault} and survived: {verdict.evidence}"


def test_who_looked_stands_on_the_certificate(example: EnvPack, tmp_path: Path) -> None:
    other = installed(tmp_path, path="acme.bench.other", slot="extension")
    plain = installed(tmp_path / "plain", bench=[])
    registry = Registry({PATH: lambda: example, other.path: lambda: other})
    said = {
        None: "the bench of acme.deployer.machine, which is the deployer's own",
        "processes": ": the processes of this machine",
        other.path: "the bench of acme.bench.other",
    }
    for bench, words in said.items():
        subject = certify.candidate(registry, PATH, bench)
        assert subject.looker.endswith(words)
        made = report.report(subject.pack, None, PROFILES, (), (), BEGAN, 1.0, subject.looker)
        assert words in report.text(made, "sha256:0")
        assert words in report.markdown(made, "sha256:0")
    with pytest.raises(NotFound):
        certify.candidate(registry, PATH, "acme.bench.nobody")
    with pytest.raises(Conflict, match="offers no bench"):
        certify.candidate(Registry({PATH: lambda: plain}), PATH)
