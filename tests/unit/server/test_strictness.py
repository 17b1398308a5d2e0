"""How strictly bodies are read (reference 02, section 17), and that nothing anybody sends is a defect."""

from __future__ import annotations

import json

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scene import ENV, ONE, binding, bundle, deployed, ok, refused, split, stage, warm

from greentic.spec.verbs import VERBS


def raw(server, path, content, *, method="POST", **headers):
    server.keys = getattr(server, "keys", 0) + 1
    named = {"content-type": "application/json", "idempotency-key": f"raw{server.keys}", **headers}
    with httpx2.Client(base_url=server.url, trust_env=False, verify=False) as client:
        return client.request(method, path.lstrip("/"), content=content, headers=named)


class TestJson:
    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"nope", b"\xff\xfe", b'{"a": NaN}', b'{"a": 1e999}', b"[" * 50_000, b'{"a": "\\ud800"}', b"{} {}"],
    )
    def test_what_is_not_json(self, env, content):
        refused(raw(env, f"{ENV}/packs", content), 400, "invalid-request")

    @pytest.mark.parametrize("content", [b"null", b"[]", b"1", b'"x"', b"true"])
    def test_what_is_no_object(self, env, content):
        refused(raw(env, f"{ENV}/packs", content), 400, "invalid-request")

    def test_of_a_key_that_stands_twice_the_last_counts(self, env):
        told = ok(raw(env, ENV, b'{"name": "a", "name": "b"}', method="PATCH"))
        assert told["result"]["name"] == "b"

    @pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded"])
    def test_the_content_type(self, env, kind):
        refused(raw(env, f"{ENV}/packs", json.dumps(binding()), **{"content-type": kind}), 400, "invalid-request")

    def test_parameters_of_the_content_type_are_fine(self, env):
        named = {"content-type": "application/json; charset=utf-8"}
        ok(raw(env, f"{ENV}/packs", json.dumps(binding()), **named))

    def test_the_size_limit(self, env):
        large = json.dumps({**binding(), "padding": "x" * 2_097_152})
        refused(raw(env, f"{ENV}/packs", large), 400, "invalid-request")
        fits = json.dumps({**binding(), "padding": "x" * 2_000_000})
        ok(raw(env, f"{ENV}/packs", fits))

    def test_a_body_that_is_not_read(self, env):
        ok(env.ask("POST", f"{ENV}/packs", binding()))
        ok(raw(env, f"{ENV}/packs/secrets", b"not json", method="DELETE"))


class TestFields:
    def test_unknown_keys_are_ignored(self, env):
        body = {"env_id": "x", "name": "x", "host_config": {"env_id": "x", "new": 1}, "later": {"a": []}}
        told = ok(env.ask("POST", "/environments", body))
        assert told["result"]["host_config"] == {"env_id": "x"}
        ok(env.ask("POST", f"{ENV}/packs", {"binding": {**binding()["binding"], "later": 1}, "x": None}))

    def test_but_not_in_a_patch_of_a_field_nor_in_a_health_gate(self, env):
        refused(env.ask("PATCH", ENV, {"region": {"value": "a", "x": 1}}), 400, "invalid-request")
        gate = warm(ONE, ok=True, extra=1)
        refused(env.ask("POST", f"{ENV}/revisions/{ONE}/warm", gate), 400, "invalid-request")

    @pytest.mark.parametrize(
        "change",
        [
            {"value": "a", "clear": True},
            {"value": "a", "clear": False},
            {},
            {"value": None},
            {"clear": 1},
            "eu",
            7,
            [],
        ],
    )
    def test_patches_that_say_two_things_or_none(self, env, change):
        refused(env.ask("PATCH", ENV, {"region": change}), 400, "invalid-request")

    @pytest.mark.parametrize("kept", [None, {"clear": False}])
    def test_patches_that_keep(self, env, kept):
        ok(env.ask("PATCH", ENV, {"region": {"value": "eu"}}))
        assert ok(env.ask("PATCH", ENV, {"region": kept}))["result"]["host_config"]["region"] == "eu"

    @pytest.mark.parametrize(
        "gate",
        [
            {"ok": False},
            {"ok": True, "failure": {"failed_checks": ["route-table"], "message": "m"}},
            {"ok": "true"},
            {"failure": None},
            {},
        ],
    )
    def test_gates_that_contradict_themselves(self, env, gate):
        refused(
            env.ask(
                "POST",
                f"{ENV}/revisions/{ONE}/warm",
                warm(ONE, **gate) if gate else {"revision_id": ONE, "expected_lifecycle": "staged", "health_gate": {}},
            ),
            400,
            "invalid-request",
        )

    @pytest.mark.parametrize("field", sorted(stage(ONE, ONE).keys() - {"bundle_source_uri"}))
    @pytest.mark.parametrize("null", [False, True])
    def test_what_is_required_to_stage(self, env, field, null):
        body = stage(ONE, ONE)
        body[field] = None
        if not null:
            del body[field]
        refused(env.ask("POST", f"{ENV}/revisions", body), 400, "invalid-request")

    @pytest.mark.parametrize("value", [-1, 1.5, "1", 2**32, True, 1e3, None])
    def test_integers(self, env, value):
        deployment = deployed(env)
        refused(
            env.ask("POST", f"{ENV}/revisions", stage(deployment, ONE, drain_seconds=value)), 400, "invalid-request"
        )
        body = split(deployment, one=10_000)
        body["entries"][0]["weight_bps"] = value
        refused(env.ask("POST", f"{ENV}/traffic", body), 400, "invalid-request")

    def test_lists_with_a_default_accept_absence_and_not_null(self, env):
        ok(env.ask("POST", f"{ENV}/trust-root/bootstrap"))
        refused(env.ask("POST", f"{ENV}/bundles", bundle(config_overrides=None)), 400, "invalid-request")
        ok(env.ask("POST", f"{ENV}/bundles", bundle(route_binding=None, authorization_ref=None)))

    @pytest.mark.parametrize("share", [[], [("a", 9_999)], [("a", 10_001)], [("a", 2**32 - 1), ("b", 10_001)]])
    def test_shares_sum_to_the_whole(self, env, share):
        ok(env.ask("POST", f"{ENV}/trust-root/bootstrap"))
        shares = [{"party_id": party, "basis_points": points} for party, points in share]
        refused(env.ask("POST", f"{ENV}/bundles", bundle(revenue_share=shares)), 400, "invalid-request")

    @pytest.mark.parametrize("name", ["", "a b", "ä", "a/b", "..", ".", "x" * 129, 7, None])
    def test_environments_that_cannot_be(self, env, name):
        body = {"env_id": name, "name": "n", "host_config": {"env_id": "x"}}
        refused(env.ask("POST", "/environments", body), 400, "invalid-request")

    @pytest.mark.parametrize(
        "url", ["ftp://x", "https://", "https://u@h", "https://h/p", "https://h?q", "h", "http://a b"]
    )
    def test_public_urls(self, env, url):
        refused(env.ask("PATCH", ENV, {"public_base_url": {"value": url}}), 400, "invalid-request")

    def test_blank_names_are_legal(self, env):
        ok(env.ask("PATCH", ENV, {"name": ""}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
SEGMENT = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/?#"), max_size=30)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_that_is_sent_is_a_defect(env, data):
    verb = data.draw(st.sampled_from(VERBS))
    route = verb.route if verb.route is not None and data.draw(st.booleans()) else None
    template = verb.path if route is None else route.path
    segments = {
        "{environment_id}": data.draw(st.just("local") | SEGMENT),
        "{revision_id}": data.draw(st.just(ONE) | SEGMENT),
        "{deployment_id}": data.draw(st.just(ONE) | SEGMENT),
        "{endpoint_id}": data.draw(st.just(ONE) | SEGMENT),
        "{slot}": data.draw(st.just("secrets") | SEGMENT),
        "{key_id}": data.draw(st.just("0" * 32) | SEGMENT),
    }
    for name, value in segments.items():
        template = template.replace(name, value)
    bodies = st.sampled_from([stage(ONE, ONE), bundle(), binding(), split(ONE, one=10_000), warm(ONE)])
    body = data.draw(JSON | bodies)
    if isinstance(body, dict) and body and data.draw(st.booleans()):
        body = {**body, data.draw(st.sampled_from(sorted(body))): data.draw(JSON)}
    headers = data.draw(
        st.dictionaries(
            st.sampled_from(["if-match", "if-generation-match", "prefer", "authorization", "accept"]),
            st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=80),
            max_size=2,
        )
    )
    try:
        told = raw(env, template, json.dumps(body), method="POST" if route is None else route.method, **headers)
    except httpx2.InvalidURL:
        return
    assert told.status_code < 500 or told.status_code == 501, (template, body, told.text)
    if told.status_code >= 400:
        assert isinstance(told.json()["kind"], str)
