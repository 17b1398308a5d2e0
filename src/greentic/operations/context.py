"""What every use case is given: the store, the env-packs, who asks, and the seams of time and chance."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from greentic.engine.command import Command
from greentic.envpacks.answers import answers_at
from greentic.envpacks.deployer import Deployer, DeployerContext, DesiredState, Progress, silent
from greentic.envpacks.registry import Registry
from greentic.spec.capabilities import Slot
from greentic.spec.environment import ExtensionBinding, PackBinding
from greentic.spec.parsing import Payload
from greentic.store.contract import Applied, Complete, Store, Stored


async def _sleep(seconds: float) -> None:
    import asyncio

    await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Context:
    """The surroundings of one verb.

    `actor` is the authenticated user, whom policies know; `by` is who is recorded as having done it, often the same.
    `now` gives RFC 3339 timestamps, `mint` fresh ULIDs; `sleep` passes seconds on the clock of `now`. `key` is the
    caller's idempotency key, None when it gave none; a verb of several steps derives one key per step.
    `expected_generation` and `if_match` guard the first change only: what the verb itself commits afterwards is not
    somebody else's change. `dry_run` computes without committing. `before_change` does ahead of a commit what would
    otherwise stand between it and the routers' hearing of it.
    """

    store: Store
    registry: Registry
    actor: str
    by: str
    now: Callable[[], str]
    mint: Callable[[], str]
    progress: Progress = silent
    key: str | None = None
    expected_generation: int | None = None
    if_match: str | None = None
    dry_run: bool = False
    before_change: Callable[[], None] = lambda: None
    sleep: Callable[[float], Awaitable[None]] = _sleep
    _guarded: list[bool] = field(default_factory=list)

    @property
    def guarded(self) -> bool:
        """Whether the caller gave a key or a precondition: then even what changes nothing goes by the store."""
        return self.key is not None or self.expected_generation is not None or self.if_match is not None

    @property
    def precondition(self) -> tuple[int | None, str | None]:
        """(generation, etag) that the next change expects; nothing once the verb has changed something itself."""
        return (None, None) if self._guarded else (self.expected_generation, self.if_match)

    def step_key(self, step: str) -> str:
        """The idempotency key of one step of this verb: the caller's key when the verb has one step."""
        if self.key is None:
            return self.mint()
        return self.key if not step else f"{self.key}:{step}"

    def apply(
        self,
        environment_id: str,
        noun: str,
        verb: str,
        payload: Payload,
        *,
        step: str = "",
        complete: Complete | None = None,
        evidence: tuple[str, ...] = (),
    ) -> Applied:
        """Commit one change through the store (compute it only, on a dry run); `complete`: see its contract."""
        command = Command(environment_id, noun, verb, payload, self.step_key(step), self.actor, evidence)
        change = self.store.plan if self.dry_run else self.store.apply
        if not self.dry_run:
            self.before_change()
        generation, etag = self.precondition
        applied = change(command, expected_generation=generation, if_match=etag, complete=complete)
        self._guarded.append(True)
        return applied

    def deployer(self, stored: Stored | Applied, *, leaving: bool = False) -> Deployer:
        """The deployer of the environment, by its slot. `leaving`: see `Registry.deployer`."""
        environment = stored.environment
        folder = self.store.artifacts(environment.environment_id)
        answers = self.answers(environment.binding(Slot.DEPLOYER), folder)
        given = DeployerContext(environment.environment_id, folder, answers)
        return self.registry.deployer(environment, given, leaving=leaving)

    def require_deployer(self, stored: Stored) -> None:
        """Refuse ahead of a change that the deployer has to follow when it could not be asked to: it is missing, not
        trusted, or there is none. Nothing on a dry run.
        """
        if not self.dry_run:
            self.deployer(stored)

    def answers(self, binding: PackBinding | ExtensionBinding | None, folder: Path) -> dict[str, Any]:
        """The answers of a binding; none when it has none, CorruptDocument when they cannot be read."""
        return {} if binding is None else answers_at(folder, binding.answers_ref, binding.kind)

    def with_key(self, suffix: str) -> Context:
        """The same surroundings for a part of a larger verb, with a key of its own."""
        return replace(self, key=None if self.key is None else f"{self.key}:{suffix}")


def desired(stored: Stored | Applied) -> DesiredState:
    """The recorded state as a deployer takes it."""
    return DesiredState(stored.environment, stored.generation)
