"""Whom an environment trusts, through the operations and the store."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from tests.unit.operations.trust_scene import ID, Scene

from greentic.operations import audit, backups, deployments, environments, heads, revenue, trust_root
from greentic.operations.doctor_trust import findings
from greentic.spec.deployment import RevenueShare
from greentic.spec.errors import Conflict, CorruptDocument, Denied, GreenticError, InvalidArgument, NotFound
from greentic.spec.trust_root import KeyRemoved, TrustRootDocument, TrustRootError
from greentic.store.contract import Decision
from greentic.store.files import FilesStore
from greentic.trust import root as trust
from greentic.trust.errors import OperatorKeyNotTrusted, RevenuePolicyError
from greentic.trust.keys import OperatorKey

OTHER = OperatorKey.from_seed(b"\x02" * 32)


@pytest.fixture
def scene(tmp_path, monkeypatch):
    made = Scene(tmp_path, monkeypatch)
    heads._loaded.cache_clear()
    made.create()
    return made


def key_of(scene) -> str:
    return trust_root.list_(scene.context(), ID)["keys"][0]["key_id"]


def untrusting(scene) -> None:
    """As an environment of an older state: no trust root at all."""
    document = json.loads((scene.folder / "environment.json").read_text())
    del document["trust_root"], document["x-greentic-store"]
    (scene.folder / "environment.json").write_text(json.dumps(document))
    (scene.folder / "trust-root.json").unlink()


def add(scene, name="web", **options):
    return asyncio.run(deployments.add(scene.context(**options), ID, name, customer_id="acme"))


def share(scene, acme, **options):
    parties = (("acme", acme), ("greentic", 10_000 - acme))
    split = tuple(RevenueShare(party_id=party, basis_points=points) for party, points in parties)
    return asyncio.run(deployments.update(scene.context(**options), ID, "web", revenue_share=split))


class TestTrustRoot:
    def test_a_new_environment_trusts_who_made_it(self, scene) -> None:
        context = scene.context()
        assert context.store.load(ID).generation == 1
        assert trust_root.trusted(context, ID)
        written = trust.read((scene.folder / "trust-root.json").read_bytes())
        assert [key.key_id for key in written.keys] == [key_of(scene)]

    def test_bootstrap_again_changes_nothing(self, scene) -> None:
        told = trust_root.bootstrap(scene.context(), ID)
        assert told["operator_key_id"] == key_of(scene)
        assert told["operator_public_key_pem"].startswith("-----BEGIN PUBLIC KEY-----")
        assert (told["trusted_key_count"], told["generation"]) == (1, 1)

    def test_a_dry_run_makes_no_key(self, scene) -> None:
        scene.operator("nobody")
        assert trust_root.bootstrap(scene.context(dry_run=True), ID)["operator_key_id"] is None
        assert not (scene.place / "keys" / "nobody").exists()
        assert not trust_root.trusted(scene.context(), ID)

    def test_add_answers_the_id_as_it_was_written(self, scene) -> None:
        told = trust_root.add(scene.context(), ID, key_id=OTHER.key_id.upper(), public_key_pem=OTHER.public_pem)
        assert (told["added_key_id"], told["trusted_key_count"]) == (OTHER.key_id.upper(), 2)
        assert [key["key_id"] for key in trust_root.list_(scene.context(), ID)["keys"]][1] == OTHER.key_id

    @pytest.mark.parametrize("pem", ["", "no key", OTHER.public_pem.replace("PUBLIC", "PRIVATE")])
    def test_what_is_no_key_is_refused(self, scene, pem) -> None:
        with pytest.raises(TrustRootError):
            trust_root.add(scene.context(), ID, public_key_pem=pem)

    def test_another_keys_id_is_refused(self, scene) -> None:
        with pytest.raises(TrustRootError, match="derived"):
            trust_root.add(scene.context(), ID, key_id=key_of(scene), public_key_pem=OTHER.public_pem)

    def test_remove_is_for_good(self, scene) -> None:
        key_id = key_of(scene)
        told = trust_root.remove(scene.context(), ID, key_id.upper())
        assert (told["removed_key_id"], told["trusted_key_count"]) == (key_id.upper(), 0)
        assert told["removed_public_key_pem"] is not None
        for again in (
            lambda: trust_root.bootstrap(scene.context(), ID),
            lambda: trust_root.add(scene.context(), ID, key_id=key_id),
        ):
            with pytest.raises(KeyRemoved) as refusal:
                again()
            assert f"add {ID} --key-id {key_id} --restore" in refusal.value.next_step
        assert environments.init(scene.context(), ID)["outcome"] == "untouched"
        assert trust_root.list_(scene.context(), ID)["keys"] == []
        assert trust_root.add(scene.context(), ID, key_id=key_id, restore=True)["trusted_key_count"] == 1
        assert trust_root.list_(scene.context(), ID)["removed"] == []

    def test_removing_what_is_not_there_changes_nothing(self, scene) -> None:
        told = trust_root.remove(scene.context(), ID, OTHER.key_id)
        assert (told["removed_public_key_pem"], told["trusted_key_count"], told["generation"]) == (None, 1, 1)
        with pytest.raises(InvalidArgument):
            trust_root.remove(scene.context(), ID, "")

    def test_only_a_key_that_is_remembered_is_known_by_its_id(self, scene) -> None:
        with pytest.raises(NotFound):
            trust_root.add(scene.context(), ID, key_id=OTHER.key_id, restore=True)
        with pytest.raises(InvalidArgument):
            trust_root.add(scene.context(), ID, key_id=OTHER.key_id)

    def test_one_key_one_effect(self, scene) -> None:
        first = trust_root.remove(scene.context(key="k"), ID, key_of(scene))
        trust_root.add(scene.context(), ID, key_id=first["removed_key_id"], restore=True)
        again = trust_root.remove(scene.context(key="k"), ID, first["removed_key_id"])
        assert again["removed_public_key_pem"] == first["removed_public_key_pem"]
        assert trust_root.trusted(scene.context(), ID)

    def test_compare_and_swap(self, scene) -> None:
        with pytest.raises(Conflict):
            trust_root.remove(scene.context(expected_generation=7), ID, key_of(scene))
        assert trust_root.trusted(scene.context(), ID)

    def test_who_may_not_changes_nothing(self, scene) -> None:
        def nobody(command, actor):
            return Decision(command.noun != "trust-root", "test", "no")

        context = replace(scene.context(), store=FilesStore(scene.place / "environments", authorize=nobody))
        with pytest.raises(Denied):
            trust_root.remove(context, ID, key_of(scene))
        assert trust_root.trusted(context, ID)

    def test_init_gives_an_older_environment_a_trust_root(self, scene) -> None:
        untrusting(scene)
        healed = environments.init(scene.context(), ID)
        assert (healed["outcome"], healed["trust_root"]["trusted_key_count"]) == ("healed", 1)
        assert environments.init(scene.context(), ID)["outcome"] == "untouched"

    def test_the_file_of_the_reference_is_adopted_once(self, scene) -> None:
        untrusting(scene)
        theirs = TrustRootDocument(keys=({"key_id": OTHER.key_id, "public_key_pem": OTHER.public_pem},))
        (scene.folder / "trust-root.json").write_text(json.dumps(theirs.to_json()))
        assert environments.init(scene.context(), ID)["outcome"] == "untouched"
        assert [key["key_id"] for key in trust_root.list_(scene.context(), ID)["keys"]] == [OTHER.key_id]
        assert trust_root.bootstrap(scene.context(), ID)["trusted_key_count"] == 2
        assert OTHER.key_id in {key.key_id for key in scene.environment.trust_root.keys}
        trust_root.remove(scene.context(), ID, OTHER.key_id)
        # What somebody writes there afterwards counts for nothing, and is put right by the next change.
        (scene.folder / "trust-root.json").write_text(json.dumps(theirs.to_json()))
        assert OTHER.key_id not in {key["key_id"] for key in trust_root.list_(scene.context(), ID)["keys"]}
        trust_root.remove(scene.context(), ID, key_of(scene))
        assert trust.read((scene.folder / "trust-root.json").read_bytes()).keys == ()

    def test_a_file_that_cannot_be_relied_on_is_not_adopted(self, scene) -> None:
        untrusting(scene)
        (scene.folder / "trust-root.json").write_text('{"schema": "greentic.trust-root.v1", "keys": [{}]}')
        with pytest.raises(TrustRootError):
            trust_root.bootstrap(scene.context(), ID)


class TestBackups:
    @pytest.mark.parametrize("damaged", [False, True])
    def test_a_backup_brings_no_removed_key_back(self, scene, damaged) -> None:
        backups.create(scene.context(), ID)
        trust_root.remove(scene.context(), ID, key_of(scene))
        if damaged:
            (scene.folder / "environment.json").write_text("{")
        name = backups.list_(scene.context(), ID)["backups"][0]["name"]
        asyncio.run(backups.restore(scene.context(), ID, name))
        assert not trust_root.trusted(scene.context(), ID)
        with pytest.raises(KeyRemoved):
            trust_root.bootstrap(scene.context(), ID)

    @pytest.mark.parametrize("damaged", [False, True])
    def test_a_backup_takes_no_signed_policy_back(self, scene, damaged) -> None:
        add(scene)
        backups.create(scene.context(), ID)
        share(scene, 3_000)
        signed = (scene.folder / scene.environment.bundles[0].revenue_policy_ref).read_bytes()
        if damaged:
            (scene.folder / "environment.json").write_text("{")
        kept = [one["name"] for one in backups.list_(scene.context(), ID)["backups"] if one["origin"] == "kept"]
        asyncio.run(backups.restore(scene.context(), ID, kept[0]))
        if not damaged:
            assert scene.environment.bundles[0].revenue_share[0].basis_points == 3_000
            assert revenue.list_(scene.context(), ID, "web")["ok"]
        share(scene, 4_000)
        told = revenue.list_(scene.context(), ID, "web")
        assert told["ok"], told["finding"]
        assert [row["version"] for row in told["versions"]] == [1, 2, 3]
        assert (scene.folder / "billing-policies/web/acme/v2.json.sig").read_bytes() == signed


class TestPolicies:
    def test_each_change_of_shares_is_the_next_version(self, scene) -> None:
        add(scene)
        share(scene, 3_000)
        share(scene, 3_000)
        told = revenue.list_(scene.context(), ID, "web")
        assert [row["version"] for row in told["versions"]] == [1, 2, 3]
        assert told["revenue_policy_ref"] == "billing-policies/web/acme/v3.json.sig"
        assert {row["state"] for row in told["versions"]} == {"proven"}

    def test_a_repetition_signs_nothing(self, scene) -> None:
        first, _ = add(scene, key="k")
        again, _ = add(scene, key="k")
        assert again.replayed
        assert again.result == first.result
        assert len(revenue.list_(scene.context(), ID, "web")["versions"]) == 1

    def test_a_dry_run_writes_nothing(self, scene) -> None:
        add(scene, dry_run=True)
        assert not (scene.folder / "billing-policies").exists()

    def test_numbers_go_on_after_a_deployment_was_removed(self, scene) -> None:
        add(scene)
        share(scene, 3_000)
        asyncio.run(deployments.remove(scene.context(), ID, "web"))
        assert [row["version"] for row in revenue.list_(scene.context(), ID, "web@acme")["versions"]] == [1, 2]
        add(scene)
        told = revenue.list_(scene.context(), ID, "web")
        assert told["ok"], told["finding"]
        assert [row["version"] for row in told["versions"]] == [1, 2, 3]
        assert scene.environment.retired_policies == ()

    def test_without_a_trust_root_nothing_is_signed(self, scene) -> None:
        untrusting(scene)
        with pytest.raises(OperatorKeyNotTrusted) as refusal:
            add(scene)
        assert isinstance(refusal.value, Conflict)
        assert refusal.value.next_step == f"gtc op trust-root bootstrap {ID}"
        assert scene.environment.trust_root is None
        assert not (scene.folder / "billing-policies").exists()

    def test_without_an_operator_key_nothing_is_signed(self, scene) -> None:
        scene.operator("nobody")
        with pytest.raises(OperatorKeyNotTrusted) as refusal:
            add(scene)
        assert refusal.value.next_step == f"gtc op trust-root bootstrap {ID}"
        assert not (scene.place / "keys" / "nobody").exists()

    def test_a_removed_key_signs_nothing_more(self, scene) -> None:
        add(scene)
        trust_root.remove(scene.context(), ID, key_of(scene))
        with pytest.raises(OperatorKeyNotTrusted, match="removed"):
            share(scene, 3_000)
        asyncio.run(deployments.update(scene.context(), ID, "web", config_overrides={}))
        scene.operator("berta")
        trust_root.bootstrap(scene.context(), ID)
        share(scene, 3_000)
        told = revenue.list_(scene.context(), ID, "web")
        assert told["ok"], told["finding"]
        assert [row["removed_key"] for row in told["versions"]] == [True, False]

    def test_what_the_engine_refuses_is_refused_first(self, scene) -> None:
        add(scene)
        with pytest.raises(Conflict, match="already deployed"):
            add(scene)
        with pytest.raises(GreenticError):
            asyncio.run(
                deployments.update(
                    scene.context(), ID, "web", revenue_share=(RevenueShare(party_id="acme", basis_points=1),)
                )
            )
        assert len(list((scene.folder / "billing-policies").rglob("*.json"))) == 1

    @pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_text("{}")])
    @pytest.mark.parametrize("name", ["v1.json", "v1.json.sig"])
    def test_a_broken_version_is_named_and_not_built_on(self, scene, spoil, name) -> None:
        add(scene)
        spoil(scene.folder / "billing-policies" / "web" / "acme" / name)
        told = revenue.list_(scene.context(), ID, "web")
        assert (told["ok"], told["finding"]["version"]) == (False, 1)
        with pytest.raises(RevenuePolicyError):
            share(scene, 3_000)
        assert len(revenue.list_(scene.context(), ID, "web")["versions"]) == 1


class TestHeads:
    def test_the_head_follows_each_change(self, scene) -> None:
        add(scene)
        told = audit.check(scene.context(), ID)
        assert told["signed_head"]["sequence"] == told["head"]["sequence"]
        assert told["signed_head"]["key"] == "trusted"

    def test_a_log_that_was_cut_back_with_its_document_is_found(self, scene) -> None:
        old = {name: (scene.folder / name).read_bytes() for name in ("environment.json", "audit/events.jsonl")}
        add(scene)
        for name, data in old.items():
            (scene.folder / name).write_bytes(data)
        assert scene.context().store.verify_audit(ID).ok  # log and document agree, and both are old
        with pytest.raises(CorruptDocument, match="ends before entry 4"):
            audit.check(scene.context(), ID)
        kept = scene.place / "head.json"
        kept.write_bytes((scene.folder / "audit" / "head.json").read_bytes())
        (scene.folder / "audit" / "head.json").unlink()
        assert audit.check(scene.context(), ID)["signed_head"] is None
        with pytest.raises(CorruptDocument, match="ends before entry 4"):
            audit.check(scene.context(), ID, kept)

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"payloadType":"x","payload":"","signatures":[]}'])
    def test_a_head_that_is_none_is_found(self, scene, text) -> None:
        (scene.folder / "audit" / "head.json").write_text(text)
        with pytest.raises(CorruptDocument, match="signed head"):
            audit.check(scene.context(), ID)

    def test_a_head_that_a_stranger_signed_is_found(self, scene) -> None:
        from greentic.trust import chain

        entry = audit.check(scene.context(), ID)["head"]
        forged = chain.sign_head(OTHER, ID, entry["sequence"], entry["hash"], "2026-07-24T10:00:00Z")
        (scene.folder / "audit" / "head.json").write_bytes(forged.to_bytes())
        with pytest.raises(CorruptDocument, match="no trusted key"):
            audit.check(scene.context(), ID)

    def test_a_head_of_a_removed_key_still_anchors(self, scene) -> None:
        trust_root.remove(scene.context(), ID, key_of(scene))
        told = audit.check(scene.context(), ID)
        assert (told["signed_head"]["key"], told["signed_head"]["sequence"]) == ("removed", 2)

    def exported(self, scene, since=0):
        path = scene.place / "log.jsonl"
        with path.open("wb") as target:
            audit.export(scene.context(), ID, target, since)
        return path

    def test_an_export_is_verified_offline(self, scene) -> None:
        add(scene)
        path = self.exported(scene)
        told = audit.check_export(scene.context(), path, trusted=scene.folder / "trust-root.json")
        assert (told["entries"], told["signed_head"]["key"]) == (4, "trusted")
        assert audit.check_export(scene.context(), path, environment_id=ID)["signed_head"]["key"] == "trusted"
        assert audit.check_export(scene.context(), path)["signed_head"]["key"] == "unchecked"
        assert audit.check_export(scene.context(), self.exported(scene, 3), environment_id=ID)["entries"] == 1
        assert audit.check_export(scene.context(), self.exported(scene, 4))["signed_head"] is None

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda lines: [*lines[:3], lines[4]],
            lambda lines: [*lines[:2], lines[4], *lines[2:4]],
            lambda lines: [*lines, lines[3]],
            lambda lines: [*lines, lines[4]],
            lambda lines: lines[4:],
            lambda lines: [*lines[:4], lines[4].replace(b'"payload":"e', b'"payload":"f')],
        ],
        ids=["cut", "moved", "an-entry-after-it", "two-heads", "no-entries", "another-payload"],
    )
    def test_an_export_that_was_changed_is_found(self, scene, spoil) -> None:
        add(scene)
        path = self.exported(scene)
        path.write_bytes(b"".join(spoil(path.read_bytes().splitlines(keepends=True))))
        with pytest.raises(CorruptDocument):
            audit.check_export(scene.context(), path, environment_id=ID)

    def test_an_export_without_a_head_has_nobody_behind_it(self, scene) -> None:
        path = self.exported(scene)
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
        with pytest.raises(CorruptDocument, match="signed head"):
            audit.check_export(scene.context(), path, trusted=scene.folder / "trust-root.json")


class TestDoctor:
    def found(self, scene):
        return {(one.check, one.severity) for one in findings(scene.context(), scene.environment)}

    def test_nothing_is_wrong(self, scene) -> None:
        add(scene)
        assert self.found(scene) == set()

    def test_each_fault_is_found_with_its_fix(self, scene) -> None:
        add(scene)
        key = scene.place / "keys" / "anna" / "key.pem"
        key.chmod(0o644)
        assert self.found(scene) == {("operator-key", "error")}
        key.chmod(0o600)
        (scene.folder / "audit" / "head.json").write_text("{}")
        assert self.found(scene) == {("signed-head", "error")}
        (scene.folder / "audit" / "head.json").unlink()
        scene.operator("nobody")
        assert self.found(scene) == {("operator-key", "warning")}
        scene.operator("anna")
        policy = scene.folder / "billing-policies" / "web" / "acme" / "v1.json"
        policy.write_text(policy.read_text().replace("10000", "10001"))
        assert self.found(scene) == {("revenue-policy", "error")}
        trust_root.remove(scene.context(), ID, key_of(scene))
        assert ("trust-root", "error") in self.found(scene)
        assert all(one.fix for one in findings(scene.context(), scene.environment))
