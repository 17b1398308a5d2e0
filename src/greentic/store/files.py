"""The store of one machine: a folder per environment under one root (layout: docs/architecture.md).

What is promised stands in `contract`; how a change is committed, in `transaction`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from greentic.engine.command import Command, Outcome
from greentic.spec.errors import CorruptDocument, Denied, GreenticError, NotFound, StoreError
from greentic.store import backup, deciding, document, failures, folders, heads, lock
from greentic.store.audit import AuditReport, AuditTrail, Head
from greentic.store.beside import FolderFiles, PendingFiles, settle
from greentic.store.clock import Clock, wall_clock
from greentic.store.companions import Companions
from greentic.store.contract import (
    Applied,
    Authorize,
    Backups,
    Complete,
    Effect,
    Listener,
    Listing,
    Request,
    Stored,
    Transition,
)
from greentic.store.deciding import engine_transition, local_only, missing
from greentic.store.document import Body, Record
from greentic.store.events import Attempt
from greentic.store.heads import Seal, nobody
from greentic.store.io import FileSystem, LocalFileSystem, read
from greentic.store.ledger import Ledger
from greentic.store.preconditions import Precondition, demand, meet
from greentic.store.transaction import Settings, Turn


@dataclass(frozen=True, slots=True)
class _Answer:
    """What an attempt comes to: the command as completed, the outcome, its result as JSON values, the bytes to commit
    (None: no change) and the files that go with them."""

    command: Command
    outcome: Outcome
    result: dict[str, Any]
    body: Body | None
    files: Companions = ()


class FilesStore:
    """Environments as folders under `root`.

    `clock` tells the time, `io` is what changes anything on disk, `transition` decides, `authorize` allows,
    `patience` bounds the wait for a busy environment, `settings` say how long things are kept, `seal` signs heads.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock = wall_clock,
        io: FileSystem | None = None,
        transition: Transition = engine_transition,
        authorize: Authorize = local_only,
        patience: lock.Patience | None = None,
        settings: Settings | None = None,
        seal: Seal = nobody,
    ) -> None:
        self.root = Path(root)
        self.clock = clock
        self.io: FileSystem = io or LocalFileSystem()
        self._transition = transition
        self._authorize = authorize
        self._patience = patience or lock.Patience()
        self._settings = settings or Settings()
        self._seal = seal
        self._newest: dict[str, Record] = {}
        self._listeners: list[Listener] = []

    def load(self, environment_id: str) -> Stored:
        """The newest committed state, without a lock."""
        record = self._record(folders.folder_of(self.root, environment_id))
        if record is None:
            raise missing(environment_id)
        return record.stored

    def apply(
        self,
        command: Command,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        complete: Complete | None = None,
        request: Request | None = None,
    ) -> Applied:
        """Carry out `command`; see `contract`."""
        return self.carry_out(
            command,
            self._transition,
            expected_generation=expected_generation,
            if_match=if_match,
            complete=complete,
            request=request,
        )

    def plan(
        self,
        command: Command,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        complete: Complete | None = None,
        request: Request | None = None,
    ) -> Applied:
        """What `apply` would answer now, without committing, recording or auditing anything."""
        return self.rehearse(
            command,
            self._transition,
            expected_generation=expected_generation,
            if_match=if_match,
            complete=complete,
            request=request,
        )

    def list(self) -> tuple[Listing, ...]:
        """Every environment under the root by name; one that cannot be read is listed with its error."""
        try:
            names = sorted(entry.name for entry in self.root.iterdir())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StoreError(
                f"{self.root} cannot be read: {error.strerror}", details={"path": str(self.root)}
            ) from error
        return tuple(listing for name in names if (listing := self._listing(name)) is not None)

    def artifacts(self, environment_id: str) -> Path:
        """The environment's folder. Not created by this call."""
        return folders.folder_of(self.root, environment_id)

    def deny(self, command: Command, request: Request) -> None:
        """Record a denial; see `contract`."""
        folder = folders.folder_of(self.root, command.environment_id)
        if not (folder / folders.DOCUMENT).is_file():
            return
        with self._turn(folder, f"{command.noun} {command.verb}") as turn:
            attempt = Attempt(command, request.fingerprint, request.decision, turn.moment, request)
            turn.refuse(attempt, Denied(request.decision.reason))

    def events(self, environment_id: str, after: int = 0, limit: int = 1_000) -> tuple[Mapping[str, Any], ...]:
        """A page of the audit log; see `contract`."""
        if not folders.exists(folders.folder_of(self.root, environment_id)):
            raise missing(environment_id)
        return tuple(islice(self.audit(environment_id).events(after), limit))

    def files(self, environment_id: str) -> FolderFiles:
        """What stands beside the environment's document."""
        return FolderFiles(folders.folder_of(self.root, environment_id))

    def names(self) -> tuple[str, ...]:
        """Every environment under the root, readable or not, in order."""
        return tuple(listing.environment_id for listing in self.list())

    def at(self, environment_id: str, generation: int) -> Stored:
        """The state of that generation: the present one, or one that there is a backup of."""
        folder = folders.folder_of(self.root, environment_id)
        stored = self.load(environment_id)
        if stored.generation == generation:
            return stored
        for kept in reversed(backup.kept(folder)):
            if kept.generation == generation and kept.origin != "damaged":
                path = folder / folders.BACKUPS / kept.name
                return document.decode(backup.content(folder, kept.name), path, environment_id).stored
        raise NotFound(
            f"generation {generation} of '{environment_id}' is not kept",
            details={"environment_id": environment_id, "generation": generation, "present": stored.generation},
            next_step=f"gtc op backup list {environment_id}",
        )

    def head(self, environment_id: str) -> bytes | None:
        """The newest signed head of the environment's audit log, None when nobody signed one."""
        return heads.read(folders.folder_of(self.root, environment_id))

    def backups(self) -> Backups:
        """The backups of the environments under the root."""
        from greentic.store.restoring import FolderBackups

        return FolderBackups(self)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` after each change that is made through this object; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def probe(self) -> None:
        """Show that the root can be written, durably; StoreError when it cannot."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.io.unlink(folders.prepare(self.io, self.root, "probe", b"ready\n"))
        except OSError as error:
            raise failures.unwritten(self.root, error) from error

    def audit(self, environment_id: str) -> AuditTrail:
        """The environment's audit log, for reading."""
        return AuditTrail(folders.folder_of(self.root, environment_id) / folders.AUDIT)

    def verify_audit(self, environment_id: str) -> AuditReport:
        """Check the environment's audit log against itself and against the last change in `environment.json`.

        Reads without a lock; only when something is wrong it looks again under the lock, for a writer may have been in
        the middle of a line.
        """
        folder = folders.folder_of(self.root, environment_id)
        trail = self.audit(environment_id)
        record = self._record(folder)
        if record is None:
            raise missing(environment_id)
        report = trail.verify(_anchor(record))
        if report.ok:
            return report
        with self._turn(folder, "audit verify") as turn:
            return trail.verify(_anchor(turn.record))

    def recover(self, environment_id: str) -> Stored:
        """Finish what an interrupted writer left, bring derived files up to date, and load."""
        folder = folders.folder_of(self.root, environment_id)
        if not folders.exists(folder):
            raise missing(environment_id)
        with self._turn(folder, "recover") as turn:
            if turn.damage is not None:
                raise turn.damage
            if turn.record is None:
                raise missing(environment_id)
            turn.refresh()
            return turn.record.stored

    def carry_out(
        self,
        command: Command,
        transition: Transition,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        over_damage: bool = False,
        complete: Complete | None = None,
        request: Request | None = None,
    ) -> Applied:
        """As `apply`, with a transition of the store's own; `over_damage`: a corrupt document counts as none."""
        folder = folders.folder_of(self.root, command.environment_id)
        expected = Precondition(expected_generation, if_match)
        attempt = self._attempt(command, self.clock(), request)
        if not folders.exists(folder):
            self._answer(attempt, None, transition, expected, complete)  # a refusal leaves no folder behind
        with self._turn(folder, f"{command.noun} {command.verb}") as turn:
            attempt = replace(attempt, moment=turn.moment)  # time went by while others had the lock
            try:
                demand(attempt)
                if turn.damage is not None and not over_damage:
                    raise turn.damage
                recorded = self._recorded(attempt, turn.record, turn.ledger)
                if recorded is None:
                    answer = self._answer(attempt, turn.record, transition, expected, complete)
            except GreenticError as error:
                raise turn.refuse(attempt, error) from None
            if recorded is not None:
                turn.repair()  # what is repeated may have been interrupted before its derived files were written
                return _replay(recorded, turn.record)
            failure = answer.outcome.failure
            attempt = replace(attempt, command=answer.command)
            if answer.body is None:
                assert turn.record is not None, "a creation is a change"
                told = turn.settle(attempt, turn.record.stored, answer.result, failure)
                applied = replace(_unchanged(answer, turn.record), result=told)
            else:
                record = turn.commit(
                    attempt, answer.body, answer.outcome.environment, answer.result, failure, answer.files
                )
                self._newest[folder.name] = record
                self._tell(record.stored)
                assert record.commit is not None, "what was committed here says so"
                stored, told = record.stored, record.commit["result"]
                applied = Applied(told, stored.environment, stored.generation, stored.etag)
        if failure is not None:
            raise failure
        return applied

    def rehearse(
        self,
        command: Command,
        transition: Transition,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        over_damage: bool = False,
        complete: Complete | None = None,
        request: Request | None = None,
    ) -> Applied:
        """What `carry_out` would answer now, without committing, recording or auditing anything."""
        folder = folders.folder_of(self.root, command.environment_id)
        attempt = self._attempt(command, self.clock(), request)
        try:
            record = self._record(folder)
        except CorruptDocument:
            if not over_damage:
                raise
            record = None
        if folders.exists(folder):
            demand(attempt)
            ledger = Ledger(self.io, folder / folders.LEDGER, self._settings.key_retention)
            recorded = self._recorded(attempt, record, ledger)
            if recorded is not None:
                return _replay(recorded, record)
        answer = self._answer(attempt, record, transition, Precondition(expected_generation, if_match), complete)
        demand(attempt)
        if answer.outcome.failure is not None:
            raise answer.outcome.failure
        if answer.body is None:
            return _unchanged(answer, record)
        return Applied(answer.result, answer.outcome.environment, self._next(folder, record), answer.body.digest)

    def maintain(
        self,
        command: Command,
        effect: Effect,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        request: Request | None = None,
    ) -> Applied:
        """Run `effect`, which changes files beside the document only, as an attempt like any other."""

        def over_files(_turn: Turn) -> Mapping[str, Any]:
            pending = PendingFiles(self.files(command.environment_id))
            result = effect(pending)
            settle(self.io, folders.folder_of(self.root, command.environment_id), pending.changes)
            return result

        return self.perform(command, over_files, Precondition(expected_generation, if_match), request)

    def perform(
        self,
        command: Command,
        effect: Callable[[Turn], Mapping[str, Any]],
        expected: Precondition,
        request: Request | None = None,
    ) -> Applied:
        """As `maintain`, with an effect of the store's own."""
        folder = folders.folder_of(self.root, command.environment_id)
        attempt = self._attempt(command, self.clock(), request)
        if not folders.exists(folder):
            raise missing(command.environment_id)
        with self._turn(folder, f"{command.noun} {command.verb}") as turn:
            attempt = replace(attempt, moment=turn.moment)
            try:
                demand(attempt)
                if turn.damage is not None:
                    raise turn.damage
                if turn.record is None:
                    raise missing(command.environment_id)
                recorded = self._recorded(attempt, turn.record, turn.ledger)
                if recorded is None:
                    meet(expected, turn.record.stored)
            except GreenticError as error:
                raise turn.refuse(attempt, error) from None
            if recorded is not None:
                return _replay(recorded, turn.record)
            stored = turn.record.stored
            result = turn.perform(attempt, stored, lambda: effect(turn))
            return Applied(result, stored.environment, stored.generation, stored.etag)

    def would_maintain(self, command: Command) -> Stored:
        """The environment that `maintain` would run on; its refusals, with nothing recorded."""
        folder = folders.folder_of(self.root, command.environment_id)
        attempt = self._attempt(command, self.clock())
        record = self._record(folder)
        if record is None:
            raise missing(command.environment_id)
        demand(attempt)
        return record.stored

    def _next(self, folder: Path, record: Record | None) -> int:
        """The generation of the next change, as a turn would number it."""
        known = [] if record is None else [record.stored.generation]
        if folders.exists(folder):
            known += [entry.generation for entry in AuditTrail(folder / folders.AUDIT).heads(1)]
            known += [] if record is not None else [kept.generation for kept in backup.kept(folder)]
        return max(known, default=0) + 1

    @contextmanager
    def _turn(self, folder: Path, verb: str) -> Iterator[Turn]:
        try:
            folders.ensure(self.io, folder)
            with lock.held(self.io, folder / folders.LOCK, verb, self._patience):
                turn = Turn(self.io, folder, self._settings, self.clock(), lambda: self._record(folder), self._seal)
                try:
                    turn.recover()
                    yield turn
                finally:
                    turn.close()
        except OSError as error:
            raise failures.unwritten(folder, error) from error

    def _tell(self, stored: Stored) -> None:
        for listener in tuple(self._listeners):
            listener(stored.environment.environment_id, stored.generation)

    def _attempt(self, command: Command, moment: datetime, request: Request | None = None) -> Attempt:
        return deciding.attempt(command, moment, self._authorize, request)

    def _record(self, folder: Path) -> Record | None:
        if not folders.exists(folder):
            return None
        path = folder / folders.DOCUMENT
        raw = read(path)
        if raw is None:
            return None
        known = self._newest.get(folder.name)
        if known is not None and known.raw == raw:  # comparing is some hundred times faster than parsing
            return known
        record = document.decode(raw, path, folder.name)
        self._newest[folder.name] = record
        return record

    def _recorded(self, attempt: Attempt, record: Record | None, ledger: Ledger) -> Mapping[str, Any] | None:
        """What was answered under the attempt's key; Conflict when it was for another request."""
        if record is None:
            return None  # what the key once did is gone with the environment
        key = attempt.command.idempotency_key
        found: Mapping[str, Any] | None = None
        if record.commit and record.commit["key"] == key:
            found = None if ledger.expired(record.commit, attempt.moment) else record.commit
        if found is None:
            found = ledger.find(key, attempt.moment)
        if found is not None:
            deciding.same_request(attempt, found["fingerprint"], found["stored_at"])
        return found

    def _answer(
        self,
        attempt: Attempt,
        record: Record | None,
        transition: Transition,
        expected: Precondition,
        complete: Complete | None,
    ) -> _Answer:
        with document.unhurried_collector(0 if record is None else len(record.raw)):
            return self._decided(attempt, record, transition, expected, complete)

    def _decided(
        self,
        attempt: Attempt,
        record: Record | None,
        transition: Transition,
        expected: Precondition,
        complete: Complete | None,
    ) -> _Answer:
        stored = None if record is None else record.stored
        decided = deciding.decide(
            attempt, stored, transition, expected, complete, self.files(attempt.command.environment_id)
        )
        outcome = decided.outcome
        if stored is not None and not outcome.changed:
            return _Answer(decided.command, outcome, decided.result, None)
        body = document.body(outcome.environment, record)
        before = None if stored is None else stored.environment
        unchecked = transition is self._transition is not engine_transition
        deciding.refuse_unfit(attempt, decided, before, checked=not unchecked)
        return _Answer(decided.command, outcome, decided.result, body, decided.files)

    def _listing(self, name: str) -> Listing | None:
        folder = self.root / name
        try:
            if not folders.exists(folder):
                return None
            if not (folder / folders.DOCUMENT).is_symlink() and not (folder / folders.DOCUMENT).exists():
                if not backup.kept(folder):
                    return None  # never an environment: a creation that did not happen, or a folder of others
                path = folder / folders.DOCUMENT
                return Listing(name, error=document.corrupt(path, name, "it is gone, but there are backups of it"))
            return Listing(name, stored=self.load(name))
        except GreenticError as error:
            return Listing(name, error=error) if folder.is_dir() else None
        except OSError as error:  # somebody else's, in a place that several users share
            reason = f"{folder} cannot be read: {error.strerror}"
            return Listing(name, error=StoreError(reason, details={"path": str(folder), "errno": error.errno}))


def _replay(recorded: Mapping[str, Any], record: Record | None) -> Applied:
    if "failure" in recorded:
        raise failures.revived(recorded["failure"])
    assert record is not None, "a key is recorded only for an environment that exists"
    stored = record.stored
    return Applied(recorded["result"], stored.environment, stored.generation, stored.etag, replayed=True)


def _unchanged(answer: _Answer, record: Record | None) -> Applied:
    assert record is not None, "a creation is a change"
    return Applied(answer.result, record.stored.environment, record.stored.generation, record.stored.etag)


def _anchor(record: Record | None) -> Head | None:
    if record is None or not record.commit:
        return None
    outcome = record.commit["outcome"]
    return Head(outcome["sequence"], outcome["hash"])
