"""Several verbs as one transition: a manifest's worth of changes that happens as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from greentic.engine.command import Command, Outcome
from greentic.engine.transition import transition
from greentic.spec import verbs
from greentic.spec.changes import ApplyChangesPayload
from greentic.spec.environment import Environment
from greentic.spec.errors import GreenticError, InvalidArgument
from greentic.spec.parsing import parse_payload

_WHOLE = ("changes", "apply")


def apply(environment: Environment | None, payload: ApplyChangesPayload, command: Command, now: str) -> Outcome:
    """Carry out every step in order; `result.results` are theirs.

    The first refusal refuses all, with `details.step` (from 0); so does a step that fails although it would be recorded
    alone, such as a health gate that says no.
    """
    results: list[Any] = []
    changed = False
    for number, step in enumerate(steps(payload, command)):
        try:
            outcome = transition(environment, step, now)
            if outcome.failure is not None:
                raise outcome.failure
        except GreenticError as error:
            raise placed(error, number) from None
        environment, changed = outcome.environment, changed or outcome.changed
        results.append(dict(outcome.result))
    assert environment is not None, "there is a step, and it came to an environment"
    return Outcome(environment, {"results": results}, changed=changed)


def steps(payload: ApplyChangesPayload, command: Command) -> Iterator[Command]:
    """The steps as commands, each with a key of its own; AnswersParse and NotFound with `details.step`."""
    for number, step in enumerate(payload.steps):
        try:
            if (step.noun, step.verb) == _WHOLE:
                raise InvalidArgument("changes that are applied together hold no others that are")
            asked = parse_payload(verbs.find(step.noun, step.verb).payload(), step.payload, f"step {number}")
        except GreenticError as error:
            raise placed(error, number) from None
        key = f"{command.idempotency_key}:{number}"
        yield Command(command.environment_id, step.noun, step.verb, asked, key, command.actor, command.evidence)


def placed(error: GreenticError, number: int) -> GreenticError:
    """`error` with the number of the step that it is about."""
    error.details["step"] = number
    return error
