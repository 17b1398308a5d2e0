"""Who is let in, what they may, and what they can learn (reference 02, section 3.8)."""

from __future__ import annotations

import json
import os

import pytest
from scene import ENV, ONE, binding, bundle, deployed, ok, ready, refused, split, stage
from starlette.requests import Request

from greentic.server import tokens
from greentic.server.access import Grant, Principal
from greentic.server.doors import Bucket, GuardedDoor, OpenDoor
from greentic.server.failures import Unauthenticated
from greentic.server.wire import Peer
from greentic.spec.errors import GreenticError, NotFound, StoreError
from greentic.spec.store_access import Role, TokenEntry
from greentic.spec.verbs import VERBS

PUBLIC_VERBS = [verb for verb in VERBS if verb.route is not None]


class Keys:
    """A token file and the tokens in it by name."""

    def __init__(self, path):
        self.path, self.values = path, {}

    def __call__(self, name: str, role: str = "admin", **more) -> str:
        value, token_id, digest = tokens.minted()
        entry = {"token_sha256": digest, "token_id": token_id, "actor": name, "role": role, **more}
        tokens.add(self.path, TokenEntry.model_validate(entry))
        self.values[name] = value
        return value


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "tokens.json")


@pytest.fixture
def guarded(env, keys):
    """The server with the environment `local`, guarded; `keys` are read when they are used."""
    keys("root")

    class Door(GuardedDoor):
        def admit(self, request):
            self.reload()
            return super().admit(request)

    env.desk.doorkeeper = Door(keys.path, strangers=Bucket(10_000, 10_000))
    env.keys_of = keys
    return env


class TestStrangers:
    @pytest.mark.parametrize("given", [None, "", "Bearer", "bearer {0}", "Basic {0}", "Bearer nope", "Bearer ä"])
    def test_nobody_comes_in_without_a_token(self, guarded, given):
        headers = {} if given is None else {"authorization": given.format(guarded.keys_of.values["root"]).encode()}
        for method, path in (("GET", ENV), ("GET", "/environments"), ("PATCH", ENV), ("GET", "/environments/ghost")):
            told = guarded.ask(method, path, **headers)
            body = refused(told, 401, "unauthorized")
            assert body["policy"] == "static-tokens"
            assert told.headers["www-authenticate"] == 'Bearer realm="greentic-store"'

    def test_their_bodies_are_not_read_and_they_leave_no_trace(self, guarded):
        before = guarded.desk.store.events("local")
        refused(guarded.ask("POST", f"{ENV}/packs", {"x": "y" * 1_000_000}), 401, "unauthorized")
        assert guarded.desk.store.events("local") == before

    def test_health_is_for_everybody(self, guarded):
        ok(guarded.ask("GET", "/healthz"))
        ok(guarded.ask("GET", "/readyz"))

    def test_a_flood_is_slowed_and_logged_once(self, guarded, caplog):
        guarded.desk.doorkeeper._strangers = Bucket(0.001, 5)
        with caplog.at_level("WARNING", "greentic.server"):
            statuses = [guarded.ask("GET", ENV).status_code for _ in range(12)]
        assert statuses == [401] * 5 + [429] * 7
        assert len([one for one in caplog.records if "refused" in one.message]) == 1


def test_a_caller_who_is_too_fast_is_slowed(guarded):
    guarded.desk.doorkeeper._friends = Bucket(0.001, 3)
    root = guarded.keys_of.values["root"]
    told = [guarded.ask("GET", ENV, token=root) for _ in range(5)]
    assert [one.status_code for one in told] == [200] * 3 + [429] * 2
    assert told[-1].headers["retry-after"] == "1"
    assert told[-1].json()["kind"] == "throttled"


class TestTokens:
    def test_a_key_stays_free_when_it_was_refused(self, guarded):
        refused(guarded.ask("PATCH", ENV, {"name": "x"}, key="k"), 401, "unauthorized")
        ok(guarded.ask("PATCH", ENV, {"name": "x"}, key="k", token=guarded.keys_of.values["root"]))

    def test_who_did_it_stands_in_the_audit(self, guarded):
        told = ok(guarded.ask("PATCH", ENV, {"name": "x"}, token=guarded.keys_of.values["root"]))
        assert told["audit"]["actor"] == {"kind": "bearer-token", "user": "root"}
        assert told["audit"]["authorization"]["policy"] == "static-tokens"

    def test_before_and_after_its_time(self, guarded):
        early = guarded.keys_of("early", not_before="2099-01-01T00:00:00Z")
        late = guarded.keys_of("late", expires_at="2020-01-01T00:00:00Z")
        now = guarded.keys_of("now", not_before="2020-01-01T00:00:00Z", expires_at="2099-01-01T00:00:00Z")
        refused(guarded.ask("GET", ENV, token=early), 401, "unauthorized")
        refused(guarded.ask("GET", ENV, token=late), 401, "unauthorized")
        ok(guarded.ask("GET", ENV, token=now))

    def test_revoked_while_the_server_runs(self, guarded):
        value = guarded.keys_of("gone")
        ok(guarded.ask("GET", ENV, token=value))
        entry = next(one for one in tokens.read(guarded.keys_of.path).tokens if one.actor == "gone")
        tokens.remove(guarded.keys_of.path, entry.token_id)
        refused(guarded.ask("GET", ENV, token=value), 401, "unauthorized")

    def test_the_last_one_is_revoked_too(self, guarded):
        root = guarded.keys_of.values["root"]
        ok(guarded.ask("GET", ENV, token=root))
        tokens.remove(guarded.keys_of.path, tokens.read(guarded.keys_of.path).tokens[0].token_id)
        refused(guarded.ask("GET", ENV, token=root), 401, "unauthorized")
        with pytest.raises(StoreError, match="names nobody"):
            GuardedDoor(guarded.keys_of.path)

    def test_nothing_is_taken_of_a_file_that_is_refused_in_part(self, guarded):
        root = guarded.keys_of.values["root"]
        document = json.loads(guarded.keys_of.path.read_text())
        issuer = {
            "issuer": "https://id.example",
            "audience": "store",
            "jwks_uri": "http://far.example/keys",
            "grants": [{"claim": "c", "value": "v", "role": "admin"}],
        }
        guarded.keys_of.path.write_text(json.dumps({**document, "tokens": [], "issuers": [issuer]}))
        ok(guarded.ask("GET", ENV, token=root))

    def test_a_file_that_is_broken_locks_nobody_out_and_lets_nobody_in(self, guarded, caplog):
        root = guarded.keys_of.values["root"]
        ok(guarded.ask("GET", ENV, token=root))
        guarded.keys_of.path.write_text("{")
        with caplog.at_level("ERROR", "greentic.server"):
            ok(guarded.ask("GET", ENV, token=root))
            refused(guarded.ask("GET", ENV), 401, "unauthorized")
        assert "not taken over" in caplog.text

    def test_the_file_holds_no_token_and_is_private(self, keys):
        value = keys("ci")
        assert value not in keys.path.read_text()
        assert keys.path.stat().st_mode & 0o777 == 0o600
        assert value.startswith("gst_")
        assert len(value.partition("_")[2].partition("_")[2]) >= 43

    def test_a_file_of_the_reference_is_taken(self, tmp_path):
        entry = {
            "token_sha256": tokens.digest_of("t").upper(),
            "actor": "ci",
            "role": "operator",
            "env_ids": None,
            "x": 1,
        }
        path = tmp_path / "tokens.json"
        path.write_text(json.dumps({"schema": "greentic.store-rbac.v1", "tokens": [entry], "later": True}))
        assert tokens.read(path).tokens[0].role is Role.OPERATOR

    @pytest.mark.parametrize(
        "change",
        [
            {"schema": "other"},
            {"tokens": []},
            {"tokens": [{"token_sha256": "ab", "actor": "a", "role": "admin"}]},
            {"tokens": [{"token_sha256": "a" * 64, "actor": " ", "role": "admin"}]},
            {"tokens": [{"token_sha256": "a" * 64, "actor": "a", "role": "owner"}]},
            {"tokens": [{"token_sha256": "a" * 64, "actor": "a", "role": "admin", "env_ids": []}]},
            {"tokens": [{"token_sha256": "a" * 64, "actor": "a", "role": "admin", "env_ids": ["a b"]}]},
            {"tokens": [{"token_sha256": "a" * 64, "actor": "a", "role": "admin", "customer_ids": []}]},
            {"tokens": [{"token_sha256": "a" * 64, "actor": "a", "role": "admin", "verbs": ["nonsense"]}]},
            {"tokens": [{"token_sha256": one * 64, "actor": "a", "role": "admin"} for one in "aA"]},
        ],
    )
    def test_files_that_are_refused(self, tmp_path, change):
        path = tmp_path / "tokens.json"
        good = {
            "schema": "greentic.store-rbac.v1",
            "tokens": [{"token_sha256": "a" * 64, "actor": "a", "role": "admin"}],
        }
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(GreenticError):
            tokens.read(path)

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(StoreError, match="cannot be read"):
            GuardedDoor(tmp_path / "none.json")
        with pytest.raises(NotFound):
            tokens.remove(tmp_path / "other.json", "gst_x")


def holds(role: str, noun: str) -> bool:
    return {"admin": True, "operator": noun != "trust-root", "read-only": False}[role]


@pytest.mark.parametrize("verb", PUBLIC_VERBS, ids=lambda verb: verb.name)
def test_the_role_matrix(guarded, verb):
    """Each cell: a role that holds the verb gets past the door (and is told 400 for its key), another gets 403."""
    for role in ("admin", "operator", "read-only"):
        value = guarded.keys_of(role, role)
        for path, method in ((verb.path, "POST"), (verb.route.path, verb.route.method)):
            told = guarded.ask(method, somewhere(path), key=None, token=value)
            if holds(role, verb.noun):
                assert told.status_code == 400
                assert "Idempotency-Key" in told.json()["detail"]
                continue
            refused(told, 403, "unauthorized")
            if path == "/environments":
                continue
            event = guarded.desk.store.events("local")[-1]
            assert event["actor"] == {"kind": "bearer-token", "user": role}
            assert (event["noun"], event["verb"]) == (verb.noun, verb.verb)
            assert event["authorization"]["decision"] == "deny"
            assert event["target"] == {"environment_id": "local"}


def somewhere(path: str, environment: str = "local") -> str:
    for name in ("revision_id", "deployment_id", "endpoint_id"):
        path = path.replace("{" + name + "}", ONE)
    return path.replace("{environment_id}", environment).replace("{slot}", "secrets").replace("{key_id}", "0" * 32)


class TestReads:
    READS = (ENV, f"{ENV}/runtime", f"{ENV}/trust-root", f"{ENV}/audit", f"{ENV}/files?under=billing-policies")

    @pytest.mark.parametrize("role", ["admin", "operator", "read-only"])
    def test_every_role_reads(self, guarded, role):
        value = guarded.keys_of(role, role)
        for path in ("/environments", *self.READS):
            ok(guarded.ask("GET", path, token=value))


class TestScope:
    """A token for one environment cannot tell whether another exists."""

    def test_the_same_answer_for_absent_and_forbidden(self, guarded):
        ok(guarded.ask("POST", "/environments", named("other"), token=guarded.keys_of.values["root"]))
        value = guarded.keys_of("one", "admin", env_ids=["local"])
        assert ok(guarded.ask("GET", "/environments", token=value)) == {"environments": ["local"]}
        for suffix in ("", "/runtime", "/trust-root", "/audit", "/files", "/files/billing-policies/a"):
            there = guarded.ask("GET", f"/environments/other{suffix}", token=value)
            nowhere = guarded.ask("GET", f"/environments/ghost{suffix}", token=value)
            assert there.status_code == 403
            assert (there.status_code, there.content, headers(there)) == (403, nowhere.content, headers(nowhere))

    @pytest.mark.parametrize("verb", PUBLIC_VERBS, ids=lambda verb: verb.name)
    def test_for_every_change(self, guarded, verb):
        if not hasattr(guarded, "made"):
            ok(guarded.ask("POST", "/environments", named("other"), token=guarded.keys_of.values["root"]))
        value = guarded.keys_of("one", "admin", env_ids=["local"])
        answers = []
        for name in ("other", "ghost"):
            for path, method in ((verb.path, "POST"), (verb.route.path, verb.route.method)):
                if path == "/environments":
                    answers.append(guarded.ask(method, path, named(name), token=value))
                    continue
                answers.append(guarded.ask(method, somewhere(path, name), {}, token=value))
        assert {(one.status_code, one.content) for one in answers} == {(403, answers[0].content)}

    def test_creating_what_there_is_and_what_there_is_not(self, guarded):
        ok(guarded.ask("POST", "/environments", named("other"), token=guarded.keys_of.values["root"]))
        value = guarded.keys_of("one", "admin", env_ids=["local"])
        there = guarded.ask("POST", "/environments", named("other"), token=value)
        nowhere = guarded.ask("POST", "/environments", named("ghost"), token=value)
        assert (there.status_code, there.content) == (nowhere.status_code, nowhere.content)
        assert there.status_code == 403

    def test_pages_show_nothing_of_others(self, guarded):
        for name in ("aa", "zz"):
            ok(guarded.ask("POST", "/environments", named(name), token=guarded.keys_of.values["root"]))
        value = guarded.keys_of("one", "read-only", env_ids=["local"])
        assert ok(guarded.ask("GET", "/environments?limit=1", token=value)) == {"environments": ["local"]}


class TestCustomers:
    """A token for one customer sees and changes that customer's deployments and nothing of others."""

    @pytest.fixture
    def shared(self, guarded):
        guarded.desk.doorkeeper, door = OpenDoor(), guarded.desk.doorkeeper
        guarded.acme = deployed(guarded)
        ready(guarded, guarded.acme)
        route = {"hosts": [], "path_prefixes": ["/b"], "tenant_selector": {"tenant": "t", "team": "t"}}
        guarded.rival = ok(guarded.ask("POST", f"{ENV}/bundles", bundle("crm", "rival", route_binding=route)))[
            "result"
        ]["deployment_id"]
        guarded.desk.doorkeeper = door
        return guarded

    def test_a_view_of_their_own(self, shared):
        value = shared.keys_of("partner", "operator", customer_ids=["acme"])
        told = shared.ask("GET", ENV, token=value)
        seen = told.json()["environment"]
        assert [one["customer_id"] for one in seen["bundles"]] == ["acme"]
        assert "rival" not in told.text
        assert shared.rival not in told.text
        assert "trust_root" not in seen
        for path in (f"{ENV}/trust-root", f"{ENV}/audit", f"{ENV}/files", f"{ENV}/runtime"):
            refused(shared.ask("GET", path, token=value), 403, "unauthorized")

    def test_changes_to_their_own_only(self, shared):
        value = shared.keys_of("partner", "operator", customer_ids=["acme"])
        told = shared.ask("POST", f"{ENV}/traffic", split(shared.acme, one=10_000), token=value)
        ok(told)
        assert "rival" not in told.text
        answers = [
            shared.ask("PATCH", f"{ENV}/bundles/{one}", {"deployment_id": one, "status": "paused"}, token=value)
            for one in (shared.rival, ONE)
        ]
        assert {(one.status_code, one.json()["kind"]) for one in answers} == {(403, "unauthorized")}
        assert answers[0].content == answers[1].content
        refused(shared.ask("POST", f"{ENV}/packs", binding(), token=value), 403, "unauthorized")
        refused(shared.ask("PATCH", ENV, {"name": "x"}, token=value), 403, "unauthorized")
        refused(shared.ask("POST", f"{ENV}/bundles", bundle("new", "rival"), token=value), 403, "unauthorized")
        refused(shared.ask("POST", f"{ENV}/revisions", stage(shared.rival, ONE), token=value), 403, "unauthorized")

    def test_a_route_that_is_taken_does_not_say_by_whom(self, shared):
        value = shared.keys_of("partner", "operator", customer_ids=["acme"])
        route = {"hosts": [], "path_prefixes": ["/b"], "tenant_selector": {"tenant": "t", "team": "t"}}
        told = shared.ask("POST", f"{ENV}/bundles", bundle("new", "acme", route_binding=route), token=value)
        refused(told, 400, "invalid-request")
        assert "rival" not in told.text
        assert "crm" not in told.text

    def test_nobody_is_given_the_answer_to_another_ones_request(self, shared):
        root = shared.keys_of.values["root"]
        body = {"deployment_id": shared.acme, "status": "paused"}
        ok(shared.ask("PATCH", f"{ENV}/bundles/{shared.acme}", body, token=root, key="shared"))
        value = shared.keys_of("partner", "operator", customer_ids=["acme"])
        told = shared.ask("PATCH", f"{ENV}/bundles/{shared.acme}", body, token=value, key="shared")
        refused(told, 409, "idempotency-conflict")
        assert "used_at" not in told.text
        changed = {**body, "status": "active"}
        again = shared.ask("PATCH", f"{ENV}/bundles/{shared.acme}", changed, token=root, key="shared")
        assert "used_at" in again.text

    def test_who_was_moved_to_another_customer_is_not_given_the_answers_from_before(self, shared):
        value = shared.keys_of("partner", "operator", customer_ids=("acme",))
        path, body = f"{ENV}/bundles/{shared.acme}", {"deployment_id": shared.acme, "status": "paused"}
        ok(shared.ask("PATCH", path, body, token=value, key="mine"))
        again = ok(shared.ask("PATCH", path, body, token=value, key="mine"))
        assert again["idempotency"] == {"idempotency": "replayed"}
        (entry,) = (one for one in tokens.read(shared.keys_of.path).tokens if one.actor == "partner")
        tokens.remove(shared.keys_of.path, entry.token_id)
        tokens.add(shared.keys_of.path, entry.model_copy(update={"customer_ids": ("rival",)}))
        told = shared.ask("PATCH", path, body, token=value, key="mine")
        refused(told, 409, "idempotency-conflict")
        assert shared.acme not in told.text


class TestVerbs:
    def test_a_grant_narrowed_to_verbs(self, guarded):
        value = guarded.keys_of("dialer", "operator", verbs=["traffic.*", "env.update"])
        ok(guarded.ask("PATCH", ENV, {"name": "x"}, token=value))
        refused(guarded.ask("POST", f"{ENV}/packs", binding(), token=value), 403, "unauthorized")
        ok(guarded.ask("GET", ENV, token=value))

    def test_narrowing_never_widens(self):
        read_only = Principal("bearer-token", "a", "static-tokens", Grant(Role.READ_ONLY, verbs=frozenset({"*"})))
        assert not read_only.decide("traffic", "set", "x", changes=True).allowed
        operator = Principal(
            "bearer-token", "a", "static-tokens", Grant(Role.OPERATOR, verbs=frozenset({"trust-root.*"}))
        )
        assert not operator.decide("trust-root", "add", "x", changes=True).allowed


def test_denials_of_one_principal_cannot_fill_the_log(guarded):
    value = guarded.keys_of("noisy", "read-only")
    for _ in range(70):
        refused(guarded.ask("PATCH", ENV, {"name": "x"}, token=value), 403, "unauthorized")
    denied = [
        one
        for one in guarded.desk.store.events("local")
        if one["phase"] == "outcome" and one["actor"].get("user") == "noisy"
    ]
    assert 0 < len(denied) <= 60


def named(name: str):
    return {"env_id": name, "name": name, "host_config": {"env_id": name}}


def headers(response):
    return {name: value for name, value in response.headers.items() if name != "date"}


class TestTheFileAsItLies:
    def test_a_link_leads_to_what_was_changed(self, tmp_path):
        real, link = Keys(tmp_path / "real" / "tokens.json"), tmp_path / "tokens.json"
        real("one")
        link.symlink_to(real.path)
        (entry,) = tokens.read(link).tokens
        tokens.remove(link, entry.token_id)
        assert link.is_symlink()
        assert tokens.read(real.path, nobody=True).tokens == (), "revoked where the server reads"

    def test_who_reads_it_goes_on_reading_it(self, keys):
        keys("one")
        keys.path.chmod(0o640)
        if os.getuid() == 0:
            os.chown(keys.path, 65_534, 65_534)
        before = keys.path.stat()
        keys("two")
        after = keys.path.stat()
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)

    def test_nobody_else_is_let_write_it(self, keys):
        keys("one")
        keys.path.chmod(0o666)
        keys("two")
        assert keys.path.stat().st_mode & 0o777 == 0o640


class TestCertificates:
    ENTRY = {"actor": "partner", "role": "operator"}  # noqa: RUF012

    def door(self, path, **entry):
        document = {"schema": "greentic.store-rbac.v1", "tokens": [], "certificates": [{**self.ENTRY, **entry}]}
        path.write_text(json.dumps(document))
        return GuardedDoor(path, wall=lambda: 1_000.0)

    def admitted(self, door, *names, until=2_000.0):
        scope = {"type": "http", "headers": [], "client": ("x", 1), "state": {"peer": Peer(frozenset(names), until)}}
        try:
            return door.admit(Request(scope)).user
        except Unauthenticated:
            return None

    def test_a_subject_is_the_whole_of_it(self, tmp_path):
        door = self.door(tmp_path / "t.json", subject="CN=partner,O=Acme\\, Inc")
        assert self.admitted(door, "CN=partner,O=Acme\\, Inc") == "partner"
        assert self.admitted(door, "CN=partner,O=Acme", "CN=partner", "san DNS:partner") is None

    @pytest.mark.parametrize(
        "entry", [{"subject": ""}, {"subject": " "}, {"subject": "/CN=partner"}, {"san": ""}, {"san": "partner"}]
    )
    def test_what_names_nobody_is_refused(self, tmp_path, entry):
        with pytest.raises(GreenticError):
            self.door(tmp_path / "t.json", **entry)

    def test_it_counts_until_its_end_however_long_the_connection(self, tmp_path):
        door = self.door(tmp_path / "t.json", san="URI:spiffe://corp/ci")
        assert self.admitted(door, "san URI:spiffe://corp/ci") == "partner"
        assert self.admitted(door, "san URI:spiffe://corp/ci", until=1_000.0) is None
