"""What must hold before a command is carried out: the actor may give it, and the state is the one that is expected."""

from __future__ import annotations

from dataclasses import dataclass

from greentic.spec.errors import Conflict, Denied
from greentic.store.contract import Stored
from greentic.store.events import Attempt


@dataclass(frozen=True, slots=True)
class Precondition:
    """What the caller expects of the present state; None expects nothing."""

    generation: int | None
    etag: str | None


def demand(attempt: Attempt) -> None:
    """Denied unless the attempt is allowed."""
    decision, command = attempt.decision, attempt.command
    if not decision.allowed:
        raise Denied(
            f"{command.actor} may not {command.noun} {command.verb} in '{command.environment_id}': {decision.reason}",
            details={"policy": decision.policy, "reason": decision.reason, "actor": command.actor},
            next_step=decision.next_step,
        )


def meet(expected: Precondition, stored: Stored | None) -> None:
    """Conflict unless the present state is the expected one."""
    generation, etag = (None, None) if stored is None else (stored.generation, stored.etag)
    if expected.generation in {None, generation} and expected.etag in {None, etag}:
        return
    raise Conflict(
        "somebody changed the environment in between"
        if stored is not None
        else "the environment that the change expects does not exist",
        details={
            "expected_generation": expected.generation,
            "actual_generation": generation,
            "expected_etag": expected.etag,
            "actual_etag": etag,
        },
        next_step="look at the present state, then repeat the change for it",
    )
