"""The store of one machine: a folder per environment under one root."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from greentic.engine.command import Command, Outcome
from greentic.spec import rules
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, Denied, GreenticError, NotFound, StoreError
from greentic.store import document, folders, lock
from greentic.store.clock import Clock, timestamp, wall_clock
from greentic.store.contract import Applied, Authorize, Decision, Listing, Stored, Transition
from greentic.store.document import Record
from greentic.store.io import FileSystem, LocalFileSystem, read


def engine_transition(environment: Environment | None, command: Command, now: str) -> Outcome:
    """The engine's own transition, imported when it is first used."""
    from greentic.engine.transition import transition

    return transition(environment, command, now)


def local_only(_command: Command, _actor: str) -> Decision:
    """Allow whoever can write to the place at all."""
    return Decision(True, "local-only", "the environment is kept on this machine")


class FilesStore:
    """Environments as folders under `root`; see `contract` for what is promised."""

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock = wall_clock,
        io: FileSystem | None = None,
        transition: Transition = engine_transition,
        authorize: Authorize = local_only,
        patience: lock.Patience | None = None,
    ) -> None:
        self.root = Path(root)
        self.clock = clock
        self.io: FileSystem = io or LocalFileSystem()
        self._transition = transition
        self._authorize = authorize
        self._patience = patience or lock.Patience()
        self._newest: dict[str, Record] = {}

    def load(self, environment_id: str) -> Stored:
        """The newest committed state."""
        folder = folders.folder_of(self.root, environment_id)
        record = self._record(folder)
        if record is None:
            raise _missing(environment_id)
        return record.stored

    def apply(
        self, command: Command, *, expected_generation: int | None = None, if_match: str | None = None
    ) -> Applied:
        """Carry out `command` and commit."""
        folder = folders.folder_of(self.root, command.environment_id)
        self._allowed(command)
        if not folders.exists(folder):
            self._transition(None, command, timestamp(self.clock()))  # a refusal leaves no folder behind
        with _failures(folder):
            folders.ensure(self.io, folder)
            with lock.held(self.io, folder / folders.LOCK, f"{command.noun} {command.verb}", self._patience):
                folders.sweep(self.io, folder)
                record = self._record(folder)
                applied, body, outcome = self._compute(command, record, expected_generation, if_match)
                if body is not None:
                    written = document.encode(body, outcome.environment, applied.generation, {})
                    folders.replace(self.io, folder / folders.DOCUMENT, written.raw)
                    self._newest[command.environment_id] = written
        if outcome.failure is not None:
            raise outcome.failure
        return applied

    def plan(self, command: Command, *, expected_generation: int | None = None, if_match: str | None = None) -> Applied:
        """What `apply` would answer now, without committing."""
        folder = folders.folder_of(self.root, command.environment_id)
        self._allowed(command)
        applied, _, outcome = self._compute(command, self._record(folder), expected_generation, if_match)
        if outcome.failure is not None:
            raise outcome.failure
        return applied

    def list(self) -> tuple[Listing, ...]:
        """Every environment under the root, by name."""
        try:
            names = sorted(entry.name for entry in self.root.iterdir() if entry.is_dir())
        except FileNotFoundError:
            return ()
        return tuple(listing for name in names if (listing := self._listing(name)) is not None)

    def artifacts(self, environment_id: str) -> Path:
        """The environment's folder."""
        return folders.folder_of(self.root, environment_id)

    def _listing(self, name: str) -> Listing | None:
        if not (self.root / name / folders.DOCUMENT).exists():
            return None
        try:
            return Listing(name, stored=self.load(name))
        except GreenticError as error:
            return Listing(name, error=error)

    def _allowed(self, command: Command) -> None:
        decision = self._authorize(command, command.actor)
        if not decision.allowed:
            raise Denied(decision.reason, details={"policy": decision.policy})

    def _record(self, folder: Path) -> Record | None:
        if not folders.exists(folder):
            return None
        path = folder / folders.DOCUMENT
        raw = read(path)
        if raw is None:
            return None
        known = self._newest.get(folder.name)
        if known is not None and known.raw == raw:
            return known
        record = document.decode(raw, path, folder.name)
        self._newest[folder.name] = record
        return record

    def _compute(
        self, command: Command, record: Record | None, expected_generation: int | None, if_match: str | None
    ) -> tuple[Applied, document.Body | None, Outcome]:
        stored = None if record is None else record.stored
        _precondition(stored, expected_generation, if_match)
        before = None if stored is None else stored.environment
        outcome = self._transition(before, command, timestamp(self.clock()))
        result: dict[str, Any] = from_json(to_json(outcome.result))
        if stored is not None and not outcome.changed:
            return Applied(result, stored.environment, stored.generation, stored.etag), None, outcome
        rules.check(outcome.environment)
        body = document.body(outcome.environment, before)
        generation = 1 if stored is None else stored.generation + 1
        return Applied(result, outcome.environment, generation, body.digest), body, outcome


def _precondition(stored: Stored | None, expected_generation: int | None, if_match: str | None) -> None:
    generation, etag = (None, None) if stored is None else (stored.generation, stored.etag)
    if expected_generation in {None, generation} and if_match in {None, etag}:
        return
    raise Conflict(
        "somebody changed the environment in between"
        if stored is not None
        else "the environment that the change expects does not exist",
        details={
            "expected_generation": expected_generation,
            "actual_generation": generation,
            "expected_etag": if_match,
            "actual_etag": etag,
        },
        next_step="look at the present state, then repeat the change for it",
    )


def _missing(environment_id: str) -> NotFound:
    return NotFound(
        f"there is no environment '{environment_id}'",
        details={"environment_id": environment_id},
        next_step=f"gtc op env create {environment_id}",
    )


@contextmanager
def _failures(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{folder} could not be written: {error.strerror or error}",
            details={"path": str(folder), "errno": error.errno},
            next_step="make room or check the disk, then run the same command again under the same key",
        ) from error
