"""The contract of the deployer slot (reference 03, section 2.1, with its holes closed).

What every implementation must guarantee, before any method:

1. **Idempotence.** Every verb may be called again with the same arguments, after success, after failure, after a crash
   of either side, and ends in the same state of the world. Nothing is applied twice.
2. **Preconditions first.** Pure preconditions (revision known, split present, sum 10,000, no share for what is drained
   or archived) are checked before the first call to the provider and refused with typed errors; a refused call changes
   nothing.
3. **Desired state is an argument.** Each call gets the whole environment as recorded, and the number of that record. A
   deployer never moves a lifecycle and never writes to a store; the caller does, after the side effect succeeded. A
   call that carries an older number than one already applied must not undo the newer.
4. **Truth by observation.** `warm_revision` returns only when the worker answers its health path, and raises GateFailed
   with the worker's last log lines when it does not. `apply_traffic_split` returns only when every router serves that
   generation. `observe` reports what is, not what was asked.
5. **Isolation.** A verb on one deployment touches nothing of another.
6. **Cancellation.** A call that is cancelled or times out leaves a state from which the same call converges.
7. **A plan is true.** `plan` makes no call to the provider that changes anything, and starts nothing in order to look.
   A `reconcile` of the same record right after it does what it told; after that reconcile it tells of nothing.

Errors: NotFound (revision, split), SpecViolation (a split that does not sum to 10,000), GateFailed (not healthy),
TimedOut, Conflict (a newer state was applied, a share is in the way), ProviderError (anything the provider said).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, NotFound, SpecViolation
from greentic.spec.identifiers import BASIS_POINTS
from greentic.spec.revision import Revision
from greentic.spec.traffic import TrafficSplit

Progress = Callable[[str], None]
"""Told one short line per step of long work, in a person's words."""


def silent(_: str) -> None:
    """Progress for nobody."""


@dataclass(frozen=True, slots=True)
class DesiredState:
    """The environment as recorded, and the generation of that record (it grows with every change)."""

    environment: Environment
    generation: int

    def revision(self, revision_id: str) -> Revision:
        """The revision of that id; NotFound otherwise."""
        revision = self.environment.revision(revision_id)
        if revision is None:
            raise NotFound(
                f"there is no revision {revision_id} in the environment '{self.environment.environment_id}'",
                details={"env_id": self.environment.environment_id, "revision_id": revision_id},
            )
        return revision

    def idle(self, revision_id: str) -> Revision:
        """The revision of that id, to be drained or archived; NotFound, and Conflict when it has a share of traffic."""
        revision = self.revision(revision_id)
        split = self.environment.split(revision.deployment_id)
        if split and any(one.revision_id == revision_id and one.weight_bps for one in split.entries):
            raise Conflict(
                f"the revision {revision_id} still has a share of the traffic",
                details={"revision_id": revision_id, "deployment_id": revision.deployment_id},
                next_step=f"gtc op traffic set NAME v{revision.sequence}=0% rest=VERSION",
            )
        return revision

    def split(self, deployment_id: str) -> TrafficSplit:
        """The deployment's live split; NotFound when it has none, SpecViolation when it does not sum to 10,000."""
        split = self.environment.split(deployment_id)
        if split is None:
            raise NotFound(
                f"the deployment {deployment_id} has no traffic split",
                details={"env_id": self.environment.environment_id, "deployment_id": deployment_id},
                next_step="gtc op traffic set NAME v1=100%",
            )
        total = sum(entry.weight_bps for entry in split.entries)
        if total != BASIS_POINTS:
            raise SpecViolation("BasisPointsSum", f"the split of {deployment_id} sums to {total}, not {BASIS_POINTS}")
        return split


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that routers serve a generation of one deployment's split; times in milliseconds.

    `acknowledged` and `expected` count router replicas; `missing` names those that did not answer.
    """

    deployment_id: str
    generation: int
    acknowledged: int
    expected: int
    milliseconds: float
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DrainReport:
    """How a drain ended: what was in flight and finished by itself, what was cut at the deadline, seconds until then.

    The end of the worker itself comes after those seconds. Of what was cut, `cut_streams` were event streams and
    `cut_tunnels` upgraded connections such as WebSockets.
    `pins_cut` counts visitors whose promise to stay was honoured until then.
    """

    revision_id: str
    finished: int
    cut: int
    seconds: float
    cut_streams: int = 0
    cut_tunnels: int = 0
    pins_cut: int = 0


@dataclass(frozen=True, slots=True)
class KeyRotation:
    """What became of the routers' keys: `active` signs from now on, all of `verifying` (newest first) verify, `dropped`
    does no more (None when the ring had room). Of the routers, `acknowledged` of `expected` have them, which took so
    many milliseconds; none are expected where none run.
    """

    active: str
    verifying: tuple[str, ...]
    dropped: str | None
    acknowledged: int
    expected: int
    milliseconds: float


@dataclass(frozen=True, slots=True)
class RevisionObservation:
    """What is seen of one revision's worker.

    `state` is `absent`, `starting`, `healthy`, `unhealthy`, `backing-off` or `failed`. Counters are since the router
    started; latencies are milliseconds; None where nothing was measured. `ready_workers` of `wanted_workers` answer:
    `wanted` is how many it takes to carry all of the deployment's traffic. `pins` counts visitors' live promises to
    stay, by kind (`cookie`, `session`). `latency_counts` are the counts of `greentic.router.tally`'s buckets.
    `drain_seconds_left` is how long a drain that runs may still take. None where the deployer cannot tell.
    """

    revision_id: str
    state: str
    detail: str = ""
    process_id: int | None = None
    restarts: int = 0
    started_at: str | None = None
    in_flight: int = 0
    requests: int = 0
    errors: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    log: str | None = None
    ready_workers: int | None = None
    wanted_workers: int | None = None
    pins: Mapping[str, int] | None = None
    latency_counts: tuple[int, ...] | None = None
    drain_seconds_left: float | None = None

    @property
    def healthy(self) -> bool:
        """Whether the worker answers its health path."""
        return self.state == "healthy"

    @property
    def capacity_bps(self) -> int:
        """How much of the deployment's traffic the workers that are ready can carry, in basis points."""
        if self.wanted_workers is None or self.ready_workers is None:
            return BASIS_POINTS if self.healthy else 0
        return min(BASIS_POINTS, BASIS_POINTS * self.ready_workers // self.wanted_workers) if self.wanted_workers else 0


@dataclass(frozen=True, slots=True)
class RouterObservation:
    """What is seen of one router: the table it serves, the split generation of each deployment in it, and whether it
    may be given traffic (`reason` says why not). Counters and times are zero for one that does not answer.

    `state` is `starting`, `serving` or `finishing` (replaced, and at the end of what it had begun). `ready` is its own
    claim, which ends with its lease of `lease_seconds` more unless it is renewed; `lapses` counts how often it ended.
    `restarts` is how often its process had to be replaced.
    """

    name: str
    ready: bool
    reason: str = ""
    process_id: int | None = None
    version: int | None = None
    generations: Mapping[str, int] = field(default_factory=dict)
    connections: int = 0
    uptime_seconds: float = field(default=0.0, compare=False)
    state: str = "serving"
    lease_seconds: float | None = field(default=None, compare=False)
    lapses: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class RouterRestart:
    """One router that was replaced: its process, and the one before it (None when there was none)."""

    name: str
    process_id: int
    replaced: int | None


class Notice(NamedTuple):
    """What somebody should see to, and how."""

    message: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What is seen of an environment on its provider.

    `running` tells whether the data plane is up; `url` where it is reached; `generations` the split generation that all
    routers serve, per deployment; `router_states` each router, as far as the deployer can tell them apart; `discovered`
    other values worth knowing, by name; `notices` what serves but needs a person.
    """

    running: bool
    url: str | None = None
    routers: int = 0
    generations: Mapping[str, int] = field(default_factory=dict)
    revisions: Mapping[str, RevisionObservation] = field(default_factory=dict)
    discovered: Mapping[str, Any] = field(default_factory=dict)
    router_states: tuple[RouterObservation, ...] = ()
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a reconcile would change at the provider, and why, in a person's words.

    `action` is `start`, `end`, `change` or `publish`; `kind` is `worker`, `router`, `table` or `listener`. `name` is
    the revision's id of a worker, the name of a router, the deployment's id of a table (the environment's when it is
    about all of them) and the address of a listener.
    """

    action: str
    kind: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reconcile would change; nothing when the provider matches the record."""

    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is known of the requests with one id: `matches` oldest first, each with the members of
    `greentic.router.explaining.explanation` and `source`, `router` or `access-log` (which knows less). `remembers` says
    in a person's words how long routers remember.
    """

    matches: tuple[Mapping[str, Any], ...]
    remembers: str


@dataclass(frozen=True, slots=True)
class DeployerContext:
    """What a deployer is given when it is made.

    `folder` is the environment's folder: `revisions/<rev>/bundle/` holds each revision's unpacked bundle, and the
    deployer may keep state of its own under `run/` and `logs/`. `answers` are the wizard's answers of the binding.
    """

    environment_id: str
    folder: Path
    answers: Mapping[str, Any] = field(default_factory=dict)


class Deployer(Protocol):
    """Runs revisions somewhere and makes the routers there follow the dial. See the guarantees above."""

    async def check_settings(self, environment: Environment) -> None:
        """Refuse settings of the environment that could not be served, before they are recorded; nothing changes.

        SpecViolation with the reason and the next step.
        """

    async def stage_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        """Prepare what a later warm needs (upload, unpack, install); nothing runs yet."""

    async def warm_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        """Make the worker exist and wait until it answers its health path. GateFailed with its reason otherwise."""

    async def drain_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> DrainReport:
        """No new sessions; wait for what is in flight, at most the revision's `drain_seconds`; then end the worker."""

    async def archive_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        """Leave nothing of the revision at the provider; fine when it is already gone."""

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        """Make every router serve the recorded split (or the recorded absence of one) and return their receipt."""

    async def reconcile(self, desired: DesiredState, progress: Progress = silent) -> Observation:
        """Make the provider match the whole recorded environment; start the data plane when it is down."""

    async def plan(self, desired: DesiredState) -> Plan:
        """What `reconcile` would change now, without changing it."""

    async def observe(self, desired: DesiredState) -> Observation:
        """What is, without changing it."""

    async def explain(self, desired: DesiredState, request_id: str) -> Explanation:
        """Why the requests with that id went where they went. Ids need not be unique: clients may choose them."""

    async def metrics(self, desired: DesiredState) -> str:
        """What is measured, in Prometheus' text format. Conflict when the data plane is down."""

    async def restart_routers(
        self, desired: DesiredState, grace_seconds: float, progress: Progress = silent
    ) -> tuple[RouterRestart, ...]:
        """Replace every router process, one after the other, without resetting a connection.

        Returns when the new ones serve; the old ones finish what they have begun, at most for `grace_seconds`.
        Conflict when the data plane is not running.
        """

    async def serve(self, desired: DesiredState, progress: Progress = silent) -> None:
        """Run the data plane in the foreground until it is stopped. ProviderError where that makes no sense."""

    async def stop(self, desired: DesiredState, progress: Progress = silent) -> bool:
        """End the data plane and every worker; the record stays. False when it was not running."""

    async def preview(self, desired: DesiredState, revision_id: str, seconds: int) -> str:
        """A token that reaches this ready revision at any share, for `seconds`."""

    async def trust_token(self, desired: DesiredState, deployment_id: str | None, seconds: int) -> str:
        """A token that makes its bearer a trusted caller of the deployment (None: of all), for `seconds`."""

    async def rotate_keys(self, desired: DesiredState, progress: Progress = silent) -> KeyRotation:
        """Have another key sign cookies and tokens. What older keys signed stays valid until they leave the ring, and
        no router ever meets a signature whose key it does not have.
        """
