"""The port of the store: where environments live, and what every implementation promises.

Visibility. `load` returns the newest committed state or a newer one, whole: never half of a change, never a mixture of
two. What `apply` returned is seen by every `load` that begins afterwards, from any process that uses the same place.

Atomicity. A change, the record of its idempotency key and its audit outcome are committed by one step: all of them or
none, whatever is interrupted when. A refusal changes no environment. Nothing that breaks a rule of `spec` is committed.

Durability. When `apply` returns, the change survives the death of the process and the loss of power. When it raises an
error of kind `store`, the change happened completely or not at all; the same command under the same key finds out and
ends with exactly one effect.

Idempotence. The same key with the same request (environment, noun, verb, payload) has one effect, for as long as keys
are kept (seven days; a store that others fill from afar may keep the newest 4,096 of an environment only): a repetition
returns the recorded result verbatim with `replayed` True and changes nothing; a recorded failure (a failed gate) is
raised again with its kind and message. The same key with another request is a Conflict with `details.reason`
`idempotency-conflict`. A refused command is not recorded under its key.

Ordering. Changes of one environment happen one after another. The generation is 1 after creation and grows by one with
each change; a no-op keeps it. With `expected_generation` or `if_match` a change happens only to that state; otherwise
it is a Conflict with `details` expected_generation, actual_generation, expected_etag and actual_etag (the actual ones
None when the environment does not exist). A repetition is answered before the precondition is looked at. Environments
do not wait for each other.

Companions. What a change needs to know of the state that it changes, and cannot know before it has the environment to
itself, is told by `complete`: it sees that state and completes the payload, and may add files. The files are new ones
of the environment's folder, whole and durable before the change is committed; a change that does not happen may leave
some behind, which no state names, and a later change of the same name puts them aside. What is there already it reads
through the `files` that it is given, never past the store: they show what earlier changes left, committed or about to
be. The request is what the caller asked, not what it was completed to: a repetition is answered before `complete` is
asked.

Evidence. Each attempt leaves its outcome in the environment's audit log, whether allowed, denied or failed, linked into
one hash chain; no secret and no configuration value stands in it. What reaches beyond the store before it is committed
(an effect of `maintain`, a file that others can see) is announced by an intent before. A repetition had its effect and
its record before; it leaves none. A command that is refused because its environment does not exist leaves nothing
behind, for there is no log to hold it. A store that strangers can reach bounds how many refusals it records.

Errors of every method: InvalidArgument for a name that cannot be an environment's; NotFound for an environment that
does not exist; CorruptDocument for one that cannot be trusted (with the command that restores it); TimedOut when others
keep the environment busy; StoreError when the place itself fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, runtime_checkable

from greentic.engine.command import Command, Outcome
from greentic.spec.environment import Environment
from greentic.spec.errors import GreenticError
from greentic.spec.parsing import Payload
from greentic.store.chain import Entry
from greentic.store.verification import AuditReport, Head


@dataclass(frozen=True, slots=True)
class Stored:
    """An environment as it is kept. `generation` counts its changes; `etag` is the SHA-256 of its canonical JSON."""

    environment: Environment
    generation: int
    etag: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What a command did. `result` is what the caller is told, as JSON values.

    `environment`, `generation` and `etag` belong together. When `replayed`, `result` is the recorded one and they are
    those of the present state, which later changes may have moved on.
    """

    result: Mapping[str, Any]
    environment: Environment
    generation: int
    etag: str
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """One environment of the place: `stored`, or the `error` that makes it unreadable; exactly one of both."""

    environment_id: str
    stored: Stored | None = None
    error: GreenticError | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an actor may give a command, by which policy and why."""

    allowed: bool
    policy: str
    reason: str
    next_step: str | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """A payload with what the present state adds to it; `files` are (path in the environment's folder, bytes)."""

    payload: Payload
    files: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """What an attempt is about to be recorded as: the command's own `result`, the environment after it with its
    generation and etag, and the outcome's `event` as the audit log will hold it."""

    result: Mapping[str, Any]
    environment: Environment
    generation: int
    etag: str
    event: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """How somebody asked over a wire, who is known and judged there; see `ServedStore`.

    `fingerprint` tells requests apart in place of the command's own, `caller` is the audit event's actor, `decision`
    stands in place of the store's `authorize`. `answer` makes what is recorded under the key and returned as the
    result; it is pure, and may be asked more than once for one change. As its member `result`, or as the member
    `environment` of that, it may hold the environment that it was given itself, which is then not recorded once more.
    `target` makes the audit event's target of the command's result (None: before there is one); without it the payload
    is the target. `reported` is a failure that the request tells of: the audit log says it, although the request itself
    is carried out.
    """

    fingerprint: str
    caller: Mapping[str, Any]
    decision: Decision
    answer: Callable[[Settled], Mapping[str, Any]]
    target: Callable[[Mapping[str, Any] | None], Mapping[str, Any]] | None = None
    reported: GreenticError | None = None


class Files(Protocol):
    """What stands beside an environment's document, by path: signed policies, answers of bindings, the channel of
    updates. A path is relative, of one or more names joined by `/`; InvalidArgument for any other."""

    def read(self, path: str) -> bytes | None:
        """The content of a file, None when there is none."""
        ...

    def names(self, under: str) -> tuple[str, ...]:
        """The paths of all files below the folder `under` (`env-packs`, without a slash at its end), in order."""
        ...


class WritableFiles(Files, Protocol):
    """Files that an effect may change; what it changes is kept when it returns, and not when it raises."""

    def write(self, path: str, data: bytes) -> None:
        """Give the file `path` the content `data`, in one step. Conflict for a signed policy that says otherwise."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file; none is no error."""
        ...


Complete = Callable[[Environment | None, Command, str, Files], Completed]
"""(the environment or None, the command as asked, the time in RFC 3339, its files) -> it completed, or a raised
refusal. Reads what it needs, writes nothing; may be asked more than once for one change."""
Transition = Callable[[Environment | None, Command, str], Outcome]
"""(the environment or None, the command, the time in RFC 3339) -> the outcome, or a raised refusal. Pure."""
Authorize = Callable[[Command, str], Decision]
"""(the command, its actor) -> the decision."""
Effect = Callable[[WritableFiles], Mapping[str, Any]]
"""Does what `maintain` was asked for; its result, JSON values."""
Listener = Callable[[str, int], None]
"""(environment, generation): called after a change. Quick, and never raises."""


class Store(Protocol):
    """A place where environments live. The guarantees stand in the module's docstring."""

    def load(self, environment_id: str) -> Stored:
        """The newest committed state. Takes no lock and never waits for a writer."""
        ...

    def apply(
        self,
        command: Command,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        complete: Complete | None = None,
    ) -> Applied:
        """Carry out `command`; the only door for changes. Raises what the engine refuses, Conflict and Denied."""
        ...

    def plan(
        self,
        command: Command,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        complete: Complete | None = None,
    ) -> Applied:
        """What `apply` would answer now, without committing, recording or auditing anything."""
        ...

    def list(self) -> tuple[Listing, ...]:
        """Every environment of the place by name; one that cannot be read is listed with its error, never hidden."""
        ...

    def files(self, environment_id: str) -> Files:
        """What stands beside the environment's document, committed."""
        ...

    def artifacts(self, environment_id: str) -> Path:
        """The environment's folder for revision files and derived data. Not created by this call. Local stores only:
        NotImplementedYet elsewhere."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One command of several that are carried out together, with what completes it and how it was asked."""

    command: Command
    complete: Complete | None = None
    request: Request | None = None


@runtime_checkable
class Batching(Protocol):
    """A store that can carry out several commands on one environment as one."""

    def apply_all(
        self,
        steps: Sequence[Step],
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
    ) -> tuple[Applied, ...]:
        """Carry out `steps` one after another, all of them or none, seen by others all at once.

        Each is a change with a generation, a key and an audit entry of its own. The precondition is for the first that
        is no repetition. When one is refused, or fails as a gate does, nothing happened; the refusal stands in the
        audit log, and its `details.step` is the number of the step, from 0. InvalidArgument for no steps, or for steps
        of several environments.
        """
        ...


class Trail(Protocol):
    """The reading end of an environment's audit log. Takes no lock; sees whole entries only."""

    def tail(self, count: int) -> tuple[Mapping[str, Any], ...]:
        """The newest `count` entries, oldest first."""
        ...

    def heads(self, count: int) -> tuple[Entry, ...]:
        """The newest `count` entries with their place in the chain, oldest first."""
        ...

    def events(self, since_sequence: int = 0) -> Iterator[Mapping[str, Any]]:
        """The entries after number `since_sequence`, oldest first; reads as much as is asked for."""
        ...

    def export(self, target: BinaryIO, since_sequence: int = 0) -> int:
        """Write the entries after number `since_sequence` as lines that `verification.verify` accepts; how many."""
        ...

    def verify(self, anchor: Head | None = None) -> AuditReport:
        """Check the whole chain, and that it holds `anchor`."""
        ...


Origin = Literal["change", "kept", "damaged"]


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup: its name, when it was made, the generation it holds, why it was made (before a change, by somebody's
    wish, of what could not be trusted), its size in bytes, and the etag of its document where that is at hand."""

    name: str
    created_at: datetime
    generation: int
    origin: Origin
    size: int
    etag: str | None = None


class Backups(Protocol):
    """The backups of a store's environments. Every change is an attempt as in `apply`; errors as there, and NotFound.

    A backup is verified before it is taken and before it is used: CorruptDocument when it does not hold.
    """

    def list(self, environment_id: str) -> tuple[Backup, ...]:
        """Oldest first."""
        ...

    def create(
        self,
        environment_id: str,
        *,
        idempotency_key: str,
        actor: str,
        dry_run: bool = False,
        request: Request | None = None,
    ) -> Applied:
        """Keep the present state until somebody removes it; `result` is `{"backup": name}`."""
        ...

    def restore(
        self,
        environment_id: str,
        name: str | None = None,
        *,
        idempotency_key: str,
        actor: str,
        expected_generation: int | None = None,
        if_match: str | None = None,
        dry_run: bool = False,
        request: Request | None = None,
    ) -> Applied:
        """Make a backup (None: the newest that can be trusted and differs) the present state; the generation grows.

        Works over a document that is corrupt or gone. Whom the environment trusts and its signed policies stay as they
        are. `result` is `{"backup": name, "restored_generation": that of the backup}`.
        """
        ...


@runtime_checkable
class ServedStore(Store, Protocol):
    """What a store server needs of a store beside the port itself. Its methods are called from many threads at once.

    With a `request`, what its `answer` makes is committed in one step with the change, is the result, and is returned
    verbatim by a repetition, which is told by the request's fingerprint. A recorded failure is raised again as without.
    """

    def apply(
        self,
        command: Command,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        complete: Complete | None = None,
        request: Request | None = None,
    ) -> Applied:
        """As `Store.apply`."""
        ...

    def plan(
        self,
        command: Command,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        complete: Complete | None = None,
        request: Request | None = None,
    ) -> Applied:
        """As `Store.plan`; the result is the command's own, for nothing is answered."""
        ...

    def deny(self, command: Command, request: Request) -> None:
        """Record that a caller who is known was denied `command`; its payload may be empty and its key blank.

        Nothing is recorded, and nothing raised, for an environment that does not exist.
        """
        ...

    def events(self, environment_id: str, after: int = 0, limit: int = 1_000) -> tuple[Mapping[str, Any], ...]:
        """The audit log's entries after number `after`, oldest first, at most `limit`; NotFound."""
        ...

    def maintain(
        self,
        command: Command,
        effect: Effect,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        request: Request | None = None,
    ) -> Applied:
        """Run `effect`, which changes no document but files beside it or the world, as an attempt like any other.

        Authorised, announced, recorded under its key with its result; the generation stays.
        """
        ...

    def would_maintain(self, command: Command) -> Stored:
        """The environment that `maintain` would run on; its refusals, with nothing recorded."""
        ...

    def names(self) -> tuple[str, ...]:
        """Every environment of the place, readable or not, in order."""
        ...

    def at(self, environment_id: str, generation: int) -> Stored:
        """The state of that generation, as long as it is kept; NotFound afterwards.

        Kept for as long as a key is honoured whose change made it, where a store says so, else for as long as there is
        a backup of it.
        """
        ...

    def audit(self, environment_id: str) -> Trail:
        """The environment's audit log, for reading."""
        ...

    def head(self, environment_id: str) -> bytes | None:
        """The newest signed head of its audit log, None when nobody signed one."""
        ...

    def verify_audit(self, environment_id: str) -> AuditReport:
        """Check its audit log against itself and against the last change."""
        ...

    def backups(self) -> Backups:
        """Its backups."""
        ...

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` after each change that is made through this object, and through others where the place can
        tell; returns what ends that. A listener may miss changes, never the last one for long: it looks at the state.
        """
        ...

    def probe(self) -> None:
        """Show that the place can be written, durably; StoreError when it cannot."""
        ...
