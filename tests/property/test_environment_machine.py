"""Random verbs over several deployments, against a model that knows what each must do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.property.lives import walk
from tests.property.strategies import Scene, ulid, weights

from greentic.engine.command import Outcome
from greentic.engine.slots import Run, table
from greentic.engine.traffic import HISTORY_DEPTH
from greentic.engine.transition import transition
from greentic.spec import rules
from greentic.spec.deployment import DeploymentStatus
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, GreenticError, NotFound
from greentic.spec.lifecycle import Lifecycle, allows
from greentic.spec.revision import Revision
from greentic.spec.traffic import TrafficSplit
from greentic.spec.verbs import VERBS

REACHED: Counter[str] = Counter()
"""How often each verb changed something; also the special paths that must not be missed."""

ANY = st.integers(0, 1_000)
FROZEN = ("revision_id", "env_id", "bundle_id", "deployment_id", "sequence", "created_at", "bundle_digest", "pack_list")
FROZEN += ("bundle_source_uri", "pack_list_lock_ref", "pack_config_refs", "config_digest", "signature_sidecar_ref")
FROZEN += ("drain_seconds", "display_version")

L = Lifecycle
MOVES: dict[str, dict[Lifecycle, Lifecycle]] = {
    "begin-warm": {L.STAGED: L.WARMING, L.WARMING: L.WARMING, L.READY: L.READY},
    "warm": {L.STAGED: L.READY, L.WARMING: L.READY, L.READY: L.READY},
    "warm, failing": {L.STAGED: L.FAILED, L.WARMING: L.FAILED, L.READY: L.READY},
    "retry": {L.FAILED: L.STAGED, L.INACTIVE: L.STAGED, L.STAGED: L.STAGED},
    "drain": {L.READY: L.DRAINING, L.DRAINING: L.DRAINING, L.INACTIVE: L.INACTIVE},
    "complete-drain": {L.DRAINING: L.INACTIVE, L.INACTIVE: L.INACTIVE},
    "archive": dict.fromkeys(L, L.ARCHIVED),
}
"""Where each verb leads from each state; a state that is missing is refused."""


class Dial:
    """What the model knows of one deployment's traffic."""

    def __init__(self) -> None:
        self.live: int | None = None
        self.newest = -1
        self.shares: dict[int, dict[str, int]] = {}
        self.tables: dict[int, tuple[Run, ...]] = {}
        self.kept: list[int] = []
        self.since: dict[str, int] = {}
        self.last: tuple[dict[str, int], str] | None = None
        self.origin: dict[int, int] = {}
        """By generation of a schedule's step: the one from before the schedule."""

    def retire(self) -> None:
        if self.live is not None:
            self.kept = [*self.kept, self.live][-HISTORY_DEPTH:]
        self.live = None

    def move(self, split: TrafficSplit, shares: dict[str, int]) -> None:
        self.retire()
        assert split.generation == self.newest + 1, "generations grow by one and are never used again"
        self.newest = self.live = split.generation
        self.shares[split.generation] = shares
        self.tables[split.generation] = table(split)
        self.since = {one: self.since.get(one, split.generation) for one in shares}


class EnvironmentMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene()
        self.dials: dict[str, Dial] = {}
        self.frozen: dict[str, Any] = {}
        self.archived: set[str] = set()

    @property
    def environment(self) -> Environment:
        return self.scene.environment

    def deployment(self, pick: int) -> str:
        return list(self.dials)[pick % len(self.dials)]

    def attempt(self, name: str, about: str | None, key: str | None = None, /, **payload: Any) -> Outcome | None:
        """Carry out a verb; None when it is refused. Nothing of any deployment but `about` may change."""
        before = self.scene.current
        try:
            outcome = self.scene.do(name, key, **payload)
        except GreenticError as error:
            refused = error.kind
            outcome = None
        if outcome is None:
            assert refused in {"conflict", "not-found", "invalid-argument"}
            return None
        if before is not None:
            for other in before.bundles:
                if other.deployment_id != about:
                    assert slices(before, other.deployment_id) == slices(outcome.environment, other.deployment_id)
        if outcome.changed:
            REACHED[name] += 1
        else:
            assert outcome.environment is before
        return outcome

    @initialize()
    def create(self) -> None:
        self.attempt("env create", None, environment_id="local", name="local")
        for customer in range(2):
            self.add(customer)
            for _ in range(3):
                self.stage(customer)
            self.make_ready(customer)

    @precondition(lambda self: len(self.dials) < 3)
    @rule(customer=st.integers(0, 3))
    def add(self, customer: int) -> None:
        deployment_id = self.scene.mint()
        taken = {one.customer_id for one in self.environment.bundles}
        outcome = self.attempt(
            "bundles add",
            deployment_id,
            deployment_id=deployment_id,
            bundle_id="web",
            customer_id=f"customer-{customer}",
            route_binding={"hosts": [f"h{customer}.example.com"]},
        )
        assert (outcome is None) == (f"customer-{customer}" in taken)
        if outcome is not None:
            self.dials[deployment_id] = Dial()

    @rule(pick=ANY, verbs=st.lists(st.sampled_from(sorted(MOVES)), max_size=6))
    def stage(self, pick: int, verbs: tuple[str, ...] | list[str] = ()) -> None:
        deployment_id = self.deployment(pick)
        own = self.environment.revisions_of(deployment_id)
        if len(own) >= 6:
            return
        before = {revision.revision_id for revision in own}
        status = self.environment.deployment(deployment_id).status
        try:
            revision_id = self.scene.stage(deployment_id)
        except Conflict:
            assert status is DeploymentStatus.ARCHIVED
            return
        REACHED["revisions stage"] += 1
        made = self.environment.revision(revision_id)
        assert made.sequence == len(before) + 1
        self.frozen[revision_id] = frozen(made)
        for verb in verbs:
            self.walk(revision_id, verb)

    @precondition(lambda self: self.environment.revisions)
    @rule(pick=ANY, verbs=st.lists(st.sampled_from(sorted(MOVES)), min_size=1, max_size=6))
    def live(self, pick: int, verbs: list[str]) -> None:
        revision_id = self.environment.revisions[pick % len(self.environment.revisions)].revision_id
        for verb in verbs:
            self.walk(revision_id, verb)

    @precondition(lambda self: self.environment.traffic_splits)
    @rule(pick=ANY, verb=st.sampled_from(["drain", "archive"]))
    def retire_what_the_dial_names(self, pick: int, verb: str) -> None:
        entries = [entry for split in self.environment.traffic_splits for entry in split.entries]
        # Those with nothing first: they may leave, and the split must let go of them.
        entry = sorted(entries, key=lambda entry: entry.weight_bps > 0)[pick % len(entries)]
        self.walk(entry.revision_id, verb)
        REACHED["refused: has traffic" if entry.weight_bps else "an entry with nothing leaves"] += 1

    @rule(pick=ANY)
    def make_ready(self, pick: int) -> None:
        for revision in self.environment.revisions_of(self.deployment(pick)):
            self.walk(revision.revision_id, "warm")

    def walk(self, revision_id: str, verb: str) -> None:
        before = self.environment.revision(revision_id)
        split = self.environment.split(before.deployment_id)
        share = 0 if split is None else sum(e.weight_bps for e in split.entries if e.revision_id == revision_id)
        expected = MOVES[verb].get(before.lifecycle)
        if share and verb in {"drain", "archive"}:
            expected = None
        payload: dict[str, Any] = {"revision_id": revision_id}
        if verb == "warm":
            payload["health_gate"] = {"ok": True}
        if verb == "warm, failing":
            payload["health_gate"] = {"ok": False, "failure": {"failed_checks": ["route-table"], "message": "no"}}
        outcome = self.attempt(f"revisions {verb.partition(',')[0]}", before.deployment_id, **payload)
        if expected is None:
            assert outcome is None
            return
        assert outcome is not None
        after = self.environment.revision(revision_id)
        assert after.lifecycle is expected
        assert outcome.changed == (expected is not before.lifecycle)
        assert (outcome.failure is not None) == (outcome.changed and expected is Lifecycle.FAILED)
        if before.lifecycle is Lifecycle.DRAINING and expected is Lifecycle.ARCHIVED:
            REACHED["archive while draining"] += 1
        elif outcome.changed and not (before.lifecycle is Lifecycle.STAGED and expected is Lifecycle.READY):
            assert allows(before.lifecycle, expected)
        if expected is Lifecycle.ARCHIVED:
            self.archived.add(revision_id)

    @rule(pick=ANY, data=st.data())
    def set_dial(self, pick: int, data: st.DataObject) -> None:
        deployment_id = self.deployment(pick)
        own = self.environment.revisions_of(deployment_id)
        ready = [one.revision_id for one in own if one.lifecycle is Lifecycle.READY]
        if not own:
            return
        pool = ready if ready and data.draw(st.integers(0, 9)) else [one.revision_id for one in own]
        named = data.draw(st.permutations(pool))[: data.draw(st.integers(1, len(pool)))]
        shares = dict(zip(named, data.draw(weights(len(named), zeros=True)), strict=True))
        self.move(deployment_id, shares)

    @rule(pick=ANY, start=st.integers(0, 10_000), step=st.integers(1, 500))
    def many_moves(self, pick: int, start: int, step: int) -> None:
        deployment_id = self.deployment(pick)
        own = self.environment.revisions_of(deployment_id)
        ready = [one.revision_id for one in own if one.lifecycle is Lifecycle.READY][:2]
        if len(ready) < 2:
            return
        for number in range(9):
            share = (start + number * step) % 10_001
            self.move(deployment_id, {ready[0]: share, ready[1]: 10_000 - share})

    def move(self, deployment_id: str, shares: dict[str, int]) -> None:
        dial = self.dials[deployment_id]
        key = f"set-{self.scene.mint()}"
        entries = [{"revision_id": one, "weight_bps": weight} for one, weight in shares.items()]
        allowed = (
            all(self.environment.revision(one).lifecycle is Lifecycle.READY for one in shares)
            and self.environment.deployment(deployment_id).status is not DeploymentStatus.ARCHIVED
        )
        outcome = self.attempt(
            "traffic set", deployment_id, key, deployment_id=deployment_id, entries=entries, updated_by="ops"
        )
        assert (outcome is not None) == allowed
        if outcome is not None:
            dial.move(self.environment.split(deployment_id), {one: weight for one, weight in shares.items() if weight})
            dial.last = (shares, key)

    @precondition(lambda self: any(dial.last and dial.live is not None for dial in self.dials.values()))
    @rule(pick=ANY)
    def replay(self, pick: int) -> None:
        used = [name for name, dial in self.dials.items() if dial.last and dial.live is not None]
        deployment_id = used[pick % len(used)]
        shares, key = self.dials[deployment_id].last
        if self.environment.split(deployment_id).idempotency_key != key:
            return
        before = self.environment
        outcome = self.scene.dial(deployment_id, shares, key)
        assert not outcome.changed
        assert outcome.environment is before
        assert outcome.result["new_generation"] is None
        REACHED["replay"] += 1
        others = {one: weight for one, weight in shares.items() if not weight}
        if len(shares) > 1 and len(set(shares.values())) > 1 and not others:
            turned = dict(zip(shares, [*list(shares.values())[1:], next(iter(shares.values()))], strict=True))
            if turned != shares:
                refused = self.attempt(
                    "traffic set",
                    deployment_id,
                    key,
                    deployment_id=deployment_id,
                    entries=[{"revision_id": one, "weight_bps": weight} for one, weight in turned.items()],
                    updated_by="ops",
                )
                assert refused is None

    @rule(pick=ANY, which=st.none() | ANY)
    def rollback(self, pick: int, which: int | None) -> None:
        deployment_id = self.deployment(pick)
        dial = self.dials[deployment_id]
        to = None if which is None or not dial.kept else dial.kept[which % len(dial.kept)]
        restored = self.back(deployment_id, to)
        undoable = restored is not None and len(dial.kept) > 0 and restored != dial.kept[-1]
        if undoable and all(
            self.environment.revision(one).lifecycle is Lifecycle.READY for one in dial.shares[dial.kept[-1]]
        ):
            previous = dial.kept[-1]
            assert self.back(deployment_id, None) == previous
            REACHED["undo a rollback"] += 1

    def back(self, deployment_id: str, to: int | None) -> int | None:
        dial = self.dials[deployment_id]
        target = to if to is not None else dial.origin.get(dial.live, dial.kept[-1]) if dial.kept else None
        allowed = (
            target is not None
            and all(self.environment.revision(one).lifecycle is Lifecycle.READY for one in dial.shares[target])
            and self.environment.deployment(deployment_id).status is not DeploymentStatus.ARCHIVED
        )
        cleared = dial.live is None
        key = f"back-{self.scene.mint()}"
        request = {"deployment_id": deployment_id, "to_generation": to, "updated_by": "ops"}
        outcome = self.attempt("traffic rollback", deployment_id, key, **request)
        assert (outcome is not None) == allowed
        if outcome is None:
            return None
        assert outcome.result["restored_generation"] == target
        split = self.environment.split(deployment_id)
        shares, runs = dial.shares[target], dial.tables[target]
        assert {entry.revision_id: entry.weight_bps for entry in split.entries} == shares
        assert table(split) == runs
        dial.move(split, shares)
        REACHED["rollback after clear"] += cleared
        again = self.attempt("traffic rollback", deployment_id, key, **request)
        assert again is not None
        assert not again.changed, "the same key again does not undo"
        return target

    @rule(pick=ANY, usual=st.booleans(), data=st.data())
    def schedule(self, pick: int, usual: bool, data: st.DataObject) -> None:
        """One schedule from its beginning to one of its ends, with whatever may come in between."""
        deployment_id = self.deployment(pick)
        dial, deployment = self.dials[deployment_id], self.environment.deployment(deployment_id)
        own = self.environment.revisions_of(deployment_id)
        ready = [one.revision_id for one in own if one.lifecycle is Lifecycle.READY]
        if not ready:
            return
        named = data.draw(st.permutations(ready))[: data.draw(st.integers(1, len(ready)))]
        shares = dict(zip(named, data.draw(weights(len(named), zeros=True)), strict=True))
        began, runner = dial.live, self.scene.mint()
        had = {} if began is None else dial.shares[began]
        gaining = [one for one, weight in shares.items() if weight > had.get(one, 0)]
        end = sum(shares[one] for one in gaining)
        steps = None
        if not usual and end:
            below = data.draw(st.sets(st.integers(1, end), max_size=2)) - {end}
            steps = [*sorted(below), end]
        driven = {"deployment_id": deployment_id, "schedule_id": self.scene.mint(), "runner": runner}
        outcome = self.attempt(
            "traffic begin-schedule",
            deployment_id,
            **driven,
            entries=[{"revision_id": one, "weight_bps": weight} for one, weight in shares.items()],
            over_seconds=60.0,
            updated_by="ops",
            **({} if steps is None else {"steps": steps}),
        )
        if outcome is None:
            assert began is None or not gaining or deployment.status is not DeploymentStatus.ACTIVE
            return
        self.follow(deployment_id, began)
        held = sum(had.get(one, 0) for one in gaining)
        usual_steps = [*(share for share in (100, 1_000, 5_000) if share < end), end]
        wanted = [share for share in steps or usual_steps if share > held]
        schedule = self.environment.schedule(deployment_id)
        given = [sum(one.weight_bps for one in step.entries if one.revision_id in gaining) for step in schedule.steps]
        if len(gaining) == 1:
            assert given == wanted, "a step is the share of the revision that gains"
        else:  # as near as whole slots come
            assert all(any(abs(found - share) < len(gaining) for share in wanted) for found in given)
        step = 0
        about = {"deployment_id": deployment_id, "updated_by": "ops"}
        while True:
            match data.draw(st.sampled_from(["on", "on", "on", "pause", "meddle", "abort", "stay", "back", "clear"])):
                case "on" if step + 1 < len(schedule.steps):
                    again = self.attempt("traffic advance", deployment_id, **driven, step=step)
                    assert again is not None
                    assert not again.changed, "a step that is live already"
                    step += 1
                    assert self.attempt("traffic advance", deployment_id, **driven, step=step) is not None
                    self.follow(deployment_id, began)
                    assert sum(dial.shares[dial.live].get(one, 0) for one in gaining) == given[step]
                case "on":
                    assert self.attempt("traffic finish", deployment_id, **driven) is not None
                    assert dial.shares[dial.live] == {one: weight for one, weight in shares.items() if weight}
                    return
                case "pause":
                    assert self.attempt("traffic pause", deployment_id, **about) is not None
                    assert self.attempt("traffic advance", deployment_id, **driven, step=step + 1) is None
                    driven["runner"] = self.scene.mint()
                    resumed = self.attempt("traffic resume", deployment_id, **about, runner=driven["runner"])
                    assert resumed is not None
                    former = {**driven, "runner": runner}
                    assert self.attempt("traffic advance", deployment_id, **former, step=step + 1) is None
                    assert self.attempt("traffic abort", deployment_id, **about, runner=runner) is None
                    runner = driven["runner"]
                case "meddle":
                    moved = [{"revision_id": ready[0], "weight_bps": 10_000}]
                    assert self.attempt("traffic set", deployment_id, **about, entries=moved) is None
                    for one in shares:
                        assert self.attempt("revisions drain", deployment_id, revision_id=one) is None
                        assert self.attempt("revisions archive", deployment_id, revision_id=one) is None
                    assert (
                        self.attempt(
                            "traffic begin-schedule",
                            deployment_id,
                            **driven,
                            entries=moved,
                            over_seconds=1.0,
                            updated_by="ops",
                        )
                        is None
                    )
                case "abort":
                    assert self.attempt("traffic abort", deployment_id, **about) is not None
                    self.follow(deployment_id, None)
                    assert dial.tables[dial.live] == dial.tables[began], "the identical table"
                    return
                case "stay":
                    assert self.attempt("traffic abort", deployment_id, **about, stay=True) is not None
                    return
                case "back":
                    assert self.back(deployment_id, None) == began
                    return
                case _:
                    self.clear(pick)
                    return

    def follow(self, deployment_id: str, began: int | None) -> None:
        """Let the model see where a schedule has put the dial."""
        dial, split = self.dials[deployment_id], self.environment.split(deployment_id)
        dial.move(split, {entry.revision_id: entry.weight_bps for entry in split.entries if entry.weight_bps})
        dial.last = None
        if began is not None:
            dial.origin[split.generation] = began

    @rule(pick=ANY)
    def roll_back_too_far(self, pick: int) -> None:
        deployment_id = self.deployment(pick)
        dial = self.dials[deployment_id]
        gone = [number for number in range(dial.newest + 1) if number not in dial.kept and number != dial.live]
        for number in gone[:1]:
            command = self.scene.command(
                "traffic rollback", deployment_id=deployment_id, to_generation=number, updated_by="ops"
            )
            try:
                transition(self.environment, command, self.scene.now())
            except (NotFound, Conflict):
                REACHED["rollback refused: not kept"] += 1
            else:
                raise AssertionError("a generation that is not kept came back")

    @rule(pick=ANY)
    def clear(self, pick: int) -> None:
        deployment_id = self.deployment(pick)
        dial = self.dials[deployment_id]
        outcome = self.attempt("traffic clear", deployment_id, deployment_id=deployment_id, updated_by="ops")
        assert outcome is not None
        assert outcome.changed == (dial.live is not None)
        if outcome.changed:
            dial.retire()
            dial.newest += 1
            assert outcome.result["new_generation"] == dial.newest
            dial.since = {}

    @rule(pick=ANY, status=st.sampled_from(["active", "active", "paused", "archived"]))
    def update(self, pick: int, status: str) -> None:
        deployment_id = self.deployment(pick)
        outcome = self.attempt("bundles update", deployment_id, deployment_id=deployment_id, status=status)
        assert outcome is not None

    @rule(name=st.sampled_from(["a", "b"]))
    def rename(self, name: str) -> None:
        self.attempt("env update", None, name=name, region={"value": name})

    @rule(pick=ANY, retire=st.booleans())
    def remove(self, pick: int, retire: bool) -> None:
        deployment_id = self.deployment(pick)
        if len(self.dials) < 2:
            return
        if retire:
            self.clear(pick)
            for revision in self.environment.revisions_of(deployment_id):
                self.walk(revision.revision_id, "archive")
        alive = [r for r in self.environment.revisions_of(deployment_id) if r.lifecycle is not Lifecycle.ARCHIVED]
        outcome = self.attempt("bundles remove", deployment_id, deployment_id=deployment_id)
        assert (outcome is None) == bool(alive or self.dials[deployment_id].live is not None)
        if outcome is not None:
            gone = set(outcome.result["pruned_revision_ids"])
            self.archived -= gone
            self.frozen = {one: kept for one, kept in self.frozen.items() if one not in gone}
            del self.dials[deployment_id]
            assert slices(self.environment, deployment_id) == ([], [], [], [], [])

    @rule()
    def unknown(self) -> None:
        nobody = ulid(2**40)
        assert self.attempt("traffic clear", None, deployment_id=nobody, updated_by="ops") is None
        assert self.attempt("revisions archive", None, revision_id=nobody) is None

    @invariant()
    def every_rule_is_kept(self) -> None:
        if self.scene.current is not None:
            assert not list(rules.violations(self.environment))

    @invariant()
    def no_schedule_is_left_open(self) -> None:
        if self.scene.current is not None:
            assert not any(one.state.open for one in self.environment.traffic_schedules)

    @invariant()
    def traffic_is_as_the_model_says(self) -> None:
        if self.scene.current is None:
            return
        assert len(self.environment.traffic_splits) == sum(dial.live is not None for dial in self.dials.values())
        for deployment_id, dial in self.dials.items():
            split = self.environment.split(deployment_id)
            deployment = self.environment.deployment(deployment_id)
            assert [kept.generation for kept in self.environment.history(deployment_id)] == dial.kept
            assert len(dial.kept) <= HISTORY_DEPTH
            REACHED["history full"] += len(dial.kept) == HISTORY_DEPTH
            for kept in self.environment.history(deployment_id):
                assert table(kept) == dial.tables[kept.generation]
            if split is None:
                assert dial.live is None
                assert deployment.current_revisions == ()
                continue
            assert split.generation == dial.live == deployment.traffic_generation
            assert sum(entry.weight_bps for entry in split.entries) == 10_000
            shares = {entry.revision_id: entry.weight_bps for entry in split.entries if entry.weight_bps}
            assert shares == dial.shares[dial.live]
            assert table(split) == dial.tables[dial.live]
            assert set(deployment.current_revisions) == set(shares)
            for entry in split.entries:
                revision = self.environment.revision(entry.revision_id)
                assert revision.lifecycle is Lifecycle.READY
                assert revision.deployment_id == deployment_id
                assert entry.since == (dial.since[entry.revision_id] if entry.weight_bps else None)

    @invariant()
    def a_revision_never_changes_its_identity_and_archived_is_final(self) -> None:
        if self.scene.current is None:
            return
        assert {one.revision_id for one in self.environment.revisions} == set(self.frozen)
        for revision in self.environment.revisions:
            assert frozen(revision) == self.frozen[revision.revision_id]
            assert (revision.lifecycle is Lifecycle.ARCHIVED) == (revision.revision_id in self.archived)
            assert (revision.failure is not None) <= (revision.lifecycle in {Lifecycle.FAILED, Lifecycle.ARCHIVED})


def frozen(revision: Revision) -> list[Any]:
    """What may never change of a revision."""
    return [getattr(revision, field) for field in FROZEN]


def slices(environment: Environment, deployment_id: str) -> tuple[list[Any], ...]:
    """Everything that an environment holds of one deployment."""
    parts: tuple[tuple[Any, ...], ...] = (
        environment.bundles,
        environment.revisions,
        environment.traffic_splits,
        environment.split_history,
        environment.traffic_schedules,
    )
    return tuple([one for one in part if one.deployment_id == deployment_id] for part in parts)


NOUNS = {"bundles", "revisions", "traffic"}
BEGINNING = {"env create", "env update"}
"""What this machine drives; bindings and endpoints have a machine of their own (`test_bindings_machine`)."""
SPECIAL = ("replay", "undo a rollback", "rollback after clear", "archive while draining", "history full")
SPECIAL += ("refused: has traffic", "an entry with nothing leaves")


@pytest.mark.timeout(600)
def test_random_lives_of_an_environment_keep_every_promise() -> None:
    REACHED.clear()
    wanted = [*(verb.name for verb in VERBS if verb.noun in NOUNS or verb.name in BEGINNING), *SPECIAL]
    walk(EnvironmentMachine, REACHED, wanted, examples=100)
