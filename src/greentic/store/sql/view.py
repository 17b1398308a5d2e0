"""One environment within a transaction: its state, what attempts make of it one after another, and what to write.

Attempts are carried out in memory. Each sees what the ones before it in the same transaction left, and one that is
refused leaves nothing but its entry in the audit log. `flush` writes all of it at the end, so that many attempts share
their statements and their one sync.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, CorruptDocument, GreenticError
from greentic.store import beside, chain, deciding, events, failures, trust_file
from greentic.store.chain import GENESIS, Entry
from greentic.store.contract import Applied, Complete, Effect, Settled, Stored, Transition
from greentic.store.deciding import missing
from greentic.store.events import Attempt, EventId
from greentic.store.heads import Seal
from greentic.store.preconditions import Precondition, demand, meet
from greentic.store.sql import rows
from greentic.store.sql.database import Connection, Database, blob, listed
from greentic.store.sql.limits import Allowances, Limits, forget_entries, forget_generations, forget_keys
from greentic.store.sql.rows import State

_UNBOUND = Precondition(None, None)
_ELEMENTS = ("env_id", "section", "position", "generation", "data")
_AUDIT = ("env_id", "sequence", "line")
_FILES = ("env_id", "path", "digest", "data")
_LEDGER = ("env_id", "key", "fingerprint", "generation", "etag", "sequence", "stored_at", "record")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every view needs: the seams, the limits, and what callers have used of them."""

    mint: EventId
    seal: Seal
    limits: Limits
    transition: Transition
    allowances: Allowances


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is kept of an attempt under its key."""

    fingerprint: str
    stored_at: str
    record: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """What an attempt came to: the answer, and the failure that the caller gets for it after it was committed."""

    applied: Applied
    failure: GreenticError | None = None


class View:
    """The environment `environment_id` in the transaction of `connection`."""

    def __init__(self, connection: Connection, environment_id: str, surroundings: Surroundings) -> None:
        self._connection = connection
        self._surroundings = surroundings
        self.environment_id = environment_id
        self.state: State | None = None
        self.damage: CorruptDocument | None = None
        self.exists = False
        self.generation = 0
        self.sequence = 0
        self.hash = GENESIS
        self.audit_from = 1
        self.history_from = 1
        self._etag = ""
        self._ledger: dict[str, Recorded | None] = {}
        self._beginning = (0, 0)
        self._files: dict[str, bytes | None] = {}
        self._sealed: bytes | None = None
        self._seal_due: str | None = None
        self._elements: list[tuple[str, int, int, bytes | None]] = []
        self._lines: list[tuple[int, bytes]] = []
        self._later: list[tuple[str, tuple[Any, ...]]] = []
        self._anew = False
        self._records: list[tuple[bytes, str, int, str, int, str, bytes]] = []
        self.announced = 0

    def load(self, known: State | None) -> None:
        """Read what is there; `known` is a state that was read or made before, None when there is none."""
        self._read(known)
        self._beginning = (self.generation, self.sequence)

    def _read(self, known: State | None) -> None:
        found = self._connection.query(
            "SELECT generation, etag, sequence, head, audit_from, history_from FROM environments WHERE env_id = ?",
            self.environment_id,
        )
        if not found:
            return
        self.generation, self._etag, self.sequence, self.hash, self.audit_from, self.history_from = found[0]
        self.exists = True
        try:
            self.state = self._state(known)
        except CorruptDocument as damage:
            self.damage = damage

    def _state(self, known: State | None) -> State:
        if known is not None:
            stored = known.stored
            if (stored.generation, stored.etag) == (self.generation, self._etag):
                return known
            if self.history_from <= stored.generation < self.generation:
                younger = self._connection.query(
                    "SELECT section, position, data FROM elements WHERE env_id = ? AND generation > ? "
                    "ORDER BY section, position, generation",
                    self.environment_id,
                    stored.generation,
                )
                with suppress(CorruptDocument):  # or what is known is of a past that the database was taken back from
                    return rows.advanced(known, younger, self.generation, self._etag)
        return self.at(self.generation, self._etag)

    def at(self, generation: int, etag: str) -> State:
        """The state of a generation, whose etag is known; CorruptDocument."""
        found = self._connection.query(
            "SELECT section, position, data FROM elements WHERE env_id = ? AND generation <= ? "
            "ORDER BY section, position, generation",
            self.environment_id,
            generation,
        )
        return rows.assembled(found, generation, etag, self.environment_id)

    def expect(self, keys: Iterable[str]) -> None:
        """Look for the records of several keys at once, before they are asked for one by one."""
        wanted = {key: key.encode("utf-8", "surrogatepass") for key in keys if key not in self._ledger}
        if not self.exists or not wanted:
            return
        statement, values = listed(
            "SELECT key, fingerprint, stored_at, record FROM ledger WHERE env_id = ? AND key IN (?)", wanted.values()
        )
        found = self._connection.query(statement, self.environment_id, *values)
        by_key = {blob(key): Recorded(print_, moment, blob(record)) for key, print_, moment, record in found}
        self._ledger.update({key: by_key.get(raw) for key, raw in wanted.items()})

    def etag_of(self, generation: int) -> str | None:
        """The etag of a past generation; None when its rows, or the record of its key, are no longer kept."""
        if not self.history_from <= generation <= self.generation:
            return None
        found = self._connection.query(
            "SELECT etag FROM ledger WHERE env_id = ? AND generation = ? LIMIT 1", self.environment_id, generation
        )
        return str(found[0][0]) if found else None

    def probe(self, now: str) -> None:
        """Write something that means nothing."""
        self._connection.insert("probes", ("name", "moment"), [("probe", now)], key=("name",))

    def later(self, statement: str, *values: Any) -> None:
        """Carry out a statement of the store's own when what the attempts left is written."""
        self._later.append((statement, values))

    def query(self, statement: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        """Ask something of the store's own."""
        return self._connection.query(statement, *values)

    def verified(self) -> State:
        """The present state, read anew from its rows; NotFound, CorruptDocument."""
        if not self.exists:
            raise missing(self.environment_id)
        self.write()
        return self.at(self.generation, self._etag)

    def all_files(self) -> tuple[str, ...]:
        """The paths of all files beside the document, in order."""
        self.write()
        found = self._connection.query("SELECT path FROM files WHERE env_id = ?", self.environment_id)
        return tuple(sorted(str(path) for (path,) in found))

    def adopt(self, lines: Sequence[tuple[int, bytes]], newest: Entry) -> None:
        """Begin the log of an environment that does not exist yet with entries from elsewhere, `newest` the last."""
        self._lines = [*lines]
        self.sequence, self.hash = newest.sequence, newest.hash
        self.audit_from = lines[0][0]

    def disown(self) -> None:
        """Forget what was adopted."""
        self._lines, self.sequence, self.hash, self.audit_from = [], 0, GENESIS, 1

    def settle_in(
        self,
        state: State,
        elements: Iterable[rows.Row],
        log: Sequence[Entry],
        files: Mapping[str, bytes],
        records: Iterable[tuple[bytes, str, int, str, int, str, bytes]],
        now: str,
    ) -> None:
        """Begin an environment that does not exist yet as it was elsewhere, at its generation and with its history."""
        if log:
            self.adopt([(entry.sequence, entry.line()) for entry in log], log[-1])
        stored = state.stored
        self._elements += [(section, place, stored.generation, data) for section, place, data in elements]
        self._files.update(files)
        self._records += records
        self.state, self.exists = state, True
        self.generation, self._etag, self.history_from = stored.generation, stored.etag, stored.generation
        self._seal_due, self.announced = now, stored.generation

    def move_out(self) -> None:
        """Forget what was to settle in."""
        self.disown()
        self._elements, self._records, self._later, self._files, self._ledger = [], [], [], {}, {}
        self.state, self.exists, self.generation, self._etag, self.history_from = None, False, 0, "", 1
        self._seal_due, self.announced = None, 0

    def carry_out(
        self,
        attempt: Attempt,
        *,
        transition: Transition | None = None,
        expected: Precondition = _UNBOUND,
        complete: Complete | None = None,
        over_damage: bool = False,
    ) -> Done:
        """Carry out the attempt; what it is refused with is raised, and stands in the audit log."""
        with self._refusals(attempt):
            recorded = self._admitted(attempt, over_damage=over_damage)
        if recorded is not None:
            return self._replayed(recorded)
        with self._refusals(attempt):
            before, decided, change = self._decided(attempt, transition, expected, complete)
            files = {path: self._companion(path, data) for path, data in decided.files}
        attempt = Attempt(decided.command, attempt.fingerprint, attempt.decision, attempt.moment, attempt.request)
        failure = decided.outcome.failure
        generation = self.generation if change is None else self.generation + 1
        environment = decided.outcome.environment
        state = self.state if change is None else change.state(environment, generation)
        assert state is not None, "a creation is a change"
        entry, line = self._outcome(attempt, decided.result, failure, new=None if change is None else state.stored)
        answer: Mapping[str, Any] = decided.result
        if failure is None:
            answer = attempt.answer(Settled(answer, environment, generation, state.stored.etag, entry.event))
        self._record(attempt, state.stored, entry.sequence, answer, failure)
        self._append(entry, line)
        if change is not None:
            self._elements += [(section, place, generation, data) for section, place, data in change.rows]
            self._files.update(files)
            self._derive(before, environment)
            if self.damage is not None:
                self._put_aside(attempt)
            self.state, self.damage, self.exists = state, None, True
            self.generation, self._etag = generation, state.stored.etag
            self._seal_due, self.announced = attempt.now, generation
        return Done(Applied(answer, state.stored.environment, generation, state.stored.etag), failure)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What is carried out within the block happens completely, or, when the block raises, not at all."""
        self.write()
        self._connection.query("SAVEPOINT whole")
        kept = {name: copy(value) if isinstance(value, dict | list) else value for name, value in vars(self).items()}
        try:
            yield
        except BaseException:
            vars(self).update(kept)
            self._connection.query("ROLLBACK TO SAVEPOINT whole")
            raise
        self._connection.query("RELEASE SAVEPOINT whole")

    def rehearse(
        self,
        attempt: Attempt,
        *,
        transition: Transition | None = None,
        expected: Precondition = _UNBOUND,
        complete: Complete | None = None,
        over_damage: bool = False,
    ) -> Done:
        """What `carry_out` would come to; nothing is noted."""
        if self.exists:
            recorded = self._admitted(attempt, over_damage=over_damage)
            if recorded is not None:
                return self._replayed(recorded)
        _, decided, change = self._decided(attempt, transition, expected, complete)
        demand(attempt)
        if change is None:
            assert self.state is not None, "a creation is a change"
            stored = self.state.stored
        else:
            stored = change.state(decided.outcome.environment, self.generation + 1).stored
        applied = Applied(decided.result, stored.environment, stored.generation, stored.etag)
        return Done(applied, decided.outcome.failure)

    def announce(self, attempt: Attempt, expected: Precondition) -> Done | None:
        """Note that an effect is about to be tried; what is recorded of it when it was tried before."""
        with self._refusals(attempt):
            recorded = self._admitted(attempt, over_damage=False)
        if recorded is not None:
            return self._replayed(recorded)
        with self._refusals(attempt):
            meet(expected, self._present())
        event = events.intent(attempt, self.generation, self._surroundings.mint)
        self._append(*chain.linked_line(event, self.sequence + 1, self.hash))
        return None

    def perform(self, attempt: Attempt, effect: Effect, expected: Precondition) -> Done:
        """Run `effect` on the files beside the document, and record what came of it."""
        with self._refusals(attempt):
            recorded = self._admitted(attempt, over_damage=False)
        if recorded is not None:
            return self._replayed(recorded)
        with self._refusals(attempt):
            stored = self._present()
            meet(expected, stored)
            files = beside.PendingFiles(ViewFiles(self))
            result: dict[str, Any] = from_json(to_json(effect(files)))
        entry, line = self._outcome(attempt, result, None, new=None)
        answer = attempt.answer(Settled(result, stored.environment, stored.generation, stored.etag, entry.event))
        self._record(attempt, stored, entry.sequence, answer, None)
        self._append(entry, line)
        self._files.update(files.changes)
        return Done(Applied(answer, stored.environment, stored.generation, stored.etag))

    @contextmanager
    def _refusals(self, attempt: Attempt) -> Iterator[None]:
        """What the block refuses stands in the audit log. A repetition is answered outside: it leaves nothing there,
        also when what it repeats is a failure."""
        try:
            yield
        except GreenticError as error:
            self.refuse(attempt, error)
            raise

    def refuse(self, attempt: Attempt, error: GreenticError) -> None:
        """Note that the attempt was refused with `error`, as far as its caller's allowance goes."""
        if not self.exists:
            return  # there is no log to hold it
        unrecorded = self._surroundings.allowances.take(self.environment_id, _asker(attempt), attempt.moment)
        if unrecorded is None:
            return
        entry, line = self._outcome(attempt, None, error, new=None, unrecorded=unrecorded)
        self._append(entry, line)

    def read_file(self, path: str) -> bytes | None:
        """The content of a file beside the document; CorruptDocument when it is not what was written."""
        beside.checked(path)
        if path in self._files:
            return self._files[path]
        found = self._connection.query(
            "SELECT digest, data FROM files WHERE env_id = ? AND path = ?", self.environment_id, path
        )
        if not found:
            return None
        data = blob(found[0][1])
        if hashlib.sha256(data).hexdigest() != found[0][0]:
            raise rows.corrupt(self.environment_id, f"the file '{path}' beside it is not the one that was written")
        return data

    def file_names(self, under: str) -> tuple[str, ...]:
        """The paths of all files below a folder, in order."""
        begin = f"{beside.checked(under)}/"
        found = self._connection.query(
            "SELECT path FROM files WHERE env_id = ? AND path >= ? AND path < ?",
            self.environment_id,
            begin,
            f"{under}0",  # the character after the slash
        )
        names = {str(path) for (path,) in found} | {path for path in self._files if path.startswith(begin)}
        return tuple(sorted(path for path in names if self._files.get(path, b"") is not None))

    def flush(self, database: Database) -> None:
        """Write what the attempts left; nothing when they left nothing."""
        if self.sequence == self._beginning[1]:
            return
        self._sealed = self._signed()
        self.write()
        self._tidy()
        self._write_row()
        if self.announced:
            database.announce(self._connection, self.environment_id, self.announced)

    def write(self) -> None:
        """Write all of it but the environment's own row, so that statements see it."""
        connection, name = self._connection, self.environment_id
        if self._anew:
            connection.query("DELETE FROM elements WHERE env_id = ?", name)
            self._anew = False
        connection.insert("elements", _ELEMENTS, [(name, *one) for one in self._elements])
        connection.insert("ledger", _LEDGER, [(name, *one) for one in self._records])
        connection.insert("audit", _AUDIT, [(name, *one) for one in self._lines])
        kept = [(path, data) for path, data in self._files.items() if data is not None]
        written = [(name, path, hashlib.sha256(data).hexdigest(), data) for path, data in kept]
        connection.insert("files", _FILES, written, key=("env_id", "path"))
        for path, data in self._files.items():
            if data is None:
                connection.query("DELETE FROM files WHERE env_id = ? AND path = ?", name, path)
        for statement, values in self._later:
            connection.query(statement, *values)
        for done in (self._elements, self._records, self._lines, self._files, self._later):
            done.clear()

    def _put_aside(self, attempt: Attempt) -> None:
        """Keep the rows that could not be trusted as a backup of their own, and begin anew without them."""
        found = self._connection.query(
            "SELECT section, position, generation, data FROM elements WHERE env_id = ? ORDER BY 1, 2, 3",
            self.environment_id,
        )
        kept = [[*row[:3], None if row[3] is None else base64.b64encode(blob(row[3])).decode()] for row in found]
        data = zlib.compress(to_json({"etag": self._etag, "elements": kept}))
        digest = hashlib.sha256(data).hexdigest()
        row = (self.environment_id, self._surroundings.mint(attempt.moment), attempt.now, self.generation, "damaged")
        marks = ", ".join("?" * 10)
        self.later(f"INSERT INTO backups VALUES ({marks})", *row, self._etag, len(data), digest, data, None)  # noqa: S608
        self._anew, self.history_from = True, self.generation + 1

    def _write_row(self) -> None:
        values = (self.generation, self._etag, self.sequence, self.hash, self.audit_from, self.history_from)
        if self._beginning == (0, 0):
            self._connection.query(
                "INSERT INTO environments (generation, etag, sequence, head, audit_from, history_from, signed, env_id) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                *values,
                self._sealed,
                self.environment_id,
            )
            return
        sealed = () if self._sealed is None else (self._sealed,)
        signed = ", signed = ?" if sealed else ""
        self._connection.query(
            "UPDATE environments SET generation = ?, etag = ?, sequence = ?, head = ?, audit_from = ?, "  # noqa: S608
            f"history_from = ?{signed} WHERE env_id = ?",
            *values,
            *sealed,
            self.environment_id,
        )

    def _signed(self) -> bytes | None:
        if self._seal_due is None or self.state is None:
            return None
        try:
            return self._surroundings.seal(self.state.stored.environment, self.sequence, self.hash, self._seal_due)
        except GreenticError:
            return None  # no change fails because nobody could sign

    def _tidy(self) -> None:
        """Forget, now and then, what is older than the limits say."""
        limits, every = self._surroundings.limits, self._surroundings.limits.tidy_every
        generation, sequence = self._beginning
        connection, name = self._connection, self.environment_id
        if sequence // every != self.sequence // every:
            forget_keys(connection, name, limits.keys)
            oldest = 1 if limits.audit_rows is None else self.sequence - limits.audit_rows + 1
            if oldest > self.audit_from:
                forget_entries(connection, name, oldest)
                self.audit_from = oldest
        oldest = self.generation - limits.keys
        if generation // every != self.generation // every and oldest > self.history_from:
            forget_generations(connection, name, oldest)
            self.history_from = oldest

    def _admitted(self, attempt: Attempt, *, over_damage: bool) -> Recorded | None:
        demand(attempt)
        if self.damage is not None and not over_damage:
            raise self.damage
        key = attempt.command.idempotency_key
        self.expect((key,))
        recorded = self._ledger.get(key)
        if recorded is not None:
            deciding.same_request(attempt, recorded.fingerprint, recorded.stored_at)
        return recorded

    def _decided(
        self, attempt: Attempt, transition: Transition | None, expected: Precondition, complete: Complete | None
    ) -> tuple[Environment | None, deciding.Decided, rows.Change | None]:
        stored = None if self.state is None else self.state.stored
        own = self._surroundings.transition
        decided = deciding.decide(attempt, stored, transition or own, expected, complete, ViewFiles(self))
        before = None if stored is None else stored.environment
        if stored is not None and not decided.outcome.changed:
            return before, decided, None
        change = rows.change(decided.outcome.environment, self.state)
        unchecked = transition is None and own is not deciding.engine_transition
        deciding.refuse_unfit(attempt, decided, before, checked=not unchecked)
        return before, decided, change

    def _present(self) -> Stored:
        if self.state is None:
            raise missing(self.environment_id)
        return self.state.stored

    def _replayed(self, recorded: Recorded) -> Done:
        record = json.loads(recorded.record)
        if "failure" in record:
            raise failures.revived(record["failure"])
        stored, result = self._present(), record["result"]
        if "environment" in record:
            *path, last = record["environment"]["at"]
            place = result
            for name in path:
                place = place[name]
            place[last] = self._remembered(record["environment"]["generation"], record["environment"]["etag"])
        return Done(Applied(result, stored.environment, stored.generation, stored.etag, replayed=True))

    def _remembered(self, generation: int, etag: str) -> Environment:
        """The environment that was part of an answer; Conflict when it is no longer kept."""
        if (generation, etag) == (self.generation, self._etag) and self.state is not None:
            return self.state.stored.environment
        if generation < self.history_from:
            raise Conflict(
                f"the request was carried out and left generation {generation}, but its answer is no longer kept",
                details={"reason": "answer-gone", "generation": generation, "etag": etag},
                next_step=f"gtc op env show {self.environment_id}",
            )
        self.write()  # it may have been made a moment ago
        return self.at(generation, etag).stored.environment

    def _companion(self, path: str, data: bytes) -> bytes:
        beside.refuse_rewriting(path, self.read_file(beside.writable(path)), data)
        return data

    def _derive(self, before: Environment | None, environment: Environment) -> None:
        """Keep what tools of the reference, and a restoration, read beside the document."""
        root = environment.trust_root
        if root is not None and (before is None or before.trust_root is not root):
            text = json.dumps(root.to_json(), indent=2, ensure_ascii=False) + "\n"
            self._files[trust_file.FILE] = text.encode()

    def _outcome(
        self,
        attempt: Attempt,
        result: Mapping[str, Any] | None,
        failure: GreenticError | None,
        *,
        new: Stored | None,
        unrecorded: int = 0,
    ) -> tuple[Entry, bytes]:
        event = events.outcome(
            attempt,
            self.generation if self.exists else None,
            self._surroundings.mint,
            new=None if new is None else new.generation,
            error=failure,
            result=result,
        )
        if new is not None:
            event["new_etag"] = new.etag  # so that the chain vouches for the document
        if unrecorded:
            event["unrecorded_refusals"] = unrecorded
        return chain.linked_line(event, self.sequence + 1, self.hash)

    def _append(self, entry: Entry, line: bytes) -> None:
        self._lines.append((entry.sequence, line))
        self.sequence, self.hash = entry.sequence, entry.hash

    def _record(
        self, attempt: Attempt, stored: Stored, sequence: int, answer: Mapping[str, Any], failure: GreenticError | None
    ) -> None:
        kept, at = _without(answer, stored.environment)
        told: dict[str, Any] = {"result": kept}
        if failure is not None:
            told["failure"] = failure.document()
        if at is not None:
            told["environment"] = {"at": at, "generation": stored.generation, "etag": stored.etag}
        record = to_json(told)
        key = attempt.command.idempotency_key
        self._ledger[key] = Recorded(attempt.fingerprint, attempt.now, record)
        raw = key.encode("utf-8", "surrogatepass")
        coordinates = (stored.generation, stored.etag, sequence)
        self._records.append((raw, attempt.fingerprint, *coordinates, attempt.now, record))


Job = Callable[[View], Any]
"""Something to do with a view; what it returns or raises is the caller's."""


class ViewFiles:
    """The files beside the environment of a view, for reading."""

    def __init__(self, view: View) -> None:
        self._view = view

    def read(self, path: str) -> bytes | None:
        """The content of a file, None when there is none."""
        return self._view.read_file(path)

    def names(self, under: str) -> tuple[str, ...]:
        """The paths of all files below a folder, in order."""
        return self._view.file_names(under)


def _without(answer: Mapping[str, Any], environment: Environment) -> tuple[Mapping[str, Any], tuple[str, ...] | None]:
    """`answer` without the environment that stands in it as itself, and where it stood; it is kept in its rows."""
    result = answer.get("result")
    if result is environment:
        return {**answer, "result": None}, ("result",)
    if isinstance(result, Mapping) and result.get("environment") is environment:
        return {**answer, "result": {**result, "environment": None}}, ("result", "environment")
    return answer, None


def _asker(attempt: Attempt) -> str:
    caller = None if attempt.request is None else attempt.request.caller.get("user")
    return str(caller or attempt.command.actor)
