"""The scheduler: one process per environment that runs the workers and the router. It stands for your platform.

    python -m acme_example.scheduler ENVIRONMENT_FOLDER

A real platform is there already: then this file goes, and the deployer calls the platform's interface instead. What
stays is greentic's own, which the local deployer runs as well: the routers (as many as are recorded, HTTPS, session
pins, spans, keys) and the door to the state of the workers. Here they are started and told what to serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from greentic.bundles.unpack import load
from greentic.envpacks import calls
from greentic.envpacks.deployer import (
    Change,
    DesiredState,
    DrainReport,
    Explanation,
    KeyRotation,
    Observation,
    Plan,
    Receipt,
    RevisionObservation,
    RouterRestart,
)
from greentic.envpacks.planning import ends, opening, starts, tables
from greentic.envpacks.state import StateScope
from greentic.envpacks.variables import passed
from greentic.envpacks.wire import LIMIT_BYTES, encode, from_json, to_json, verbs
from greentic.providers.local import keys, listening, sessions, telemetry, tokens
from greentic.providers.local.bound_state import BoundState
from greentic.providers.local.certificates import Certificates
from greentic.providers.local.observing import with_counts
from greentic.providers.local.planning import listener as moving
from greentic.providers.local.planning import routers as resizing
from greentic.providers.local.routing import Routers
from greentic.router import projection
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, GateFailed, GreenticError, ProviderError
from greentic.spec.lifecycle import PRESENT, Lifecycle
from greentic.spec.revision import Revision
from greentic.worker import ports
from greentic.worker.launch import HOST, Identity, Launch, plan
from greentic.worker.logfile import LogFile
from greentic.worker.state import StateDoor
from greentic.worker.supervision import State, Supervision

from acme_example.deployer import RECORDING, address, write_private
from acme_example.launching import command

Progress = Callable[[str], None]
OPEN_SECONDS = 10.0
STOP_SECONDS = 2.0
ROUTER_MARK = "ACME_EXAMPLE_ROUTER_OF"
"""The variable by which our router can be told from others'."""


class Worker:
    """One revision's process group, kept alive by greentic's own supervision."""

    def __init__(self, scheduler: Scheduler, revision: Revision) -> None:
        self.kept = False
        self.port = ports.choose(scheduler.ports())
        log = LogFile(scheduler.logs / "revisions" / f"{revision.revision_id}.log")
        log.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.supervision = Supervision(
            lambda: scheduler.launch(revision, self.port), log, changed=lambda: None, chance=random.random
        )


class Scheduler:
    """Everything that runs for one environment. The verbs are those of the deployer."""

    def __init__(self, folder: Path) -> None:
        self.logs = folder / "logs"
        self.stopped = asyncio.Event()
        self._folder = folder
        self._run = folder / "run" / "acme_example"
        self._desired: DesiredState | None = None
        self._workers: dict[str, Worker] = {}
        self._draining: set[str] = set()
        self._ended: set[str] = set()
        self._turn = asyncio.Lock()
        self._asked = ""
        self._routers: Routers | None = None
        self._certificates = Certificates()
        self._ring = self._run / "keys.json"
        self._version = 0
        self._served: dict[str, Any] = {}
        self._opened = False
        self._kept = BoundState(lambda: self._record().environment, folder)
        self.door = StateDoor(self._kept)

    # The verbs

    async def warm_revision(self, desired: DesiredState, revision_id: str, progress: Progress) -> None:
        """Start the worker, and wait until it is healthy."""
        revision = (await self._follow(desired)).revision(revision_id)
        self._ended.discard(revision_id)
        worker = self._worker(revision, keep=False)
        progress(f"waiting until v{revision.sequence} is healthy on port {worker.port}")
        status = await worker.supervision.settled()
        if status.state is not State.HEALTHY:
            tail = worker.supervision.tail
            raise GateFailed(
                f"v{revision.sequence} did not become healthy: {status.detail}" + (f": {tail[-1]}" if tail else ""),
                details={"revision_id": revision_id, "reason": status.detail, "last_lines": tail},
                next_step=f"read {worker.supervision.log.path}, mend the bundle and stage it again",
            )

    async def drain_revision(self, desired: DesiredState, revision_id: str, progress: Progress) -> DrainReport:
        """No new visitors; wait for those that are there; end the worker."""
        began = time.monotonic()
        revision = (await self._follow(desired)).revision(revision_id)
        finished = cut = pins = 0
        if revision_id in self._workers:
            self._draining.add(revision_id)
            await self._publish()
            assert self._routers is not None
            report = await self._routers.drain(
                revision_id, revision.drain_seconds, lambda seen: progress(f"waiting for {seen}")
            )
            finished, cut, pins = report.finished, report.cut.total, report.pins_cut
            await self._end(revision_id)
        return DrainReport(revision_id, finished, cut, round(time.monotonic() - began, 3), pins_cut=pins)

    async def archive_revision(self, desired: DesiredState, revision_id: str, progress: Progress) -> None:
        """Leave nothing of the revision."""
        await self._follow(desired)
        await self._end(revision_id)

    async def apply_traffic_split(self, desired: DesiredState, deployment_id: str, progress: Progress) -> Receipt:
        """The router has acknowledged the split when this returns."""
        began = time.monotonic()
        await self._follow(desired)
        served, routers = await self._publish()
        took = round((time.monotonic() - began) * 1000, 3)
        return Receipt(deployment_id, served[deployment_id], routers, routers, took)

    async def reconcile(self, desired: DesiredState, progress: Progress) -> Observation:
        """Start what is missing, end what is too much, serve what is recorded."""
        followed = await self._follow(desired)
        await self._move(followed.environment)
        present = {item.revision_id: item for item in followed.environment.revisions if item.lifecycle in PRESENT}
        for revision_id in set(self._workers) - set(present):
            await self._end(revision_id)
        for revision_id, revision in present.items():
            if revision_id not in self._workers and revision_id not in self._ended:
                progress(f"starting v{revision.sequence}")
                self._worker(revision, keep=True)
        await self._settle()
        await self._publish()
        return await self.observe(desired, progress)

    async def plan(self, desired: DesiredState, progress: Progress) -> Plan:
        """What a reconcile would change; nothing is followed and nothing is started for it."""
        del progress
        newer = self._desired is None or desired.generation >= self._desired.generation
        environment = (desired if newer or self._desired is None else self._desired).environment
        started = tuple(starts(environment, dict.fromkeys({*self._workers, *self._ended}, "there")))
        surplus = tuple(ends(environment, dict.fromkeys(self._workers, "there")))
        if self._routers is None:
            opened = tuple(opening(environment, environment.host_config.routers))
        else:
            address = listening.address_of(self._routers.listener)
            opened = (*moving(environment, self._asked, address), *resizing(environment, self._routers.names))
        table = self._table(environment, [one.name for one in started])
        published = tuple(tables(table["deployments"], self._served.get("deployments", [])))
        if not published and table != self._served:
            published = (Change("publish", "table", environment.environment_id, "its settings are not those served"),)
        return Plan((*opened, *started, *published, *surplus))

    async def observe(self, desired: DesiredState, progress: Progress) -> Observation:
        """What is, as it is seen here and by the router."""
        del desired, progress
        if self._routers is None:
            return Observation(True, revisions={name: self._seen(name, None) for name in sorted(self._known())})
        report, states = await self._routers.report(), self._routers.states()
        return Observation(
            running=True,
            url=listening.url_of(self._routers.listener, secure=self._served.get("tls") is not None),
            routers=sum(one.ready for one in states),
            generations=report["generations"],
            revisions={name: self._seen(name, report["revisions"].get(name)) for name in sorted(self._known())},
            discovered={"listen_addr": listening.address_of(self._routers.listener)},
            router_states=states,
        )

    async def explain(self, desired: DesiredState, request_id: str, progress: Progress) -> Explanation:
        """What the router remembers of a request."""
        del desired, progress
        found = await self._routers.explain(request_id) if self._routers is not None else []
        return Explanation(tuple({**one, "source": "router"} for one in found), "the last requests of each router")

    async def metrics(self, desired: DesiredState, progress: Progress) -> str:
        """What the routers counted, as Prometheus reads it."""
        seen = await self.observe(desired, progress)
        lines = ["# TYPE acme_example_requests_total counter"]
        for name, one in seen.revisions.items():
            lines.append(f'acme_example_requests_total{{revision="{name}"}} {one.requests}')
        return "\n".join(lines) + "\n"

    async def preview(self, desired: DesiredState, revision_id: str, seconds: int, progress: Progress) -> str:
        """A token that reaches a ready revision at any share."""
        revision = (await self._follow(desired)).revision(revision_id)
        return tokens.token(self._ring, revision.deployment_id, revision_id, int(time.time()) + seconds)

    async def trust_token(
        self, desired: DesiredState, deployment_id: str | None, seconds: int, progress: Progress
    ) -> str:
        """A token that makes its bearer a trusted caller."""
        environment = (await self._follow(desired)).environment
        return tokens.trust_token(self._ring, environment.environment_id, deployment_id, int(time.time()) + seconds)

    async def rotate_keys(self, desired: DesiredState, progress: Progress) -> KeyRotation:
        """Every router has the new key before any signs with it."""
        began = time.monotonic()
        await self._follow(desired)
        dropped = keys.stage(self._ring)
        await self._publish()
        turned = keys.activate(self._ring)
        _, routers = await self._publish()
        took = round((time.monotonic() - began) * 1000, 3)
        return KeyRotation(turned["active"], keys.kids(turned), dropped, routers, routers, took)

    async def restart_routers(
        self, desired: DesiredState, grace_seconds: float, progress: Progress
    ) -> tuple[RouterRestart, ...]:
        """One after the other, and nobody is turned away."""
        await self._follow(desired)
        await self._publish()
        assert self._routers is not None
        return await self._routers.restart(progress, grace_seconds)

    async def stop(self, desired: DesiredState | None = None, progress: Progress | None = None) -> bool:
        """End everything."""
        async with self._turn:
            if self._routers is not None:
                await self._routers.stop(progress or (lambda _: None), STOP_SECONDS)
                self._routers.listener.close()
                self._routers = None
            for revision_id, worker in list(self._workers.items()):
                await worker.supervision.stop()
                self._workers.pop(revision_id, None)
            await self.door.close()
            await self._kept.close()
            self.stopped.set()
        return True

    # Workers

    def ports(self) -> set[int]:
        """Those that are taken."""
        return {worker.port for worker in self._workers.values()}

    def launch(self, revision: Revision, port: int) -> Launch:
        """How a revision is started: greentic's own plan of it, and what the answers make of that."""
        deployment = self._record().environment.deployment(revision.deployment_id)
        if deployment is None:
            raise ProviderError(f"the revision {revision.revision_id} belongs to no deployment")
        files = self._folder / "revisions" / revision.revision_id
        pack = load(files / "bundle").entry
        if getattr(pack.manifest.application, "dependencies", ()):
            raise ProviderError("this deployer installs no dependencies: put them into the bundle (vendor)")
        frozen = files / "pack-configs" / f"{pack.pack_id}.json"
        parameters = json.loads(frozen.read_bytes())["non_secret"] if frozen.exists() else {}
        configuration = self._run / "workers" / revision.revision_id / "config.json"
        with calls.making("file.write", f"parameters of {revision.revision_id}"):
            configuration.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(configuration, parameters)
        selector = deployment.route_binding.tenant_selector
        identity = Identity(
            env_id=revision.env_id,
            revision_id=revision.revision_id,
            deployment_id=deployment.deployment_id,
            bundle_id=revision.bundle_id,
            bundle_digest=revision.bundle_digest,
            bundle_version=revision.display_version or pack.version,
            customer_id=deployment.customer_id,
            tenant=selector.tenant,
            team=selector.team,
            sequence=revision.sequence,
        )
        scope = StateScope(revision.env_id, deployment.deployment_id, selector.tenant)
        state = self.door.admit(revision.revision_id, scope)
        found = plan(pack, identity, port=port, configuration=configuration, operator=os.environ, variables=state)
        frozen_answers = configuration.with_name("answers.json")
        answers = json.loads(frozen_answers.read_bytes()) if frozen_answers.exists() else {}
        argv = command(found.argv, answers)
        return Launch(argv, found.environment, found.directory, port, found.health_path, found.health_timeout)

    def _worker(self, revision: Revision, *, keep: bool) -> Worker:
        worker = self._workers.get(revision.revision_id) or Worker(self, revision)
        self._workers[revision.revision_id] = worker
        worker.kept = worker.kept or keep
        worker.supervision.start(keep=keep)
        return worker

    async def _end(self, revision_id: str) -> None:
        """Take the revision from the router's table first, then end its worker."""
        self._ended.add(revision_id)
        self._draining.discard(revision_id)
        worker = self._workers.get(revision_id)
        if worker is not None:
            await self._publish()
            await worker.supervision.stop()
            self._workers.pop(revision_id, None)  # not before: one that could not be ended is to be ended again
            self.door.dismiss(revision_id)

    def _seen(self, revision_id: str, counted: dict[str, Any] | None) -> RevisionObservation:
        worker = self._workers.get(revision_id)
        if worker is None:
            return RevisionObservation(revision_id, "absent")
        status = worker.supervision.status
        seen = RevisionObservation(
            revision_id,
            status.state.value,
            status.detail,
            process_id=status.process_id,
            restarts=status.restarts,
            started_at=status.started_at,
            log=str(worker.supervision.log.path),
            ready_workers=int(status.state is State.HEALTHY),
            wanted_workers=1,
        )
        return with_counts(seen, counted)

    def _known(self) -> set[str]:
        recorded = {one.revision_id for one in self._record().environment.revisions if one.lifecycle in PRESENT}
        return recorded | set(self._workers)

    # The routers

    async def _publish(self) -> tuple[dict[str, int], int]:
        """Have every router serve the table of the present state; the generations acknowledged, and by how many."""
        async with self._turn:
            environment = self._record().environment
            if self.stopped.is_set():
                raise Conflict("the scheduler is being stopped")
            routers = self._routers = self._routers or self._open(environment)
            routers.resize(environment.host_config.routers)
            self._version += 1
            table = self._table(environment)
            served = await routers.publish({**table, "version": self._version, "keys": keys.ensure(self._ring)})
            self._served = table
            return dict(served.generations), len(served.routers)

    def _table(self, environment: Environment, to_come: Iterable[str] = ()) -> dict[str, Any]:
        """What the routers are told but for the keys. Where workers `to_come` will listen is not known yet."""
        addresses = {name: f"{HOST}:{worker.port}" for name, worker in self._workers.items()} | dict.fromkeys(
            to_come, ""
        )
        host = environment.host_config
        router = host.router
        tls = self._certificates.material(router.tls if router is not None else None)
        return {
            "env_id": environment.environment_id,
            "deployments": projection.deployments(environment, addresses, draining=self._draining, ended=self._ended),
            "options": {
                "stamp_revision": bool(host.stamp_revision),
                "secure_cookies": (host.public_base_url or "").startswith("https:"),
                "replica": {"count": host.routers},
                "limits": router.limits.to_json() if router is not None and router.limits is not None else {},
                "trusted_callers": list(router.trusted_callers or ()) if router is not None else [],
                "trusted_proxies": list(router.trusted_proxies or ()) if router is not None else [],
            },
            "tls": None if tls is None else dataclasses.asdict(tls),
            "pins": sessions.pins(environment, self._folder),
            "spans": telemetry.spans(environment, self._folder),
        }

    def _open(self, environment: Environment) -> Routers:
        """Routers that wait for their first table, on a socket of ours: it stays open whatever becomes of them."""
        self._asked = environment.host_config.listen_address
        listener = listening.listen(self._asked, environment.environment_id, self._run / "listening.json")
        variables = {**passed(os.environ), "PYTHONPATH": os.environ.get("PYTHONPATH", ""), ROUTER_MARK: str(self._run)}
        return Routers(listener, variables, self._folder, LogFile(self.logs / "router.log"), _event)

    async def _move(self, environment: Environment) -> None:
        """Listen where it is recorded."""
        asked = environment.host_config.listen_address
        if self._routers is not None and asked != self._asked:
            old = self._routers.listener
            await self._routers.move(listening.listen(asked, environment.environment_id, self._run / "listening.json"))
            self._asked = asked
            old.close()

    # The record

    def _record(self) -> DesiredState:
        if self._desired is None:
            raise Conflict("the scheduler was not told yet what is recorded")
        return self._desired

    async def _follow(self, desired: DesiredState) -> DesiredState:
        """Follow `desired` from now on, unless a newer record is followed already; what is followed.

        A scheduler that begins brings back what is recorded to serve: the one before may have been killed.
        """
        if self._desired is None or desired.generation >= self._desired.generation:
            self._desired = desired
            present = {one.revision_id for one in desired.environment.revisions if one.lifecycle in PRESENT}
            self._draining &= present
            self._ended &= present
        if not self._opened:
            self._opened = True
            for revision in self._desired.environment.revisions:
                if revision.lifecycle in (Lifecycle.READY, Lifecycle.DRAINING):
                    self._worker(revision, keep=True)
        await self._settle()
        return self._desired

    async def _settle(self) -> None:
        """Wait for workers that are on their first way up, but not for ever."""
        kept = [worker.supervision.settled() for worker in self._workers.values() if worker.kept]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OPEN_SECONDS):
                await asyncio.gather(*kept)


def _event(name: str, **about: Any) -> None:
    """What happens to the routers, in our log."""
    sys.stdout.write(json.dumps({"event": name, **about}) + "\n")
    sys.stdout.flush()


async def _converse(scheduler: Scheduler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One call: {"verb", "params"}, answered by any number of {"progress"} and then {"result"} or {"error"}."""

    def say(message: dict[str, Any]) -> None:
        writer.write(encode(message))

    try:
        message = json.loads(await reader.readuntil(b"\n"))
        verb = message["verb"]
        takes = verbs()[verb].takes
        arguments = {name: from_json(takes[name], value, name) for name, value in message["params"].items()}
        call = asyncio.create_task(getattr(scheduler, verb)(**arguments, progress=lambda line: say({"progress": line})))
        gone = asyncio.create_task(reader.read())
        await asyncio.wait({call, gone}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not call.done():
            call.cancel()  # who asked is gone: the next one begins where this one was
        say({"result": to_json(await call)})
    except GreenticError as error:
        say({"error": error.document()})
    except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        pass
    finally:
        with contextlib.suppress(OSError):
            await writer.drain()
            writer.close()


async def _main(folder: Path) -> None:
    scheduler = Scheduler(folder)
    place = address(folder / "run" / "acme_example")
    Path(place).unlink(missing_ok=True)
    calls: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = asyncio.create_task(_converse(scheduler, reader, writer))
        calls.add(call)
        call.add_done_callback(calls.discard)

    await scheduler.door.open()
    before = os.umask(0o177)
    server = await asyncio.start_unix_server(connected, place, limit=LIMIT_BYTES)
    os.umask(before)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: calls.add(asyncio.ensure_future(scheduler.stop())))  # type: ignore[arg-type]
    await scheduler.stopped.wait()
    Path(place).unlink(missing_ok=True)
    server.close()
    await asyncio.gather(*calls, return_exceptions=True)  # the answer to the stop itself is on its way


def main() -> int:
    """Run until it is stopped; 0 at once when another one runs for this environment."""
    folder = Path(sys.argv[1])
    # Never closed here: whoever waits for our end waits for this lock, which the system lets go of last.
    lock = os.open(folder / "run" / "acme_example" / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    if RECORDING in os.environ:
        from greentic.envpacks.bench import Recording

        calls.observe(Recording(Path(os.environ.pop(RECORDING)), lambda: os.kill(os.getpid(), signal.SIGKILL)))
    asyncio.run(_main(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
