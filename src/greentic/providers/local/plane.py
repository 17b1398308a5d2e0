"""The data plane of one environment: what the verbs of the deployer do, given workers and a router.

It follows the newest recorded state it was given and never goes back to an older one. Everything is safe to ask for
again: what is right is left alone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from datetime import UTC, datetime
from typing import Any

from greentic.envpacks import planning as envpacks_planning
from greentic.envpacks.deployer import (
    Change,
    DesiredState,
    DrainReport,
    KeyRotation,
    Observation,
    Plan,
    Progress,
    Receipt,
    RouterRestart,
    silent,
)
from greentic.providers.local import desired as kept
from greentic.providers.local import keys, listening, planning, sessions, survivors, telemetry
from greentic.providers.local.certificates import CHECK_SECONDS, Certificates
from greentic.providers.local.endpoint import Endpoint
from greentic.providers.local.journal import Journal
from greentic.providers.local.layout import Layout
from greentic.providers.local.metrics import Doings, Snapshot
from greentic.providers.local.observing import observation
from greentic.providers.local.routing import Routers, Served
from greentic.providers.local.workers import Worker, Workers
from greentic.router import projection
from greentic.router.control import DrainReport as Drained
from greentic.router.control import InFlight
from greentic.router.tls import TlsMaterial
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, GateFailed, GreenticError, NotFound, TimedOut
from greentic.spec.lifecycle import PRESENT, Lifecycle
from greentic.spec.revision import Revision
from greentic.worker.process import describe
from greentic.worker.supervision import State, Status

OPEN_SECONDS = 10.0
"""How long the first table waits for workers that are starting; meanwhile connections queue at the listening socket."""
_LAST_SECONDS = 0.5
"""For requests that came while a revision was taken from the table; their drain's deadline may be over."""


class DataPlane:
    """Workers and routers of the environment in `layout`, following `desired`."""

    def __init__(
        self, layout: Layout, desired: DesiredState, workers: Workers, routers: Routers, address: str, journal: Journal
    ) -> None:
        self.desired = desired
        self._layout = layout
        self._workers = workers
        self._routers = routers
        routers.resize(desired.environment.host_config.routers)
        self._asked = address
        self._journal = journal
        self._version = 0
        self._published: list[dict[str, Any]] | None = None
        self._options: dict[str, Any] | None = None
        self._certificates = Certificates()
        self._served: str | None = None
        self._secret: dict[str, Any] | None = None
        self._pins: dict[str, Any] | None = None
        self._spans: dict[str, Any] | None = None
        self._draining: set[str] = set()
        self._ended: dict[str, Lifecycle] = {}
        self._warming: set[str] = set()
        self._opened = asyncio.Event()
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.doings = Doings()
        self.endpoint = Endpoint(self.snapshot)
        self._drain_ends: dict[str, float] = {}

    # The verbs

    async def open(self) -> None:
        """Return to the recorded state: start every worker that is meant to exist, then begin to serve."""
        self._routers.start()  # while the workers start
        try:
            starting = self._start_present(self.desired.environment.revisions)
            async with asyncio.timeout(OPEN_SECONDS):
                await self._settle(starting, silent)
        except TimeoutError:
            self._journal.event("opened-early", waiting_for=[worker.revision_id for worker in starting])
        finally:
            self._opened.set()
        self._background(self._watch_certificates())
        await self.publish()
        try:
            await self._serve_metrics()
        except GreenticError as error:
            self._journal.event("metrics-failed", reason=error.message)  # no reason to serve nobody

    async def warm(self, desired: DesiredState, revision_id: str, progress: Progress) -> None:
        """See `Deployer.warm_revision`."""
        self._adopt(desired)
        revision = self.desired.revision(revision_id)
        if revision.lifecycle in {Lifecycle.ARCHIVED, Lifecycle.DRAINING}:
            raise Conflict(f"the revision {revision_id} is {revision.lifecycle} and cannot be warmed")
        self._require_open()
        self._warming.add(revision_id)
        try:
            self._ended.pop(revision_id, None)
            worker = self._workers.ensure(self.desired, revision, keep=False)
            progress(f"waiting until v{revision.sequence} is healthy on {worker.address}")
            await self._until_healthy(worker, revision)
        finally:
            self._warming.discard(revision_id)

    async def drain(self, desired: DesiredState, revision_id: str, progress: Progress) -> DrainReport:
        """See `Deployer.drain_revision`."""
        began = time.monotonic()
        self._adopt(desired)
        revision = self.desired.idle(revision_id)
        report = Drained(0)
        if self._workers.get(revision_id) is not None:
            deadline = began + revision.drain_seconds
            self._draining.add(revision_id)
            await self.publish()

            def told(in_flight: InFlight) -> None:
                left = math.ceil(deadline - time.monotonic())
                if left > 0:  # what is seen to end later is being cut
                    progress(f"waiting for {in_flight} on v{revision.sequence}, at most {left} s")

            self._drain_ends[revision_id] = deadline
            try:
                report = await self._empty(revision, deadline, told)
            finally:
                self._drain_ends.pop(revision_id, None)
            progress(f"v{revision.sequence} serves nobody any more; ending its worker")
        # What the worker does until it ends, it does for nobody: the drain is over.
        seconds = round(time.monotonic() - began, 3)
        # Without a worker there may be one on its way out, which somebody who has gone since had begun to end.
        await self._workers.end(revision_id)
        return DrainReport(
            revision_id,
            finished=report.finished,
            cut=report.cut.total,
            seconds=seconds,
            cut_streams=report.cut.streams,
            cut_tunnels=report.cut.tunnels,
            pins_cut=report.pins_cut,
        )

    async def _empty(self, revision: Revision, deadline: float, told: Callable[[InFlight], None]) -> Drained:
        """Wait for what is in flight, take the revision from the table, and wait for what came in between."""
        report = await self._routers.drain(revision.revision_id, max(0.0, deadline - time.monotonic()), told)
        await self._withdraw(revision)
        left = max(_LAST_SECONDS, deadline - time.monotonic())
        return report + await self._routers.drain(revision.revision_id, left, told)

    async def archive(self, desired: DesiredState, revision_id: str) -> None:
        """See `Deployer.archive_revision`."""
        self._adopt(desired)
        revision = self.desired.idle(revision_id)
        await self._end(revision)
        self._workers.forget(revision_id)

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress, began: float
    ) -> Receipt:
        """See `Deployer.apply_traffic_split`; `began` is when the call came in (seconds of `time.monotonic`)."""
        self._adopt(desired)
        environment = self.desired.environment
        deployment = environment.deployment(deployment_id)
        if deployment is None:
            raise NotFound(
                f"there is no deployment {deployment_id} in the environment '{environment.environment_id}'",
                details={"env_id": environment.environment_id, "deployment_id": deployment_id},
            )
        live = environment.split(deployment_id) and self.desired.split(deployment_id)
        weighted = {entry.revision_id for entry in live.entries if entry.weight_bps} if live else set()
        starting = self._start_present(environment.revisions_of(deployment_id))
        await self._settle([worker for worker in starting if worker.revision_id in weighted], progress)
        acknowledged = await self.publish()
        generation = projection.generation(self.desired.environment, deployment)
        served = acknowledged.generations.get(deployment_id, generation)
        if served < generation:
            count = len(acknowledged.routers)
            raise TimedOut(
                f"the routers serve generation {served} of {deployment_id}, not {generation}",
                details={"missing": list(acknowledged.routers), "acknowledged": 0, "expected": count},
            )
        count = len(acknowledged.routers)
        return Receipt(deployment_id, served, count, count, round((time.monotonic() - began) * 1000, 3))

    async def reconcile(self, desired: DesiredState, progress: Progress) -> Observation:
        """See `Deployer.reconcile`."""
        self._adopt(desired)
        await self._listen(progress)
        self._routers.resize(self.desired.environment.host_config.routers)
        await self._serve_metrics()
        starting = self._start_present(self.desired.environment.revisions)
        await self.publish()
        surplus = [
            worker
            for worker in self._workers.all()
            if not self._wanted(worker.revision_id, self.desired.environment, self._ended)
        ]
        for worker in surplus:
            progress(f"ending the worker of {self._called(worker)}")
        await asyncio.gather(*(self._workers.end(worker.revision_id) for worker in surplus))
        await self._settle(starting, progress)
        await self.publish()
        return await self.observe()

    def plan(self, desired: DesiredState) -> Plan:
        """See `Deployer.plan`."""
        self._require_open()
        followed, ended, draining = self._following(desired)
        environment = followed.environment
        lacking = [one for one in environment.revisions if self._lacks(one, ended)]
        states = {worker.revision_id: worker.supervision.status.state.value for worker in self._workers.all()}
        surplus = [name for name in states if not self._wanted(name, environment, ended)]
        addresses = {one.revision_id: "" for one in lacking} | self._workers.addresses()  # not known before the start
        rows = projection.deployments(environment, addresses, draining=draining, ended=ended)
        tables = [*envpacks_planning.tables(rows, self._published or ())]
        if not tables and (reason := self._stale(environment, rows)):
            tables = [Change("publish", "table", environment.environment_id, reason)]
        return Plan(
            (
                *planning.listener(environment, self._asked, listening.address_of(self._routers.listener)),
                *planning.routers(environment, self._routers.names),
                *planning.metrics(environment, self.endpoint.asked),
                *(
                    envpacks_planning.starting(one.revision_id, one.lifecycle, states.get(one.revision_id, "absent"))
                    for one in lacking
                ),
                *tables,
                *envpacks_planning.ending(environment, surplus),
            )
        )

    def _stale(self, environment: Environment, rows: list[dict[str, Any]]) -> str | None:
        """Why the table would be published although every deployment's row is served; None when it would not be."""
        if rows != self._published:
            return "its deployments are served in another order"
        settings = environment.host_config.router
        secret = self._secret or {}
        if (
            self._router_options(environment) != self._options
            or self._certificates.differs(settings.tls if settings is not None else None)
            or self._session_pins(environment) != secret.get("pins")
            or self._span_export(environment) != secret.get("spans")
        ):
            return "its settings are others than those served"
        if self._routers.served(self._version) is None:
            return "not every router serves the newest table"
        return None

    async def observe(self) -> Observation:
        """See `Deployer.observe`."""
        return (await self.snapshot()).observation

    async def snapshot(self) -> Snapshot:
        """A reading of everything that is seen and counted."""
        merged = await self._routers.report()
        states = self._routers.states()
        seen = observation(self.desired.environment, self._workers, self._routers.listener, merged, states, self._asked)
        now = time.monotonic()
        revisions = dict(seen.revisions)
        for revision_id, ends in self._drain_ends.items():
            if revision_id in revisions:
                left = round(max(ends - now, 0.0), 1)
                revisions[revision_id] = dataclasses.replace(revisions[revision_id], drain_seconds_left=left)
        return Snapshot(
            environment=self.desired.environment,
            observation=dataclasses.replace(
                seen,
                url=listening.url_of(self._routers.listener, secure=self._served is not None),
                revisions=revisions,
                notices=self._certificates.notices(datetime.now(UTC)),
            ),
            merged=merged,
            restarts=self._routers.restarts,
            doings=self.doings,
        )

    async def explain(self, request_id: str) -> list[dict[str, Any]]:
        """What the routers still know of the requests with that id, oldest first; `router` names who served each."""
        return await self._routers.explain(request_id)

    async def restart_routers(
        self, desired: DesiredState, grace_seconds: float, progress: Progress
    ) -> tuple[RouterRestart, ...]:
        """See `Deployer.restart_routers`."""
        self._adopt(desired)
        await self.publish()
        return await self._routers.restart(progress, grace_seconds)

    async def stop(self, progress: Progress, grace_seconds: float) -> None:
        """End the routers when they have finished, at the latest after `grace_seconds`, then every worker; nothing is
        started any more."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await self.endpoint.close()
        progress("ending the routers")
        await self._routers.stop(progress, grace_seconds)
        workers = self._workers.all()
        if workers:
            progress(f"ending {len(workers)} {'worker' if len(workers) == 1 else 'workers'}")
        await self._workers.end_all()

    async def rotate_keys(self, progress: Progress) -> KeyRotation:
        """See `Deployer.rotate_keys`: every router has the new key before any signs with it."""
        began = time.monotonic()
        self._require_open()
        dropped = keys.stage(self._layout.keys)
        progress("giving the new key to the routers")
        await self.publish()
        turned = keys.activate(self._layout.keys)
        progress(f"signing with {turned['active']}")
        count = len((await self.publish()).routers)
        spent = round((time.monotonic() - began) * 1000, 3)
        return KeyRotation(turned["active"], keys.kids(turned), dropped, count, count, spent)

    # The table

    async def publish(self) -> Served:
        """Have every router serve the table of the present state; at once when all do already."""
        await self._opened.wait()
        self._require_open()
        environment = self.desired.environment
        rows = projection.deployments(
            environment, self._workers.addresses(), draining=self._draining, ended=self._ended
        )
        options = self._router_options(environment)
        tls = self._tls()
        served = tls.fingerprint if tls is not None else None
        self._pins = self._session_pins(environment)
        self._spans = self._span_export(environment)
        secret = {"keys": keys.ensure(self._layout.keys), "pins": self._pins, "spans": self._spans}
        given = (rows, options, served, secret)
        if given != (self._published, self._options, self._served, self._secret):
            self._version += 1
            self._published, self._options, self._served, self._secret = given
        elif (known := self._routers.served(self._version)) is not None:
            return known
        return await self._routers.publish(
            {
                "version": self._version,
                "env_id": self.desired.environment.environment_id,
                "deployments": rows,
                "options": options,
                "tls": dataclasses.asdict(tls) if tls is not None else None,
                **secret,
            }
        )

    def _session_pins(self, environment: Environment) -> dict[str, Any] | None:
        """Where routers keep session pins. A binding that cannot be followed holds no table up: the last one that could
        be is followed on."""
        try:
            return sessions.pins(environment, self._layout.folder)
        except GreenticError as error:
            self._journal.event("session-pins-failed", reason=error.message)
        return self._pins

    def _span_export(self, environment: Environment) -> dict[str, Any] | None:
        """Where routers send spans; a binding that cannot be followed is as one of session pins."""
        try:
            return telemetry.spans(environment, self._layout.folder)
        except GreenticError as error:
            self._journal.event("telemetry-failed", reason=error.message)
        return self._spans

    def _tls(self) -> TlsMaterial | None:
        settings = self.desired.environment.host_config.router
        before = self._certificates.problem
        material = self._certificates.material(settings.tls if settings is not None else None)
        problem = self._certificates.problem
        if problem is not None and problem != before:
            self._journal.event("certificate-refused", reason=problem)
        return material

    async def _watch_certificates(self) -> None:
        """Have the routers serve a new certificate soon after its files are in place."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            if self._certificates.changed():
                await self._republish()

    def _router_options(self, environment: Environment) -> dict[str, Any]:
        """What the environment's settings ask of its routers."""
        host = environment.host_config
        limits = host.router.limits if host.router else None
        return {
            "limits": limits.to_json() if limits is not None else {},
            "stamp_revision": bool(host.stamp_revision),
            "secure_cookies": (host.public_base_url or "").startswith("https:"),
            "ready_path": host.router.ready_path if host.router else None,
            "replica": {"count": host.routers},
            "trusted_callers": list(host.router.trusted_callers or ()) if host.router else [],
            "trusted_proxies": list(host.router.trusted_proxies or ()) if host.router else [],
            "access_log": str(self._layout.access_log) if host.router and host.router.access_log else None,
        }

    def worker_changed(self, worker: Worker) -> None:
        """Write down how a worker is, and tell the router when it has moved to another port."""
        status = worker.supervision.status
        self._journal.event(
            "worker",
            revision_id=worker.revision_id,
            state=status.state.value,
            detail=status.detail,
            pid=status.process_id,
            restarts=status.restarts,
        )
        if sys.platform != "linux":
            survivors.remember(self._layout, self._processes())
        if self._opened.is_set() and not self._serves(worker):
            self._background(self._republish())

    def _processes(self) -> list[int]:
        workers = (worker.supervision.status.process_id for worker in self._workers.all())
        return [*self._routers.process_ids, *(process for process in workers if process is not None)]

    def _serves(self, worker: Worker) -> bool:
        """Whether the published table has the worker where it is (or does not have it at all)."""
        listed = (revision for row in self._published or () for revision in row["revisions"])
        return all(
            revision["address"] == worker.address
            for revision in listed
            if revision["revision_id"] == worker.revision_id
        )

    async def _republish(self) -> None:
        try:
            await self.publish()
        except GreenticError as error:
            self._journal.event("publish-failed", reason=error.message)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The state

    def _require_open(self) -> None:
        if self._closed:
            raise Conflict("the runtime is being stopped", next_step="run the command again: it starts another one")

    def _adopt(self, desired: DesiredState) -> None:
        """Follow `desired` from now on, unless a newer state is followed already."""
        followed, ended, draining = self._following(desired)
        if followed is not desired:
            self._journal.event("older-state", given=desired.generation, followed=followed.generation)
            return
        self.desired, self._ended, self._draining = followed, ended, draining
        kept.save(self._layout.desired, desired)

    def _following(self, desired: DesiredState) -> tuple[DesiredState, dict[str, Lifecycle], set[str]]:
        """Which state is followed when `desired` is given, and what of `_ended` and `_draining` stays true then."""
        named, own = desired.environment.environment_id, self.desired.environment.environment_id
        if named != own:
            raise Conflict(f"this runtime is of the environment '{own}', not '{named}'")
        if desired.generation < self.desired.generation:
            return self.desired, self._ended, self._draining
        lifecycles = {revision.revision_id: revision.lifecycle for revision in desired.environment.revisions}
        ended = {name: was for name, was in self._ended.items() if lifecycles.get(name) is was}
        draining = self._draining & {name for name, lifecycle in lifecycles.items() if lifecycle in PRESENT}
        return desired, ended, draining

    def _wanted(self, revision_id: str, environment: Environment, ended: Collection[str]) -> bool:
        revision = environment.revision(revision_id)
        present = revision is not None and revision.lifecycle in PRESENT and revision_id not in ended
        return present or revision_id in self._warming or revision_id in self._drain_ends

    def _start_present(self, revisions: Iterable[Revision]) -> list[Worker]:
        """Start what is meant to exist and does not. Those that requests can be for and that are on their first way up:
        one that keeps failing, or that somebody warms, is not to be waited for."""
        self._require_open()
        starting = []
        for revision in revisions:
            if revision.lifecycle not in PRESENT or revision.revision_id in self._ended:
                continue
            worker = self._workers.get(revision.revision_id)
            serving = revision.lifecycle is not Lifecycle.WARMING
            if worker is None or self._lacks(revision, self._ended):
                worker = self._workers.ensure(self.desired, revision, keep=serving)
            status = worker.supervision.status
            if serving and status.state is State.STARTING and status.restarts == 0:
                starting.append(worker)
        return starting

    def _lacks(self, revision: Revision, ended: Collection[str]) -> bool:
        """Whether a worker is to be started: it is meant to exist and does not, or has failed while it served."""
        if revision.lifecycle not in PRESENT or revision.revision_id in ended:
            return False
        worker = self._workers.get(revision.revision_id)
        serving = revision.lifecycle is not Lifecycle.WARMING
        return worker is None or (serving and worker.supervision.status.state in {State.FAILED, State.ABSENT})

    async def _settle(self, starting: list[Worker], progress: Progress) -> None:
        for worker in starting:
            progress(f"waiting for the worker of {self._called(worker)}")
            await worker.supervision.settled()

    def _called(self, worker: Worker) -> str:
        """The worker's revision as people call it; its id when it is not recorded any more."""
        revision = self.desired.environment.revision(worker.revision_id)
        return worker.revision_id if revision is None else f"{revision.bundle_id} v{revision.sequence}"

    async def _end(self, revision: Revision) -> None:
        """Take the revision from the table, then end its worker."""
        await self._withdraw(revision)
        await self._workers.end(revision.revision_id)

    async def _withdraw(self, revision: Revision) -> None:
        """Take the revision from the table."""
        self._ended[revision.revision_id] = revision.lifecycle
        self._draining.discard(revision.revision_id)
        if self._workers.get(revision.revision_id) is not None:
            await self.publish()

    async def _until_healthy(self, worker: Worker, revision: Revision) -> None:
        status = await worker.supervision.settled()
        launch = worker.supervision.launch
        if status.state in {State.BACKING_OFF, State.UNHEALTHY} and launch is not None:
            try:
                async with asyncio.timeout(launch.health_timeout):
                    status = await worker.supervision.wait(State.HEALTHY, State.FAILED, State.ABSENT)
            except TimeoutError:
                status = worker.supervision.status
        if status.state is State.ABSENT:
            raise Conflict(f"the worker of {revision.revision_id} was ended while it was warmed")
        if status.state is not State.HEALTHY:
            raise self._gate(worker, revision, status)

    def _gate(self, worker: Worker, revision: Revision, status: Status) -> GateFailed:
        log = self._layout.revision_log(revision.revision_id)
        details: dict[str, Any] = {
            "revision_id": revision.revision_id,
            "reason": status.detail,
            "last_lines": worker.supervision.tail,
            "log": str(log),
        }
        if status.exit_status is not None:
            details["exit_status"] = status.exit_status
            details["exit"] = describe(status.exit_status)
        tail = worker.supervision.tail
        last = f": {tail[-1]}" if tail else ""
        return GateFailed(
            f"v{revision.sequence} did not become healthy: {status.detail}{last}",
            details=details,
            next_step=f"read {log}, mend the bundle and stage it again",
        )

    async def _serve_metrics(self) -> None:
        """Answer Prometheus where the record says."""
        settings = self.desired.environment.host_config.router
        asked = settings.metrics_addr if settings is not None else None
        await self.endpoint.follow(asked, self.desired.environment.environment_id)

    async def _listen(self, progress: Progress) -> None:
        """Move to another address when the record names one."""
        asked = self.desired.environment.host_config.listen_address
        if asked == self._asked:
            return
        listener = listening.listen(asked, self.desired.environment.environment_id, self._layout.listening)
        progress(f"moving to {listening.address_of(listener)}")
        self._asked = asked
        old = self._routers.listener
        await self._routers.move(listener)
        old.close()
