"""Backups, files beside the document and reconciliations over the wire (reference 02, sections 4.1, 4.8 and 16)."""

from __future__ import annotations

import base64
import json
import sqlite3

import pytest
from scene import ENV, ONE, bundle, deployed, ok, refused
from test_access import guarded, keys  # noqa: F401 - fixtures

from greentic.engine.command import Command
from greentic.spec.environment import Environment
from greentic.spec.errors import Denied, InputOutput
from greentic.spec.integrity import digest
from greentic.spec.parsing import Payload
from greentic.store.sql.store import open_store


@pytest.fixture
def backed(env):
    deployed(env)
    env.first = ok(env.ask("POST", f"{ENV}/backups", key="b1"))
    return env


class TestBackups:
    def test_the_manifest(self, backed):
        told, state = backed.first["result"], ok(backed.ask("GET", ENV))
        assert told["schema"] == "greentic.backup-manifest.v1"
        assert (told["env_id"], told["generation"]) == ("local", state["generation"])
        assert told["integrity"] == {"algorithm": "sha-256", "digest": state["etag"]}
        assert backed.first["etag"] == state["etag"]
        assert ok(backed.ask("GET", f"{ENV}/backups")) == {"environment_id": "local", "backups": [told]}

    def test_a_replay_takes_no_second_one(self, backed):
        again = ok(backed.ask("POST", f"{ENV}/backups", key="b1"))
        assert again == {**backed.first, "idempotency": {"idempotency": "replayed"}}
        assert len(ok(backed.ask("GET", f"{ENV}/backups"))["backups"]) == 1

    def test_restore(self, backed):
        backup = backed.first["result"]["backup_id"]
        before = ok(backed.ask("PATCH", ENV, {"name": "later"}))
        path = f"{ENV}/restore"
        refused(backed.ask("POST", path, {"backup_id": backup}), 400, "invalid-request")
        refused(backed.ask("POST", path, {"backup_id": backup, "precondition": {}}), 428, "precondition-required")
        stale = {"if_match": backed.first["etag"]}
        refused(backed.ask("POST", path, {"backup_id": backup, "precondition": stale}), 412, "precondition-failed")
        pin = {"if_match": before["etag"], "expected_generation": before["generation"]}
        refused(backed.ask("POST", path, {"backup_id": ONE, "precondition": pin}), 404, "dependent-not-found")
        told = ok(backed.ask("POST", path, {"backup_id": backup.lower(), "precondition": pin}))
        assert told["result"]["restored_generation"] == told["generation"] == before["generation"] + 1
        assert told["result"]["integrity"]["digest"] == told["etag"] == backed.first["etag"]
        assert ok(backed.ask("GET", ENV))["environment"]["name"] == "local"

    def test_delete(self, backed):
        backup = backed.first["result"]["backup_id"]
        told = ok(backed.ask("DELETE", f"{ENV}/backups/{backup}"))
        assert told["result"] == {"backup_id": backup, "deleted": True}
        refused(backed.ask("DELETE", f"{ENV}/backups/{backup}"), 404, "dependent-not-found")
        refused(backed.ask("DELETE", f"{ENV}/backups/nope"), 400, "invalid-request")
        pin = {"expected_generation": told["generation"]}
        asked = {"backup_id": backup, "precondition": pin}
        refused(backed.ask("POST", f"{ENV}/restore", asked), 404, "dependent-not-found")

    def test_carried_to_an_empty_store(self, backed, tmp_path):
        backup = backed.first["result"]["backup_id"]
        exported = ok(backed.ask("GET", f"{ENV}/backups/{backup}/export"))
        assert exported["schema"] == "greentic.backup-artifact.v1"
        assert digest(exported["snapshot"]) == exported["snapshot_digest"]
        refused(backed.ask("POST", f"{ENV}/import", {"artifact": exported}), 409, "already-exists")
        there, events = ok(backed.ask("GET", ENV)), ok(backed.ask("GET", f"{ENV}/audit"))["events"]
        backed.desk.store = other = open_store(str(tmp_path / "other.db"))
        try:
            refused(backed.ask("POST", "/environments/x/import", {"artifact": exported}), 400, "invalid-request")
            tampered = json.loads(json.dumps(exported))
            tampered["snapshot"]["environment"]["name"] = "evil"
            refused(backed.ask("POST", f"{ENV}/import", {"artifact": tampered}), 422, "integrity-mismatch")
            told = ok(backed.ask("POST", f"{ENV}/import", {"artifact": exported}))
            assert told["result"]["imported_generation"] == told["generation"]
            assert told["etag"] == exported["manifest"]["integrity"]["digest"]
            assert ok(backed.ask("GET", ENV))["environment"] == there["environment"]
            after = ok(backed.ask("GET", f"{ENV}/audit"))["events"]
            assert after[-1]["verb"] == "import"
            kept = {event["event_id"] for event in events}
            assert {event["event_id"] for event in after[:-1]} <= kept
            # The signed billing history came along, and goes on.
            assert other.files("local").names("billing-policies")
        finally:
            other.close()

    def test_a_spoilt_row_is_found_and_mended(self, backed):
        backup = backed.first["result"]["backup_id"]
        good = ok(backed.ask("GET", ENV))
        path = backed.root / "store.db"
        backed.desk.store.close()
        with sqlite3.connect(path) as spoiling:
            spoiling.execute("UPDATE elements SET data = CAST(replace(CAST(data AS TEXT), 'acme', 'evil') AS BLOB)")
        spoiling.close()
        backed.desk.store = open_store(str(path))
        backed.closing.callback(backed.desk.store.close)
        refused(backed.ask("GET", ENV), 422, "integrity-mismatch")
        refused(backed.ask("PATCH", ENV, {"name": "x"}), 422, "integrity-mismatch")
        assert ok(backed.ask("GET", "/environments")) == {"environments": ["local"]}
        refused(backed.ask("POST", f"{ENV}/backups"), 422, "integrity-mismatch")
        pin = {"expected_generation": good["generation"]}
        asked = {"backup_id": backup, "precondition": pin, "over_damage": True}
        told = ok(backed.ask("POST", f"{ENV}/restore", asked))
        assert told["etag"] == good["etag"]
        assert ok(backed.ask("GET", ENV))["environment"] == good["environment"]

    def test_a_mended_document_is_accepted_for_a_spoilt_one_only(self, backed):
        good = ok(backed.ask("GET", ENV))
        asked = {"environment": good["environment"]}
        refused(backed.ask("POST", f"{ENV}/accept", asked), 409, "conflict")

    def test_a_folder_says_plainly_that_it_cannot(self, env):
        from greentic.store.files import FilesStore

        env.desk.store = FilesStore(env.root / "environments")
        body = {"env_id": "local", "name": "local", "host_config": {"env_id": "local"}}
        ok(env.ask("POST", "/environments", body))
        refused(env.ask("GET", f"{ENV}/backups"), 501, "not-yet-implemented")


def carried(env_id: str, **more):
    """A handmade artifact that nobody signed; `files` are texts by path, the rest fields of the document."""
    files = {path: base64.b64encode(text.encode()).decode() for path, text in more.pop("files", {}).items()}
    host = {"env_id": env_id}
    environment = Environment.model_validate({"environment_id": env_id, "name": "x", "host_config": host, "packs": []})
    document = {**environment.to_json(), **more}
    snapshot = {"audit_log": [], "environment": document, "files": files}
    manifest = {
        "schema": "greentic.backup-manifest.v1",
        "backup_id": ONE,
        "env_id": env_id,
        "created_at": "2026-01-01T00:00:00Z",
        "generation": 1,
        "integrity": {"algorithm": "sha-256", "digest": digest(document)},
        "size_bytes": 1,
    }
    told = {"schema": "greentic.backup-artifact.v1", "manifest": manifest, "snapshot": snapshot}
    return {"artifact": {**told, "snapshot_digest": digest(snapshot)}}


class TestTrustByImport:
    """Who may not change whom an environment trusts does not choose it by an artifact either."""

    IMPORT = "/environments/imp/import"

    @pytest.fixture
    def trust(self, guarded):  # noqa: F811
        ok(guarded.ask("POST", f"{ENV}/trust-root/bootstrap", token=guarded.keys_of.values["root"]))
        return guarded.desk.store.load("local").environment.trust_root.to_json()

    def test_a_trust_root(self, guarded, trust):  # noqa: F811
        operator = guarded.keys_of("op", "operator")
        body = carried("imp", trust_root=trust)
        told = refused(guarded.ask("POST", self.IMPORT, body, token=operator), 403, "unauthorized")
        assert "trust-root.add" in told["reason"]
        assert guarded.desk.store.names() == ("local",)
        ok(guarded.ask("POST", self.IMPORT, body, token=guarded.keys_of.values["root"]))

    @pytest.mark.parametrize("path", ["trust-root.json", "policy.json"])
    def test_a_file_that_says_the_same(self, guarded, path):  # noqa: F811
        operator = guarded.keys_of("op", "operator")
        body = carried("imp", files={path: "{}"})
        refused(guarded.ask("POST", self.IMPORT, body, token=operator), 403, "unauthorized")
        binding = {"slot": "secrets", "kind": "acme.secrets@1.0.0", "pack_ref": "p", "answers_ref": path}
        body = carried("imp", packs=[binding])
        body["artifact"]["snapshot"]["pack_answers"] = {"secrets": {}}
        body["artifact"]["snapshot_digest"] = digest(body["artifact"]["snapshot"])
        refused(guarded.ask("POST", self.IMPORT, body, token=operator), 403, "unauthorized")
        assert guarded.desk.store.names() == ("local",)

    def test_a_mended_document(self, guarded, trust):  # noqa: F811
        operator = guarded.keys_of("op", "operator")
        asked = {"environment": guarded.desk.store.load("local").environment.to_json()}
        assert asked["environment"]["trust_root"] == trust
        refused(guarded.ask("POST", f"{ENV}/accept", asked, token=operator), 403, "unauthorized")
        refused(guarded.ask("POST", f"{ENV}/accept", asked, token=guarded.keys_of.values["root"]), 409, "conflict")
        del asked["environment"]["trust_root"]
        refused(guarded.ask("POST", f"{ENV}/accept", asked, token=operator), 409, "conflict")

    def test_what_says_nothing_of_trust(self, guarded):  # noqa: F811
        operator = guarded.keys_of("op", "operator")
        ok(guarded.ask("POST", self.IMPORT, carried("imp"), token=operator))


class TestReconcile:
    def test_one_state_is_authorised(self, env):
        state = ok(env.ask("GET", ENV))
        path = f"{ENV}/reconcile"
        refused(env.ask("POST", path), 428, "precondition-required")
        refused(env.ask("POST", path, if_match="0" * 64), 412, "precondition-failed")
        told = ok(env.ask("POST", path, if_match=state["etag"], key="r"))
        assert told["result"] == state["environment"]
        assert (told["generation"], told["etag"]) == (state["generation"], state["etag"])
        assert told["audit"]["target"]["generation"] == state["generation"]
        assert told["audit"]["verb"] == "reconcile"
        ok(env.ask("PATCH", ENV, {"name": "x"}))
        again = ok(env.ask("POST", path, if_match=state["etag"], key="r"))
        assert again == {**told, "idempotency": {"idempotency": "replayed"}}

    @pytest.mark.parametrize(
        ("completion", "outcome"),
        [
            ({"status": "succeeded", "applied": 3, "pruned": 0}, {"outcome": "ok"}),
            ({"status": "failed", "error": "no"}, {"outcome": "error", "kind": "reconcile-failed", "message": "no"}),
        ],
    )
    def test_its_end_is_recorded(self, env, completion, outcome):
        state = ok(env.ask("GET", ENV))
        ok(env.ask("PATCH", ENV, {"name": "moved on"}))
        body = {"authorized_generation": 1, "authorized_etag": state["etag"], "completion": completion}
        told = ok(env.ask("POST", f"{ENV}/reconcile/complete", body))
        assert told["result"] == {"recorded": True}
        assert told["audit"]["result"] == outcome
        assert told["audit"]["target"] == {"environment_id": "local", **body}
        for wrong in ({**body, "x": 1}, {**body, "completion": {"status": "succeeded"}}, {"completion": completion}):
            refused(env.ask("POST", f"{ENV}/reconcile/complete", wrong), 400, "invalid-request")


RUNTIME = {
    "schema": "greentic.environment-runtime.v1",
    "environment_id": "local",
    "discovered": {"url": "https://x"},
    "generated_at": "2026-01-01T00:00:00Z",
    "generated_by": "acme.deployer@1.0.0",
    "generation": 1,
}


class TestEvidence:
    def command(self, key="k"):
        return Command("local", "secrets", "put", Asked(path="t/_/c/n"), key, "x")

    def test_an_effect_elsewhere_is_announced_and_told(self, env):
        done = []
        applied = env.client().maintain(self.command(), lambda _files: done.append(1) or {"version": 1})
        assert (applied.result, applied.generation) == ({"version": 1}, 1)
        events = [
            one for one in env.desk.store.events("local") if one["noun"] == "secrets" and one["phase"] == "outcome"
        ]
        assert [one["target"]["phase"] for one in events] == ["intent", "outcome"]
        assert [one["result"]["outcome"] for one in events] == ["error", "ok"]
        assert events[0]["result"]["kind"] == "announced"
        assert events[1]["target"]["path"] == "t/_/c/n"
        assert env.client().maintain(self.command(), lambda _files: {"version": 1}).replayed

    def test_a_failed_one_is_told_as_failed(self, env):
        def fail(_files):
            raise InputOutput("no room")

        with pytest.raises(InputOutput):
            env.client().maintain(self.command(), fail)
        event = env.desk.store.events("local")[-1]
        assert event["result"] == {"outcome": "error", "kind": "io", "message": "no room"}

    def test_who_may_not_does_nothing(self, guarded):  # noqa: F811
        value, done = guarded.keys_of("looker", "read-only"), []
        with pytest.raises(Denied):
            guarded.client(value).maintain(self.command(), lambda _files: done.append(1) or {})
        assert done == []

    @pytest.mark.parametrize("path", ["traffic/set", "env/update", "secrets/PUT", "secrets/a_b"])
    def test_nothing_else_is_done_elsewhere(self, env, path):
        refused(env.ask("POST", f"{ENV}/evidence/{path}", {"phase": "outcome"}), 400, "invalid-request")


class Asked(Payload):
    path: str


class TestFiles:
    def test_what_a_data_plane_discovered(self, env):
        told = ok(env.ask("PUT", f"{ENV}/files/runtime.json", RUNTIME))
        assert told["audit"]["target"]["path"] == "runtime.json"
        assert ok(env.ask("GET", f"{ENV}/runtime")) == {"runtime": RUNTIME}
        wrong = {**RUNTIME, "environment_id": "other"}
        refused(env.ask("PUT", f"{ENV}/files/runtime.json", wrong), 400, "invalid-request")
        refused(env.ask("PUT", f"{ENV}/files/runtime.json", {}), 400, "invalid-request")

    def test_answers_of_an_env_pack(self, env):
        path = f"{ENV}/files/env-packs/secrets/answers.json"
        ok(env.ask("PUT", path, {"address": "x"}, key="p"))
        assert env.client().files("local").read("env-packs/secrets/answers.json") == b'{"address":"x"}'
        again = ok(env.ask("PUT", path, {"address": "x"}, key="p"))
        assert again["idempotency"] == {"idempotency": "replayed"}
        refused(env.ask("PUT", path, {"address": "y"}, key="p"), 409, "idempotency-conflict")
        ok(env.ask("DELETE", path))
        assert env.client().files("local").read("env-packs/secrets/answers.json") is None

    @pytest.mark.parametrize("path", ["environment.json", "trust-root.json", "billing-policies/a/b/v1.json", "x"])
    def test_what_is_not_written_from_afar(self, env, path):
        refused(env.ask("PUT", f"{ENV}/files/{path}", {}), 400, "invalid-request")
        refused(env.ask("DELETE", f"{ENV}/files/{path}"), 400, "invalid-request")


def test_policies_are_readable_and_go_on_after_a_removal(env):
    deployment = deployed(env)
    ok(env.ask("DELETE", f"{ENV}/bundles/{deployment}"))
    told = ok(env.ask("POST", f"{ENV}/bundles", bundle()))
    assert told["result"]["revenue_policy_ref"].endswith("/v2.json.sig")
    names = ok(env.ask("GET", f"{ENV}/files?under=billing-policies"))["files"]
    assert [name.rpartition("/")[2] for name in names] == ["v1.json", "v1.json.sig", "v2.json", "v2.json.sig"]
    document = env.ask("GET", f"{ENV}/files/billing-policies/web/acme/v2.json").json()
    assert document["previous_version_ref"].endswith("v1.json.sig")
