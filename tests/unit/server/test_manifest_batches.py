"""A manifest against a server: what only changes the record goes as one change, and a run that is killed converges."""

from __future__ import annotations

from collections import Counter

import pytest
from test_access import Keys
from tests.property.manifest_scene import Scene, changes, make_bundle, manifest

from greentic.operations.manifest import ahead
from greentic.server.doors import GuardedDoor
from greentic.spec.errors import GreenticError
from greentic.store.remote.transport import Transport

MANY = 12


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("archives"), "one")


@pytest.fixture
def scene(server, tmp_path, archive):
    found = Scene(tmp_path)
    (tmp_path / "one.gtbundle").hardlink_to(archive)
    found.store = server.client()
    return found


@pytest.fixture
def sent(monkeypatch):
    """How often each path was asked to change something."""
    count: Counter[str] = Counter()
    change = Transport.change

    def counted(self, method, path, *rest):
        count["/".join(path.split("?")[0].split("/")[3:])] += 1
        return change(self, method, path, *rest)

    monkeypatch.setattr(Transport, "change", counted)
    return count


def bundles(prefix: str = "b", count: int = MANY):
    return [
        {"bundle_id": f"b{n}", "bundle_path": "one.gtbundle", "route_binding": {"path_prefixes": [f"/{prefix}{n}"]}}
        for n in range(count)
    ]


def test_bundles_are_added_and_staged_at_once(scene, sent, server):
    told = scene.apply(manifest(*bundles()))
    assert told["verify"]["failures"] == []
    assert sent == {
        "env/create": 1,
        "changes/apply": 1,
        "revisions/begin-warm": MANY,
        "revisions/warm": MANY,
        "traffic/set": MANY,
    }
    environment = server.desk.store.load("local").environment
    assert all(one.revenue_policy_ref.endswith("/v1.json.sig") for one in environment.bundles)
    assert [one.lifecycle for one in environment.revisions] == ["ready"] * MANY
    assert changes(scene.apply(manifest(*bundles()))) == []


def test_changes_of_the_record_go_together_and_the_routers_are_told_once(scene, sent):
    scene.apply(manifest(*bundles()))
    sent.clear()
    scene.world.calls.clear()
    scene.apply(manifest(*bundles("c")))
    assert sent == {"changes/apply": 1}
    assert scene.world.calls.count("reconcile") == 1
    assert {one.route_binding.path_prefixes for one in scene.environment.bundles} == {(f"/c{n}",) for n in range(MANY)}


def test_what_one_cannot_take_all_do_without(scene, server):
    wrong = [*bundles(), {**bundles()[0], "bundle_id": "other", "route_binding": {"path_prefixes": ["/é\n"]}}]
    with pytest.raises(GreenticError):
        scene.apply(manifest(*wrong))
    assert "local" not in server.desk.store.names() or server.desk.store.load("local").environment.bundles == ()


@pytest.mark.parametrize("killed_at", range(8))
def test_a_run_that_is_killed_converges(scene, monkeypatch, killed_at):
    change, left = Transport.change, [killed_at]

    def dying(self, *given):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        answer = change(self, *given)
        if left[0] == 0:
            raise KeyboardInterrupt  # it happened, and nobody heard of it
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(Transport, "change", dying)
        with pytest.raises(KeyboardInterrupt):
            scene.apply(manifest(*bundles(count=3)))
    told = scene.apply(manifest(*bundles(count=3)))
    assert told["verify"]["failures"] == []
    assert changes(scene.apply(manifest(*bundles(count=3)))) == []
    folder = scene.store.artifacts("local") / "revisions"
    assert len(list(folder.iterdir())) == 3


def test_a_token_that_may_not_batch_goes_step_by_step(scene, sent, server, tmp_path):
    scene.apply(manifest())
    keys = Keys(tmp_path / "tokens.json")
    verbs = ["bundles.*", "revisions.*", "traffic.*"]
    token = keys("narrow", "operator", verbs=verbs, vouches_for_health=True)
    server.desk.doorkeeper = GuardedDoor(keys.path)
    scene.store = server.client(token, "narrow")
    sent.clear()
    scene.apply(manifest(*bundles(count=3)))
    assert (sent["changes/apply"], sent["bundles/add"], sent["revisions/stage"]) == (1, 3, 3)


def test_not_everything_is_recorded_before_the_first_is_started(scene, sent, monkeypatch):
    monkeypatch.setattr(ahead, "LOOK_AHEAD", 5)
    scene.apply(manifest(*bundles()))
    assert (sent["changes/apply"], sent["bundles/add"]) == (3, 0)
    assert len(scene.environment.revisions) == MANY


def test_a_batch_is_bounded(scene, sent, monkeypatch):
    monkeypatch.setattr(ahead, "MAX_STEPS", 10)
    scene.apply(manifest(*bundles()))
    assert sent["changes/apply"] == 3
    assert len(scene.environment.revisions) == MANY
