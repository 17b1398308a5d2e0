"""Every rule of a manifest (reference 01, section 5.1), and where its problems are said to be."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from greentic.spec.errors import SpecViolation
from greentic.spec.manifest import read
from greentic.spec.manifest_text import MAX_BYTES, read_text

SHA = "sha256:" + "0" * 64
BASE: dict[str, Any] = {
    "schema": "greentic.env-manifest.v1",
    "environment": {
        "id": "local",
        "name": "Workbench",
        "region": "eu-1",
        "tenant_org_id": "demo",
        "listen_addr": "127.0.0.1:8080",
        "public_base_url": "https://bots.example.test",
        "gui_enabled": True,
    },
    "trust_root": "bootstrap",
    "packs": [
        {"slot": "deployer", "kind": "greentic.deployer.k8s@1.0.0", "pack_ref": "builtin", "answers": {"a": 1}},
        {"slot": "telemetry", "kind": "greentic.telemetry.stdout@0.1.0", "pack_ref": "builtin"},
    ],
    "secrets": [{"path": "/default/default/messaging-telegram/token", "from_env": "TG_TOKEN"}],
    "bundles": [
        {
            "bundle_id": "helpdesk",
            "customer_id": "cust-a",
            "status": "active",
            "revisions": [
                {"name": "stable", "bundle_path": "1.gtbundle", "weight_percent": 90, "bundle_digest": SHA},
                {"name": "canary", "bundle_path": "2.gtbundle", "weight_bps": 1000, "drain_seconds": 60},
            ],
            "route_binding": {
                "hosts": ["bots.example.test"],
                "path_prefixes": ["/help"],
                "tenant_selector": {"tenant": "demo", "team": "support"},
            },
            "revenue_share": [
                {"party_id": "greentic", "basis_points": 8000},
                {"party_id": "partner", "basis_points": 2000},
            ],
            "config_overrides": {"messaging-telegram": {"poll_seconds": 5}},
        },
        {"bundle_id": "faq", "bundle_source_uri": "oci://example/faq", "route_binding": {"path_prefixes": ["/faq"]}},
    ],
    "extensions": [{"kind": "demo.directory.ldap@1.0.0", "pack_ref": "builtin", "instance_id": "primary"}],
    "messaging_endpoints": [
        {
            "name": "help-bot",
            "provider_type": "messaging.telegram.bot",
            "links": ["helpdesk"],
            "welcome_flow": {"bundle_id": "helpdesk", "pack_id": "hello", "flow_id": "main"},
            "secret_refs": ["secret://local/default/_/messaging-telegram/token"],
        }
    ],
    "updates": {"enabled": True, "on_notify": "stage", "poll_interval_secs": 3600, "trust_did": None},
    "cluster": {"provider": "kind", "name": "dev", "load_images": ["a:1"]},
}


def refused(document: Any) -> list[tuple[str, str]]:
    with pytest.raises(SpecViolation) as caught:
        read(json.dumps(document).encode(), "env.json")
    return [(one["path"], one["message"]) for one in caught.value.details["problems"]]


def changed(path: str, value: Any) -> dict[str, Any]:
    """BASE with the part at `path` replaced; `…` takes it out."""
    document = copy.deepcopy(BASE)
    part: Any = document
    *way, last = (int(step) if step.isdigit() else step for step in path.split("."))
    for step in way:
        part = part[step]
    if value is ...:
        del part[last]
    elif isinstance(part, list) and last == len(part):
        part.append(value)
    else:
        part[last] = value
    return document


def test_the_example_of_the_reference_is_read() -> None:
    manifest = read(json.dumps(BASE).encode(), "env.json")
    assert manifest.bundles[0].weights == (9000, 1000)
    assert manifest.bundles[1].weights == (10_000,)
    assert manifest.secrets[0].path == "default/_/messaging-telegram/token"
    assert manifest.environment.public_base_url == "https://bots.example.test"


@pytest.mark.parametrize(
    ("path", "value", "place", "words"),
    [
        ("schema", "greentic.env-manifest.v2", "schema", "v1"),
        ("schema", ..., "schema", "required"),
        ("environment", ..., "environment", "required"),
        ("environment.id", ..., "environment.id", "required"),
        ("environment.id", " ", "environment.id", "environment id"),
        ("environment.id", "../x", "environment.id", "environment id"),
        ("environment.name", "  ", "environment.name", "blank"),
        ("environment.listen_addr", "8080", "environment.listen_addr", "ip:port"),
        ("environment.public_base_url", "https://a.test/x", "environment.public_base_url", "path"),
        ("environment.gui_enabled", "yes", "environment.gui_enabled", "true or false"),
        ("environment.colour", "red", "environment.colour", "known key"),
        ("trust_root", "other", "trust_root", "bootstrap"),
        ("colour", "red", "colour", "known key"),
        ("secrets.0.path", "a/b/c", "secrets.0.path", "four parts"),
        ("secrets.0.path", "a/_/c/D-x", "secrets.0.path", "a-z"),
        ("secrets.0.from_env", " ", "secrets.0.from_env", "blank"),
        ("secrets.1", {"path": "default/_/messaging-telegram/token"}, "secrets.1.path", "twice"),
        ("secrets.0.value", "hunter2", "secrets.0.value", "known key"),
        ("packs.0.slot", "engine", "packs.0.slot", "deployer"),
        ("packs.0.slot", "messaging", "packs.0.slot", "messaging_endpoints"),
        ("packs.1.slot", "deployer", "packs.1.slot", "twice"),
        ("packs.0.kind", "k8s", "packs.0.kind", "version"),
        ("packs.0.pack_ref", "", "packs.0.pack_ref", "blank"),
        ("packs.0.answers_ref", "a.json", "packs.0.answers", "not both"),
        ("packs.0.answers", [1], "packs.0.answers", "object"),
        ("bundles.0.bundle_id", ..., "bundles.0.bundle_id", "required"),
        ("bundles.0.bundle_id", "a b", "bundles.0.bundle_id", "letters"),
        ("bundles.0.bundle_path", "x", "bundles.0.bundle_path", "each of the revisions"),
        ("bundles.0.bundle_digest", SHA, "bundles.0.bundle_digest", "each of the revisions"),
        ("bundles.0.revisions", [], "bundles.0.revisions", "at least one"),
        ("bundles.0.revisions", ..., "bundles.0", "bundle_path"),
        ("bundles.0.revisions.1.name", "stable", "bundles.0.revisions.1.name", "twice"),
        ("bundles.0.revisions.0.bundle_path", ..., "bundles.0.revisions.0.bundle_path", "required"),
        ("bundles.0.revisions.0.weight_bps", 9000, "bundles.0.revisions.0.weight_bps", "not both"),
        ("bundles.0.revisions.0.weight_percent", 80, "bundles.0.revisions", "90%"),
        ("bundles.0.revisions.0.weight_percent", ..., "bundles.0.revisions.0", "no weight"),
        ("bundles.0.revisions.0.weight_percent", 1e30, "bundles.0.revisions.0.weight_percent", "share"),
        ("bundles.0.revisions.0.weight_percent", 0.001, "bundles.0.revisions.0.weight_percent", "finer"),
        ("bundles.0.revisions.0.weight_percent", True, "bundles.0.revisions.0.weight_percent", "number"),
        ("bundles.0.revisions.0.weight_percent", -1, "bundles.0.revisions.0.weight_percent", "share"),
        ("bundles.0.revisions.1.weight_bps", 10_001, "bundles.0.revisions.1.weight_bps", "10000"),
        ("bundles.0.revisions.0.bundle_digest", "sha256:zz", "bundles.0.revisions.0.bundle_digest", "64"),
        ("bundles.0.revisions.0.bundle_digest", "sha256:" + "A" * 64, "bundles.0.revisions.0.bundle_digest", "lower"),
        ("bundles.0.revisions.1.drain_seconds", -1, "bundles.0.revisions.1.drain_seconds", "0"),
        ("bundles.0.status", "gone", "bundles.0.status", "active"),
        ("bundles.0.revenue_share", [], "bundles.0.revenue_share", "at least one"),
        ("bundles.0.revenue_share.0.basis_points", 1, "bundles.0.revenue_share", "2001"),
        ("bundles.0.revenue_share.0.party_id", "partner", "bundles.0.revenue_share", "two shares"),
        ("bundles.0.config_overrides", {"": {"a": 1}}, "bundles.0.config_overrides", "empty"),
        ("bundles.0.config_overrides", {"a": 1}, "bundles.0.config_overrides.a", "object"),
        ("bundles.0.route_binding.path_prefixes.0", "help", "bundles.0.route_binding.path_prefixes", "begins with"),
        ("bundles.0.route_binding.hosts.0", "*.x", "bundles.0.route_binding.hosts", "wildcards"),
        ("bundles.1.route_binding.path_prefixes.0", "/help/", None, None),
        (
            "bundles.1.route_binding",
            {"hosts": ["BOTS.example.test"], "path_prefixes": ["/help/"]},
            "bundles.1.route_binding",
            "bundles.0",
        ),
        ("bundles.1.route_binding", {"tenant_selector": {"tenant": "a"}}, "bundles.1.route_binding", "at least one"),
        ("bundles.2", {"bundle_id": "faq", "bundle_path": "x"}, "bundles.2.bundle_id", "twice"),
        ("bundles.2", {"bundle_id": "faq", "customer_id": "other", "bundle_path": "x"}, None, None),
        ("extensions.0.instance_id", "A", "extensions.0.instance_id", "a-z"),
        (
            "extensions.1",
            {"kind": "demo.directory.ldap@2.0.0", "pack_ref": "x", "instance_id": "primary"},
            "extensions.1.kind",
            "twice",
        ),
        ("messaging_endpoints.0.name", " ", "messaging_endpoints.0.name", "blank"),
        ("messaging_endpoints.0.provider_type", "", "messaging_endpoints.0.provider_type", "blank"),
        ("messaging_endpoints.0.links.1", "helpdesk", "messaging_endpoints.0.links.1", "twice"),
        ("messaging_endpoints.0.links", [], "messaging_endpoints.0.welcome_flow.bundle_id", "links"),
        ("messaging_endpoints.0.secret_refs.0", "hunter2", "messaging_endpoints.0.secret_refs.0", "secret://"),
        ("messaging_endpoints.1", {"name": "help-bot", "provider_type": "x"}, "messaging_endpoints.1.name", "twice"),
        ("cluster.provider", "k3s", "cluster.provider", "kind"),
        ("cluster.load_images.0", " ", "cluster.load_images.0", "blank"),
        ("updates.poll_interval_secs", 59, "updates.poll_interval_secs", "60"),
        ("updates.on_notify", "explode", "updates.on_notify", "stage"),
        ("updates.plan_endpoint", "http://far.example/x", "updates.plan_endpoint", "https"),
        ("updates.plan_endpoint", "http://127.0.0.1:9/x", None, None),
        ("updates.trust_did", "did:key:x", "updates.trust_did", "did:web"),
        ("updates.trust_did", "did:web:example.com", None, None),
        ("vault_bootstrap", {"deploy": "external"}, "secrets", "not both"),
        ("vault_bootstrap", {"deploy": "cloud"}, "vault_bootstrap.deploy", "external"),
    ],
)
def test_rule(path: str, value: Any, place: str | None, words: str | None) -> None:
    document = changed(path, value)
    if place is None or words is None:
        read(json.dumps(document).encode(), "env.json")
        return
    found = refused(document)
    assert any(where == place and words in message for where, message in found), found
    assert "hunter2" not in json.dumps(found)


def test_all_problems_at_once_in_the_order_of_the_file() -> None:
    text = """\
schema: greentic.env-manifest.v1
environment: {id: local, colour: red}
bundles:
  - bundle_id: web
    bundle_path: a
    bundle_digest: sha256:12
  - bundle_id: web
    revisions:
      - {name: a, bundle_path: x, weight_percent: 10}
"""
    with pytest.raises(SpecViolation) as caught:
        read(text.encode(), "env.yaml")
    places = [(one["line"], one["column"]) for one in caught.value.details["problems"]]
    assert places == [(2, 26), (6, 20), (7, 16), (9, 7)]
    assert caught.value.message.splitlines()[0] == "env.yaml:2:26: environment.colour: is not a known key"


def test_equal_shares_without_weights() -> None:
    revisions = [{"name": str(index), "bundle_path": "x"} for index in range(3)]
    document = {**BASE, "bundles": [{"bundle_id": "web", "revisions": revisions}], "messaging_endpoints": []}
    assert read(json.dumps(document).encode(), "env.json").bundles[0].weights == (3334, 3333, 3333)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2", "2:1: the key 'a' stands twice"),
        ("a: !!python/object:os.system x", "tags"),
        ("a: &x [*x]", "names nothing that ended before it"),
        ("a: [1", "not YAML"),
        ("a: 1\n---\nb: 2", "one document"),
        ("? [a]\n: 1", "plain word"),
        ("a: .nan", "not a number"),
        ("a: 1e999", "too large"),
        ("a: " + "[" * 70 + "]" * 70, "nested deeper"),
        ("a: " + "[" * 5_000, "nested"),
        ("a: &a [" + "1," * 1000 + "1]\nb: &b [" + "*a," * 1000 + "1]", "more than"),
        ("#" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_yaml_that_is_refused(text: str, words: str) -> None:
    with pytest.raises(SpecViolation, match=words.replace("(", r"\(")):
        read_text(text.encode(), "env.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: no", {"a": "no"}),
        ("a: 012", {"a": 12}),
        ("a: 0o17", {"a": 15}),
        ("a: 0x1f", {"a": 31}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: 1.50", {"a": 1.5}),
        ("a: '1'", {"a": "1"}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: 2026-01-01", {"a": "2026-01-01"}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("<<: 1", {"<<": 1}),
        ("\ufeffa: True", {"a": True}),
        ('{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        ("{a: 1, b: x}", {"a": 1, "b": "x"}),
        ("", None),
    ],
)
def test_yaml_that_is_read(text: str, value: Any) -> None:
    assert read_text(text.encode(), "env.yaml").value == value
