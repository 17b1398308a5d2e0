"""What every store does before it commits anything: judge the request, look for its repetition, ask the engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic_core import from_json, to_json

from greentic.engine.command import Command, Outcome
from greentic.spec import rules
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, InvalidArgument, NotFound
from greentic.spec.integrity import digest
from greentic.spec.touched_rules import broken_by
from greentic.store.companions import Companions
from greentic.store.contract import Authorize, Complete, Decision, Files, Request, Stored, Transition
from greentic.store.events import Attempt
from greentic.store.preconditions import Precondition, meet

MAX_KEY = 512
"""Characters of an idempotency key."""


def engine_transition(environment: Environment | None, command: Command, now: str) -> Outcome:
    """The engine's own transition, imported when it is first used."""
    from greentic.engine.transition import transition

    return transition(environment, command, now)


def local_only(_command: Command, _actor: str) -> Decision:
    """Allow whoever can write to the place at all."""
    return Decision(True, "local-only", "the environment is kept on this machine")


@dataclass(frozen=True, slots=True)
class Decided:
    """What an attempt comes to: the command as completed, the outcome, its result as JSON values, and the files that go
    with it."""

    command: Command
    outcome: Outcome
    result: dict[str, Any]
    files: Companions = ()


def attempt(command: Command, moment: datetime, authorize: Authorize, request: Request | None = None) -> Attempt:
    """`command` as an attempt at `moment`; InvalidArgument for a key, or values, that cannot be recorded."""
    key = command.idempotency_key
    if not key.strip() or len(key) > MAX_KEY:
        raise InvalidArgument(f"an idempotency key is 1 to {MAX_KEY} characters, not all of them blank")
    try:
        digest([key, command.actor])
        fingerprint = digest(command.fingerprint()) if request is None else request.fingerprint
    except ValueError as error:
        raise InvalidArgument(f"the command cannot be written as JSON: {error}") from None
    if request is not None:
        return Attempt(command, fingerprint, request.decision, moment, request)
    return Attempt(command, fingerprint, authorize(command, command.actor), moment)


def same_request(attempt: Attempt, fingerprint: str, stored_at: str) -> None:
    """Conflict unless what is recorded under the attempt's key was for the same request."""
    key = attempt.command.idempotency_key
    if fingerprint != attempt.fingerprint:
        raise Conflict(
            f"the idempotency key '{key}' was used for another request",
            details={"reason": "idempotency-conflict", "idempotency_key": key, "used_at": stored_at},
            next_step="repeat the request that the key belongs to, or use a new key for this one",
        )


def decide(
    attempt: Attempt,
    stored: Stored | None,
    transition: Transition,
    expected: Precondition,
    complete: Complete | None,
    files: Files,
) -> Decided:
    """What the attempt comes to on the state `stored` (None: there is none), or its refusal."""
    meet(expected, stored)
    before = None if stored is None else stored.environment
    command = attempt.command
    companions: Companions = ()
    if complete is not None:
        completed = complete(before, command, attempt.now, files)
        command, companions = replace(command, payload=completed.payload), completed.files
    outcome = transition(before, command, attempt.now)
    result: dict[str, Any] = from_json(to_json(outcome.result))
    return Decided(command, outcome, result, companions)


def refuse_unfit(attempt: Attempt, decided: Decided, before: Environment | None, *, checked: bool) -> None:
    """SpecViolation for an environment that breaks a rule, unless the engine `checked` that; InvalidArgument for one
    that is not the environment that was addressed."""
    environment = decided.outcome.environment
    if not checked:
        # The engine's own refuses what breaks a rule; a backup was the state once, whatever rules say today.
        rules.refuse(broken_by(before, environment))
    if environment.environment_id != attempt.command.environment_id:
        raise InvalidArgument(
            f"the command is for '{attempt.command.environment_id}', its environment is '{environment.environment_id}'"
        )


def missing(environment_id: str) -> NotFound:
    """The refusal of an environment that does not exist."""
    return NotFound(
        f"there is no environment '{environment_id}'",
        details={"environment_id": environment_id},
        next_step=f"gtc op env create {environment_id}",
    )
