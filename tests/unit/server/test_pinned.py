"""What the reference's own tests pin (reference 02, section 16), over a real server, case by case."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from scene import BAD_GATE, ENV, ONE, TWO, binding, bundle, deployed, endpoint, ok, ready, refused, split, stage, warm

from greentic.spec.integrity import digest

PEM = (
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAiojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=\n"
    "-----END PUBLIC KEY-----\n"
)
KEY = "34750f98bd59fcfc946da45aaabe933b"


class TestEnvelope:
    def test_create_tells_generation_one_and_none_before(self, server):
        body = {"env_id": "prod", "name": "Prod", "host_config": {"env_id": "ignored", "region": "eu"}}
        told = ok(server.ask("POST", "/environments", body, key="k"))
        assert told["generation"] == told["audit"]["new_generation"] == 1
        assert "previous_generation" not in told["audit"]
        assert told["result"]["host_config"] == {"env_id": "prod", "region": "eu"}
        assert told["idempotency"] == {"idempotency": "applied"}
        assert told["audit"]["target"] == {"environment_id": "prod"}
        assert told["audit"]["idempotency_key"] == "k"
        refused(server.ask("POST", "/environments", body), 409, "already-exists")

    def test_patch_bumps_and_clears(self, env):
        ok(env.ask("PATCH", ENV, {"region": {"value": "eu"}, "name": "n"}))
        told = ok(env.ask("PATCH", ENV, {"region": {"clear": True}, "listen_addr": {"clear": False}}))
        assert told["generation"] == 3
        assert "region" not in told["result"]["host_config"]
        assert told["result"]["name"] == "n"
        assert digest(told["result"]) == told["etag"]

    def test_if_match(self, env):
        etag = ok(env.ask("GET", ENV))["etag"]
        ok(env.ask("PATCH", ENV, {"name": "b"}, if_match=f'"{etag}"'))
        now = ok(env.ask("GET", ENV))["etag"]
        stale = env.ask("PATCH", ENV, {"name": "c"}, if_match=f'"{etag}"')
        body = refused(stale, 412, "precondition-failed")
        assert (body["expected_etag"], body["actual_etag"]) == (etag, now)
        assert (body["expected_generation"], body["actual_generation"]) == (2, 2)
        assert stale.headers["etag"] == f'"{now}"'
        ok(env.ask("PATCH", ENV, {"name": "d"}, if_match=now))  # bare hex

    @pytest.mark.parametrize("given", ['W/"{0}"', "*", '"{0}", "{0}"', "abc", '"ABC"', ""])
    def test_if_match_that_says_less(self, env, given):
        etag = ok(env.ask("GET", ENV))["etag"]
        refused(env.ask("PATCH", ENV, {"name": "b"}, if_match=given.format(etag)), 400, "invalid-request")

    @pytest.mark.parametrize("key", [None, "", "x" * 256])
    def test_keys_that_are_none(self, env, key):
        refused(env.ask("PATCH", ENV, {"name": "b"}, key=key), 400, "invalid-request")

    def test_the_longest_key(self, env):
        ok(env.ask("PATCH", ENV, {"name": "b"}, key="x" * 255))

    def test_migrate_bindings(self, env):
        body = {"packs": [binding()["binding"]], "extensions": [{"kind": "acme.x@1.0.0", "pack_ref": "x"}]}
        told = ok(env.ask("POST", f"{ENV}/migrate-bindings", body))
        assert told["result"] == {"merged_slots": ["secrets"], "merged_extensions": ["acme.x"]}
        assert told["audit"]["target"]["merged_slots"] == ["secrets"]
        again = ok(env.ask("POST", f"{ENV}/migrate-bindings", body))
        assert again["result"] == {"merged_slots": [], "merged_extensions": []}

    def test_migrate_bindings_seeds_and_expects(self, server):
        seed = {
            "host_config": {"env_id": "x"},
            "revocation": {"required": False},
            "retention": {},
            "health": {"state": "unknown"},
        }
        body = {"packs": [], "extensions": []}
        path = "/environments/new/migrate-bindings"
        refused(server.ask("POST", path, body), 404, "not-found")
        told = refused(server.ask("POST", path, body, if_match="a" * 64), 412, "precondition-failed")
        assert (told["actual_etag"], told["actual_generation"]) == ("", 0)
        assert ok(server.ask("POST", path, {**body, "seed_if_missing": seed}))["generation"] == 1
        assert ok(server.ask("GET", "/environments/new"))["environment"]["name"] == "new"

    def test_reads(self, env):
        assert ok(env.ask("GET", "/environments")) == {"environments": ["local"]}
        assert ok(env.ask("GET", f"{ENV}/runtime")) == {"runtime": None}
        refused(env.ask("GET", "/environments/ghost"), 404, "not-found")
        refused(env.ask("GET", "/environments/ghost/runtime"), 404, "not-found")
        refused(env.ask("GET", "/environments/ghost/trust-root"), 404, "not-found")

    @pytest.mark.parametrize("path", ["/environments/..", "/environments/.", "/environments/%2E%2E/bundles"])
    def test_dots_name_no_environment(self, env, path):
        assert env.ask("GET", path).status_code in {200, 400, 404, 405}  # the client may resolve them itself
        raw = raw_get(env.url, path)
        assert raw.startswith((b"HTTP/1.1 400", b"HTTP/1.1 405", b"HTTP/1.1 404")), raw[:200]


class TestRevisions:
    def test_life(self, env):
        deployment = deployed(env)
        told = ok(env.ask("POST", f"{ENV}/revisions", stage(deployment, ONE.lower())))
        assert told["result"]["revision_id"] == ONE
        assert (told["result"]["sequence"], told["result"]["lifecycle"]) == (1, "staged")
        assert told["audit"]["target"]["lifecycle_to"] == "staged"
        refused(env.ask("POST", f"{ENV}/revisions", stage(deployment, ONE)), 409, "already-exists")
        refused(env.ask("POST", f"{ENV}/revisions", stage(TWO, TWO)), 404, "dependent-not-found")
        refused(env.ask("POST", f"{ENV}/revisions/{ONE}/warm", warm(ONE, "ready")), 409, "conflict")
        refused(env.ask("POST", f"{ENV}/revisions/{TWO}/warm", warm(ONE)), 400, "invalid-request")
        refused(env.ask("POST", f"{ENV}/revisions/nope/warm", warm(ONE)), 400, "invalid-request")
        told = ok(env.ask("POST", f"{ENV}/revisions/{ONE}/warm", warm(ONE)))
        assert told["result"]["starting_lifecycle"] == "staged"
        assert told["result"]["revision"]["lifecycle"] == "ready"
        assert digest(told["result"]["environment"]) == told["etag"]
        assert ok(env.ask("POST", f"{ENV}/revisions/{ONE}/warm", warm(ONE)))["result"]["starting_lifecycle"] == "ready"
        assert ok(env.ask("POST", f"{ENV}/revisions/{ONE}/drain"))["result"]["revision"]["lifecycle"] == "draining"
        told = ok(env.ask("POST", f"{ENV}/revisions/{ONE}/archive"))
        assert told["audit"]["target"] == {"environment_id": "local", "revision_id": ONE, "lifecycle_to": "archived"}

    def test_a_failed_gate_is_committed(self, env):
        ok(env.ask("POST", f"{ENV}/revisions", stage(deployed(env), ONE)))
        before = ok(env.ask("GET", ENV))["generation"]
        asked = {"revision_id": ONE, "expected_lifecycle": "staged", "health_gate": BAD_GATE}
        first = env.ask("POST", f"{ENV}/revisions/{ONE}/warm", asked, key="gate")
        body = refused(first, 422, "health-gate-failed")
        assert (body["revision_id"], body["failed_checks"]) == (ONE, ["route-table"])
        assert body["message"] == "no route"
        assert ok(env.ask("GET", ENV))["generation"] == before + 1
        event = ok(env.ask("GET", f"{ENV}/audit"))["events"][-1]
        assert event["target"]["lifecycle_to"] == "failed"
        assert event["result"]["outcome"] == "error"
        again = env.ask("POST", f"{ENV}/revisions/{ONE}/warm", asked, key="gate")
        assert (again.status_code, again.content) == (422, first.content)
        assert ok(env.ask("GET", ENV))["generation"] == before + 1

    def test_archive_with_traffic(self, env):
        deployment = deployed(env)
        ready(env, deployment)
        ok(env.ask("POST", f"{ENV}/traffic", split(deployment, one=10_000)))
        refused(env.ask("POST", f"{ENV}/revisions/{ONE}/archive"), 409, "conflict")


class TestTraffic:
    def test_set_replay_and_rollback(self, env):
        deployment = deployed(env)
        ready(env, deployment)
        ready(env, deployment, TWO)
        refused(env.ask("POST", f"{ENV}/traffic/rollback", {"deployment_id": deployment}), 409, "conflict")
        first = ok(env.ask("POST", f"{ENV}/traffic", split(deployment, one=10_000), key="t1"))
        assert (first["result"]["previous_generation"], first["result"]["new_generation"]) == (None, 0)
        assert first["result"]["split"]["idempotency_key"] == "t1"
        assert first["audit"]["target"]["split_generation"] == 0
        second = ok(env.ask("POST", f"{ENV}/traffic", split(deployment, one=9_900, two=100), key="t2"))
        assert second["result"]["split"]["previous_split_ref"].startswith("inline://")
        replay = ok(env.ask("POST", f"{ENV}/traffic", split(deployment, one=10_000), key="t1"))
        assert replay == {**first, "idempotency": {"idempotency": "replayed"}}
        refused(env.ask("POST", f"{ENV}/traffic", split(deployment, two=10_000), key="t1"), 409, "idempotency-conflict")
        back = ok(env.ask("POST", f"{ENV}/traffic/rollback", {"deployment_id": deployment}))
        assert back["result"]["restored"]["entries"][0]["weight_bps"] == 10_000
        assert back["result"]["new_generation"] == 2

    def test_refusals(self, env):
        deployment = deployed(env)
        ok(env.ask("POST", f"{ENV}/revisions", stage(deployment, ONE)))
        refused(env.ask("POST", f"{ENV}/traffic", split(TWO, one=10_000)), 404, "dependent-not-found")
        refused(env.ask("POST", f"{ENV}/traffic", split(deployment, two=10_000)), 404, "dependent-not-found")
        refused(env.ask("POST", f"{ENV}/traffic", split(deployment, one=10_000)), 409, "conflict")
        ok(env.ask("POST", f"{ENV}/revisions/{ONE}/warm", warm(ONE)))
        refused(env.ask("POST", f"{ENV}/traffic", split(deployment, one=9_999)), 400, "invalid-request")
        route = {"hosts": [], "path_prefixes": ["/api"], "tenant_selector": {"tenant": "t", "team": "t"}}
        other = ok(env.ask("POST", f"{ENV}/bundles", bundle("api", route_binding=route)))["result"]["deployment_id"]
        refused(env.ask("POST", f"{ENV}/traffic", split(other, one=10_000)), 409, "conflict")


class TestBindings:
    def test_a_slot(self, env):
        told = ok(env.ask("POST", f"{ENV}/packs", binding()))
        assert told["result"]["kind"] == "acme.secrets@1.0.0"
        assert told["audit"]["target"]["slot"] == "secrets"
        refused(env.ask("POST", f"{ENV}/packs", binding()), 409, "already-exists")
        refused(env.ask("PATCH", f"{ENV}/packs/state", binding()), 409, "conflict")
        told = ok(env.ask("PATCH", f"{ENV}/packs/secrets", binding(kind="acme.secrets@1.1.0")))
        assert (told["result"]["generation"], told["result"]["binding"]["generation"]) == (1, 1)
        told = ok(env.ask("POST", f"{ENV}/packs/secrets/rollback"))
        assert told["result"]["binding"]["kind"] == "acme.secrets@1.0.0"
        assert ok(env.ask("DELETE", f"{ENV}/packs/secrets"))["result"]["generation"] == 2
        refused(env.ask("DELETE", f"{ENV}/packs/secrets"), 404, "dependent-not-found")
        refused(env.ask("PATCH", f"{ENV}/packs/secrets", binding()), 404, "dependent-not-found")

    @pytest.mark.parametrize("slot", ["messaging", "extension", "nope", "Secrets"])
    def test_slots_that_hold_no_pack(self, env, slot):
        refused(env.ask("POST", f"{ENV}/packs", binding(slot)), 400, "invalid-request")
        refused(env.ask("DELETE", f"{ENV}/packs/{slot}"), 400, "invalid-request")

    def test_extensions(self, env):
        named = {"kind": "acme.oauth@1.0.0", "pack_ref": "x", "instance_id": "one"}
        key = {"kind_path": "acme.oauth", "instance_id": "one"}
        ok(env.ask("POST", f"{ENV}/extensions", {"binding": named}))
        ok(env.ask("POST", f"{ENV}/extensions", {"binding": {**named, "instance_id": None}}))
        refused(env.ask("PATCH", f"{ENV}/extensions", {"key": key}), 400, "invalid-request")
        other = {"kind_path": "acme.oauth", "instance_id": "two"}
        refused(env.ask("PATCH", f"{ENV}/extensions", {"key": other, "binding": named}), 409, "conflict")
        newer = {**named, "kind": "acme.oauth@2.0.0"}
        assert ok(env.ask("PATCH", f"{ENV}/extensions", {"key": key, "binding": newer}))["result"]["generation"] == 1
        back = ok(env.ask("POST", f"{ENV}/extensions/rollback", {"key": key}))
        assert back["result"]["binding"]["kind"] == named["kind"]
        assert back["audit"]["target"] == {"environment_id": "local", **key}
        assert ok(env.ask("DELETE", f"{ENV}/extensions", {"key": key}))["result"]["binding"]["instance_id"] == "one"
        refused(env.ask("DELETE", f"{ENV}/extensions", {"key": key}), 404, "dependent-not-found")

    def test_nowhere(self, env):
        refused(env.ask("POST", "/environments/ghost/packs", binding()), 404, "not-found")


class TestTrust:
    def test_bootstrap_again_and_again(self, env):
        first = ok(env.ask("POST", f"{ENV}/trust-root/bootstrap"))["result"]
        again = ok(env.ask("POST", f"{ENV}/trust-root/bootstrap"))
        assert again["result"] == first
        assert first["trusted_key_count"] == 1
        assert again["audit"]["target"]["key_id"] == first["key_id"]

    def test_seed_once(self, env):
        assert ok(env.ask("POST", f"{ENV}/trust-root/seed"))["result"]["trusted_key_count"] == 1
        assert ok(env.ask("POST", f"{ENV}/trust-root/seed"))["result"] is None

    def test_keys(self, env):
        body = {"key_id": KEY.upper(), "public_key_pem": PEM}
        told = ok(env.ask("POST", f"{ENV}/trust-root/keys", body))
        assert told["result"] == {"added_key_id": KEY.upper(), "trusted_key_count": 1}
        assert told["audit"]["target"]["public_key_pem"] == PEM
        assert ok(env.ask("GET", f"{ENV}/trust-root"))["keys"][0]["key_id"] == KEY
        gone = ok(env.ask("DELETE", f"{ENV}/trust-root/keys/{KEY.upper()}", key="rm"))
        assert gone["result"]["removed_public_key_pem"] == PEM
        again = ok(env.ask("DELETE", f"{ENV}/trust-root/keys/{KEY}"))["result"]
        assert again["removed_public_key_pem"] is None
        replay = ok(env.ask("DELETE", f"{ENV}/trust-root/keys/{KEY.upper()}", key="rm"))
        assert replay["result"]["removed_public_key_pem"] == PEM
        refused(env.ask("POST", f"{ENV}/trust-root/keys", {**body, "key_id": "0" * 32}), 400, "invalid-request")
        refused(env.ask("POST", "/environments/ghost/trust-root/bootstrap"), 404, "not-found")

    def test_concurrent_seeds_give_one(self, env):
        with ThreadPoolExecutor(8) as pool:
            told = list(pool.map(lambda n: env.ask("POST", f"{ENV}/trust-root/seed", key=f"s{n}"), range(8)))
        assert sum(ok(one)["result"] is not None for one in told) == 1


class TestBundles:
    def test_nothing_without_a_trusted_key(self, env):
        refused(env.ask("POST", f"{ENV}/bundles", bundle()), 409, "conflict")
        assert ok(env.ask("GET", ENV))["environment"]["bundles"] == []

    def test_policies_grow(self, env):
        deployment = deployed(env)
        refused(env.ask("POST", f"{ENV}/bundles", bundle()), 409, "already-exists")
        share = [{"party_id": "a", "basis_points": 4_000}, {"party_id": "b", "basis_points": 6_000}]
        told = ok(
            env.ask("PATCH", f"{ENV}/bundles/{deployment}", {"deployment_id": deployment, "revenue_share": share})
        )
        assert told["result"]["revenue_policy_ref"].endswith("/v2.json.sig")
        assert told["audit"]["target"]["revenue_policy_version"] == 2
        told = ok(env.ask("PATCH", f"{ENV}/bundles/{deployment}", {"deployment_id": deployment, "status": "paused"}))
        assert told["result"]["revenue_policy_ref"].endswith("/v2.json.sig")
        assert told["audit"]["target"]["revenue_policy_version"] is None
        refused(env.ask("PATCH", f"{ENV}/bundles/{ONE}", {"deployment_id": deployment}), 400, "invalid-request")

    def test_bundles_without_routes_are_all_taken_and_each_is_reached_somewhere(self, env):
        ok(env.ask("POST", f"{ENV}/trust-root/bootstrap"))
        asked = [bundle(), bundle("shop"), bundle("shop", "zain"), bundle("a.b"), bundle("shop", "orange")]
        told = [ok(env.ask("POST", f"{ENV}/bundles", body, key=f"add-{n}"))["result"] for n, body in enumerate(asked)]
        prefixes = [one["route_binding"]["path_prefixes"] for one in told]
        assert prefixes == [[], ["/shop"], ["/shop/zain"], ["/a.b"], ["/shop/orange"]]
        assert ok(env.ask("POST", f"{ENV}/bundles", asked[1], key="add-1"))["result"] == told[1]
        said = {"hosts": [], "path_prefixes": ["/shop"], "tenant_selector": {"tenant": "default", "team": "default"}}
        refused(env.ask("POST", f"{ENV}/bundles", bundle("other", route_binding=said)), 400, "invalid-request")
        # In our own words nobody guesses.
        ours = {"deployment_id": ONE, "bundle_id": "mine", "customer_id": "acme"}
        refused(env.ask("POST", f"{ENV}/verbs/bundles/add", ours), 400, "invalid-request")

    def test_a_retried_add_makes_no_second_policy(self, env):
        ok(env.ask("POST", f"{ENV}/trust-root/bootstrap"))
        first = ok(env.ask("POST", f"{ENV}/bundles", bundle(), key="add"))
        again = ok(env.ask("POST", f"{ENV}/bundles", bundle(), key="add"))
        assert again["result"] == first["result"]
        assert env.desk.store.files("local").names("billing-policies") == (
            "billing-policies/web/acme/v1.json",
            "billing-policies/web/acme/v1.json.sig",
        )

    def test_remove(self, env):
        deployment = deployed(env)
        ready(env, deployment)
        refused(env.ask("DELETE", f"{ENV}/bundles/{deployment}"), 409, "conflict")
        ok(env.ask("POST", f"{ENV}/revisions/{ONE}/archive"))
        told = ok(env.ask("DELETE", f"{ENV}/bundles/{deployment.lower()}"))
        assert told["result"]["pruned_revision_ids"] == [ONE]
        assert told["result"]["deployment"]["deployment_id"] == deployment

    @pytest.mark.parametrize("customer", ["..", "a/b", "", "a\\b", "."])
    def test_customers_that_are_no_path(self, env, customer):
        ok(env.ask("POST", f"{ENV}/trust-root/bootstrap"))
        refused(env.ask("POST", f"{ENV}/bundles", bundle("web", customer)), 400, "invalid-request")


class TestMessaging:
    def test_telegram_needs_a_secret(self, env):
        body = endpoint(provider_type="telegram")
        refused(env.ask("POST", f"{ENV}/messaging", body), 501, "not-yet-implemented")
        assert ok(env.ask("GET", ENV))["environment"]["messaging_endpoints"] == []
        told = ok(env.ask("POST", f"{ENV}/messaging", {**body, "webhook_secret_ref": "secret://local/a/b"}))
        path = f"{ENV}/messaging/{told['result']['endpoint_id']}"
        refused(env.ask("POST", f"{path}/rotate-secret", {"updated_by": "ops"}), 501, "not-yet-implemented")
        newer = {"updated_by": "ops", "webhook_secret_ref": "secret://local/a/c"}
        assert ok(env.ask("POST", f"{path}/rotate-secret", newer))["result"]["generation"] == 1
        wrong = endpoint(provider_id="p2", webhook_secret_ref="secret://local/a/b")
        refused(env.ask("POST", f"{ENV}/messaging", wrong), 400, "invalid-request")

    def test_links_and_removal(self, env):
        deployed(env)
        eid = ok(env.ask("POST", f"{ENV}/messaging", endpoint()))["result"]["endpoint_id"]
        refused(env.ask("POST", f"{ENV}/messaging", endpoint()), 409, "already-exists")
        link = {"bundle_id": "web", "updated_by": "ops"}
        ok(env.ask("POST", f"{ENV}/messaging/{eid}/link", link))
        generation = ok(env.ask("GET", ENV))["generation"]
        assert ok(env.ask("POST", f"{ENV}/messaging/{eid}/link", link))["generation"] == generation
        flow = {"endpoint_id": eid, "bundle_id": "web", "pack_id": "p", "flow_id": "hi", "updated_by": "ops"}
        told = ok(env.ask("POST", f"{ENV}/messaging/{eid}/welcome-flow", flow))
        assert told["audit"]["target"]["flow_id"] == "hi"
        refused(env.ask("POST", f"{ENV}/messaging/{eid}/unlink", link), 409, "conflict")
        other = {**flow, "endpoint_id": ONE}
        refused(env.ask("POST", f"{ENV}/messaging/{eid}/welcome-flow", other), 400, "invalid-request")
        assert ok(env.ask("DELETE", f"{ENV}/messaging/{eid}"))["result"] == eid
        assert ok(env.ask("DELETE", f"{ENV}/messaging/{eid}"))["result"] == eid


class TestReplay:
    def test_verbatim_and_one_audit_entry(self, env):
        first = env.ask("PATCH", ENV, {"name": "x"}, key="r").json()
        ok(env.ask("PATCH", ENV, {"name": "y"}))
        entries = len(ok(env.ask("GET", f"{ENV}/audit"))["events"])
        again = env.ask("PATCH", ENV, {"name": "x"}, key="r", if_match="0" * 64).json()
        assert again == {**first, "idempotency": {"idempotency": "replayed"}}
        assert len(ok(env.ask("GET", f"{ENV}/audit"))["events"]) == entries
        assert ok(env.ask("GET", ENV))["environment"]["name"] == "y"

    def test_the_fingerprint_has_method_path_and_body(self, env):
        ok(env.ask("POST", f"{ENV}/packs", binding(), key="f"))
        refused(env.ask("POST", f"{ENV}/packs", {**binding(), "ignored": 1}, key="f"), 409, "idempotency-conflict")
        refused(env.ask("DELETE", f"{ENV}/packs/secrets", key="f"), 409, "idempotency-conflict")
        refused(env.ask("POST", f"{ENV}/packs/secrets/rollback", key="f"), 409, "idempotency-conflict")

    def test_a_refused_request_keeps_its_key(self, env):
        refused(env.ask("DELETE", f"{ENV}/packs/secrets", key="k"), 404, "dependent-not-found")
        ok(env.ask("POST", f"{ENV}/packs", binding(), key="k"))

    def test_parallel_identical_requests_are_applied_once(self, env):
        with ThreadPoolExecutor(8) as pool:
            told = [ok(one) for one in pool.map(lambda _: env.ask("PATCH", ENV, {"name": "p"}, key="same"), range(8))]
        marks = sorted(one["idempotency"]["idempotency"] for one in told)
        assert marks == ["applied", *["replayed"] * 7]
        assert ok(env.ask("GET", ENV))["generation"] == 2

    def test_parallel_writes_on_one_etag_happen_once(self, env):
        etag = ok(env.ask("GET", ENV))["etag"]
        with ThreadPoolExecutor(8) as pool:
            ask = lambda n: env.ask("PATCH", ENV, {"name": f"w{n}"}, key=f"w{n}", if_match=f'"{etag}"')  # noqa: E731
            statuses = sorted(one.status_code for one in pool.map(ask, range(8)))
        assert statuses == [200, *[412] * 7]


class TestReading:
    def test_conditional_reads(self, env):
        read = env.ask("GET", ENV)
        assert read.headers["etag"] == f'"{read.json()["etag"]}"'
        for given in (read.headers["etag"], f"W/{read.headers['etag']}", f'"x", {read.headers["etag"]}', "*"):
            same = env.ask("GET", ENV, if_none_match=given)
            assert (same.status_code, same.content) == (304, b"")
        assert env.ask("GET", ENV, if_none_match='"' + "0" * 64 + '"').status_code == 200

    def test_head(self, env):
        told = env.ask("HEAD", ENV)
        assert (told.status_code, told.content) == (200, b"")
        assert "etag" in told.headers

    def test_pages(self, env):
        for name in ("a", "b", "c"):
            ok(env.ask("POST", "/environments", {"env_id": name, "name": name, "host_config": {"env_id": name}}))
        first = ok(env.ask("GET", "/environments?limit=2"))
        assert first == {"environments": ["a", "b"], "next": "b"}
        assert ok(env.ask("GET", "/environments?limit=2&after=b")) == {"environments": ["c", "local"]}
        for wrong in ("limit=0", "limit=x", "limit=1001", "limit=-1"):
            refused(env.ask("GET", f"/environments?{wrong}"), 400, "invalid-request")

    def test_paths_and_methods_there_are_not(self, env):
        refused(env.ask("GET", "/nope"), 404, "no-such-path")
        told = env.ask("PUT", ENV, {})
        refused(told, 405, "method-not-allowed")
        assert told.headers["allow"]

    def test_health(self, server):
        assert ok(server.ask("GET", "/healthz"))["service"] == "greentic-operator-store-server"
        assert ok(server.ask("GET", "/readyz")) == {"status": "ready"}


def raw_get(url: str, path: str) -> bytes:
    """The answer to a GET whose path is sent as it stands."""
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as wire:
        wire.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
        found = b""
        while chunk := wire.recv(65536):
            found += chunk
    return found
