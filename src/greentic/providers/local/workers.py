"""The workers of one environment: one supervised process per revision that is present."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from greentic.bundles.unpack import load
from greentic.envpacks.deployer import DesiredState, RevisionObservation
from greentic.envpacks.state import StateScope
from greentic.providers.local.layout import Layout, remove, write_private
from greentic.spec.deployment import BundleDeployment
from greentic.spec.errors import GreenticError, InputOutput, NotFound, ProviderError
from greentic.spec.parsing import parse, parse_json
from greentic.spec.revision import PackConfig, Revision
from greentic.worker import dependencies, ports
from greentic.worker.launch import HOST, Identity, Launch, plan
from greentic.worker.logfile import LogFile
from greentic.worker.state import StateDoor
from greentic.worker.supervision import Pace, State, Supervision


@dataclass(slots=True)
class Worker:
    """One revision's worker; its port may change when it is started again."""

    revision_id: str
    deployment_id: str
    port: int
    supervision: Supervision

    @property
    def address(self) -> str:
        """Where it listens: `host:port`."""
        return f"{HOST}:{self.port}"


@dataclass(slots=True)
class Workers:
    """Starts and ends workers. `operator` is the environment of the runtime, of which workers see next to nothing.

    `changed` is called with the revision after each change of a worker's status.
    """

    layout: Layout
    operator: Mapping[str, str]
    changed: Callable[[Worker], None]
    pace: Pace | None = None
    door: StateDoor | None = None
    """Where workers reach their state; None for workers that keep none."""
    _workers: dict[str, Worker] = field(default_factory=dict)
    _ending: dict[str, set[asyncio.Task[None]]] = field(default_factory=dict)

    def get(self, revision_id: str) -> Worker | None:
        """The revision's worker, None when there is none."""
        return self._workers.get(revision_id)

    def all(self) -> tuple[Worker, ...]:
        """Every worker, failed ones included."""
        return tuple(self._workers.values())

    def addresses(self) -> dict[str, str]:
        """Where each revision's worker listens, or will."""
        return {worker.revision_id: worker.address for worker in self._workers.values()}

    def ensure(self, desired: DesiredState, revision: Revision, *, keep: bool) -> Worker:
        """The revision's worker, started when there is none or it has failed. `keep`: see `Supervision.start`."""
        worker = self._workers.get(revision.revision_id)
        if worker is None:
            deployment = desired.environment.deployment(revision.deployment_id)
            if deployment is None:
                raise NotFound(
                    f"the revision {revision.revision_id} belongs to no deployment of the environment",
                    details={"revision_id": revision.revision_id, "deployment_id": revision.deployment_id},
                )
            worker = self._new(revision, deployment)
            self._workers[revision.revision_id] = worker
        worker.supervision.start(keep=keep)
        return worker

    async def end(self, revision_id: str) -> None:
        """End the revision's worker and forget it; return when it is gone, whoever asked first.

        A caller that is cancelled does not keep the worker alive.
        """
        worker = self._workers.pop(revision_id, None)
        endings = self._ending.setdefault(revision_id, set())
        if worker is not None:
            ending = asyncio.create_task(self._end(worker))
            endings.add(ending)
            ending.add_done_callback(endings.discard)
        if endings:
            done, _ = await asyncio.wait(endings)
            for ending in done:
                ending.result()
        if not endings:
            self._ending.pop(revision_id, None)

    async def _end(self, worker: Worker) -> None:
        try:
            await worker.supervision.stop()
            if self.door is not None and worker.revision_id not in self._workers:
                self.door.dismiss(worker.revision_id)
        except GreenticError:
            self._workers.setdefault(worker.revision_id, worker)  # it may live: to be ended by who asks again
            raise

    async def end_all(self) -> None:
        """End every worker, those included that are on their way out."""
        await asyncio.gather(*(self.end(revision_id) for revision_id in {*self._workers, *self._ending}))

    def forget(self, revision_id: str) -> None:
        """Remove the run state of a revision without a worker; its logs stay."""
        remove(self.layout.worker(revision_id))

    def observation(self, worker: Worker) -> RevisionObservation:
        """What is seen of the worker alone."""
        status = worker.supervision.status
        return RevisionObservation(
            revision_id=worker.revision_id,
            state=status.state.value,
            detail=status.detail,
            process_id=status.process_id,
            restarts=status.restarts,
            started_at=status.started_at,
            log=str(self.layout.revision_log(worker.revision_id)),
            ready_workers=int(status.state is State.HEALTHY),
            wanted_workers=1,
        )

    def _new(self, revision: Revision, deployment: BundleDeployment) -> Worker:
        port = ports.choose(self._taken())

        def prepare() -> Launch:
            worker.port = ports.choose(self._taken(worker), preferred=worker.port)
            return self._plan(revision, deployment, worker.port)

        def changed() -> None:
            self.changed(worker)

        log = LogFile(self.layout.revision_log(revision.revision_id))
        supervision = Supervision(prepare, log, changed=changed, chance=random.random, pace=self.pace)
        worker = Worker(revision.revision_id, revision.deployment_id, port, supervision)
        return worker

    def _taken(self, but: Worker | None = None) -> set[int]:
        return {worker.port for worker in self._workers.values() if worker is not but}

    def _plan(self, revision: Revision, deployment: BundleDeployment, port: int) -> Launch:
        pack = load(self.layout.bundle(revision.revision_id)).entry
        configuration = self.layout.configuration(revision.revision_id)
        try:
            write_private(configuration, json.dumps(self._parameters(revision, pack.pack_id)).encode())
        except OSError as error:
            raise InputOutput(f"the parameters of {revision.revision_id} cannot be written: {error}") from error
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
        requirements = getattr(pack.manifest.application, "dependencies", ())
        installed = dependencies.folder(self.layout.dependencies, requirements) if requirements else None
        if installed is not None and not installed.is_dir():
            raise ProviderError(
                f"the dependencies of {revision.revision_id} are not installed for this Python",
                next_step="stage the revision again",
            )
        return plan(
            pack,
            identity,
            port=port,
            configuration=configuration,
            operator=self.operator,
            dependencies=installed,
            variables=self._state_of(identity),
        )

    def _state_of(self, identity: Identity) -> dict[str, str]:
        """What the worker reaches its values by, anew for each start."""
        if self.door is None:
            return {}
        scope = StateScope(identity.env_id, identity.deployment_id, identity.tenant)
        return self.door.admit(identity.revision_id, scope)

    def _parameters(self, revision: Revision, pack_id: str) -> dict[str, object]:
        path = self.layout.pack_config(revision.revision_id, pack_id)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return {}
        return parse(PackConfig, parse_json(data, str(path)), str(path)).non_secret
