"""The store in a database. What is promised stands in `contract`; how attempts are carried out, in `view`; how they
are committed together, in `lanes`; what the tables hold, in `rows` and `schema`.

One transaction commits the state, the record of the key, the audit entry, the signed head and the files that go with a
change. A document that was read or made is kept in memory; whether it is still the newest is asked of the database by
one statement.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greentic.engine.command import Command
from greentic.spec.errors import (
    Denied,
    GreenticError,
    InvalidArgument,
    NotFound,
    NotImplementedYet,
    StoreError,
)
from greentic.spec.identifiers import environment_id as checked
from greentic.store import deciding, events
from greentic.store.clock import Clock, timestamp, wall_clock
from greentic.store.contract import (
    Applied,
    Authorize,
    Complete,
    Effect,
    Files,
    Listener,
    Listing,
    Request,
    Step,
    Stored,
    Transition,
    WritableFiles,
)
from greentic.store.deciding import engine_transition, local_only, missing
from greentic.store.events import Attempt, EventId
from greentic.store.heads import Seal, nobody
from greentic.store.preconditions import Precondition, demand
from greentic.store.sql.database import Database, DatabaseFailed, Interrupted, blob
from greentic.store.sql.lanes import Lanes, Waiting
from greentic.store.sql.limits import Allowances, Limits
from greentic.store.sql.rows import State
from greentic.store.sql.trail import SqlTrail
from greentic.store.sql.view import Done, Job, Surroundings, View
from greentic.store.verification import AuditReport, Head

if TYPE_CHECKING:
    from greentic.store.sql.backups import Notary, SqlBackups

_EVERYTHING = ""
"""The lane of a database that has only one."""
_REMEMBERED = 1_024
"""Environments whose documents are kept in memory."""
_PAUSES = (0.01, 0.05, 0.2, 0.5, 1.0)
"""Seconds between tries; the last is repeated."""
_TURN_SECONDS = 0.1
"""How long changes are gathered for one commit: who has a small one does not wait for all the large ones of others."""


class SqlStore:
    """Environments in `database`, which the store closes with itself.

    `clock` tells the time, `transition` decides, `authorize` allows, `seal` signs heads, `notary` signs backups and
    checks them, `limits` bound what is kept. `patience` is how many seconds an interrupted transaction is tried again.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock = wall_clock,
        transition: Transition = engine_transition,
        authorize: Authorize = local_only,
        seal: Seal = nobody,
        notary: Notary | None = None,
        limits: Limits | None = None,
        mint: EventId = events.event_id,
        patience: float = 10.0,
        threads: int = 4,
    ) -> None:
        self.database = database
        self.clock = clock
        limits = limits or Limits()
        self.surroundings = Surroundings(mint, seal, limits, transition, Allowances(limits))
        self._authorize = authorize
        self._notary = notary
        self._patience = patience
        self._known: OrderedDict[str, State] = OrderedDict()
        self._guard = threading.Lock()
        self._listeners: list[Listener] = []
        self._lanes = Lanes(self._serve, threads=threads if database.lanes else 1, name="greentic-store")
        database.listen(self._tell)

    def load(self, environment_id: str) -> Stored:
        """The newest committed state. What is in memory is given when the database has nothing newer."""
        known = self._known.get(checked(environment_id))
        if known is not None:
            stored = known.stored
            found = self.database.ask("SELECT generation, etag FROM environments WHERE env_id = ?", environment_id)
            if found and tuple(found[0]) == (stored.generation, stored.etag):
                return stored
        with self.viewing(environment_id) as view:
            return self._whole(view).stored

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
        return self.submit(
            command, expected_generation=expected_generation, if_match=if_match, complete=complete, request=request
        ).result()

    def submit(
        self,
        command: Command,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        complete: Complete | None = None,
        request: Request | None = None,
        transition: Transition | None = None,
        over_damage: bool = False,
    ) -> Future[Applied]:
        """As `apply`, for those who need not wait for it; `transition` and `over_damage` are the store's own business.

        A change can be taken back (`cancel`) until its turn begins; then it happens, whether somebody waits or not.
        """
        expected = Precondition(expected_generation, if_match)
        attempt = self.attempt(command, request)

        def job(view: View) -> Done:
            return view.carry_out(
                self.dated(attempt),
                transition=transition,
                expected=expected,
                complete=complete,
                over_damage=over_damage,
            )

        return self.enqueue(command, job)

    def apply_all(
        self,
        steps: Sequence[Step],
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
    ) -> tuple[Applied, ...]:
        """Carry out several commands on one environment, all of them or none; see `contract.Batching`."""
        if len({step.command.environment_id for step in steps}) != 1:
            raise InvalidArgument("what is carried out together is for one environment, and is not nothing")
        asked = [(step, self.attempt(step.command, step.request)) for step in steps]

        def job(view: View) -> tuple[Applied, ...]:
            expected = Precondition(expected_generation, if_match)
            done: tuple[Applied, ...] = ()
            failed = asked[0][1]
            try:
                with view.whole():
                    for step, attempt in asked:
                        failed = self.dated(attempt)
                        one = view.carry_out(failed, expected=expected, complete=step.complete)
                        if one.failure is not None:
                            raise one.failure
                        if not one.applied.replayed:
                            expected = Precondition(None, None)  # what follows is on the state that we made
                        done += (one.applied,)
            except GreenticError as error:
                view.refuse(failed, error)
                error.details["step"] = len(done)
                raise
            return done

        waiting = Waiting(steps[0].command.environment_id, tuple(one.command.idempotency_key for one in steps), job)
        self._put(waiting)
        applied: tuple[Applied, ...] = waiting.future.result()
        return applied

    def plan(
        self,
        command: Command,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        complete: Complete | None = None,
        request: Request | None = None,
        transition: Transition | None = None,
        over_damage: bool = False,
    ) -> Applied:
        """What `apply` would answer now, without committing, recording or auditing anything."""
        attempt = self.attempt(command, request)
        expected = Precondition(expected_generation, if_match)
        with self.viewing(command.environment_id) as view:
            done = view.rehearse(
                attempt, transition=transition, expected=expected, complete=complete, over_damage=over_damage
            )
        if done.failure is not None:
            raise done.failure
        return done.applied

    def list(self) -> tuple[Listing, ...]:
        """Every environment by name; one that cannot be read is listed with its error."""
        return tuple(self._listing(name) for name in self.names())

    def names(self) -> tuple[str, ...]:
        """Every environment by name."""
        with self.database.reading() as connection:
            return tuple(sorted(str(name) for (name,) in connection.query("SELECT env_id FROM environments")))

    def artifacts(self, environment_id: str) -> Path:
        """NotImplementedYet: there is no folder."""
        raise NotImplementedYet(
            f"the environment '{checked(environment_id)}' is kept in a database and has no folder",
            details={"environment_id": environment_id, "place": self.database.place},
            next_step="run this verb where the environment's folder is",
        )

    def at(self, environment_id: str, generation: int) -> Stored:
        """The state of that generation, for as long as keys are kept."""
        with self.viewing(environment_id) as view:
            stored = self._whole(view).stored
            if stored.generation == generation:
                return stored
            etag = view.etag_of(generation)
            if etag is None:
                raise NotFound(
                    f"generation {generation} of '{environment_id}' is not kept",
                    details={
                        "environment_id": environment_id,
                        "generation": generation,
                        "oldest": view.history_from,
                        "present": stored.generation,
                    },
                    next_step=f"gtc op backup list {environment_id}",
                )
            return view.at(generation, etag).stored

    def files(self, environment_id: str) -> Files:
        """What stands beside the environment's document, committed."""
        return _CommittedFiles(self, checked(environment_id))

    def maintain(
        self,
        command: Command,
        effect: Effect,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        request: Request | None = None,
    ) -> Applied:
        """Run `effect` on the files beside the document; see `contract`. Its writer's turn is not to be slow.

        The intent is committed before, so that what an effect does to the world is announced.
        """
        expected = Precondition(expected_generation, if_match)
        attempt = self.attempt(command, request)

        def announce(view: View) -> Done | None:
            if not view.exists:
                raise missing(command.environment_id)
            return view.announce(self.dated(attempt), expected)

        found: Applied | None = self.enqueue(command, announce).result()
        if found is not None:
            return found

        def perform(view: View) -> Done:
            return view.perform(self.dated(attempt), effect, expected)

        performed: Applied = self.enqueue(command, perform).result()
        return performed

    def would_maintain(self, command: Command) -> Stored:
        """The environment that `maintain` would run on; its refusals, with nothing recorded."""
        attempt = self.attempt(command, None)
        with self.viewing(command.environment_id) as view:
            stored = self._whole(view).stored
            demand(attempt)
            return stored

    def deny(self, command: Command, request: Request) -> None:
        """Record a denial; see `contract`."""
        attempt = Attempt(command, request.fingerprint, request.decision, self.clock(), request)

        def job(view: View) -> None:
            view.refuse(self.dated(attempt), Denied(request.decision.reason))

        checked(command.environment_id)
        self.enqueue(command, job).result()

    def events(self, environment_id: str, after: int = 0, limit: int = 1_000) -> tuple[Mapping[str, Any], ...]:
        """A page of the audit log; see `contract`."""
        self._must_exist(environment_id)
        return tuple(islice(self.audit(environment_id).events(after), limit))

    def audit(self, environment_id: str) -> SqlTrail:
        """The environment's audit log, for reading."""
        return SqlTrail(self.database, checked(environment_id))

    def head(self, environment_id: str) -> bytes | None:
        """The newest signed head of its audit log, None when nobody signed one."""
        with self.database.reading() as connection:
            found = connection.query("SELECT signed FROM environments WHERE env_id = ?", checked(environment_id))
        if not found:
            raise missing(environment_id)
        return None if found[0][0] is None else blob(found[0][0])

    def verify_audit(self, environment_id: str) -> AuditReport:
        """Check its audit log against itself and against the last change."""
        with self.database.reading() as connection:
            found = connection.query(
                "SELECT sequence, head FROM environments WHERE env_id = ?", checked(environment_id)
            )
        if not found:
            raise missing(environment_id)
        return self.audit(environment_id).verify(Head(*found[0]))

    def backups(self) -> SqlBackups:
        """Its backups."""
        from greentic.store.sql.backups import SqlBackups

        return SqlBackups(self, self._notary)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` after each change; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def probe(self) -> None:
        """Show that the database can be written, durably; StoreError when it cannot."""

        def job(view: View) -> None:
            view.probe(timestamp(self.clock()))

        waiting = Waiting("", (), job)
        self._lanes.put(_EVERYTHING, waiting)
        waiting.future.result()

    def close(self) -> None:
        """Finish what waits and let go of the database."""
        self._lanes.close()
        self.database.close()

    def attempt(self, command: Command, request: Request | None) -> Attempt:
        """`command` as an attempt; InvalidArgument for what cannot be one."""
        checked(command.environment_id)
        return deciding.attempt(command, self.clock(), self._authorize, request)

    def enqueue(self, command: Command, job: Job) -> Future[Any]:
        """Let `job` have its turn with the environment; the future has what it returns or raises, once durable."""
        waiting = Waiting(command.environment_id, (command.idempotency_key,), job)
        self._put(waiting)
        return waiting.future

    def _put(self, waiting: Waiting) -> None:
        self._lanes.put(waiting.environment_id if self.database.lanes else _EVERYTHING, waiting)

    def settled(self, command: Command, job: Callable[[View], Done]) -> Applied:
        """What `job` came to when it had its turn."""
        applied: Applied = self.enqueue(command, job).result()
        return applied

    def dated(self, attempt: Attempt) -> Attempt:
        """The attempt at the time of its turn: time went by while others had theirs."""
        return Attempt(attempt.command, attempt.fingerprint, attempt.decision, self.clock(), attempt.request)

    def _serve(self, lane: str, group: Sequence[Waiting]) -> Sequence[Waiting]:
        deadline = time.monotonic() + self._patience
        pauses = iter(_PAUSES)
        certain = True
        while True:
            try:
                ends = self._together(lane, group)
            except Interrupted as stop:
                certain = certain and stop.certain
                if time.monotonic() < deadline:
                    time.sleep(next(pauses, _PAUSES[-1]))
                    continue
                error = StoreError(
                    f"the database {self.database.place} failed: {stop.reason}",
                    details={"place": self.database.place, "away": True}
                    | ({} if certain else {"committed": "unconfirmed"}),
                    next_step="look after the database, then run the same command again under the same key",
                )
                ends = [(one, error) for one in group]
            except Exception as error:
                if len(group) > 1 and not isinstance(error, GreenticError):
                    for one in group:  # whatever it is that cannot be written, it stops nobody else
                        self._serve(lane, (one,))
                    return ()
                ends = [(one, error) for one in group]
            for waiting, end in ends:
                if isinstance(end, BaseException):
                    waiting.future.set_exception(end)
                else:
                    waiting.future.set_result(end)
            return group[len(ends) :]

    def _together(self, lane: str, group: Sequence[Waiting]) -> Sequence[tuple[Waiting, Any]]:
        """Carry out a group in one transaction, or as much of it as fits into a turn; who is told what, once it is
        durable."""
        ends: deque[tuple[Waiting, Any]] = deque()
        end_of_turn = time.monotonic() + _TURN_SECONDS
        views: dict[str, View] = {}
        with self.database.writing(lane) as connection:
            for waiting in group:
                if ends and time.monotonic() > end_of_turn:
                    break
                view = views.get(waiting.environment_id)
                if view is None:
                    name = waiting.environment_id
                    view = views[name] = View(connection, name, self.surroundings)
                    view.load(self._known.get(name))
                    view.expect(key for one in group if one.environment_id == name for key in one.keys)
                try:
                    ends.append((waiting, waiting.job(view)))
                except DatabaseFailed:
                    raise
                except GreenticError as error:
                    ends.append((waiting, error))
                # Anything else is a fault of ours, after which nobody knows what the view holds: nothing is committed.
            with connection.batch():
                for name in sorted(views):
                    views[name].flush(self.database)
        for view in views.values():
            self._remember(view.state)
            if view.announced:
                self._tell(view.environment_id, view.announced)
        return [(waiting, _told(end)) for waiting, end in ends]

    @contextmanager
    def viewing(self, environment_id: str) -> Iterator[View]:
        """The environment as it stands, for looking at."""
        name = checked(environment_id)
        with self.database.reading() as connection:
            view = View(connection, name, self.surroundings)
            view.load(self._known.get(name))
            self._remember(view.state)
            yield view

    def _whole(self, view: View) -> State:
        if view.damage is not None:
            raise view.damage
        if view.state is None:
            raise missing(view.environment_id)
        return view.state

    def _remember(self, state: State | None) -> None:
        if state is None:
            return
        name = state.stored.environment.environment_id
        with self._guard:
            known = self._known.get(name)
            if known is not None and known.stored.generation > state.stored.generation:
                return
            self._known[name] = state
            self._known.move_to_end(name)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def _tell(self, environment_id: str, generation: int) -> None:
        for listener in tuple(self._listeners):
            with suppress(Exception):
                listener(environment_id, generation)

    def _listing(self, name: str) -> Listing:
        try:
            return Listing(name, stored=self.load(name))
        except GreenticError as error:
            return Listing(name, error=error)

    def _must_exist(self, environment_id: str) -> None:
        with self.database.reading() as connection:
            if not connection.query("SELECT 1 FROM environments WHERE env_id = ?", checked(environment_id)):
                raise missing(environment_id)


class _CommittedFiles:
    def __init__(self, store: SqlStore, environment_id: str) -> None:
        self._store = store
        self._environment_id = environment_id

    def read(self, path: str) -> bytes | None:
        with self._store.database.reading() as connection:
            return View(connection, self._environment_id, self._store.surroundings).read_file(path)

    def names(self, under: str) -> tuple[str, ...]:
        with self._store.database.reading() as connection:
            return View(connection, self._environment_id, self._store.surroundings).file_names(under)


def _told(end: Any) -> Any:
    if not isinstance(end, Done):
        return end
    return end.applied if end.failure is None else end.failure


def open_store(place: str, **options: Any) -> SqlStore:
    """The store at `place`: a path of a SQLite file, or a URL `postgresql://…`. Options as of `SqlStore`."""
    if place.startswith(("postgresql://", "postgres://")):
        if find_spec("psycopg") is None:
            raise NotImplementedYet(
                "the driver of PostgreSQL is not installed", next_step="pip install 'greentic[postgresql]'"
            )
        from greentic.store.sql.postgresql import PostgresqlDatabase

        return SqlStore(PostgresqlDatabase(place), **options)
    if "://" in place:
        raise InvalidArgument(
            f"'{place.partition('://')[0]}' is no database that a store can be kept in",
            next_step="name a file, or a URL that begins with postgresql://",
        )
    from greentic.store.sql.sqlite import SqliteDatabase

    return SqlStore(SqliteDatabase(Path(place)), **options)


__all__ = ["Limits", "SqlStore", "WritableFiles", "open_store"]
