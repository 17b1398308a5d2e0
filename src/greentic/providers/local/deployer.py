"""`greentic.deployer.local-process`: the deployer of this machine.

Each verb is asked of the environment's runtime over its control socket; the runtime is started in the background when a
verb needs it and it is not there. This side imports neither the event loop nor the router of the data plane, so that a
verb on a running environment costs a few milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from greentic.envpacks import calls
from greentic.envpacks.deployer import (
    DeployerContext,
    DesiredState,
    DrainReport,
    Explanation,
    KeyRotation,
    Observation,
    Plan,
    Progress,
    Receipt,
    RevisionObservation,
    RouterRestart,
    silent,
)
from greentic.providers.local import address, background, client, lock, planning, survivors, wire
from greentic.providers.local import desired as kept
from greentic.providers.local.layout import Layout, remove
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, InvalidArgument, NotFound, ProviderError, TimedOut
from greentic.spec.lifecycle import PRESENT, Lifecycle

STOP_SECONDS = 30.0
"""How long an orderly end may take; the runtime is killed after it."""
END_SECONDS = 5.0
OBSERVE_SECONDS = 10.0
LONGEST_PREVIEW_SECONDS = 7 * 24 * 3600
LONGEST_TRUST_SECONDS = 90 * 24 * 3600


class LocalProcessDeployer:
    """See `greentic.envpacks.deployer.Deployer`. `operator` is the caller's environment, of which little is passed
    on; `program` are the interpreter's arguments that run the runtime in the background."""

    def __init__(
        self,
        context: DeployerContext,
        operator: Mapping[str, str] | None = None,
        program: Sequence[str] = background.PROGRAM,
    ) -> None:
        self._environment_id = context.environment_id
        self._layout = Layout(context.folder.absolute())
        self._operator = os.environ if operator is None else operator
        self._program = tuple(program)
        self.stop_seconds = STOP_SECONDS

    async def check_settings(self, environment: Environment) -> None:
        """Whether HTTPS could be served with the certificate that the settings name."""
        settings = environment.host_config.router
        if settings is not None and settings.tls is not None:
            from greentic.providers.local.certificates import load

            load(settings.tls)

    async def stage_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        """See that the bundle can be run here, and install what it declares to need."""
        revision = desired.revision(revision_id)
        from greentic.bundles.unpack import load
        from greentic.worker.dependencies import install

        pack = load(self._layout.bundle(revision.revision_id)).entry
        requirements = getattr(pack.manifest.application, "dependencies", ())
        await install(requirements, self._layout.dependencies, progress, self._operator)

    async def warm_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        """Start the worker and wait until it answers its health path."""
        desired.revision(revision_id)
        await self._ask("warm", desired, progress, revision_id=revision_id)

    async def drain_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> DrainReport:
        """Wait for what is in flight, then end the worker. Nothing is in flight when the runtime is down."""
        desired.idle(revision_id)
        try:
            return DrainReport(**await self._call("drain", desired, progress, revision_id=revision_id))
        except client.NotRunning:
            await self._outlived()
            return DrainReport(revision_id, 0, 0, 0.0)

    async def archive_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        """End the worker and remove its run state; its logs stay. Nothing runs when the runtime is down."""
        desired.idle(revision_id)
        try:
            await self._call("archive", desired, progress, revision_id=revision_id)
        except client.NotRunning:
            await self._outlived()
            remove(self._layout.worker(revision_id))

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        """Have the router serve the recorded split."""
        if desired.environment.deployment(deployment_id) is None:
            raise NotFound(
                f"there is no deployment {deployment_id} in the environment '{self._environment_id}'",
                details={"env_id": self._environment_id, "deployment_id": deployment_id},
            )
        if desired.environment.split(deployment_id) is not None:
            desired.split(deployment_id)  # refused unless it sums to 10,000
        result = await self._ask("apply_traffic_split", desired, progress, deployment_id=deployment_id)
        return Receipt(**{**result, "missing": tuple(result["missing"])})

    async def reconcile(self, desired: DesiredState, progress: Progress = silent) -> Observation:
        """Make workers and router match the record; what is right is left alone."""
        return wire.observation_from(await self._ask("reconcile", desired, progress))

    async def observe(self, desired: DesiredState) -> Observation:
        """What is; nothing is started for it."""
        try:
            return wire.observation_from(await self._look("observe", {}))
        except client.NotRunning:
            present = (item.revision_id for item in desired.environment.revisions if item.lifecycle in PRESENT)
            return Observation(False, revisions={name: RevisionObservation(name, "absent") for name in present})

    async def plan(self, desired: DesiredState) -> Plan:
        """What the runtime would change, or what a new one would start; none is started for it."""
        try:
            return wire.plan_from(await self._look("plan", {"desired": wire.desired_document(desired)}))
        except client.NotRunning:
            followed = kept.load(self._layout.desired)
            if followed is not None and followed.generation > desired.generation:
                desired = followed  # what a runtime that was killed has followed is followed by the next one
            left = [] if lock.held(self._layout.lock) else await asyncio.to_thread(survivors.left, self._layout)
            return planning.stopped(desired, left)

    async def _look(self, method: str, params: Mapping[str, Any]) -> Any:
        """Ask the runtime for something that it knows; TimedOut when it does not answer."""
        try:
            async with asyncio.timeout(OBSERVE_SECONDS):
                return await client.call(address.find(self._layout), method, params)
        except TimeoutError:
            raise TimedOut(
                f"the runtime of '{self._environment_id}' does not answer",
                details={"runtime": self._runtime()},
                next_step=f"gtc stop {self._environment_id}",
            ) from None

    async def restart_routers(
        self, desired: DesiredState, grace_seconds: float, progress: Progress = silent
    ) -> tuple[RouterRestart, ...]:
        """One router after the other; Conflict when none runs."""
        try:
            told = await self._call("restart_routers", desired, progress, grace_seconds=grace_seconds)
        except client.NotRunning:
            raise Conflict(
                f"'{self._environment_id}' is not running: there is no router to restart",
                next_step=f"gtc start {self._environment_id} --background",
            ) from None
        return tuple(RouterRestart(**one) for one in told)

    async def explain(self, desired: DesiredState, request_id: str) -> Explanation:  # noqa: ARG002
        """Ask the routers; what they have forgotten may stand in the access log."""
        from greentic.providers.local import logged

        matches: list[Mapping[str, Any]] = []
        with contextlib.suppress(client.NotRunning):
            told = await client.call(address.find(self._layout), "explain", {"request_id": request_id})
            matches = [{**match, "source": "router"} for match in told]
        if not matches:
            matches = [
                {**match, "environment_id": self._environment_id, "source": "access-log"}
                for match in await asyncio.to_thread(logged.find, self._layout.access_log, request_id)
            ]
        return Explanation(tuple(matches), logged.REMEMBERS)

    async def metrics(self, desired: DesiredState) -> str:  # noqa: ARG002
        """A reading by the runtime."""
        try:
            text: str = await client.call(address.find(self._layout), "metrics", {})
        except client.NotRunning:
            raise Conflict(
                f"'{self._environment_id}' is not running: there is nothing to measure",
                next_step=f"gtc start {self._environment_id} --background",
            ) from None
        return text

    async def serve(self, desired: DesiredState, progress: Progress = silent) -> None:
        """Be the runtime, in this process, until it is stopped (SIGINT, SIGTERM or `stop`)."""
        from greentic.providers.local.runtime import run

        self._layout.prepare()
        try:
            with lock.hold(self._layout.lock):
                await run(
                    self._layout,
                    self._environment_id,
                    desired,
                    ready=lambda _: None,
                    progress=progress,
                    variables=self._operator,
                )
        except lock.Held:
            raise Conflict(
                f"the environment '{self._environment_id}' is served already",
                next_step=f"gtc stop {self._environment_id}",
            ) from None

    async def stop(self, desired: DesiredState, progress: Progress = silent) -> bool:  # noqa: ARG002
        """End the router and every worker; whether there was anything to end."""
        runtime = self._runtime()
        existed = True
        try:
            async with asyncio.timeout(self.stop_seconds):
                await client.call(address.find(self._layout), "stop", {}, progress, until_closed=True)
        except client.Died:
            pass
        except client.NotRunning:
            existed = lock.held(self._layout.lock)
        except TimeoutError:
            pass
        if not await lock.released(self._layout.lock, END_SECONDS):
            if runtime is None:
                raise TimedOut(f"the runtime of '{self._environment_id}' does not end")
            progress(f"the runtime does not answer; killing the process {runtime['pid']}")
            with calls.making("process.end", "runtime"), contextlib.suppress(ProcessLookupError):
                os.kill(runtime["pid"], signal.SIGKILL)
            await lock.released(self._layout.lock, END_SECONDS)
        return await self._swept() or existed

    async def _swept(self) -> bool:
        """Remove what a runtime that was killed has left; whether processes were among it."""
        left = await self._outlived()
        for path in (address.find(self._layout), self._layout.desired, self._layout.information):
            if path.exists() and not lock.held(self._layout.lock):
                remove(path)
        return left

    async def _outlived(self) -> bool:
        """End the processes that have outlived their runtime, unless another one has been started meanwhile; whether
        there were any.
        """
        if not self._layout.run.is_dir() or not await lock.released(self._layout.lock, END_SECONDS):
            return False
        try:
            with lock.hold(self._layout.lock):
                return bool(await survivors.end(self._layout))
        except lock.Held:
            return False

    async def preview(self, desired: DesiredState, revision_id: str, seconds: int) -> str:
        """A token for a ready revision, valid for `seconds` (at most a week)."""
        revision = desired.revision(revision_id)
        if revision.lifecycle is not Lifecycle.READY:
            raise Conflict(
                f"v{revision.sequence} is {revision.lifecycle}; only a ready revision can be previewed",
                details={"revision_id": revision_id, "lifecycle": revision.lifecycle.value},
                next_step=f"gtc op revisions warm {revision_id}",
            )
        if not 0 < seconds <= LONGEST_PREVIEW_SECONDS:
            raise InvalidArgument(f"a preview lasts 1 to {LONGEST_PREVIEW_SECONDS} seconds")
        from greentic.providers.local.tokens import token

        return token(self._layout.keys, revision.deployment_id, revision_id, int(time.time()) + seconds)

    async def trust_token(
        self,
        desired: DesiredState,  # noqa: ARG002
        deployment_id: str | None,
        seconds: int,
    ) -> str:
        """A token for a trusted caller, valid for `seconds` (at most a quarter of a year)."""
        if not 0 < seconds <= LONGEST_TRUST_SECONDS:
            raise InvalidArgument(f"trust lasts 1 to {LONGEST_TRUST_SECONDS} seconds")
        from greentic.providers.local.tokens import trust_token

        return trust_token(self._layout.keys, self._environment_id, deployment_id, int(time.time()) + seconds)

    async def rotate_keys(self, desired: DesiredState, progress: Progress = silent) -> KeyRotation:
        """Turn the key ring; by the runtime when it is there, so that its routers follow."""
        try:
            told = await self._call("rotate_keys", desired, progress)
            return KeyRotation(**{**told, "verifying": tuple(told["verifying"])})
        except client.NotRunning:
            from greentic.providers.local import keys

            dropped = keys.stage(self._layout.keys)
            turned = keys.activate(self._layout.keys)
            return KeyRotation(turned["active"], keys.kids(turned), dropped, 0, 0, 0.0)

    async def _ask(self, method: str, desired: DesiredState, progress: Progress, **params: Any) -> Any:
        """Ask the runtime, which is started when it is not there."""
        with contextlib.suppress(client.NotRunning):
            return await self._call(method, desired, progress, **params)
        await background.start(self._layout, desired, progress, self._operator, self._program)
        try:
            return await self._call(method, desired, progress, **params)
        except client.NotRunning:
            raise ProviderError(
                f"the runtime of '{self._environment_id}' ended while it was asked to {method.replace('_', ' ')}",
                details={"log": str(self._layout.runtime_log)},
                next_step=f"read {self._layout.runtime_log}, then run the command again",
            ) from None

    async def _call(self, method: str, desired: DesiredState, progress: Progress, **params: Any) -> Any:
        message = {"desired": wire.desired_document(desired), **params}
        return await client.call(address.find(self._layout), method, message, progress)

    def _runtime(self) -> dict[str, Any] | None:
        """What the runtime has written down of itself: `pid` and `started_at`."""
        import json

        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            document: dict[str, Any] = json.loads(self._layout.information.read_bytes())
            return document if int(document["pid"]) > 1 else None
        return None
