"""Bindings: named cases of every verb, what the reference gets wrong included."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.property.strategies import Scene

from greentic.engine.bindings import HISTORY_DEPTH
from greentic.spec.environment import Environment
from greentic.spec.errors import AnswersParse, Conflict, GreenticError, InvalidArgument, NotFound, SpecViolation
from greentic.spec.parsing import parse_payload
from greentic.spec.verbs import find

MEMORY = "greentic.state.in-memory@0.1.0"
REDIS = "acme.state.redis@1.0.0"
NEWER = "acme.state.redis@1.1.0"
OAUTH = "acme.oauth@1.0.0"


@pytest.fixture
def scene() -> Scene:
    return Scene().create()


def pack(scene: Scene, slot: str = "state") -> dict[str, Any]:
    return next(one for one in scene.environment.to_json()["packs"] if one["slot"] == slot)


def generations(scene: Scene) -> list[int]:
    return [one.generation for one in scene.environment.binding_history]


class TestEnvPacks:
    def test_add_fills_the_slot_and_says_who_when_and_why(self, scene: Scene) -> None:
        outcome = scene.do("env-packs add", slot="state", kind=MEMORY, note="begin")
        binding = pack(scene)
        assert outcome.result == {"binding": binding, "generation": 0}
        assert binding["pack_ref"] == MEMORY
        assert (binding["updated_by"], binding["note"]) == ("tester", "begin")
        assert binding["updated_at"] == "2026-07-24T00:00:02Z"
        assert "previous_binding_ref" not in binding

    def test_add_refuses_a_slot_that_is_bound(self, scene: Scene) -> None:
        scene.do("env-packs add", slot="state", kind=MEMORY)
        with pytest.raises(Conflict, match="bound to"):
            scene.do("env-packs add", slot="state", kind=MEMORY)

    @pytest.mark.parametrize("slot", ["messaging", "extension"])
    @pytest.mark.parametrize("verb", ["add", "update", "remove", "rollback"])
    def test_slots_that_can_be_filled_many_times_hold_no_env_pack(self, scene: Scene, slot: str, verb: str) -> None:
        fields = {"slot": slot, **({"kind": MEMORY} if verb in {"add", "update"} else {})}
        with pytest.raises(InvalidArgument):
            scene.do(f"env-packs {verb}", **fields)

    @pytest.mark.parametrize("verb", ["update", "remove", "rollback"])
    def test_what_is_not_bound_is_not_found(self, scene: Scene, verb: str) -> None:
        fields = {"slot": "state", **({"kind": MEMORY} if verb == "update" else {})}
        with pytest.raises(NotFound, match="not bound"):
            scene.do(f"env-packs {verb}", **fields)

    def test_update_keeps_what_was_before(self, scene: Scene) -> None:
        scene.do("env-packs add", slot="state", kind=MEMORY)
        before = pack(scene)
        outcome = scene.do("env-packs update", slot="state", kind=REDIS, answers_ref="env-packs/state/a.json")
        assert outcome.result["generation"] == 1
        stash = pack(scene)["previous_binding_ref"].removeprefix("inline://")
        assert json.loads(base64.urlsafe_b64decode(stash + "=" * (-len(stash) % 4))) == before
        history = scene.environment.to_json()["binding_history"]
        assert history == [before], "the history holds the whole binding; nothing was removed"

    def test_the_stash_is_one_level_deep(self, scene: Scene) -> None:
        scene.do("env-packs add", slot="state", kind=MEMORY)
        sizes = []
        for number in range(5):
            scene.do("env-packs update", slot="state", kind=f"acme.state.redis@1.0.{number}")
            sizes.append(len(pack(scene)["previous_binding_ref"]))
        assert max(sizes[1:]) - min(sizes[1:]) < 10
        assert all(one.previous_binding_ref is None for one in scene.environment.binding_history)

    def test_the_same_binding_again_changes_nothing(self, scene: Scene) -> None:
        scene.do("env-packs add", slot="state", kind=MEMORY)
        before = scene.environment
        outcome = scene.do("env-packs update", slot="state", kind=MEMORY, note="again")
        assert not outcome.changed
        assert outcome.environment is before
        assert outcome.result["generation"] == 0

    def test_what_a_newer_version_wrote_into_a_binding_stays(self, scene: Scene) -> None:
        scene.do("env-packs add", slot="state", kind=MEMORY)
        document = scene.environment.to_json()
        document["packs"][0]["x-later"] = {"a": 1}
        scene.current = Environment.model_validate(document)
        scene.do("env-packs update", slot="state", kind=REDIS)
        assert pack(scene)["x-later"] == {"a": 1}
        scene.do("env-packs rollback", slot="state")
        assert pack(scene)["x-later"] == {"a": 1}

    def test_rollback_can_be_undone(self, scene: Scene) -> None:
        scene.do("env-packs add", slot="state", kind=MEMORY)
        scene.do("env-packs update", slot="state", kind=REDIS, answers_ref="a.json")
        back = scene.do("env-packs rollback", slot="state").result
        assert (back["binding"]["kind"], back["generation"], back["restored_generation"]) == (MEMORY, 2, 0)
        assert back["binding"]["note"] == "rollback to generation 0"
        again = scene.do("env-packs rollback", slot="state", note="no, forward").result
        assert (again["binding"]["kind"], again["binding"]["answers_ref"]) == (REDIS, "a.json")
        assert (again["generation"], again["restored_generation"]) == (3, 1)
        assert again["binding"]["note"] == "no, forward"

    def test_rollback_reaches_any_generation_that_is_kept(self, scene: Scene) -> None:
        kinds = [f"acme.state.redis@1.0.{number}" for number in range(5)]
        scene.do("env-packs add", slot="state", kind=kinds[0])
        for kind in kinds[1:]:
            scene.do("env-packs update", slot="state", kind=kind)
        for number in (2, 0, 3):
            restored = scene.do("env-packs rollback", slot="state", to_generation=number).result
            assert restored["binding"]["kind"] == kinds[number]
        assert pack(scene)["generation"] == 7

    def test_rollback_refuses_what_is_bound_and_what_is_not_kept(self, scene: Scene) -> None:
        scene.do("env-packs add", slot="state", kind=MEMORY)
        with pytest.raises(Conflict, match="no earlier"):
            scene.do("env-packs rollback", slot="state")
        with pytest.raises(Conflict, match="bound already"):
            scene.do("env-packs rollback", slot="state", to_generation=0)
        scene.do("env-packs update", slot="state", kind=REDIS)
        with pytest.raises(NotFound) as caught:
            scene.do("env-packs rollback", slot="state", to_generation=7)
        assert caught.value.details["generations"] == [0]

    def test_the_history_is_bounded_per_slot(self, scene: Scene) -> None:
        scene.do("env-packs add", slot="secrets", kind="acme.vault@1.0.0")
        scene.do("env-packs update", slot="secrets", kind="acme.vault@1.0.1")
        scene.do("env-packs add", slot="state", kind="acme.state.redis@1.0.0")
        for number in range(1, HISTORY_DEPTH + 4):
            scene.do("env-packs update", slot="state", kind=f"acme.state.redis@1.0.{number}")
        kept = [one.generation for one in scene.environment.binding_history if one.slot == "state"]
        assert kept == list(range(3, HISTORY_DEPTH + 3))
        assert [one.generation for one in scene.environment.binding_history if one.slot == "secrets"] == [0]

    def test_a_slot_that_was_emptied_goes_on_counting(self, scene: Scene) -> None:
        scene.do("env-packs add", slot="state", kind=MEMORY)
        scene.do("env-packs update", slot="state", kind=REDIS)
        removed = scene.do("env-packs remove", slot="state", note="unused", updated_by="someone").result
        assert (removed["binding"]["kind"], removed["generation"]) == (REDIS, 1)
        gone = scene.environment.binding_history[-1]
        assert (gone.removed_by, gone.removed_note, gone.removed_at) == ("someone", "unused", "2026-07-24T00:00:04Z")
        assert scene.do("env-packs add", slot="state", kind=MEMORY).result["generation"] == 2
        assert generations(scene) == [0, 1]

    def test_a_removal_can_be_undone(self, scene: Scene) -> None:
        scene.do("env-packs add", slot="state", kind=MEMORY, answers_ref="a.json")
        scene.do("env-packs remove", slot="state")
        restored = scene.do("env-packs rollback", slot="state").result
        assert (restored["binding"]["kind"], restored["binding"]["answers_ref"]) == (MEMORY, "a.json")
        assert (restored["generation"], restored["restored_generation"]) == (1, 0)
        assert "removed_at" not in restored["binding"]

    def test_the_stash_of_a_reference_document_can_be_rolled_back_to(self, scene: Scene) -> None:
        scene.do("env-packs add", slot="state", kind=MEMORY)
        scene.do("env-packs update", slot="state", kind=REDIS)
        document = scene.environment.to_json()
        del document["binding_history"]
        scene.current = Environment.model_validate(document)
        restored = scene.do("env-packs rollback", slot="state").result
        assert (restored["binding"]["kind"], restored["generation"]) == (MEMORY, 2)
        assert generations(scene) == [0, 1], "what the reference kept inline is kept from now on"
        assert scene.do("env-packs rollback", slot="state").result["binding"]["kind"] == REDIS

    @pytest.mark.parametrize(
        "stash",
        ["nothing", "inline://", "inline://%%%", "inline://e30", "inline://" + base64.b64encode(b"[1]").decode()],
    )
    def test_a_stash_that_cannot_be_read_is_no_stash(self, scene: Scene, stash: str) -> None:
        scene.do("env-packs add", slot="state", kind=MEMORY)
        document = scene.environment.to_json()
        document["packs"][0] |= {"previous_binding_ref": stash, "generation": 3}
        scene.current = Environment.model_validate(document)
        with pytest.raises(Conflict, match="no earlier"):
            scene.do("env-packs rollback", slot="state")
        assert scene.do("env-packs update", slot="state", kind=REDIS).result["generation"] == 4

    def test_the_stash_of_another_slot_is_no_stash(self, scene: Scene) -> None:
        scene.do("env-packs add", slot="state", kind=MEMORY)
        other = {"slot": "sessions", "kind": MEMORY, "pack_ref": MEMORY, "generation": 0}
        stash = "inline://" + base64.urlsafe_b64encode(json.dumps(other).encode()).decode().rstrip("=")
        document = scene.environment.to_json()
        document["packs"][0] |= {"previous_binding_ref": stash, "generation": 1}
        scene.current = Environment.model_validate(document)
        with pytest.raises(Conflict, match="no earlier"):
            scene.do("env-packs rollback", slot="state")

    def test_no_generation_is_left(self, scene: Scene) -> None:
        scene.do("env-packs add", slot="state", kind=MEMORY)
        document = scene.environment.to_json()
        document["packs"][0]["generation"] = 2**63 - 1
        scene.current = Environment.model_validate(document)
        with pytest.raises(Conflict, match="no generation left"):
            scene.do("env-packs update", slot="state", kind=REDIS)


class TestExtensions:
    def test_a_version_is_no_part_of_the_identity_and_an_instance_is(self, scene: Scene) -> None:
        scene.do("extensions add", kind=OAUTH)
        scene.do("extensions add", kind=OAUTH, instance_id="eu")
        with pytest.raises(Conflict):
            scene.do("extensions add", kind="acme.oauth@2.0.0", instance_id="eu")
        scene.do("extensions update", kind="acme.oauth@2.0.0", instance_id="eu")
        assert [(one.kind, one.instance_id) for one in scene.environment.extensions] == [
            (OAUTH, None),
            ("acme.oauth@2.0.0", "eu"),
        ]

    def test_each_has_a_history_of_its_own(self, scene: Scene) -> None:
        scene.do("extensions add", kind=OAUTH)
        scene.do("extensions add", kind=OAUTH, instance_id="eu")
        scene.do("extensions update", kind="acme.oauth@2.0.0", instance_id="eu")
        with pytest.raises(Conflict, match="no earlier"):
            scene.do("extensions rollback", kind_path="acme.oauth")
        restored = scene.do("extensions rollback", kind_path="acme.oauth", instance_id="eu").result
        assert restored["binding"]["kind"] == OAUTH
        assert restored["binding"]["instance_id"] == "eu"
        assert "slot" not in restored["binding"]

    def test_remove_and_bring_back(self, scene: Scene) -> None:
        scene.do("extensions add", kind=OAUTH, instance_id="eu")
        scene.do("extensions remove", kind_path="acme.oauth", instance_id="eu")
        assert not scene.environment.extensions
        with pytest.raises(NotFound):
            scene.do("extensions remove", kind_path="acme.oauth", instance_id="eu")
        restored = scene.do("extensions rollback", kind_path="acme.oauth", instance_id="eu").result
        assert (restored["generation"], restored["restored_generation"]) == (1, 0)

    @pytest.mark.parametrize("path", ["acme.oauth@1.0.0", "oauth", "", "Acme.oauth", "a" * 5_000 + ".b"])
    def test_a_path_is_not_a_descriptor(self, path: str) -> None:
        with pytest.raises(AnswersParse):
            parse_payload(find("extensions", "remove").payload(), {"kind_path": path}, "it")


class TestMerge:
    def test_what_is_bound_stays(self, scene: Scene) -> None:
        scene.do("env-packs add", slot="state", kind=MEMORY)
        scene.do("extensions add", kind=OAUTH)
        packs = [
            {"slot": "state", "kind": REDIS, "pack_ref": "r"},
            {"slot": "secrets", "kind": "acme.vault@1.0.0", "pack_ref": "v", "generation": 4},
        ]
        extensions = [
            {"kind": "acme.oauth@9.0.0", "pack_ref": "o"},
            {"kind": OAUTH, "pack_ref": "o", "instance_id": "eu"},
        ]
        outcome = scene.do("env migrate-bindings", packs=packs, extensions=extensions)
        assert outcome.result == {"merged_slots": ["secrets"], "merged_extensions": ["acme.oauth/eu"]}
        assert pack(scene)["kind"] == MEMORY
        assert pack(scene, "secrets")["generation"] == 4
        again = scene.do("env migrate-bindings", packs=packs, extensions=extensions)
        assert not again.changed
        assert again.result == {"merged_slots": [], "merged_extensions": []}

    def test_a_merged_binding_goes_on_counting(self, scene: Scene) -> None:
        scene.do("env-packs add", slot="state", kind=MEMORY)
        scene.do("env-packs remove", slot="state")
        scene.do("env migrate-bindings", packs=[{"slot": "state", "kind": REDIS, "pack_ref": "r", "generation": 0}])
        assert pack(scene)["generation"] == 1

    def test_a_slot_named_twice_is_taken_once(self, scene: Scene) -> None:
        packs = [{"slot": "state", "kind": kind, "pack_ref": "r"} for kind in (MEMORY, REDIS)]
        assert scene.do("env migrate-bindings", packs=packs).result["merged_slots"] == ["state"]
        assert pack(scene)["kind"] == MEMORY

    def test_slots_that_hold_no_env_pack_are_refused(self, scene: Scene) -> None:
        with pytest.raises(InvalidArgument):
            scene.do("env migrate-bindings", packs=[{"slot": "messaging", "kind": MEMORY, "pack_ref": "r"}])

    def test_a_missing_environment_is_seeded_or_not_found(self) -> None:
        scene = Scene("prod")
        with pytest.raises(NotFound):
            scene.do("env migrate-bindings", packs=[])
        seed = {"host_config": {"env_id": "elsewhere", "region": "eu"}, "retention": {"keep_revisions": 3}}
        scene.do(
            "env migrate-bindings",
            packs=[{"slot": "state", "kind": MEMORY, "pack_ref": "r"}],
            seed_if_missing=seed,
        )
        environment = scene.environment
        assert (environment.environment_id, environment.name) == ("prod", "prod")
        assert (environment.host_config.env_id, environment.host_config.region) == ("prod", "eu")
        assert environment.retention.keep_revisions == 3

    def test_seeding_leaves_an_environment_alone(self, scene: Scene) -> None:
        outcome = scene.do("env seed", host_config={"env_id": "local", "region": "eu"})
        assert (outcome.changed, outcome.result["seeded"]) == (False, False)
        fresh = Scene("dev")
        assert fresh.do("env seed", host_config={"env_id": "dev", "region": "eu"}).result["seeded"]
        assert fresh.environment.host_config.region == "eu"

    def test_a_payload_refuses_what_it_does_not_know(self) -> None:
        with pytest.raises(AnswersParse):
            parse_payload(
                find("env", "migrate-bindings").payload(),
                {"packs": [{"slot": "state", "kind": MEMORY, "pack_ref": "r", "surprise": 1}]},
                "it",
            )


class TestConfig:
    def test_null_keeps_and_clear_unsets(self, scene: Scene) -> None:
        scene.do("config set", region="eu", tenant_org_id="acme", gui_enabled=False, name="Local")
        told = scene.do("config set", region=None, listen_addr="127.0.0.1:1", clear=["tenant_org_id"]).result
        assert told["host_config"] == {
            "env_id": "local",
            "region": "eu",
            "listen_addr": "127.0.0.1:1",
            "gui_enabled": False,
        }
        assert told["name"] == "Local"
        assert not scene.do("config set", region="eu").changed

    @pytest.mark.parametrize(
        "fields",
        [
            {"clear": ["env_id"]},
            {"clear": ["name"]},
            {"region": "eu", "clear": ["region"]},
            {"public_base_url": "https://u:p@x"},
            {"surprise": 1},
        ],
    )
    def test_what_makes_no_sense_is_refused(self, fields: dict[str, Any]) -> None:
        with pytest.raises(AnswersParse):
            parse_payload(find("config", "set").payload(), fields, "it")

    def test_limits_of_the_routers_are_set_one_by_one(self, scene: Scene) -> None:
        scene.do("config set", router={"pin_seconds": 60, "limits": {"max_headers": 50, "header_seconds": 5}})
        told = scene.do("config set", router={"limits": {"max_headers": 60, "max_body_bytes": 1}}).result
        limits = {"max_headers": 60, "max_body_bytes": 1, "header_seconds": 5}
        assert told["host_config"]["router"] == {"pin_seconds": 60, "limits": limits}
        told = scene.do("config set", clear=["router.limits"]).result
        assert told["host_config"]["router"] == {"pin_seconds": 60}

    def test_a_public_url_is_brought_into_its_canonical_form(self, scene: Scene) -> None:
        told = scene.do("config set", public_base_url=" https://a.example/ ").result
        assert told["host_config"]["public_base_url"] == "https://a.example"


class TestRules:
    def broken(self, scene: Scene, **changes: Any) -> str:
        scene.do("env-packs add", slot="state", kind=MEMORY)
        scene.do("env-packs update", slot="state", kind=REDIS)
        document = scene.environment.to_json()
        past = {**document["binding_history"][0], **changes}
        document["binding_history"] = [past, past] if changes.get("twice") else [past]
        scene.current = Environment.model_validate(document)
        try:
            from greentic.spec.rules import check

            check(scene.environment)
        except SpecViolation as error:
            return error.rule
        return "none"

    @pytest.mark.parametrize(
        ("changes", "rule"),
        [
            ({}, "none"),
            ({"generation": 1}, "HistoryOrder"),
            ({"generation": 5}, "HistoryOrder"),
            ({"slot": "messaging"}, "NotPackSlot"),
            ({"twice": True}, "DuplicateGeneration"),
            ({"slot": "telemetry", "generation": 9}, "none"),
        ],
    )
    def test_the_history_obeys_its_rules(self, scene: Scene, changes: dict[str, Any], rule: str) -> None:
        assert self.broken(scene, **changes) == rule


def test_every_refusal_leaves_the_environment_alone(scene: Scene) -> None:
    scene.do("env-packs add", slot="state", kind=MEMORY)
    before = scene.environment
    for name, fields in (
        ("env-packs add", {"slot": "state", "kind": REDIS}),
        ("env-packs rollback", {"slot": "state"}),
        ("extensions remove", {"kind_path": "a.b"}),
    ):
        with pytest.raises(GreenticError):
            scene.do(name, **fields)
        assert scene.environment is before
