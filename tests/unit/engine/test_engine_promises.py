"""What becomes of visitors' pins when the dial moves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.strategies import Scene

from greentic.engine import promises
from greentic.spec.errors import Conflict
from greentic.spec.identifiers import seconds_after, unix_seconds
from greentic.spec.traffic import PinPolicy, SplitEntry


@pytest.fixture
def scene() -> Scene:
    return Scene().create()


def move(scene: Scene, deployment: str, shares: dict[str, int], pins: dict[str, Any] | None = None) -> None:
    entries = [{"revision_id": revision, "weight_bps": weight} for revision, weight in shares.items()]
    asked = {} if pins is None else {"pins": pins}
    scene.do("traffic set", deployment_id=deployment, entries=entries, updated_by="ops", **asked)


def entries(scene: Scene, deployment: str) -> dict[str, SplitEntry]:
    split = scene.environment.split(deployment)
    assert split is not None
    return {entry.revision_id: entry for entry in split.entries}


HONOUR, EVICT, GRACE = {"mode": "honour"}, {"mode": "evict"}, {"mode": "grace", "grace_seconds": 300}


def test_without_a_word_a_share_that_goes_on_keeps_its_pins_and_one_that_ends_does_not(scene: Scene) -> None:
    deployment = scene.deploy()
    old, new, other = scene.ready(deployment, 3)
    move(scene, deployment, {old: 5_000, new: 5_000})
    move(scene, deployment, {new: 1, other: 9_999})
    found = entries(scene, deployment)
    assert list(found) == [new, other]
    assert (found[new].since, found[new].honour_until) == (0, None)
    assert (found[other].since, found[other].honour_until) == (1, None)


def test_honoured_pins_of_a_revision_that_leaves_live_as_long_as_a_pin_can(scene: Scene) -> None:
    deployment = scene.deploy()
    old, new = scene.ready(deployment, 2)
    scene.do("env update", name="x")
    move(scene, deployment, {old: 5_000, new: 5_000})
    move(scene, deployment, {new: 10_000}, HONOUR)
    split = scene.environment.split(deployment)
    found = entries(scene, deployment)
    assert (found[old].weight_bps, found[old].since) == (0, None)
    assert found[old].honour_until == seconds_after(split.updated_at, 3_600)
    assert (found[new].since, found[new].honour_until) == (0, None)
    assert scene.environment.deployment(deployment).current_revisions == (new,)
    assert split.pins == PinPolicy(mode="honour")


def test_a_promise_outlasts_later_moves_and_a_return(scene: Scene) -> None:
    deployment = scene.deploy()
    old, new, other = scene.ready(deployment, 3)
    move(scene, deployment, {old: 10_000})
    move(scene, deployment, {new: 10_000}, HONOUR)
    until = entries(scene, deployment)[old].honour_until
    move(scene, deployment, {other: 10_000})
    assert entries(scene, deployment)[old].honour_until == until
    move(scene, deployment, {old: 10_000}, HONOUR)
    back = entries(scene, deployment)[old]
    assert (back.since, back.honour_until) == (3, until)


def test_an_eviction_ends_every_pin_and_every_promise(scene: Scene) -> None:
    deployment = scene.deploy()
    old, new = scene.ready(deployment, 2)
    move(scene, deployment, {old: 10_000})
    move(scene, deployment, {new: 10_000}, HONOUR)
    move(scene, deployment, {new: 10_000}, EVICT)
    found = entries(scene, deployment)
    assert list(found) == [new]
    assert (found[new].since, found[new].honour_until) == (2, None)


def test_a_grace_keeps_every_pin_for_a_while_and_then_ends_it(scene: Scene) -> None:
    deployment = scene.deploy()
    old, new, gone = scene.ready(deployment, 3)
    move(scene, deployment, {gone: 10_000})
    move(scene, deployment, {old: 5_000, new: 5_000}, HONOUR)
    move(scene, deployment, {new: 10_000}, GRACE)
    split = scene.environment.split(deployment)
    end = seconds_after(split.updated_at, 300)
    found = entries(scene, deployment)
    assert (found[new].since, found[new].honour_until) == (2, end)
    assert (found[old].weight_bps, found[old].honour_until) == (0, end)
    assert found[gone].honour_until == end, "an older promise is shortened"


def test_a_rollback_takes_the_same_words(scene: Scene) -> None:
    deployment = scene.deploy()
    old, new = scene.ready(deployment, 2)
    move(scene, deployment, {old: 10_000})
    move(scene, deployment, {new: 10_000})
    scene.do("traffic rollback", deployment_id=deployment, updated_by="ops", pins=HONOUR)
    found = entries(scene, deployment)
    assert (found[old].weight_bps, found[old].since, found[new].weight_bps) == (10_000, 2, 0)
    assert found[new].honour_until is not None
    scene.do("traffic rollback", deployment_id=deployment, updated_by="ops", pins=EVICT)
    assert {name: (one.weight_bps, one.since) for name, one in entries(scene, deployment).items()} == {new: (10_000, 3)}


def test_a_revision_with_honoured_pins_is_drained_before_it_is_archived(scene: Scene) -> None:
    deployment = scene.deploy()
    old, new = scene.ready(deployment, 2)
    move(scene, deployment, {old: 10_000})
    move(scene, deployment, {new: 10_000}, HONOUR)
    with pytest.raises(Conflict, match="are honoured until") as refusal:
        scene.do("revisions archive", revision_id=old)
    assert "gtc op revisions drain web v1" in str(refusal.value.next_step)
    scene.do("revisions drain", revision_id=old)
    assert entries(scene, deployment)[old].honour_until is not None, "the router has to honour them while it drains"
    with pytest.raises(Conflict, match="are honoured until"):
        scene.do("revisions archive", revision_id=old)
    scene.do("revisions complete-drain", revision_id=old)
    assert old not in entries(scene, deployment)
    scene.do("revisions archive", revision_id=old)


def test_what_is_not_reachable_any_more_is_not_carried_on(scene: Scene) -> None:
    deployment = scene.deploy()
    old, new = scene.ready(deployment, 2)
    move(scene, deployment, {old: 10_000})
    move(scene, deployment, {new: 10_000}, HONOUR)
    scene.do("revisions drain", revision_id=old)
    scene.do("revisions complete-drain", revision_id=old)
    move(scene, deployment, {new: 10_000}, HONOUR)
    assert list(entries(scene, deployment)) == [new]


def test_the_same_key_with_other_words_for_pins_is_another_request(scene: Scene) -> None:
    deployment = scene.deploy()
    (only,) = scene.ready(deployment)
    share = [{"revision_id": only, "weight_bps": 10_000}]
    scene.do("traffic set", "k", deployment_id=deployment, entries=share, updated_by="ops", pins=EVICT)
    again = scene.do("traffic set", "k", deployment_id=deployment, entries=share, updated_by="ops", pins=EVICT)
    assert not again.changed
    with pytest.raises(Conflict, match="already moved"):
        scene.do("traffic set", "k", deployment_id=deployment, entries=share, updated_by="ops")


@pytest.mark.parametrize("wrong", [{"mode": "grace"}, {"mode": "evict", "grace_seconds": 3}, {"mode": "forget"}])
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        PinPolicy.model_validate(wrong)


@pytest.mark.parametrize("promise", [HONOUR, GRACE])
def test_what_has_ended_is_never_promised_again(scene: Scene, promise: dict[str, Any]) -> None:
    deployment = scene.deploy()
    old, new = scene.ready(deployment, 2)
    move(scene, deployment, {old: 10_000})
    move(scene, deployment, {old: 5_000, new: 5_000}, EVICT)
    move(scene, deployment, {new: 10_000}, promise)
    found = entries(scene, deployment)[old]
    assert found.honour_until is not None
    assert found.honour_since == 1, "pins of generation 0 were evicted"
    move(scene, deployment, {new: 5_000, old: 5_000})
    assert entries(scene, deployment)[old].honour_since == 1, "as long as the promise runs"
    move(scene, deployment, {new: 10_000}, promise)
    assert entries(scene, deployment)[old].honour_since == 1
    move(scene, deployment, {new: 5_000, old: 5_000}, EVICT)
    assert entries(scene, deployment)[old].honour_since is None


def test_a_share_that_ended_unpromised_has_no_older_pins_to_promise(scene: Scene) -> None:
    deployment = scene.deploy()
    old, new = scene.ready(deployment, 2)
    for shares in ({old: 10_000}, {new: 10_000}, {old: 5_000, new: 5_000}):
        move(scene, deployment, shares)
    move(scene, deployment, {new: 10_000}, HONOUR)
    assert entries(scene, deployment)[old].honour_since == 2


POLICIES = st.sampled_from([None, HONOUR, GRACE, EVICT])


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([(0,), (1,), (0, 1), (1, 2), (0, 1, 2), (2,)]), POLICIES), max_size=12))
def test_only_an_eviction_or_a_grace_takes_a_promise_back(moves: list[tuple[tuple[int, ...], Any]]) -> None:
    scene = Scene().create()
    deployment = scene.deploy()
    made = scene.ready(deployment, 3)
    promised: dict[str, str] = {}
    for named, policy in moves:
        shares = {made[place]: 0 for place in named}
        shares[made[named[0]]] = 10_000 - len(named) + 1
        for place in named[1:]:
            shares[made[place]] = 1
        move(scene, deployment, shares, policy)
        split = scene.environment.split(deployment)
        assert split is not None
        found = {entry.revision_id: entry for entry in split.entries}
        if policy in (None, HONOUR):
            for name, until in promised.items():
                if unix_seconds(until) > unix_seconds(split.updated_at):
                    assert unix_seconds(found[name].honour_until or "1970-01-01T00:00:00Z") >= unix_seconds(until)
        if policy is EVICT:
            assert all(entry.since == split.generation and entry.honour_until is None for entry in split.entries)
        assert all(entry.weight_bps or promises.runs(entry, split.updated_at) for entry in split.entries)
        promised = {entry.revision_id: entry.honour_until for entry in split.entries if entry.honour_until is not None}
