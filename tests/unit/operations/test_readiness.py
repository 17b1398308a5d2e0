"""A share is given only to who can carry it; a short one is told what it can carry, and the next command."""

from __future__ import annotations

import pytest
from tests.property.strategies import Scene

from greentic.envpacks.deployer import Observation, RevisionObservation
from greentic.operations import readiness
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict


def seen(revision_id: str, ready: int | None = None, wanted: int | None = None, state: str = "healthy") -> Observation:
    found = RevisionObservation(revision_id, state, ready_workers=ready, wanted_workers=wanted)
    return Observation(running=True, revisions={revision_id: found})


@pytest.fixture
def scene() -> tuple[Environment, str, str]:
    scene = Scene().create()
    deployment = scene.deploy()
    old, new = scene.ready(deployment, 2)
    scene.dial(deployment, {old: 10_000})
    return scene.environment, old, new


@pytest.mark.parametrize(
    ("ready", "wanted", "capacity"),
    [(None, None, 10_000), (1, 1, 10_000), (0, 1, 0), (2, 4, 5_000), (1, 3, 3_333), (5, 4, 10_000), (0, 0, 0)],
)
def test_what_ready_workers_can_carry(ready: int | None, wanted: int | None, capacity: int) -> None:
    assert RevisionObservation("r", "healthy", ready_workers=ready, wanted_workers=wanted).capacity_bps == capacity


def test_a_share_beyond_the_ready_capacity_is_refused_with_the_numbers(scene: tuple[Environment, str, str]) -> None:
    environment, _, new = scene
    deployment = environment.bundles[0]
    observation = seen(new, 2, 4)
    readiness.refuse(environment, deployment, {new: 5_000}, observation)
    with pytest.raises(Conflict) as refusal:
        readiness.refuse(environment, deployment, {new: 5_001}, observation)
    assert refusal.value.message == "web v2 has 2 of 4 workers ready: it can carry 50% of the traffic, not 50.01%"
    assert refusal.value.next_step == "gtc op traffic set web v2=50% rest=v1"
    assert refusal.value.details["reason"] == "ready-capacity"


def test_who_does_not_answer_is_refused_and_who_gets_nothing_is_not_looked_at(
    scene: tuple[Environment, str, str],
) -> None:
    environment, old, new = scene
    deployment = environment.bundles[0]
    with pytest.raises(Conflict, match="web v2 is recorded ready but its worker is backing-off"):
        readiness.refuse(environment, deployment, {new: 1}, seen(new, 0, 1, "backing-off"))
    with pytest.raises(Conflict, match="its worker is absent"):
        readiness.refuse(environment, deployment, {old: 1}, seen(new))
    readiness.refuse(environment, deployment, {new: 10_000, old: 0}, seen(new))


def test_the_verdict_of_a_rehearsal(scene: tuple[Environment, str, str]) -> None:
    environment, old, new = scene
    assert readiness.verdict(environment, {new: 6_000, old: 4_000}, seen(new, 2, 4)) == [
        {
            "revision_id": new, "name": "v2", "weight_bps": 6_000, "capacity_bps": 5_000, "state": "healthy",
            "enough": False, "ready_workers": 2, "wanted_workers": 4,
        },
        {
            "revision_id": old, "name": "v1", "weight_bps": 4_000, "capacity_bps": 0, "state": "absent",
            "enough": False,
        },
    ]  # fmt: skip
