"""Killed (-9) before and after every commit of an apply: the same command again comes to the same end.

A child process carries out the run and kills itself; the store, the files and the next run are the real ones. Nothing
is left over: no revision that nobody described, no folder of files without a record.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.property.manifest_scene import Scene, changes, make_bundle, manifest

from greentic.engine.command import Command
from greentic.spec.lifecycle import Lifecycle
from greentic.store.contract import Applied
from greentic.store.files import FilesStore

FLOW = {"bundle_id": "web", "pack_id": "assistant", "flow_id": "hello"}
CHAT = {"name": "chat", "provider_type": "messaging.webchat", "links": ["web"]}
TONE = {"config_overrides": {"assistant": {"tone": "warm"}}}


def described(name: str, route: str, *shares: tuple[str, int], **fields: Any) -> dict[str, Any]:
    revisions = [{"name": one, "bundle_path": f"{one}.gtbundle", "weight_percent": share} for one, share in shares]
    return {"bundle_id": name, "revisions": revisions, "route_binding": {"path_prefixes": [route]}, **fields}


BEFORE = manifest(described("web", "/a", ("one", 90), ("two", 10)), described("shop", "/b", ("one", 100)))
AFTER = manifest(
    described("web", "/b", ("two", 50), ("three", 50), **TONE),
    described("desk", "/a", ("one", 100), status="paused"),
    messaging_endpoints=[{**CHAT, "welcome_flow": FLOW}],
    host={"region": "eu"},
)


class Dying(FilesStore):
    """A store that kills its process before or after the n-th commit, counted from 1."""

    moment: tuple[int, str] = (0, "")
    counted = 0

    def apply(self, command: Command, **options: Any) -> Applied:
        Dying.counted += 1
        if self.moment == (Dying.counted, "before"):
            os.kill(os.getpid(), signal.SIGKILL)
        applied = super().apply(command, **options)
        if self.moment == (Dying.counted, "after"):
            os.kill(os.getpid(), signal.SIGKILL)
        return applied


@pytest.fixture(scope="module")
def start() -> Iterator[Path]:
    """A folder with three bundles and an environment that BEFORE describes."""
    import tempfile

    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as place:
        folder = Path(place) / "start"
        folder.mkdir()
        for name in ("one", "two", "three"):
            make_bundle(folder, name)
        Scene(folder).apply(BEFORE)
        (folder / "root").rename(folder / "kept")
        yield folder


def again(start: Path) -> Scene:
    """The environment as it was in the beginning, at the same place: ownership goes by the manifest's path."""
    shutil.rmtree(start / "root", ignore_errors=True)
    shutil.copytree(start / "kept", start / "root", symlinks=True)
    return Scene(start)


def dies(scene: Scene, moment: tuple[int, str]) -> bool:
    """Apply AFTER in a child that dies at `moment`; False when it came to its end before."""
    child = os.fork()
    if child == 0:
        try:
            Dying.moment, Dying.counted = moment, 0
            scene.store = Dying(scene.folder / "root")
            scene.apply(AFTER, prune=True)
        except BaseException:
            os._exit(2)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


def outcome(scene: Scene) -> dict[str, Any]:
    """What is in the end, in terms that do not depend on how it came to be."""
    environment = scene.environment
    digests = {one.revision_id: (one.bundle_digest, one.config_digest) for one in environment.revisions}
    told: dict[str, Any] = {"region": environment.host_config.region}
    for deployment in environment.bundles:
        split = environment.split(deployment.deployment_id)
        told[deployment.bundle_id] = (
            deployment.status,
            deployment.route_binding,
            deployment.config_overrides,
            sorted((digests[one.revision_id], one.weight_bps) for one in (() if split is None else split.entries)),
            sorted(
                digests[one.revision_id]
                for one in environment.revisions_of(deployment.deployment_id)
                if one.lifecycle is not Lifecycle.ARCHIVED
            ),
        )
    told["endpoints"] = [(one.linked_bundles, one.welcome_flow) for one in environment.messaging_endpoints]
    return told


def test_killed_around_every_commit(start: Path) -> None:
    whole = again(start)
    whole.apply(AFTER, prune=True)
    expected = outcome(whole)
    tried = 0
    for moment in ((count, side) for count in itertools.count(1) for side in ("before", "after")):
        scene = again(start)
        if not dies(scene, moment):
            break
        tried += 1
        scene.world.calls.clear()
        told = scene.apply(AFTER, prune=True)
        assert outcome(scene) == expected, moment
        assert changes(scene.plan(AFTER, prune=True)) == [], moment
        assert "publish" in {step["kind"] for step in told["steps"]} or moment == (1, "before"), moment
        folder = scene.folder / "root" / "local" / "revisions"
        assert {path.name for path in folder.iterdir()} == {one.revision_id for one in scene.environment.revisions}
        alive = [one for one in scene.environment.revisions if one.lifecycle is not Lifecycle.ARCHIVED]
        assert {one.lifecycle for one in alive} == {Lifecycle.READY}, moment
        assert scene.store.verify_audit("local").ok
    assert tried >= 30


def test_killed_while_it_unpacks(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files without a record are taken over by the next run, which gives them the same name."""
    scene = again(start)
    revisions = scene.folder / "root" / "local" / "revisions"
    for moment in ((count, "before") for count in itertools.count(1)):
        scene = again(start)
        recorded = {one.revision_id for one in scene.environment.revisions}
        assert dies(scene, moment)
        recorded = {one.revision_id for one in scene.environment.revisions}
        orphans = {path.name for path in revisions.iterdir()} - recorded
        if orphans:
            break
    scene.apply(AFTER, prune=True)
    assert orphans <= {one.revision_id for one in scene.environment.revisions}
