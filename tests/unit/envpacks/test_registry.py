"""What is installed, found by entry points of real distributions in a folder of the test's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from greentic.envpacks.registry import EnvPack, Registry
from greentic.spec.capabilities import Slot
from greentic.spec.errors import Conflict, NotFound, ProviderError

PACK = """
from greentic.envpacks.registry import EnvPack
from greentic.spec.capabilities import Slot

def pack():
    return EnvPack(path={path!r}, slot=Slot.STATE, versions={versions!r}, summary="a test's")

def broken():
    raise RuntimeError("no such luck")

def other():
    return 7
"""


def distribution(site: Path, name: str, points: dict[str, str], versions: str = "^1.0.0") -> None:
    """An installed distribution: its metadata, its entry points, its module."""
    module = name.replace("-", "_")
    info = site / f"{module}-1.2.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n")
    lines = [f"{path} = {module}:{member}" for path, member in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[greentic.env_packs]", *lines]) + "\n")
    (site / f"{module}.py").write_text(PACK.format(path=next(iter(points)), versions=versions))


def gtc(site: Path, root: Path, *words: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "greentic.cli.main", *words, "--json", "--store-root", str(root)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(site), "HOME": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, json.loads((done.stdout or done.stderr).splitlines()[-1])


def pack(path: str, slot: Slot = Slot.STATE, versions: str = "^1.0.0") -> EnvPack:
    return EnvPack(path, slot, versions, "")


def test_what_is_installed_is_listed_with_who_offers_it_and_what_is_broken(tmp_path: Path) -> None:
    site, root = tmp_path / "site", tmp_path / "root"
    distribution(site, "acme-state", {"acme.state.good": "pack"})
    distribution(site, "acme-raises", {"acme.state.raises": "broken"})
    distribution(site, "acme-number", {"acme.state.number": "other"})
    distribution(site, "acme-missing", {"acme.state.missing": "nobody"})
    distribution(site, "acme-range", {"acme.state.range": "pack"}, versions="1.x")
    distribution(site, "acme-one", {"acme.state.twice": "pack"})
    distribution(site, "acme-two", {"acme.state.twice": "pack"})
    status, told = gtc(site, root, "op", "env-packs", "available")
    assert status == 0
    rows = {row["path"]: row for row in told["result"]["env_packs"]}
    assert rows["greentic.deployer.local-process"]["origin"]["name"] == "greentic"
    good = rows["acme.state.good"]
    assert good["loads"]
    assert good["kind"] == "acme.state.good@1.0.0"
    assert (good["origin"]["name"], good["origin"]["version"]) == ("acme-state", "1.2.3")
    problems = {path: row["problem"] for path, row in rows.items() if not row["loads"]}
    assert set(problems) == {f"acme.state.{name}" for name in ("raises", "number", "missing", "range", "twice")}
    assert "RuntimeError: no such luck" in problems["acme.state.raises"]
    assert "not an EnvPack" in problems["acme.state.number"]
    assert "1.x" in problems["acme.state.range"]
    assert "acme-one 1.2.3" in problems["acme.state.twice"]
    assert "acme-two 1.2.3" in problems["acme.state.twice"]

    assert gtc(site, root, "op", "env", "create", "local")[0] == 0
    for path, status, words in (
        ("acme.state.twice", 4, "acme-two 1.2.3"),
        ("acme.state.raises", 1, "no such luck"),
        ("acme.state.godo", 5, "did you mean acme.state.good?"),
        ("acme.state.good@2.0.0", 4, "serves versions ^1.0.0, not 2.0.0"),
        ("greentic.secrets.dev-store", 4, "fills the slot secrets, not state"),
    ):
        found, told = gtc(site, root, "op", "env-packs", "update", "state", path)
        assert found == status, told
        assert words in told["error"]["message"]
    assert gtc(site, root, "op", "env-packs", "describe", "acme.state.good@1.4.0")[0] == 0
    assert gtc(site, root, "op", "env-packs", "describe", "acme.state.good@2.4.0")[0] == 4
    status, told = gtc(site, root, "op", "env-packs", "describe", "greentic.revocation.file")
    assert told["result"]["answers"]["properties"]["file"]["default"] == "revocations.json"


def test_a_pack_is_resolved_by_path_slot_and_version() -> None:
    registry = Registry({"a.b": lambda: pack("a.b"), "a.c": lambda: pack("a.c", Slot.SECRETS)})
    assert registry.resolve("a.b@1.9.0", Slot.STATE).path == "a.b"
    assert registry.paths() == ("a.b", "a.c")
    with pytest.raises(NotFound, match=r"named 'a\.d'"):
        registry.resolve("a.d@1.0.0", Slot.STATE)
    with pytest.raises(Conflict, match="fills the slot secrets"):
        registry.resolve("a.c@1.0.0", Slot.STATE)
    with pytest.raises(Conflict, match="serves versions"):
        registry.resolve("a.b@2.0.0", Slot.STATE)
    assert registry.named("a.d") is None


def test_an_environment_that_a_pack_does_not_admit_is_refused() -> None:
    from tests.integration.local_environments import World

    def refuse(_: object) -> None:
        raise ProviderError("not here")

    environment = World.new(Path("/nowhere")).desired.environment
    binding = {"slot": "state", "kind": "a.b@1.0.0", "pack_ref": "a.b@1.0.0", "generation": 0}
    environment = type(environment).model_validate({**environment.to_json(), "packs": [binding]})
    closed = Registry({"a.b": lambda: EnvPack("a.b", Slot.STATE, "^1.0.0", "", admit=refuse)})
    with pytest.raises(ProviderError, match="not here"):
        closed.bound(environment, Slot.STATE)
    opened = Registry({"a.b": lambda: pack("a.b")}).bound(environment, Slot.STATE)
    assert opened is not None
    assert Registry({}).bound(environment, Slot.SECRETS) is None


@pytest.mark.parametrize("path", Registry.installed().paths())
def test_what_a_built_in_asks_for_can_be_read(path: str) -> None:
    pack = Registry.installed().named(path)
    assert pack is not None
    if not path.startswith("greentic."):
        pytest.skip("somebody else's")
    if pack.sessions is not None or pack.telemetry is not None:
        assert pack.answers is not None, "it checks answers that nobody can look up"
    for name, schema in {} if pack.answers is None else pack.answers()["properties"].items():
        assert schema.get("type"), name
        assert schema.get("description"), name
