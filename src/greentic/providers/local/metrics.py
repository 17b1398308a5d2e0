"""What the routers counted and the workers are, as Prometheus metrics: a pure computation over one snapshot.

The meaning of every name stands in its HELP line. Labels are bounded: at most LISTED_REVISIONS revisions have series of
their own, those that run or had traffic, and the rest are summed under `other`. A revision that was listed once keeps
its place while there is room, so that no series comes and goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from greentic.envpacks.deployer import Observation, Receipt
from greentic.providers.local.observing import unready
from greentic.router.tally import BOUNDS_MS
from greentic.spec.environment import Environment
from greentic.spec.lifecycle import PRESENT

LISTED_REVISIONS: Final = 500
OTHER: Final = "other"
_EVERY: Final = 4
"""One bucket per doubling is enough for Prometheus: the routers count four."""
_FIRST: Final = 3
BUCKETS_SECONDS: Final = tuple(bound / 1000 for bound in BOUNDS_MS[_FIRST::_EVERY] if bound < 70_000)
"""Upper bounds in seconds: 0.000224 and each time the double, up to about a minute."""
_WORKER_STATES: Final = ("healthy", "starting", "unhealthy", "backing-off", "failed", "absent")


@dataclass(slots=True)
class Doings:
    """What the runtime has done since its start."""

    receipts: int = 0
    receipt_seconds: float = 0.0
    incomplete: int = 0
    drains: int = 0
    drained_finished: int = 0
    drained_cut: int = 0

    def received(self, receipt: Receipt) -> None:
        """Every router has acknowledged a split."""
        self.receipts += 1
        self.receipt_seconds += receipt.milliseconds / 1000

    def drained(self, finished: int, cut: int) -> None:
        """A drain is over."""
        self.drains += 1
        self.drained_finished += finished
        self.drained_cut += cut


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that one reading is made of. `merged` is the sum of routers' reports (`greentic.router.report`), None when
    there is none."""

    environment: Environment
    observation: Observation
    merged: Mapping[str, Any] | None
    restarts: int
    doings: Doings

    @property
    def unready(self) -> tuple[str, ...]:
        """What keeps the environment from being ready, in words."""
        return unready(self.observation.router_states)


@dataclass(slots=True)
class Listing:
    """Which revisions have series of their own, remembered from reading to reading."""

    limit: int = LISTED_REVISIONS
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def update(self, snapshot: Snapshot) -> None:
        """List what runs or had traffic; what left the record goes first when the room is needed."""
        environment = snapshot.environment
        counted = snapshot.merged["revisions"] if snapshot.merged is not None else {}
        recorded = {revision.revision_id: revision for revision in environment.revisions}
        wanted = [
            revision
            for revision in environment.revisions
            if revision.lifecycle in PRESENT or counted.get(revision.revision_id, {}).get("requests")
        ]
        wanted.sort(key=lambda revision: revision.lifecycle not in PRESENT)
        for revision in wanted:
            if revision.revision_id in self.names:
                continue
            if len(self.names) >= self.limit:
                gone = next((known for known in self.names if known not in recorded), None)
                if gone is None:
                    return
                del self.names[gone]
            deployment = environment.deployment(revision.deployment_id)
            customer = deployment.customer_id if deployment is not None else ""
            self.names[revision.revision_id] = (
                revision.bundle_id,
                customer,
                revision.deployment_id,
                f"v{revision.sequence}",
                revision.revision_id,
            )

    def labels(self, revision_id: str) -> tuple[str, ...]:
        """deployment, customer, deployment id, revision, revision id."""
        return self.names.get(revision_id, _OTHERS)


_OTHERS: Final = (OTHER,) * 5
_ENVIRONMENT: Final = ("environment",)
_DEPLOYMENT: Final = ("environment", "deployment", "customer", "deployment_id")
_REVISION: Final = (*_DEPLOYMENT, "revision", "revision_id")
_ROUTER: Final = ("environment", "router")


class Families(Collector):
    """The metric families of one snapshot, for an encoder of prometheus_client."""

    def __init__(self, snapshot: Snapshot, listing: Listing) -> None:
        listing.update(snapshot)
        self._snapshot = snapshot
        self._listing = listing
        self._env = snapshot.environment.environment_id

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        yield InfoMetricFamily("greentic_build", "The version that runs.", {"version": version("greentic")})
        yield from self._traffic()
        yield from self._latency()
        yield from self._dial()
        yield from self._workers()
        yield from self._routers()
        yield from self._doings()

    def _counted(self) -> Mapping[str, Mapping[str, Any]]:
        merged = self._snapshot.merged
        return merged["revisions"] if merged is not None else {}

    def _summed(self, rows: Iterable[tuple[str, tuple[str, ...], float]]) -> list[tuple[list[str], float]]:
        """(labels, value) of (revision id, further labels, value): those that share their labels added up."""
        sums: dict[tuple[str, ...], float] = {}
        for revision_id, further, value in rows:
            labels = (self._env, *self._listing.labels(revision_id), *further)
            sums[labels] = sums.get(labels, 0) + value
        return [(list(labels), value) for labels, value in sums.items()]

    def _counter(
        self, name: str, text: str, rows: Iterable[tuple[str, tuple[str, ...], float]], *further: str
    ) -> CounterMetricFamily:
        family = CounterMetricFamily(name, text, labels=(*_REVISION, *further))
        for labels, value in self._summed(rows):
            family.add_metric(labels, value)
        return family

    def _gauge(
        self, name: str, text: str, rows: Iterable[tuple[str, tuple[str, ...], float]], *further: str
    ) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, text, labels=(*_REVISION, *further))
        for labels, value in self._summed(rows):
            family.add_metric(labels, value)
        return family

    def _traffic(self) -> Iterator[Metric]:
        counted = self._counted()
        yield self._counter(
            "greentic_requests",
            "Requests given to a revision.",
            ((name, (), tally["requests"]) for name, tally in counted.items()),
        )
        yield self._counter(
            "greentic_responses",
            "Final responses, by class of status.",
            ((name, (key,), value) for name, tally in counted.items() for key, value in tally["responses"].items()),
            "class",
        )
        yield self._counter(
            "greentic_request_errors",
            "Requests that the router had to answer or cut, by kind.",
            ((name, (key,), value) for name, tally in counted.items() for key, value in tally["errors"].items()),
            "kind",
        )
        yield self._counter(
            "greentic_selections",
            "Requests by the reason for which the revision was selected.",
            ((name, (key,), value) for name, tally in counted.items() for key, value in tally["selections"].items()),
            "reason",
        )
        yield self._gauge(
            "greentic_requests_in_flight",
            "Requests, streams and tunnels in flight.",
            ((name, (), tally["in_flight"]) for name, tally in counted.items()),
        )
        yield self._gauge(
            "greentic_tunnels_open",
            "Upgraded connections (WebSockets) that are open.",
            ((name, (), tally["upgraded"]) for name, tally in counted.items()),
        )
        yield self._gauge(
            "greentic_pins",
            "Live promises to stay on the revision, by where they are kept.",
            ((name, (key,), value) for name, tally in counted.items() for key, value in pins(tally).items()),
            "kind",
        )
        yield self._gauge(
            "greentic_worker_connections",
            "Connections that the routers hold to the worker, idle ones too.",
            ((name, (), tally.get("connections", 0)) for name, tally in counted.items()),
        )
        yield self._gauge(
            "greentic_requests_waiting",
            "Requests that wait for a connection to the worker.",
            ((name, (), tally.get("waiting", 0)) for name, tally in counted.items()),
        )
        merged = self._snapshot.merged or {}
        unrouted = CounterMetricFamily(
            "greentic_unrouted_requests",
            "Requests answered by the router before a revision was chosen, by kind.",
            labels=(*_ENVIRONMENT, "kind"),
        )
        for kind, value in merged.get("unrouted", {}).items():
            unrouted.add_metric([self._env, kind], value)
        yield unrouted
        sessions = merged.get("sessions", {})
        failures = CounterMetricFamily(
            "greentic_session_pin_failures",
            "Questions that the store of session pins did not answer, by kind: the session landed by its slot.",
            labels=(*_ENVIRONMENT, "kind"),
        )
        for kind, value in sessions.get("failures", {}).items():
            failures.add_metric([self._env, kind], value)
        yield failures
        unkept = CounterMetricFamily(
            "greentic_session_pins_unkept", "Session pins for which the store had no room.", labels=_ENVIRONMENT
        )
        unkept.add_metric([self._env], sessions.get("skipped", 0))
        yield unkept

    def _latency(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "greentic_request_duration_seconds",
            "Seconds from the request's head to the worker's response head.",
            labels=_REVISION,
        )
        sums: dict[tuple[str, ...], tuple[list[int], float]] = {}
        for name, tally in self._counted().items():
            labels = (self._env, *self._listing.labels(name))
            counts, seconds = sums.get(labels, ([0] * len(tally["latency_counts"]), 0.0))
            counts = [one + other for one, other in zip(counts, tally["latency_counts"], strict=True)]
            sums[labels] = (counts, seconds + tally.get("latency_seconds", 0.0))
        for labels, (counts, seconds) in sums.items():
            family.add_metric(list(labels), _buckets(counts), seconds)
        yield family

    def _dial(self) -> Iterator[Metric]:
        environment, served = self._snapshot.environment, self._snapshot.observation.generations
        share = GaugeMetricFamily(
            "greentic_revision_share_ratio", "The share that the dial gives the revision, 0 to 1.", labels=_REVISION
        )
        recorded = GaugeMetricFamily(
            "greentic_split_generation", "The generation of the recorded split.", labels=_DEPLOYMENT
        )
        live = GaugeMetricFamily(
            "greentic_split_generation_served", "The generation that all routers serve.", labels=_DEPLOYMENT
        )
        shares: list[tuple[str, tuple[str, ...], float]] = []
        for deployment in environment.bundles:
            split = environment.split(deployment.deployment_id)
            if split is None:
                continue
            labels = [self._env, deployment.bundle_id, deployment.customer_id, deployment.deployment_id]
            recorded.add_metric(labels, split.generation)
            if deployment.deployment_id in served:
                live.add_metric(labels, served[deployment.deployment_id])
            shares += [(entry.revision_id, (), entry.weight_bps / 10_000) for entry in split.entries]
        for labels, value in self._summed(shares):
            if OTHER not in labels:  # shares of several deployments have no sum
                share.add_metric(labels, value)
        yield from (share, recorded, live)

    def _workers(self) -> Iterator[Metric]:
        seen = self._snapshot.observation.revisions
        yield self._gauge(
            "greentic_worker_state",
            "1 for the state that the revision's worker is in, 0 for the others.",
            (
                (name, (state,), float(worker.state == state))
                for name, worker in seen.items()
                for state in _WORKER_STATES
            ),
            "state",
        )
        yield self._counter(
            "greentic_worker_restarts",
            "Times that the worker was started again.",
            ((name, (), worker.restarts) for name, worker in seen.items()),
        )

    def _routers(self) -> Iterator[Metric]:
        snapshot = self._snapshot
        up = GaugeMetricFamily("greentic_router_up", "Whether the router answers.", labels=_ROUTER)
        ready = GaugeMetricFamily("greentic_router_ready", "Whether it may be given traffic.", labels=_ROUTER)
        table = GaugeMetricFamily("greentic_router_table_version", "The routing table that it serves.", labels=_ROUTER)
        connections = GaugeMetricFamily("greentic_router_connections", "Open client connections.", labels=_ROUTER)
        uptime = GaugeMetricFamily("greentic_router_uptime_seconds", "Seconds since it began.", labels=_ROUTER)
        for state in snapshot.observation.router_states:
            if state.state == "finishing":  # its name is its successor's
                continue
            labels = [self._env, state.name]
            up.add_metric(labels, float(state.process_id is not None))
            ready.add_metric(labels, float(state.ready))
            if state.process_id is not None:
                table.add_metric(labels, state.version or 0)
                connections.add_metric(labels, state.connections)
                uptime.add_metric(labels, state.uptime_seconds)
        yield from (up, ready, table, connections, uptime)
        restarts = CounterMetricFamily(
            "greentic_router_restarts", "Router processes that had to be replaced.", labels=_ENVIRONMENT
        )
        restarts.add_metric([self._env], snapshot.restarts)
        yield restarts
        merged = snapshot.merged or {}
        for key, what in (("access_log", "Lines of the access log"), ("spans", "Spans")):
            if key in merged:
                family = CounterMetricFamily(
                    f"greentic_{key}_records", f"{what}, by what became of them.", labels=(*_ENVIRONMENT, "outcome")
                )
                for outcome, value in merged[key].items():
                    family.add_metric([self._env, outcome], value)
                yield family

    def _doings(self) -> Iterator[Metric]:
        doings = self._snapshot.doings
        receipts = SummaryMetricFamily(
            "greentic_receipt_seconds",
            "Complete receipts, and the seconds from the command's arrival until every router had acknowledged.",
            labels=_ENVIRONMENT,
        )
        receipts.add_metric([self._env], doings.receipts, doings.receipt_seconds)
        incomplete = CounterMetricFamily(
            "greentic_receipts_incomplete", "Splits that not every router acknowledged in time.", labels=_ENVIRONMENT
        )
        incomplete.add_metric([self._env], doings.incomplete)
        drains = CounterMetricFamily("greentic_drains", "Drains that are over.", labels=_ENVIRONMENT)
        drains.add_metric([self._env], doings.drains)
        drained = CounterMetricFamily(
            "greentic_drained_requests",
            "Requests that were in flight when a drain began or came in it, by how they ended.",
            labels=(*_ENVIRONMENT, "outcome"),
        )
        drained.add_metric([self._env, "finished"], doings.drained_finished)
        drained.add_metric([self._env, "cut"], doings.drained_cut)
        yield from (receipts, incomplete, drains, drained)


def pins(tally: Mapping[str, Any]) -> Mapping[str, int]:
    """The live pins of a revision by kind; none when the router does not count them."""
    told = tally.get("pins")
    return told if isinstance(told, Mapping) else {}


def _buckets(counts: list[int]) -> list[tuple[str, float]]:
    """Cumulative (upper bound, count) for BUCKETS_SECONDS and infinity."""
    buckets: list[tuple[str, float]] = []
    running, at = 0, 0
    for number, bound in enumerate(BUCKETS_SECONDS):
        end = _FIRST + number * _EVERY + 1
        running += sum(counts[at:end])
        at = end
        buckets.append((repr(bound), running))
    buckets.append(("+Inf", running + sum(counts[at:])))
    return buckets
