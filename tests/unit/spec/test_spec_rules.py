"""Every rule of an environment is broken once, alone, and found under its name at its place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tests.property.strategies import Scene, reference_environment

from greentic.spec import rules
from greentic.spec.environment import Environment
from greentic.spec.errors import SpecViolation
from greentic.spec.parsing import parse
from greentic.spec.touched_rules import broken_by

Document = dict[str, Any]
OTHER = "01J0000000000000000000000X"


def sound() -> Document:
    """A reference environment with a second deployment, made by real commands, that has history and overrides."""
    scene = Scene()
    scene.current = parse(Environment, reference_environment(), "it")
    deployment = scene.deploy("web", "globex", route_binding={"hosts": ["a.example"], "path_prefixes": ["/a", "/b"]})
    old, new = scene.ready(deployment, 2)
    scene.dial(deployment, {old: 10_000})
    scene.dial(deployment, {old: 9_000, new: 1_000})
    scene.do("bundles update", deployment_id=deployment, config_overrides={"hello": {"a": 1}})
    return scene.environment.to_json()


SOUND = sound()


def found(document: Document) -> list[tuple[str, str]]:
    return [(one.rule, one.path) for one in rules.violations(parse(Environment, document, "it"))]


def test_the_sound_one_breaks_no_rule() -> None:
    assert found(SOUND) == []


def change(path: str, value: Any) -> Callable[[Document], None]:
    def apply(document: Document) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        target: Any = document
        for part in parents:
            target = target[part]
        if value is TWICE:
            target.append(copy.deepcopy(target[last]))
        else:
            target[last] = value(target[last]) if callable(value) else value

    return apply


TWICE = object()
CASES: list[tuple[str, Any, str, str]] = [
    ("host_config.env_id", "other", "EnvIdMismatch", "host_config"),
    ("credentials_ref", "secret://other/x", "CrossEnvRef", "credentials_ref"),
    ("packs.0.slot", "messaging", "NotPackSlot", "packs.0.slot"),
    ("packs.0", TWICE, "DuplicateCapabilitySlot", "packs"),
    ("revisions.0", TWICE, "DuplicateRevision", "revisions"),
    ("revisions.0.env_id", "other", "EnvIdMismatch", "revisions.0.env_id"),
    ("revisions.0.deployment_id", OTHER, "UnknownDeployment", "revisions.0.deployment_id"),
    ("revisions.0.bundle_id", "other", "BundleRevisionWrongBundle", "revisions.0.bundle_id"),
    ("revisions.2.sequence", 1, "DuplicateSequence", "revisions.2.sequence"),
    ("bundles.1", TWICE, "DuplicateDeployment", "bundles"),
    ("bundles.1.env_id", "other", "EnvIdMismatch", "bundles.1.env_id"),
    ("bundles.1.revenue_share.0.basis_points", 9_999, "BasisPointsSum", "bundles.1.revenue_share"),
    (
        "bundles.1.revenue_share",
        [{"party_id": "a", "basis_points": 4_000}, {"party_id": "a", "basis_points": 6_000}],
        "DuplicateParty",
        "bundles.1.revenue_share",
    ),
    ("bundles.1.revenue_share", [], "BasisPointsSum", "bundles.1.revenue_share"),
    ("bundles.1.current_revisions", [OTHER], "UnknownRevision", "bundles.1.current_revisions"),
    (
        "bundles.1.current_revisions",
        [SOUND["revisions"][0]["revision_id"]],
        "BundleRevisionWrongDeployment",
        "bundles.1.current_revisions",
    ),
    ("bundles.1.config_overrides", {"no": {}}, "ConfigOverridePackNotInRevisions", "bundles.1.config_overrides"),
    ("bundles.1.config_overrides", {"hello": {"": 1}}, "ConfigOverrideEmptyKey", "bundles.1.config_overrides.hello"),
    (
        "bundles.1.config_overrides",
        {"hello": {str(number): 1 for number in range(65)}},
        "ConfigOverridesTooManyKeysForPack",
        "bundles.1.config_overrides.hello",
    ),
    (
        "bundles.1.config_overrides",
        {"hello": {"a": "é" * 9_000}},
        "ConfigOverridesTooLarge",
        "bundles.1.config_overrides",
    ),
    (
        "bundles.1.route_binding.path_prefixes",
        ["/x", "/x/"],
        "DuplicatePathPrefix",
        "bundles.1.route_binding.path_prefixes",
    ),
    ("bundles.1.route_binding.hosts", ["A.example", "a.example.:80"], "DuplicateHost", "bundles.1.route_binding.hosts"),
    ("traffic_splits.0", TWICE, "DuplicateSplit", "traffic_splits"),
    ("traffic_splits.0.env_id", "other", "EnvIdMismatch", "traffic_splits.0.env_id"),
    ("traffic_splits.0.deployment_id", OTHER, "UnknownDeployment", "traffic_splits.0.deployment_id"),
    ("traffic_splits.0.bundle_id", "other", "SplitDeploymentBundleMismatch", "traffic_splits.0.bundle_id"),
    ("traffic_splits.0.entries.0.revision_id", OTHER, "UnknownRevision", "traffic_splits.0.entries.0"),
    (
        "traffic_splits.0.entries.0.revision_id",
        SOUND["revisions"][1]["revision_id"],
        "SplitRevisionWrongDeployment",
        "traffic_splits.0.entries.0",
    ),
    ("traffic_splits.0.entries", [], "BasisPointsSum", "traffic_splits.0.entries"),
    ("traffic_splits.0.entries.0.weight_bps", 9_999, "BasisPointsSum", "traffic_splits.0.entries"),
    (
        "traffic_splits.0.entries",
        [{"revision_id": SOUND["revisions"][0]["revision_id"], "weight_bps": 5_000}] * 2,
        "DuplicateSplitEntry",
        "traffic_splits.0.entries",
    ),
    ("traffic_splits.1.slots", [[9_000, 1], [1_000, 0]], "SlotTable", "traffic_splits.1.slots"),
    ("traffic_splits.1.slots", [[9_000, 0], [1_000, 7]], "SlotTable", "traffic_splits.1.slots"),
    ("traffic_splits.1.slots", [[9_000, 0]], "SlotTable", "traffic_splits.1.slots"),
    ("split_history.0.slots", [[10_000, 1]], "SlotTable", "split_history.0.slots"),
    ("split_history.0.env_id", "other", "EnvIdMismatch", "split_history.0.env_id"),
    ("split_history.0.deployment_id", OTHER, "UnknownDeployment", "split_history.0.deployment_id"),
    ("split_history.0.generation", 1, "HistoryOrder", "split_history.0.generation"),
    ("split_history.0", TWICE, "DuplicateGeneration", "split_history"),
    ("messaging_endpoints.0.env_id", "other", "EnvIdMismatch", "messaging_endpoints.0.env_id"),
    ("messaging_endpoints.0.provider_id", " ", "EmptyMessagingProviderId", "messaging_endpoints.0.provider_id"),
    ("messaging_endpoints.0.provider_type", "", "EmptyMessagingProviderType", "messaging_endpoints.0.provider_type"),
    ("messaging_endpoints.0.secret_refs", ["secret://other/x"], "CrossEnvRef", "messaging_endpoints.0.secret_refs"),
    ("messaging_endpoints.0.webhook_secret_ref", "secret://other", "CrossEnvRef", "messaging_endpoints.0.secret_refs"),
    (
        "messaging_endpoints.0.linked_bundles",
        ["helpdesk", "none"],
        "MessagingEndpointBundleNotLinked",
        "messaging_endpoints.0.linked_bundles",
    ),
    (
        "messaging_endpoints.0.welcome_flow.bundle_id",
        "web",
        "WelcomeFlowBundleNotLinked",
        "messaging_endpoints.0.welcome_flow.bundle_id",
    ),
    (
        "messaging_endpoints.0.welcome_flow.flow_id",
        "\t",
        "EmptyWelcomeFlowId",
        "messaging_endpoints.0.welcome_flow.flow_id",
    ),
    ("extensions.0", TWICE, "DuplicateExtension", "extensions"),
]


@pytest.mark.parametrize(("path", "value", "rule", "place"), CASES, ids=[f"{case[2]} {case[0]}" for case in CASES])
def test_a_broken_rule_is_found_at_its_place(path: str, value: Any, rule: str, place: str) -> None:
    document = copy.deepcopy(SOUND)
    change(path, value)(document)
    assert (rule, place) in found(document)
    with pytest.raises(SpecViolation) as refusal:
        rules.check(parse(Environment, document, "it"))
    assert {"rule": rule, "path": place} in [
        {"rule": one["rule"], "path": one["path"]} for one in refusal.value.details["violations"]
    ]


def test_too_many_packs_and_an_empty_pack() -> None:
    document = copy.deepcopy(SOUND)
    document["revisions"] = document["revisions"][:1]
    document["traffic_splits"], document["split_history"] = document["traffic_splits"][:1], []
    document["bundles"][1]["current_revisions"] = []
    document["bundles"][1]["config_overrides"] = {str(number): {} for number in range(32)} | {"": {}}
    assert {rule for rule, _ in found(document)} == {"ConfigOverridesTooManyPacks", "ConfigOverrideEmptyPackId"}


def test_the_same_bundle_twice_for_one_customer() -> None:
    document = copy.deepcopy(SOUND)
    twin = document["bundles"][0] | {"deployment_id": OTHER, "route_binding": {"path_prefixes": ["/other"]}}
    document["bundles"].append(twin)
    assert found(document) == [("AlreadyDeployed", "bundles")]
    twin["customer_id"] = "another"
    assert found(document) == []


def test_two_endpoints_of_one_provider() -> None:
    document = copy.deepcopy(SOUND)
    document["messaging_endpoints"].append(document["messaging_endpoints"][0] | {"endpoint_id": OTHER})
    assert found(document) == [("DuplicateProviderInstance", "messaging_endpoints")]


def routed(*bindings: tuple[list[str], list[str], str]) -> list[str]:
    scene = Scene().create()
    document = scene.environment.to_json()
    scene.deploy()
    base = scene.environment.bundles[0].to_json()
    document["bundles"] = [
        base
        | {
            "deployment_id": scene.mint(),
            "customer_id": f"c{number}",
            "status": status,
            "route_binding": {"hosts": hosts, "path_prefixes": prefixes},
        }
        for number, (hosts, prefixes, status) in enumerate(bindings)
    ]
    return [f"{rule} {path}" for rule, path in found(document)]


OVERLAP = ["OverlappingRoute bundles.1.route_binding"]


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (([], []), ([], []), True),
        (([], []), ([], ["/"]), True),
        (([], ["/a"]), ([], ["/a/"]), True),
        (([], ["/a"]), ([], ["/A"]), False),
        (([], ["/a"]), ([], ["/a/b"]), False),
        (([], ["/a", "/b"]), ([], ["/c", "/b"]), True),
        ((["a.example"], []), ([], []), False),
        ((["a.example"], []), (["A.EXAMPLE:8080"], ["/"]), True),
        ((["a.example"], []), (["a.example."], []), True),
        ((["a.example"], []), (["b.example"], []), False),
        ((["[::1]"], []), (["[::1]:80"], []), True),
        ((["10.0.0.1"], []), (["10.0.0.1:80"], []), True),
    ],
)
def test_overlapping_routes(
    one: tuple[list[str], list[str]], other: tuple[list[str], list[str]], overlap: bool
) -> None:
    assert routed((*one, "active"), (*other, "active")) == (OVERLAP if overlap else [])
    assert routed((*one, "paused"), (*other, "active")) == (OVERLAP if overlap else []), "a paused one keeps its routes"
    assert routed((*one, "archived"), (*other, "active")) == []


@pytest.mark.parametrize(
    "host", ["a.example", "A-1.Example:80", "localhost", "a.b.", "_dmarc.a", "[::1]", "[2001:db8::1]:8080"]
)
def test_hosts(host: str) -> None:
    assert routed(([host], [], "active")) == []


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "*",
        "*.example",
        "a b",
        "a/b",
        "a,b",
        "a@b",
        "a..b",
        ".a",
        "a.example..",
        "a:",
        "a:x",
        "a:123456",
        "a.example\n",
        "a\x0b",
        "::1",
        "[::1",
        "[:::]",
        "[0:0::1]",
        "[1.2.3.4]",
        "bücher.example",
        "ａ.example",
        "a\u3002b",
        "x" * 64,
        "a." * 127 + "a",
        "-a.example",
        "a.-b",
    ],
)
def test_not_hosts(host: str) -> None:
    assert routed(([host], [], "active")) == ["InvalidHost bundles.0.route_binding.hosts"]


def test_an_international_host_is_told_its_wire_form() -> None:
    scene = Scene().create()
    with pytest.raises(SpecViolation, match=r"xn--bcher-kva\.example"):
        scene.deploy(route_binding={"hosts": ["bücher.example"]})


@pytest.mark.parametrize("prefix", ["/", "/a", "/a/", "/a/b.c/d~e", "/a=b;c,d", "/.well-known", "/..a"])
def test_prefixes(prefix: str) -> None:
    assert routed(([], [prefix], "active")) == []


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "a",
        "//",
        "/a//b",
        "/..",
        "/a/../b",
        "/.",
        "/a/./b",
        "/a b",
        "/a?b",
        "/a#b",
        "/a%2fb",
        "/a\\b",
        "/a\n",
        "/é",
        "/a\x00",
        "/" + "a" * 1_024,
        "*",
        "/*",
    ],
)
def test_not_prefixes(prefix: str) -> None:
    assert routed(([], [prefix], "active")) == ["InvalidPathPrefix bundles.0.route_binding.path_prefixes"]


def test_a_broken_environment_can_be_mended_but_not_broken_further() -> None:
    document = copy.deepcopy(SOUND)
    document["bundles"][1]["route_binding"] = document["bundles"][0]["route_binding"]
    broken = parse(Environment, document, "it")
    assert [one.rule for one in broken_by(None, broken)] == ["OverlappingRoute"]
    assert broken_by(broken, broken) == []
    scene = Scene()
    scene.current = broken
    second = document["bundles"][1]["deployment_id"]
    scene.do("env update", name="other")
    with pytest.raises(SpecViolation) as refusal:
        scene.deploy("third", route_binding={"path_prefixes": ["/help"]})
    assert refusal.value.rule == "OverlappingRoute"
    scene.do("bundles update", deployment_id=second, route_binding={"path_prefixes": ["/mended"]})
    assert list(rules.violations(scene.environment)) == []
