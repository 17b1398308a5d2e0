"""One writer's turn with an environment: recovered first, then at most one attempt is recorded and committed.

The order of a change, and why it needs four syncs and no more:

    1  append the intent to the audit log, sync the log
    2  sync the ledger file that holds the previous change's record; write the change's companion files, each whole
       and durable (most changes have none)
    3  write the new document to a temporary file, sync it; keep the old one as a backup (a link)
    4  rename it to `environment.json`, sync the folder          <- committed and acknowledged
    5  append the ledger record; append the audit outcome        (not synced)
    6  bring `runtime-config.json` and `trust-root.json` up to date, prune backups; write the signed head of the log,
       where there is somebody to sign it (`heads`)

The rename commits state, ledger record and audit outcome together, because the document carries the latter two in its
`commit` (`document`); the appends of step 5 are copies, made so that they survive the next rename.

 *  A crash before 4 leaves the old state. The intent, if it got that far, has no outcome: the next writer adds the
    outcome `interrupted`. A temporary file that is left is removed by the next writer.
 *  Companions (`companions`) come after the intent, so that what a crash leaves of them is announced, and before the
    rename, so that the state never names a file that is not there. Until the rename nobody knows of them.
 *  A crash after 4, whatever became of 5 and 6, leaves the new state with its `commit`. The next writer compares the
    audit head and the ledger with it and redoes what is missing. The outcome entry was linked before the rename, so
    redoing it gives the same bytes.
 *  So that a loss of power cannot lose both the copies and the `commit` they were made from, the copies of the previous
    change must be durable before the next rename takes its `commit` away. The audit log: the sync of step 1 covers the
    whole file, the previous outcome included; a rotation syncs before it renames. The ledger: the sync of step 2.
 *  So that a loss of power cannot keep an outcome and lose the change it speaks of, step 5 comes after the folder's
    sync in 4, and a writer that redoes step 5 for another syncs the folder before it does.
 *  The intent is durable before the rename, hence before anybody can see the change.
 *  The link of a backup is not synced by itself. Journaling file systems keep it with the rename; elsewhere a loss of
    power may cost the one backup that was being made, never the state.

A failure of a call before the rename is an error of a change that did not happen, and is recorded as its outcome. A
failure of the rename is left to the next writer, who sees what is there. A failure of the folder's sync is reported as
unconfirmed: the same key finds out. A failure of step 5 or 6 is no failure of the change; the next writer redoes them.
A refusal and a no-op commit nothing, so intent and outcome are one write and one sync; a no-op adds the sync of its
ledger record, so that its repetition is answered as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from greentic.spec.environment import Environment
from greentic.spec.errors import CorruptDocument, GreenticError
from greentic.store import backup, chain, companions, document, events, failures, folders, heads, runtime, trust_file
from greentic.store.audit import SEGMENT_BYTES, AuditLog
from greentic.store.companions import Companions
from greentic.store.contract import Settled, Stored
from greentic.store.document import Body, Record
from greentic.store.events import Attempt, EventId
from greentic.store.io import FileSystem
from greentic.store.ledger import RETENTION, Ledger, record_of


@dataclass(frozen=True, slots=True)
class Settings:
    """How long things are kept and how large files grow."""

    key_retention: timedelta = RETENTION
    segment_bytes: int = SEGMENT_BYTES
    backups: backup.Rule = field(default_factory=backup.Rule)
    mint: EventId = events.event_id


class Turn:
    """A writer's turn. The caller holds the environment's lock from before `recover` until after `close`."""

    def __init__(
        self,
        files: FileSystem,
        folder: Path,
        settings: Settings,
        moment: datetime,
        read: Callable[[], Record | None],
        seal: heads.Seal = heads.nobody,
    ) -> None:
        self._files = files
        self._folder = folder
        self._settings = settings
        self.moment = moment
        self._read = read
        self._seal = seal
        self._audit = AuditLog(files, folder / folders.AUDIT, settings.segment_bytes)
        self.ledger = Ledger(files, folder / folders.LEDGER, settings.key_retention)
        self.record: Record | None = None
        self.damage: CorruptDocument | None = None

    def recover(self) -> None:
        """Bring everything to where the last writer meant to leave it. OSError; StoreError for a symbolic link."""
        folders.sweep(self._files, self._folder)
        for name in (folders.AUDIT, folders.LEDGER, folders.BACKUPS):
            folders.exists(self._folder / name)
        try:
            self.record = self._read()
        except CorruptDocument as damage:
            self.damage = damage
        cut = self._audit.recover()
        if self.record is not None and self.record.commit:
            self._redo(self.record.commit)
        head = self._audit.head
        if head is not None and head.is_intent:
            sure = self.damage is None
            self._append(events.interrupted(head.event, self.moment, self._settings.mint, sure=sure))
        if cut is not None:
            lost = {"cut_bytes": cut.size, "cut_sha256": cut.digest}
            event = events.repaired(self._folder.name, self.known_generation, lost, self.moment, self._settings.mint)
            self._append(event)

    def close(self) -> None:
        """End the turn."""
        self._audit.close()

    @property
    def generation(self) -> int | None:
        """The generation of the present state; None when there is none or it cannot be read."""
        return None if self.record is None else self.record.stored.generation

    @property
    def known_generation(self) -> int | None:
        """The highest generation that the document and the end of the audit log know of; None when they know of none.

        Every entry carries it on, so that no generation is used twice when the document cannot be read.
        """
        logged = 0 if self._audit.head is None else self._audit.head.generation
        return max(self.generation or 0, logged) if self.generation is not None or logged else None

    @property
    def next_generation(self) -> int:
        """The number of the next change: never one that was used, not even after files were put back by hand."""
        known = [self.known_generation or 0]
        if self.record is None:
            known += [kept.generation for kept in backup.kept(self._folder)]
        return max(known) + 1

    def refuse(self, attempt: Attempt, error: GreenticError) -> GreenticError:
        """Record that `attempt` was refused with `error`, and return it for raising."""
        try:
            self._announce_and_close(attempt, error)
        except OSError as failure:  # the refusal stands, recorded or not
            error.details["audit"] = f"not recorded: {failure.strerror or failure}"
        return error

    def settle(
        self, attempt: Attempt, stored: Stored, result: Mapping[str, Any], failure: GreenticError | None
    ) -> Mapping[str, Any]:
        """Record an attempt that succeeded, or failed as it should, without changing anything; the answer. OSError."""
        event = self._announce_and_close(attempt, failure, result).event
        answer = result
        if failure is None:
            answer = attempt.told(Settled(result, stored.environment, stored.generation, stored.etag, event))
        record = _commit(attempt, self.generation or 0, answer, failure)
        self.ledger.append(record, attempt.moment, sync=True)
        self.repair()
        return answer

    def perform(self, attempt: Attempt, stored: Stored, effect: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Run `effect`, which changes files beside the document, between intent and outcome; the answer. OSError."""
        mint = self._settings.mint
        self._audit.rotate()
        self._audit.append([self._audit.link(events.intent(attempt, self.known_generation, mint))], sync=True)
        try:
            result = effect()
        except OSError as error:
            self._failed(attempt, failures.unwritten(self._folder, error))
            raise
        except GreenticError as error:
            self._failed(attempt, error)
            raise
        ending = events.outcome(attempt, self.known_generation, mint, new=None, error=None, result=result)
        event = self._append(ending)
        answer = attempt.told(Settled(result, stored.environment, stored.generation, stored.etag, event))
        self.ledger.append(_commit(attempt, self.generation or 0, answer, None), attempt.moment, sync=True)
        return answer

    def commit(
        self,
        attempt: Attempt,
        written: Body,
        environment: Environment,
        result: Mapping[str, Any],
        failure: GreenticError | None,
        files: Companions = (),
    ) -> Record:
        """Make `environment` the present state, and `files` with it.

        OSError when it did not happen, StoreError when that is unknown.
        """
        previous, generation, mint = self.record, self.next_generation, self._settings.mint
        self._audit.rotate()
        intent = self._audit.link(events.intent(attempt, self.known_generation, mint))
        ending = events.outcome(attempt, self.known_generation, mint, new=generation, error=failure, result=result)
        outcome = chain.link(ending, intent)
        if failure is None:
            result = attempt.told(Settled(result, environment, generation, written.digest, outcome.event))
        commit = {**_commit(attempt, generation, result, failure), "outcome": outcome.event}
        record = document.encode(written, environment, generation, commit)
        self._audit.append([intent], sync=True)
        try:
            if previous is not None and previous.commit:
                self.ledger.sync(previous.commit["key"])
            companions.place(self._files, self._folder, files)
            temporary = folders.prepare(self._files, self._folder, folders.DOCUMENT, record.raw)
            backup.keep(self._files, self._folder, self.generation, attempt.moment, damaged=self.damage is not None)
        except OSError as error:
            self._failed(attempt, failures.unwritten(self._folder, error))
            raise
        except GreenticError as error:  # a link where a companion goes
            self._failed(attempt, error)
            raise
        self._replace(temporary)
        self.record = record
        self._afterwards(
            [
                lambda: self.ledger.append(record_of(commit), attempt.moment, sync=False),
                lambda: self._audit.append([outcome], sync=False),
                self.refresh,
                lambda: backup.prune(self._files, self._folder, self._settings.backups, attempt.moment),
                lambda: self._sign(environment, outcome, attempt.now),
            ]
        )
        return record

    def refresh(self) -> None:
        """Bring derived files up to date. OSError."""
        if self.record is not None:
            runtime.refresh(self._files, self._folder, self.record.stored.environment)
            trust_file.refresh(self._files, self._folder, self.record.stored.environment)

    def repair(self) -> None:
        """As `refresh`; a failure is left to the next writer."""
        self._afterwards([self.refresh])

    def _sign(self, environment: Environment, outcome: chain.Entry, now: str) -> None:
        head = self._seal(environment, outcome.sequence, outcome.hash, now)
        if head is not None:
            heads.write(self._files, self._folder, head)

    def _replace(self, temporary: Path) -> None:
        try:
            self._files.rename(temporary, self._folder / folders.DOCUMENT)
            self._files.sync_folder(self._folder)
        except OSError as error:
            raise failures.unconfirmed(self._folder, error) from error

    def _redo(self, commit: Mapping[str, Any]) -> None:
        outcome, record, head = chain.Entry(commit["outcome"]), record_of(commit), self._audit.head
        unlogged = head is None or head.sequence < outcome.sequence
        unrecorded = False
        if not self.ledger.expired(record, self.moment):
            found = self.ledger.find(record["key"], self.moment)
            unrecorded = found is None or found["generation"] != record["generation"]
        if unlogged or unrecorded:
            self._files.sync_folder(self._folder)  # the rename may not be durable yet; nothing may speak of it before
        if unlogged:
            self._audit.append([outcome], sync=False)
        if unrecorded:
            self.ledger.append(record, self.moment, sync=False)

    def _announce_and_close(
        self, attempt: Attempt, error: GreenticError | None, result: Mapping[str, Any] | None = None
    ) -> chain.Entry:
        mint = self._settings.mint
        self._audit.rotate()
        intent = self._audit.link(events.intent(attempt, self.known_generation, mint))
        ending = events.outcome(attempt, self.known_generation, mint, new=None, error=error, result=result)
        outcome = chain.link(ending, intent)
        self._audit.append([intent, outcome], sync=True)
        return outcome

    def _failed(self, attempt: Attempt, failure: GreenticError) -> None:
        with suppress(OSError):  # the next writer finds an intent without an outcome, and closes it
            self._append(events.outcome(attempt, self.known_generation, self._settings.mint, new=None, error=failure))

    def _append(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        entry = self._audit.link(event)
        self._audit.append([entry], sync=False)
        return entry.event

    def _afterwards(self, steps: Iterable[Callable[[], object]]) -> None:
        """What can be redone from what is there already: each is tried, none can make the attempt fail."""
        for step in steps:
            with suppress(OSError, GreenticError):
                step()


def _commit(
    attempt: Attempt, generation: int, result: Mapping[str, Any], failure: GreenticError | None
) -> dict[str, Any]:
    commit: dict[str, Any] = {
        "key": attempt.command.idempotency_key,
        "fingerprint": attempt.fingerprint,
        "generation": generation,
        "stored_at": attempt.now,
        "result": result,
    }
    if failure is not None:
        commit["failure"] = failure.document()
    return commit
