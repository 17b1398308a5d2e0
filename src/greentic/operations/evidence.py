"""What leaves a mark in the audit log although the environment's document does not change: secrets, credentials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from greentic.engine.command import Command
from greentic.operations.context import Context
from greentic.spec.errors import NotImplementedYet
from greentic.spec.parsing import Payload
from greentic.store.contract import Applied


@runtime_checkable
class Evidence(Protocol):
    """A store that authorises, audits and remembers an effect beside the document, as it does a change."""

    def maintain(
        self,
        command: Command,
        effect: Callable[[Any], Mapping[str, Any]],
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
    ) -> Applied:
        """Run `effect` between intent and outcome; what came of it, or the recorded when the key was used."""
        ...


def attempt(
    context: Context,
    environment_id: str,
    noun: str,
    verb: str,
    payload: Payload,
    effect: Callable[[], Mapping[str, Any]],
    *,
    key: str | None = None,
) -> Mapping[str, Any]:
    """Run `effect` as an attempt that is authorised and audited; its result is recorded under the key.

    Neither payload nor result may hold anything confidential. NotImplementedYet when the store cannot keep evidence:
    nothing is done without it.
    """
    store = context.store
    if not isinstance(store, Evidence):
        raise NotImplementedYet(f"'{noun} {verb}' cannot be recorded by this store, so it is not done")
    command = Command(environment_id, noun, verb, payload, key or context.step_key(""), context.actor)
    generation, etag = context.precondition
    return store.maintain(command, lambda _files: effect(), expected_generation=generation, if_match=etag).result
