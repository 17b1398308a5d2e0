"""What a change broke is found by looking at what it can have broken, and that is all it broke."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.property.strategies import Scene, rearranged, reference_environment

from greentic.spec import rules
from greentic.spec.element_rules import Violation
from greentic.spec.environment import Environment, SupersededBinding
from greentic.spec.parsing import parse
from greentic.spec.touched_rules import broken_by, keeps


def _environments() -> tuple[Environment, Environment]:
    """Two environments whose every list holds something, the second with an id of its own."""
    scene = Scene()
    scene.current = parse(Environment, reference_environment(), "it")
    deployment = scene.deploy("web", "globex", route_binding={"hosts": ["a.example"], "path_prefixes": ["/a"]})
    old, new = scene.ready(deployment, 2)
    scene.dial(deployment, {old: 10_000})
    scene.dial(deployment, {old: 9_000, new: 1_000})
    scene.dial(deployment, {old: 8_000, new: 2_000})
    scene.do("bundles update", deployment_id=deployment, config_overrides={"hello": {"a": 1}})
    one = scene.environment
    past = [SupersededBinding.model_validate(binding.to_json()) for binding in one.packs]
    one = one.model_copy(update={"binding_history": tuple(past)})
    return one, Environment.model_validate({**one.to_json(), "environment_id": "other"})


ONE, OTHER = _environments()


def _naive(before: Environment, after: Environment) -> Counter[tuple[str, str]]:
    def counted(environment: Environment) -> Counter[tuple[str, str]]:
        return Counter((one.rule, one.message) for one in rules.violations(environment))

    return counted(after) - counted(before)


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_what_is_found_is_what_every_rule_finds(data: st.DataObject) -> None:
    before = data.draw(rearranged(ONE, OTHER))
    after = data.draw(rearranged(before, OTHER))
    if data.draw(st.booleans()):
        after = after.model_copy(update={"host_config": OTHER.host_config, "credentials_ref": "secret://other/key"})
    if data.draw(st.integers(0, 9)) == 0:
        after = after.model_copy(update={"environment_id": "other"})
    found = broken_by(before, after)
    assert Counter((one.rule, one.message) for one in found) == _naive(before, after)
    event(f"broken: {bool(found)}, seen from what was touched: {not keeps(before, after)}")
    everything: list[Violation] = list(rules.violations(after))
    assert all(one in everything for one in found)


class _Watched:
    """An environment that remembers which of its fields were looked at."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self.seen: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.seen.add(name)
        return getattr(self._environment, name)


@pytest.mark.parametrize("place", range(len(rules._RULES)))
@pytest.mark.parametrize(
    "environment", [ONE, ONE.model_copy(update={"environment_id": "other"})], ids=["whole", "broken"]
)
def test_a_rule_looks_at_its_fields_alone(place: int, environment: Environment) -> None:
    find, fields = rules._RULES[place]
    watched = _Watched(environment)
    list(find(cast("Environment", watched)))
    assert watched.seen - {"environment_id"} == set(fields)
