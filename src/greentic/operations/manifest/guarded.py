"""A store for one run: each change happens only to the state that the run itself left."""

from __future__ import annotations

from pathlib import Path

from greentic.engine.command import Command
from greentic.store.contract import Applied, Complete, Files, Listing, Store, Stored


class Guarded:
    """Another store, every change of which expects `generation`: that of the plan, then of our own last change.

    So what somebody else changes meanwhile is never overwritten: the change is refused (Conflict), and the run stops.
    `generation` is 0 while the environment does not exist.
    """

    def __init__(self, store: Store, generation: int) -> None:
        self._store = store
        self.generation = generation

    def load(self, environment_id: str) -> Stored:
        """As the store."""
        return self._store.load(environment_id)

    def apply(
        self,
        command: Command,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        complete: Complete | None = None,
    ) -> Applied:
        """As the store, to the expected state only."""
        expected = expected_generation if expected_generation is not None else self.generation or None
        applied = self._store.apply(command, expected_generation=expected, if_match=if_match, complete=complete)
        self.generation = applied.generation
        return applied

    def plan(
        self,
        command: Command,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        complete: Complete | None = None,
    ) -> Applied:
        """As the store."""
        return self._store.plan(command, expected_generation=expected_generation, if_match=if_match, complete=complete)

    def list(self) -> tuple[Listing, ...]:
        """As the store."""
        return self._store.list()

    def files(self, environment_id: str) -> Files:
        """As the store."""
        return self._store.files(environment_id)

    def artifacts(self, environment_id: str) -> Path:
        """As the store."""
        return self._store.artifacts(environment_id)
