"""What an environment refuses because it was revoked (see `greentic.envpacks.revocation`)."""

from __future__ import annotations

from greentic.envpacks.revocation import RevocationContext, SubjectKind
from greentic.operations.context import Context
from greentic.spec.capabilities import Slot
from greentic.spec.environment import Environment
from greentic.spec.errors import Denied


def refuse(context: Context, environment: Environment, kind: SubjectKind, subject: str) -> None:
    """Denied when the environment's list revokes `subject`; an environment without a list revokes nothing.

    What the list itself raises is raised: a list that cannot be read allows nothing.
    """
    binding = environment.binding(Slot.REVOCATION)
    if binding is None:
        return
    folder = context.store.artifacts(environment.environment_id)
    answers = context.answers(binding, folder)
    found = context.registry.revocation(environment, RevocationContext(environment.environment_id, folder, answers))
    entry = None if found is None else found.find(kind, subject)
    if entry is not None:
        raise Denied(
            f"the {kind} {subject} is revoked since {entry.since}" + (f": {entry.reason}" if entry.reason else ""),
            details={"kind": kind, "subject": subject, "since": entry.since},
            next_step="use another one; the list is that of the env-pack in the slot 'revocation'",
        )
