"""What is found by keys, and what is said of a change by what it touched, is what going through everything says."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from collections.abc import Iterator
from itertools import combinations_with_replacement
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.property.strategies import Scene, rearranged, scenes
from tests.property.test_spec_rules_broken import ONE as BASE
from tests.property.test_spec_rules_broken import OTHER, _naive

from greentic.engine.deployments import replace
from greentic.spec import environment as spec
from greentic.spec import touched_rules
from greentic.spec.deployment import DeploymentStatus, RouteBinding
from greentic.spec.environment import Environment
from greentic.spec.indexes import Index
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.revision import PackListEntry
from greentic.spec.spans import span


def _scene() -> Environment:
    """BASE with deployments about which one thing alone can be wrong."""
    scene = Scene()
    scene.current, scene.minted = BASE, 1_000
    for customer in ("globex", "third"):
        scene.deploy("bare", customer)
    scene.deploy("linked", "globex")
    lone = scene.deploy("lone", "globex")
    scene.ready(lone)
    scene.do("bundles update", deployment_id=lone, config_overrides={"hello": {"a": 1}})
    endpoint, *others = scene.environment.messaging_endpoints
    linked = endpoint.model_copy(update={"linked_bundles": (*endpoint.linked_bundles, "linked")})
    return scene.environment.model_copy(update={"messaging_endpoints": (linked, *others)})


ONE = _scene()
INDEXES: dict[str, Index] = {
    name: found for module in (spec, touched_rules) for name, found in vars(module).items() if isinstance(found, Index)
}
IDS = sorted({one.deployment_id for one in BASE.bundles} | {"01J00000000000000000000NEW"})
REVISIONS = sorted({one.revision_id for one in BASE.revisions} | {"01J00000000000000000000REV"})
FIELDS: dict[str, dict[str, list[Any]]] = {
    "bundles": {
        "deployment_id": IDS,
        "bundle_id": ["web", "helpdesk", "bare"],
        "customer_id": ["globex", "local-dev"],
        "status": list(DeploymentStatus),
        "env_id": ["local", "other"],
        "route_binding": [
            RouteBinding(path_prefixes=("/a",)),
            RouteBinding(hosts=("a.example",), path_prefixes=("/a",)),
            RouteBinding(hosts=("a.example",), path_prefixes=("/a", "/a/")),
            RouteBinding(hosts=("*",)),
        ],
        "current_revisions": [(), tuple(REVISIONS[:1]), tuple(REVISIONS)],
        "config_overrides": [{}, {"hello": {"a": 1}}, {"gone": {"a": 1}}],
        "traffic_generation": [0, 7],
    },
    "revisions": {
        "deployment_id": IDS,
        "bundle_id": ["web", "helpdesk"],
        "revision_id": REVISIONS,
        "env_id": ["local", "other"],
        "sequence": [1, 2, 3],
        "lifecycle": list(Lifecycle),
        "pack_list": [(), (PackListEntry(pack_id="another", version="1.0.0", digest="sha256:00"),)],
    },
    "traffic_splits": {
        "deployment_id": IDS,
        "bundle_id": ["web", "helpdesk"],
        "generation": [0, 1, 2],
        "slots": [(), ((10_000, 1),)],
        "env_id": ["local", "other"],
    },
    "split_history": {
        "deployment_id": IDS,
        "bundle_id": ["web", "helpdesk"],
        "generation": [0, 1, 2],
        "env_id": ["local", "other"],
    },
    "messaging_endpoints": {
        "endpoint_id": [one.endpoint_id for one in ONE.messaging_endpoints],
        "linked_bundles": [(), ("web",), ("helpdesk",), ("gone",)],
        "provider_id": ["", "main"],
    },
}


@st.composite
def edited(draw: st.DrawFn, environment: Environment) -> Environment:
    """`environment` with a few elements changed in one field, copied, moved or taken out."""
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(sorted(FIELDS)))
        elements = list(getattr(environment, name))
        if elements:
            place = draw(st.integers(0, len(elements) - 1))
            field = draw(st.sampled_from(sorted(FIELDS[name])))
            fresh = elements[place].model_copy(update={field: draw(st.sampled_from(FIELDS[name][field]))})
            match draw(st.sampled_from(["change", "change", "change", "add", "move", "remove"])):
                case "change":
                    elements[place] = fresh
                case "add":
                    elements.insert(draw(st.integers(0, len(elements))), fresh)
                case "move":
                    elements.insert(draw(st.integers(0, len(elements) - 1)), elements.pop(place))
                case "remove":
                    del elements[place]
        environment = environment.model_copy(update={name: tuple(elements)})
        if draw(st.booleans()):
            look(environment)
    return environment


def look(environment: Environment) -> None:
    """Every index gives what going through the list gives."""
    for index in INDEXES.values():
        wanted: dict[Any, list[Any]] = {}
        for element in getattr(environment, index.field):
            for key in index.keys(element):
                wanted.setdefault(key, []).append(element)
        found = environment.grouped(index)
        assert {key: [id(one) for one in group] for key, group in found.items()} == {
            key: [id(one) for one in group] for key, group in wanted.items()
        }


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_indexes_say_what_the_lists_say(data: st.DataObject) -> None:
    old = data.draw(st.one_of(st.just(ONE), rearranged(ONE, OTHER)))
    look(old)
    new = data.draw(st.one_of(edited(old), rearranged(old, OTHER)))
    look(new)
    look(old)
    assert new == Environment.model_construct(**dict(new)), "indexes are no part of a document"
    look(copy.deepcopy(new))
    look(pickle.loads(pickle.dumps(new)))


@given(st.data())
@settings(deadline=None, max_examples=500)
def test_what_touched_elements_keep_is_kept(data: st.DataObject) -> None:
    before = data.draw(edited(data.draw(edited(ONE))))
    after = data.draw(edited(before))
    whole = _naive(before, after)
    kept = touched_rules.keeps(before, after)
    event(f"kept: {kept}, broken: {bool(whole)}, broken before: {bool(_naive(ONE, before))}")
    assert not (kept and whole)
    assert Counter((one.rule, one.message) for one in touched_rules.broken_by(before, after)) == whole


def variants() -> Iterator[Environment]:
    """ONE with one element changed in one or two fields, or taken out."""
    for name, fields in FIELDS.items():
        elements = getattr(ONE, name)
        values = [{field: value} for field, choices in fields.items() for value in choices]
        for place, element in enumerate(elements):
            yield ONE.model_copy(update={name: (*elements[:place], *elements[place + 1 :])})
            for one, other in combinations_with_replacement(values, 2):
                fresh = element.model_copy(update={**one, **other})
                yield ONE.model_copy(update={name: (*elements[:place], fresh, *elements[place + 1 :])})


def test_whatever_one_element_breaks_is_seen() -> None:
    broken: Counter[str] = Counter()
    for changed in variants():
        found = _naive(ONE, changed)
        broken.update({rule for rule, _ in found})
        assert not (found and touched_rules.keeps(ONE, changed)), found
    assert broken.keys() >= {
        "AlreadyDeployed",
        "BundleRevisionWrongBundle",
        "BundleRevisionWrongDeployment",
        "ConfigOverridePackNotInRevisions",
        "DuplicateDeployment",
        "DuplicateGeneration",
        "DuplicateRevision",
        "DuplicateSequence",
        "EnvIdMismatch",
        "HistoryOrder",
        "MessagingEndpointBundleNotLinked",
        "OverlappingRoute",
        "SlotTable",
        "SplitDeploymentBundleMismatch",
        "SplitRevisionWrongBundle",
        "SplitRevisionWrongDeployment",
        "UnknownDeployment",
        "UnknownRevision",
    }, "the variants are rich enough to show it"


@given(scenes())
@settings(deadline=None, max_examples=30)
def test_what_verbs_do_is_known_to_keep_the_rules(scene: Any) -> None:
    before = scene.environment
    deployment, *_ = before.bundles
    assert touched_rules.keeps(before, before)
    for changed in (
        before.model_copy(update={"name": "another"}),
        replace(before, deployment.model_copy(update={"traffic_generation": 1_000})),
    ):
        assert touched_rules.keeps(before, changed)
    for verb in (
        lambda: scene.dial(deployment.deployment_id, {scene.ready(deployment.deployment_id)[0]: 10_000}),
        lambda: scene.clear(deployment.deployment_id),
        lambda: scene.deploy("a-new-one"),
        lambda: scene.do(
            "bundles update", deployment_id=deployment.deployment_id, config_overrides={"hello": {"a": 1}}
        ),
        lambda: scene.stage(deployment.deployment_id),
    ):
        if deployment.status is not DeploymentStatus.ARCHIVED:
            earlier = scene.environment
            verb()
            assert touched_rules.keeps(earlier, scene.environment)


@given(st.lists(st.integers(0, 5), max_size=600), st.lists(st.integers(0, 5), max_size=600))
def test_a_span_is_the_same_on_both_sides(one: list[int], other: list[int]) -> None:
    head, tail = span(one, other)
    assert one[:head] == other[:head]
    assert one[len(one) - tail :] == other[len(other) - tail :]
    assert head + tail <= min(len(one), len(other))
    if head < min(len(one), len(other)):
        assert one[head] != other[head]
        assert head + tail == min(len(one), len(other)) or one[-tail - 1] != other[-tail - 1]
