"""Several verbs as one change: all of them or none."""

from __future__ import annotations

import pytest

from greentic.engine.command import Command
from greentic.engine.transition import transition
from greentic.spec.changes import ApplyChangesPayload
from greentic.spec.errors import AnswersParse, Conflict, GateFailed, InvalidArgument, NotFound
from greentic.store.conformance import WALK

NOW = "2026-01-01T00:00:00Z"


def together(*commands, environment=None):
    steps = [{"noun": one.noun, "verb": one.verb, "payload": one.payload.to_json()} for one in commands]
    return apply(steps, environment)


def apply(steps, environment=None):
    payload = ApplyChangesPayload.model_validate({"steps": steps})
    return transition(environment, Command(WALK.environment_id, "changes", "apply", payload, "k", "x"), NOW)


def one_by_one(*commands):
    environment = None
    for number, command in enumerate(commands):
        alone = Command(command.environment_id, command.noun, command.verb, command.payload, f"k:{number}", "x")
        environment = transition(environment, alone, NOW).environment
    return environment


def test_a_whole_life_is_what_its_steps_are():
    commands = (*WALK.to_ready(), WALK.dial())
    outcome = together(*commands)
    assert outcome.environment == one_by_one(*commands)
    assert outcome.changed
    assert outcome.result["results"][0] == {"environment_id": WALK.environment_id}
    assert len(outcome.result["results"]) == len(commands)


def test_the_first_refusal_refuses_all():
    with pytest.raises(Conflict) as refused:
        together(*WALK.to_warming(), WALK.dial(), WALK.warm())
    assert refused.value.details["step"] == 4


def test_a_failed_gate_refuses_all():
    with pytest.raises(GateFailed) as refused:
        together(*WALK.to_warming(), WALK.warm(ok=False))
    assert refused.value.details["step"] == 4


def test_nothing_that_changes_is_no_change():
    environment = one_by_one(WALK.create())
    outcome = together(WALK.rename("n0"), environment=environment)
    assert not outcome.changed
    assert outcome.environment == environment


@pytest.mark.parametrize(
    ("step", "raised"),
    [
        ({"noun": "traffic", "verb": "teleport"}, NotFound),
        ({"noun": "env", "verb": "update", "payload": {"nme": "x"}}, AnswersParse),
        ({"noun": "changes", "verb": "apply", "payload": {"steps": []}}, InvalidArgument),
        ({"noun": "env", "verb": "create", "payload": {"environment_id": "other", "name": "n"}}, InvalidArgument),
    ],
)
def test_steps_that_are_none(step, raised):
    first = {"noun": "env", "verb": "create", "payload": WALK.create().payload.to_json()}
    with pytest.raises(raised) as refused:
        apply([first, step])
    assert refused.value.details["step"] == 1


def test_a_missing_environment():
    with pytest.raises(NotFound):
        together(WALK.rename("x"))
