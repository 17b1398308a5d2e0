"""The rehearsal of a move says what the move then does."""

from __future__ import annotations

from hypothesis import given
from tests.property.strategies import Scene, weights

from greentic.engine.rehearsal import Fate, Flow, PinFate, fates, flows
from greentic.engine.slots import moved, relayout
from greentic.spec.identifiers import seconds_after


@given(weights(4, zeros=True), weights(4, zeros=True))
def test_the_flows_are_the_slots_that_move(before: list[int], after: list[int]) -> None:
    one = relayout((), list(zip("abcd", before, strict=True)))
    other = relayout(one, list(zip("abcd", after, strict=True)))
    told = flows(one, other)
    assert sum(flow.slots for flow in told) == moved(one, other)
    for index, name in enumerate("abcd"):
        gained = sum(flow.slots for flow in told if flow.taker == name)
        lost = sum(flow.slots for flow in told if flow.giver == name)
        assert gained - lost == after[index] - before[index]


def test_the_first_split_takes_from_nobody() -> None:
    assert flows((), ((10_000, "a"),)) == (Flow(None, "a", 10_000),)


def test_the_fates_of_pins() -> None:
    scene = Scene().create()
    deployment = scene.deploy()
    old, new, other = scene.ready(deployment, 3)

    def move(shares: dict[str, int], **asked: object) -> tuple[PinFate, ...]:
        before = scene.environment.split(deployment)
        entries = [{"revision_id": revision, "weight_bps": weight} for revision, weight in shares.items()]
        scene.do("traffic set", deployment_id=deployment, entries=entries, updated_by="ops", **asked)
        after = scene.environment.split(deployment)
        assert after is not None
        return fates(before, after, after.updated_at)

    def at() -> str:
        split = scene.environment.split(deployment)
        assert split is not None
        return split.updated_at

    assert move({old: 10_000}) == ()
    assert move({old: 5_000, new: 5_000}) == (PinFate(old, Fate.STAY),)
    assert move({new: 10_000}, pins={"mode": "honour"}) == (
        PinFate(old, Fate.UNTIL, until := seconds_after(at(), 3_600)),
        PinFate(new, Fate.STAY),
    )
    assert move({other: 10_000}) == (PinFate(new, Fate.END), PinFate(old, Fate.UNTIL, until))
    assert move({other: 10_000}, pins={"mode": "grace", "grace_seconds": 9}) == (
        PinFate(other, Fate.UNTIL, seconds_after(at(), 9)),
        PinFate(old, Fate.UNTIL, seconds_after(at(), 9)),
    )
    assert {fate.fate for fate in move({other: 10_000}, pins={"mode": "evict"})} == {Fate.END}
