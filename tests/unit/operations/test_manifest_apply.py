"""Each step kind, convergence, prune, plans and refusals: real engine and store, a fake deployer at its contract."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from tests.property.manifest_scene import Scene, changes, make_bundle, manifest

from greentic.operations.manifest import exporting
from greentic.spec.errors import Conflict, Differs, GateFailed, GreenticError, InvalidArgument, NotFound, SpecViolation
from greentic.spec.lifecycle import Lifecycle


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    for name in ("one", "two", "three"):
        make_bundle(folder, name)
    return folder


@pytest.fixture
def scene(tmp_path: Path, archives: Path) -> Scene:
    for archive in archives.glob("*.gtbundle"):
        os.link(archive, tmp_path / archive.name)
    return Scene(tmp_path)


def single(name: str = "web", archive: str = "one", **fields: Any) -> dict[str, Any]:
    route = {"route_binding": {"path_prefixes": [f"/{name}"]}}
    return {"bundle_id": name, "bundle_path": f"{archive}.gtbundle", **route, **fields}


def split(*shares: tuple[str, int], name: str = "web", **fields: Any) -> dict[str, Any]:
    revisions = [
        {"name": archive, "bundle_path": f"{archive}.gtbundle", "weight_percent": share} for archive, share in shares
    ]
    return {
        "bundle_id": name,
        "revisions": revisions,
        "route_binding": {"path_prefixes": [f"/{name}"]},
        **fields,
    }


def weights(scene: Scene, name: str = "web") -> dict[int, int]:
    environment = scene.environment
    deployment = next(one for one in environment.bundles if one.bundle_id == name)
    live = environment.split(deployment.deployment_id)
    sequences = {one.revision_id: one.sequence for one in environment.revisions}
    return {} if live is None else {sequences[one.revision_id]: one.weight_bps for one in live.entries}


def test_first_run_makes_everything_and_second_does_nothing(scene: Scene) -> None:
    described = manifest(single(), host={"region": "eu", "public_base_url": "https://a.example/"})
    told = scene.apply(described)
    assert changes(told) == [
        ("ensure-environment", "local", "create"),
        ("update-host-config", "local", "create"),
        ("deploy-bundle", "web@local-dev", "create"),
        ("move-traffic", "web@local-dev", "move"),
    ]
    assert told["verify"]["failures"] == []
    assert told["receipt"]["acknowledged"] == 1
    assert weights(scene) == {1: 10_000}
    assert scene.environment.host_config.region == "eu"
    scene.world.calls.clear()
    again = scene.apply(described)
    assert changes(again) == []
    assert scene.world.calls == []


def test_changed_weight_moves_only_the_dial(scene: Scene) -> None:
    scene.apply(manifest(split(("one", 90), ("two", 10))))
    before = scene.environment.revisions
    scene.world.calls.clear()
    told = scene.apply(manifest(split(("one", 50), ("two", 50))))
    assert changes(told) == [("move-traffic", "web@local-dev", "move")]
    assert scene.environment.revisions == before
    assert weights(scene) == {1: 5000, 2: 5000}
    assert "stage" not in scene.world.calls
    assert "warm" not in scene.world.calls


def test_going_back_and_forth_always_takes_effect(scene: Scene) -> None:
    for share in (90, 10, 90, 10, 90):
        scene.apply(manifest(split(("one", share), ("two", 100 - share))))
        assert weights(scene)[1] == share * 100


def test_new_bundle_is_staged_beside_the_old_and_the_old_stays_ready(scene: Scene) -> None:
    scene.apply(manifest(single()))
    told = scene.apply(manifest(single(archive="two")))
    assert changes(told) == [("deploy-bundle", "web@local-dev", "create"), ("move-traffic", "web@local-dev", "move")]
    assert [one.lifecycle for one in scene.environment.revisions] == [Lifecycle.READY, Lifecycle.READY]
    back = scene.apply(manifest(single()))
    assert changes(back) == [("move-traffic", "web@local-dev", "move")]


def test_changed_parameters_stage_a_new_revision_and_are_recorded(scene: Scene) -> None:
    scene.apply(manifest(single()))
    told = scene.apply(manifest(single(config_overrides={"assistant": {"tone": "warm"}})))
    assert [kind for kind, _, _ in changes(told)] == ["deploy-bundle", "move-traffic", "update-bundle"]
    assert scene.environment.bundles[0].config_overrides == {"assistant": {"tone": "warm"}}
    assert changes(scene.plan(manifest(single()))) == []  # absent: left as it is
    cleared = scene.apply(manifest(single(config_overrides={})))
    assert [kind for kind, _, _ in changes(cleared)] == ["move-traffic", "update-bundle"]  # v1 had the defaults
    assert weights(scene) == {1: 10_000}


def test_overrides_equal_to_the_defaults_stage_nothing_new(scene: Scene) -> None:
    scene.apply(manifest(single()))
    told = scene.apply(manifest(single(config_overrides={"assistant": {"tone": "calm"}})))
    assert [kind for kind, _, _ in changes(told)] == ["update-bundle"]


@pytest.mark.parametrize("status", ["paused", "archived"])
def test_declared_status_holds_on_the_first_run(scene: Scene, status: str) -> None:
    described = manifest(single(status=status))
    scene.apply(described)
    assert scene.environment.bundles[0].status.value == status
    assert changes(scene.plan(described)) == []
    scene.apply(manifest(single(status="active")))
    assert scene.environment.bundles[0].status.value == "active"
    assert weights(scene) == {1: 10_000}


def test_pause_comes_before_the_dial_and_resume_after(scene: Scene) -> None:
    scene.apply(manifest(single()))
    kinds = changes(scene.apply(manifest(single(archive="two", status="paused"))))
    assert [kind for kind, _, _ in kinds] == ["deploy-bundle", "update-bundle", "move-traffic"]
    kinds = changes(scene.apply(manifest(single(archive="three", status="active"))))
    assert [kind for kind, _, _ in kinds] == ["deploy-bundle", "move-traffic", "update-bundle"]


def test_several_customers_of_one_bundle(scene: Scene) -> None:
    first = single(customer_id="acme", route_binding={"hosts": ["acme.example"]})
    second = single(customer_id="bolt", route_binding={"hosts": ["bolt.example"]})
    scene.apply(manifest(first, second))
    assert {one.customer_id for one in scene.environment.bundles} == {"acme", "bolt"}
    with pytest.raises(Conflict, match="which is meant"):
        scene.plan(manifest(single()))


def test_customer_must_be_named_outside_local(scene: Scene) -> None:
    with pytest.raises(InvalidArgument, match="whom"):
        scene.plan(manifest(single(), name="prod"))


def test_named_environment_is_made_with_a_policy(scene: Scene) -> None:
    scene.name = "prod"
    told = scene.apply(manifest(single(customer_id="acme"), name="prod", host={"name": "Production"}))
    assert [kind for kind, _, _ in changes(told)][:2] == ["ensure-environment", "init-policy"]
    assert scene.environment.name == "Production"
    assert (scene.folder / "root" / "prod" / "policy.json").exists()


def test_same_bundle_twice_in_a_split(scene: Scene) -> None:
    described = split(("one", 60), ("two", 40))
    described["revisions"][1]["bundle_path"] = "one.gtbundle"
    scene.apply(manifest(described))
    assert weights(scene) == {1: 6000, 2: 4000}
    assert changes(scene.plan(manifest(described))) == []


def test_weight_zero_is_warm_without_traffic(scene: Scene) -> None:
    scene.apply(manifest(split(("one", 100), ("two", 0))))
    assert weights(scene) == {1: 10_000}
    assert [one.lifecycle for one in scene.environment.revisions] == [Lifecycle.READY] * 2


def test_sick_revision_fails_and_is_retried(scene: Scene) -> None:
    scene.apply(manifest(single()))
    from greentic.bundles.digests import digest_file

    scene.world.sick = {digest_file(scene.folder / "two.gtbundle")}
    for _ in range(2):
        with pytest.raises(GateFailed):
            scene.apply(manifest(single(archive="two")))
        assert weights(scene) == {1: 10_000}
    scene.world.sick = set()
    scene.apply(manifest(single(archive="two")))
    assert weights(scene) == {2: 10_000}
    assert len(scene.environment.revisions) == 2


def test_routes_swap(scene: Scene) -> None:
    a, b = {"route_binding": {"path_prefixes": ["/a"]}}, {"route_binding": {"path_prefixes": ["/b"]}}
    scene.apply(manifest({**single("x"), **a}, {**single("y"), **b}))
    scene.apply(manifest({**single("x"), **b}, {**single("y"), **a}))
    routes = {one.bundle_id: one.route_binding.path_prefixes for one in scene.environment.bundles}
    assert routes == {"x": ("/b",), "y": ("/a",)}


def test_new_bundle_takes_the_route_of_a_pruned_one(scene: Scene) -> None:
    scene.apply(manifest({**single("x"), "route_binding": {"path_prefixes": ["/a"]}}))
    taking = manifest({**single("y"), "route_binding": {"path_prefixes": ["/a"]}})
    with pytest.raises(Conflict, match="would both serve"):
        scene.plan(taking)
    scene.apply(taking, prune=True)
    assert [one.bundle_id for one in scene.environment.bundles] == ["y"]
    assert scene.environment.bundles[0].route_binding.path_prefixes == ("/a",)


def test_undeclared_routes_clash_before_anything_happens(scene: Scene) -> None:
    with pytest.raises(Conflict, match="would both serve"):
        scene.apply(manifest({"bundle_id": "x", "bundle_path": "one.gtbundle"}, {**single("y"), "route_binding": None}))
    with pytest.raises(NotFound):
        scene.store.load("local")


def test_missing_artifact_is_a_difference(scene: Scene) -> None:
    scene.apply(manifest(single()))
    gone = manifest(single(archive="gone"))
    assert scene.plan(gone)["missing"][0]["kind"] == "bundle_artifact"
    with pytest.raises(Differs):
        scene.apply(gone, check=True)
    with pytest.raises(InvalidArgument, match=r"gone\.gtbundle"):
        scene.apply(gone)


def test_pinned_digest(scene: Scene) -> None:
    with pytest.raises(SpecViolation, match="digest"):
        scene.apply(manifest(single(bundle_digest="sha256:" + "0" * 64)))


def test_check(scene: Scene) -> None:
    with pytest.raises(Differs):
        scene.apply(manifest(single()), check=True)
    scene.apply(manifest(single()))
    assert scene.apply(manifest(single()), check=True)["mode"] == "check"


def test_plan_token(scene: Scene) -> None:
    described = manifest(single())
    token = scene.plan(described)["token"]
    assert scene.plan(described)["token"] == token
    with pytest.raises(Conflict, match="not the plan"):
        scene.apply(manifest(single(archive="two")), token=token)
    scene.apply(described, token=token)
    with pytest.raises(Conflict, match="not the plan"):
        scene.apply(described, token=token)


def test_plan_token_knows_the_bundle(scene: Scene) -> None:
    token = scene.plan(manifest(single()))["token"]
    (scene.folder / "one.gtbundle").unlink()
    os.link(scene.folder / "two.gtbundle", scene.folder / "one.gtbundle")
    with pytest.raises(Conflict, match="not the plan"):
        scene.apply(manifest(single()), token=token)


def test_change_by_somebody_else_stops_the_run(scene: Scene) -> None:
    scene.apply(manifest(single()))

    def meddle(_: object) -> bool:
        from greentic.operations import environments
        from greentic.spec.payloads import UpdateEnvironmentPayload

        context = scene.context()
        context.apply("local", "env", "update", UpdateEnvironmentPayload(name="Meddled"))
        assert environments.show(context, "local")
        return True

    with pytest.raises(Conflict):
        scene.apply(manifest(single(archive="two")), confirm=meddle)
    scene.apply(manifest(single(archive="two")))
    assert weights(scene) == {2: 10_000}


def test_prune_removes_only_what_this_manifest_declared(scene: Scene) -> None:
    scene.apply(manifest(single("web")), name="a.json")
    scene.apply(manifest(single("web"), single("shop")), name="b.json")
    scene.apply(manifest(single("own")), name="c.json")
    left = scene.plan(manifest(single("own")), name="b.json", prune=False)
    assert any("shop" in warning for warning in left["warnings"])
    scene.apply(manifest(single("own")), name="b.json", prune=True)
    # web is claimed by a.json too; own belongs to c.json and b.json; shop was only b's.
    assert {one.bundle_id for one in scene.environment.bundles} == {"web", "own"}
    scene.apply(manifest(), name="a.json", prune=True)
    assert {one.bundle_id for one in scene.environment.bundles} == {"own"}
    scene.apply(manifest(), name="b.json", prune=True)
    assert {one.bundle_id for one in scene.environment.bundles} == {"own"}


def test_prune_counts_for_check(scene: Scene) -> None:
    scene.apply(manifest(single("web"), single("shop")))
    scene.apply(manifest(single("web")), check=True)
    with pytest.raises(Differs):
        scene.apply(manifest(single("web")), check=True, prune=True)


def test_prune_retires_superseded_revisions(scene: Scene) -> None:
    scene.apply(manifest(single()))
    scene.apply(manifest(single(archive="two")))
    told = scene.apply(manifest(single(archive="two")), prune=True)
    assert [kind for kind, _, _ in changes(told)] == ["remove-revision"]
    assert [one.lifecycle for one in scene.environment.revisions] == [Lifecycle.ARCHIVED, Lifecycle.READY]
    assert changes(scene.plan(manifest(single(archive="two")), prune=True)) == []
    scene.apply(manifest(single()))  # an archived revision is never taken back
    assert weights(scene) == {3: 10_000}


def test_prune_is_refused_while_an_endpoint_reaches_the_bundle(scene: Scene) -> None:
    chat = {"name": "chat", "provider_type": "messaging.webchat", "links": ["web"]}
    scene.apply(manifest(single(), messaging_endpoints=[chat]), name="a.json")
    scene.apply(manifest(messaging_endpoints=[chat]), name="b.json")
    scene.apply(manifest(single("shop")), name="a.json")
    generation = scene.store.load("local").generation
    with pytest.raises(Conflict, match="chat reaches it"):
        scene.apply(manifest(single("shop", "two")), name="a.json", prune=True)
    assert scene.store.load("local").generation == generation


def test_endpoints_follow(scene: Scene) -> None:
    flow = {"bundle_id": "web", "pack_id": "assistant", "flow_id": "hello"}
    chat = {"name": "chat", "provider_type": "messaging.webchat", "links": ["web", "shop"], "welcome_flow": flow}
    bundles = (single("web"), single("shop"))
    told = scene.apply(manifest(*bundles, messaging_endpoints=[chat]))
    kinds = [kind for kind, _, _ in changes(told)][-4:]
    assert kinds == ["add-endpoint", "link-endpoint", "link-endpoint", "set-welcome-flow"]
    less = {**chat, "links": ["shop"], "welcome_flow": None}
    told = scene.apply(manifest(*bundles, messaging_endpoints=[less]))
    assert [kind for kind, _, _ in changes(told)] == ["clear-welcome-flow", "unlink-endpoint"]
    secret = {**less, "secret_refs": ["secret://local/default/_/chat/token"]}
    told = scene.apply(manifest(*bundles, messaging_endpoints=[secret]))
    assert [kind for kind, _, _ in changes(told)] == ["update-endpoint", "link-endpoint"]
    scene.apply(manifest(*bundles), prune=True)
    assert scene.environment.messaging_endpoints == ()


def test_telegram_endpoint_gets_a_webhook_secret(scene: Scene) -> None:
    chat = {"name": "tg", "provider_type": "messaging.telegram.bot", "links": ["web"]}
    scene.apply(manifest(single(), messaging_endpoints=[chat]))
    assert scene.environment.messaging_endpoints[0].webhook_secret_ref is not None


def test_env_packs_and_extensions(scene: Scene) -> None:
    state = {"slot": "state", "kind": "greentic.state.in-memory@0.1.0", "pack_ref": "builtin", "answers": {"size": 1}}
    directory = {"kind": "acme.directory@1.0.0", "pack_ref": "builtin", "instance_id": "main"}
    told = scene.apply(manifest(packs=[state], extensions=[directory]))
    assert [kind for kind, _, _ in changes(told)][1:] == ["add-pack-binding", "add-extension"]
    changed = {**state, "answers": {"size": 2}}
    told = scene.apply(manifest(packs=[changed], extensions=[{**directory, "kind": "acme.directory@1.1.0"}]))
    assert [kind for kind, _, _ in changes(told)] == ["update-pack-binding", "update-extension"]
    told = scene.apply(manifest(), prune=True)
    assert [kind for kind, _, _ in changes(told)] == ["remove-extension", "remove-pack-binding"]
    with pytest.raises(NotFound, match=r"acme\.unknown"):
        scene.plan(manifest(packs=[{**state, "kind": "acme.unknown@1.0.0"}]))


def test_secrets(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"path": "/default/_/openai/api_key", "from_env": "TEST_API_KEY"}
    pasted = {"path": "default/_/openai/other"}
    described = manifest(secrets=[entry, pasted])
    monkeypatch.delenv("TEST_API_KEY", raising=False)
    assert [one["source"] for one in scene.plan(described)["missing"]] == ["env:TEST_API_KEY", "paste"]
    with pytest.raises(Differs):
        scene.apply(described, check=True)
    monkeypatch.setenv("TEST_API_KEY", "hunter2")
    told = scene.apply(described, paste=lambda path: "pasted")
    assert told["counts"]["written"] == 2
    assert changes(scene.plan(described)) == []
    monkeypatch.setenv("TEST_API_KEY", "hunter3")
    assert changes(scene.plan(described)) == [("put-secret", "default/_/openai/api_key", "put")]
    with pytest.raises(Differs):
        scene.apply(described, check=True)
    scene.apply(described)
    monkeypatch.delenv("TEST_API_KEY")
    assert changes(scene.plan(described)) == []
    text = b"".join(path.read_bytes() for path in (scene.folder / "root").rglob("*") if path.is_file())
    assert b"hunter" not in text


def test_export_reads_back_to_no_change(scene: Scene) -> None:
    chat = {"name": "chat", "provider_type": "messaging.webchat", "links": ["web"]}
    scene.apply(
        manifest(
            split(("one", 75), ("two", 25), config_overrides={"assistant": {"tone": "no"}}),
            single("shop", status="paused"),
            messaging_endpoints=[chat],
            secrets=[],
            packs=[{"slot": "state", "kind": "greentic.state.in-memory@0.1.0", "pack_ref": "x", "answers": {"a": 1}}],
            host={"public_base_url": "https://a.example", "gui_enabled": False},
        )
    )
    for name in ("out.yaml", "out.json"):
        told = exporting.export(scene.context(), "local", scene.folder / name)
        assert told["warnings"] == []
        from greentic.operations.manifest import applying
        from greentic.operations.manifest.reading import Source

        assert changes(asyncio.run(applying.plan(scene.context(), Source.of_file(scene.folder / name)))) == []


def test_dry_run_changes_nothing(scene: Scene) -> None:
    from greentic.operations.manifest import applying
    from greentic.operations.manifest.applying import Wishes

    source = scene.source(manifest(single()))
    told = asyncio.run(applying.apply(scene.context(dry_run=True), source, Wishes()))
    assert told["mode"] == "dry-run"
    with pytest.raises(NotFound):
        scene.store.load("local")


def test_saying_no_changes_nothing(scene: Scene) -> None:
    with pytest.raises(InvalidArgument, match="not confirmed"):
        scene.apply(manifest(single()), confirm=lambda _: False)
    with pytest.raises(NotFound):
        scene.store.load("local")


def test_corrupt_ledger_is_refused(scene: Scene) -> None:
    scene.apply(manifest(single()))
    (scene.folder / "root" / "local" / "env-apply-ownership.json").write_text("{}")
    with pytest.raises(GreenticError, match="not a record"):
        scene.plan(manifest(single()))
