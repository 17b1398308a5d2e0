"""The deployer: it checks what can be checked without the provider, and asks the scheduler to do the rest.

`greentic.envpacks.deployer` says what every deployer must guarantee. Each command of `gtc` makes a new deployer, so
nothing may be kept in this object: what is to be remembered belongs to the provider, here to the scheduler.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
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
from greentic.envpacks.optional import OptionalVerbs
from greentic.envpacks.planning import opening, planned
from greentic.envpacks.variables import passed
from greentic.envpacks.wire import LIMIT_BYTES, encode, error_from, from_json, to_json, verbs
from greentic.spec.environment import Environment
from greentic.spec.errors import BundleError, Conflict, NotFound, ProviderError, TimedOut
from greentic.spec.lifecycle import PRESENT, Lifecycle

RECORDING = "ACME_EXAMPLE_RECORDING"
"""The variable that names the folder where a bench wants every call written down."""
START_SECONDS = STOP_SECONDS = 20.0
GONE_SECONDS = 2.0
LONGEST_PREVIEW_SECONDS = 7 * 24 * 3600
LONGEST_TRUST_SECONDS = 90 * 24 * 3600


class ExampleDeployer(OptionalVerbs):
    """See `greentic.envpacks.deployer.Deployer`."""

    def __init__(self, context: DeployerContext, operator: Mapping[str, str] | None = None) -> None:
        """`operator` are the variables of whoever runs the command; of them next to nothing is passed on."""
        self._context = context
        self._operator = os.environ if operator is None else operator
        self._folder = context.folder.absolute() / "run" / "acme_example"

    async def check_settings(self, environment: Environment) -> None:
        """Whether HTTPS could be served with the certificate that is named."""
        settings = environment.host_config.router
        if settings is not None and settings.tls is not None:
            from greentic.providers.local.certificates import load

            load(settings.tls)

    async def stage_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        """The bundle is unpacked already. The answers are frozen with the revision: later ones are for later ones."""
        from greentic.bundles.unpack import load

        desired.revision(revision_id)
        if load(self._context.folder / "revisions" / revision_id / "bundle").entry.manifest.application is None:
            raise BundleError("the bundle holds no application that can be run")
        frozen = self._folder / "workers" / revision_id / "answers.json"
        if not frozen.exists():
            with calls.making("file.write", f"answers of {revision_id}"):
                frozen.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_private(frozen, dict(self._context.answers))

    async def warm_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        """Have the scheduler start the worker; it answers when the worker does."""
        desired.revision(revision_id)
        await self._ask("warm_revision", desired, progress, revision_id=revision_id)

    async def drain_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> DrainReport:
        """Have the scheduler wait for what is in flight and end the worker."""
        self._require_no_share(desired, revision_id)
        with contextlib.suppress(NotRunning):
            report: DrainReport = await self._call("drain_revision", desired, progress, revision_id=revision_id)
            return report
        return DrainReport(revision_id, 0, 0, 0.0)

    async def archive_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        """Have the scheduler leave nothing of the revision."""
        self._require_no_share(desired, revision_id)
        with contextlib.suppress(NotRunning):
            await self._call("archive_revision", desired, progress, revision_id=revision_id)
        shutil.rmtree(self._folder / "workers" / revision_id, ignore_errors=True)

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        """Have the router serve the recorded split."""
        if desired.environment.deployment(deployment_id) is None:
            raise NotFound(f"there is no deployment {deployment_id}", details={"deployment_id": deployment_id})
        if desired.environment.split(deployment_id) is not None:
            desired.split(deployment_id)  # refused unless it sums to 10,000
        receipt: Receipt = await self._ask("apply_traffic_split", desired, progress, deployment_id=deployment_id)
        return receipt

    async def reconcile(self, desired: DesiredState, progress: Progress = silent) -> Observation:
        """Have the scheduler make everything as it is recorded."""
        seen: Observation = await self._ask("reconcile", desired, progress)
        return seen

    async def observe(self, desired: DesiredState) -> Observation:
        """What the scheduler sees; nothing is started for it."""
        with contextlib.suppress(NotRunning):
            seen: Observation = await self._call("observe", desired, silent)
            return seen
        present = [item.revision_id for item in desired.environment.revisions if item.lifecycle in PRESENT]
        return Observation(False, revisions={name: RevisionObservation(name, "absent") for name in present})

    async def plan(self, desired: DesiredState) -> Plan:
        """What the scheduler would change; where there is none, all that a new one would start."""
        with contextlib.suppress(NotRunning):
            plan: Plan = await self._call("plan", desired, silent)
            return plan
        opened = opening(desired.environment, desired.environment.host_config.routers)
        return Plan((*opened, *planned(desired, Observation(True)).changes))

    async def stop(self, desired: DesiredState, progress: Progress = silent) -> bool:
        """End the scheduler and all that it runs; it is gone when this returns."""
        running = self._locked()
        with contextlib.suppress(NotRunning):
            await self._call("stop", desired, progress)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                while self._locked():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise TimedOut(f"the scheduler does not end; read {self._log}") from None
        Path(address(self._folder)).unlink(missing_ok=True)  # one that was killed has left it
        return running

    async def _until_gone(self) -> None:
        """Wait for the end of a killed scheduler and of what it had started, which the kernel ends a moment after it.

        All of it has a path in our folder among its variables; where there is no /proc nothing is waited for.
        """
        mark = f"={self._folder}".encode()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GONE_SECONDS):
                while self._locked() or any(mark in one for one in _variables()):
                    await asyncio.sleep(0.005)

    def _locked(self) -> bool:
        """Whether a scheduler runs: it holds its lock until it is gone."""
        try:
            with (self._folder / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    async def preview(self, desired: DesiredState, revision_id: str, seconds: int) -> str:
        """A token that the router knows as its own."""
        revision = desired.revision(revision_id)
        if revision.lifecycle is not Lifecycle.READY:
            raise Conflict(f"the revision {revision_id} is {revision.lifecycle}; only a ready one can be previewed")
        if not 0 < seconds <= LONGEST_PREVIEW_SECONDS:
            raise Conflict(f"a preview lasts 1 to {LONGEST_PREVIEW_SECONDS} seconds")
        token: str = await self._ask("preview", desired, silent, revision_id=revision_id, seconds=seconds)
        return token

    async def trust_token(self, desired: DesiredState, deployment_id: str | None, seconds: int) -> str:
        """A token that the routers know their trusted callers by."""
        if not 0 < seconds <= LONGEST_TRUST_SECONDS:
            raise Conflict(f"trust lasts 1 to {LONGEST_TRUST_SECONDS} seconds")
        token: str = await self._ask("trust_token", desired, silent, deployment_id=deployment_id, seconds=seconds)
        return token

    async def rotate_keys(self, desired: DesiredState, progress: Progress = silent) -> KeyRotation:
        """Another key signs, once every router has it."""
        turned: KeyRotation = await self._ask("rotate_keys", desired, progress)
        return turned

    async def restart_routers(
        self, desired: DesiredState, grace_seconds: float, progress: Progress = silent
    ) -> tuple[RouterRestart, ...]:
        """One router after the other."""
        try:
            told: tuple[RouterRestart, ...] = await self._call(
                "restart_routers", desired, progress, grace_seconds=grace_seconds
            )
        except NotRunning:
            raise Conflict("the scheduler is not running: there is no router to restart") from None
        return told

    async def explain(self, desired: DesiredState, request_id: str) -> Explanation:
        """What the router remembers of a request."""
        with contextlib.suppress(NotRunning):
            found: Explanation = await self._call("explain", desired, silent, request_id=request_id)
            return found
        return Explanation((), "nothing: the scheduler is not running")

    async def metrics(self, desired: DesiredState) -> str:
        """What the router counted."""
        try:
            text: str = await self._call("metrics", desired, silent)
        except NotRunning:
            raise Conflict("the scheduler is not running: there is nothing to measure") from None
        return text

    def _require_no_share(self, desired: DesiredState, revision_id: str) -> None:
        revision = desired.revision(revision_id)
        split = desired.environment.split(revision.deployment_id)
        if any(one.revision_id == revision_id and one.weight_bps for one in (split.entries if split else ())):
            raise Conflict(f"the revision {revision_id} still has a share of the traffic")

    async def _ask(self, verb: str, desired: DesiredState, progress: Progress, **arguments: Any) -> Any:
        """Ask the scheduler, which is started when it is not there."""
        for _ in range(2):
            with contextlib.suppress(NotRunning):
                return await self._call(verb, desired, progress, **arguments)
            progress("starting the scheduler")
            await self._start()
        raise ProviderError(f"the scheduler ended while it was asked to {verb}", details={"log": str(self._log)})

    async def _call(self, verb: str, desired: DesiredState, progress: Progress, **arguments: Any) -> Any:
        try:
            reader, writer = await asyncio.open_unix_connection(address(self._folder), limit=LIMIT_BYTES)
        except (FileNotFoundError, ConnectionRefusedError):
            if not self._locked():
                await self._until_gone()
            raise NotRunning from None
        try:
            params = {name: to_json(value) for name, value in {"desired": desired, **arguments}.items()}
            writer.write(encode({"verb": verb, "params": params}))
            while True:
                message = json.loads(await reader.readuntil(b"\n"))
                if "progress" in message:
                    progress(message["progress"])
                elif "error" in message:
                    raise error_from(message["error"], "the scheduler")
                else:
                    return from_json(verbs()[verb].gives, message["result"], "the scheduler's answer")
        except (OSError, asyncio.IncompleteReadError):
            await self._until_gone()
            raise NotRunning from None
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    @property
    def _log(self) -> Path:
        return self._context.folder.absolute() / "logs" / "acme_example.log"

    async def _start(self) -> None:
        """Start the scheduler in the background and wait until it answers; it keeps a second one of its kind out."""
        for folder in (self._folder, self._log.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with calls.making("process.start", "scheduler"), self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "acme_example.scheduler", str(self._context.folder.absolute())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Of the operator's environment only the few variables that any program may see, and where we are.
                env=self._variables(),
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(START_SECONDS):
                while True:
                    with contextlib.suppress(OSError):
                        _, writer = await asyncio.open_unix_connection(address(self._folder))
                        writer.close()
                        return
                    if process.poll():  # one that ends without complaint gave way to another
                        lines = self._log.read_text(errors="replace").splitlines()[-10:]
                        raise ProviderError(
                            f"the scheduler ended: {lines[-1] if lines else 'without a word'}",
                            details={"last_lines": lines, "log": str(self._log)},
                        )
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise TimedOut(f"the scheduler did not answer within {START_SECONDS:g} s; read {self._log}") from None

    def _variables(self) -> dict[str, str]:
        """Of the operator's only the few that any program may see; and where we are, and what a bench has asked for."""
        ours = {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
        asked = {RECORDING: self._operator[RECORDING]} if RECORDING in self._operator else {}
        return {**passed(self._operator), **ours, **asked}


class NotRunning(Exception):
    """There is no scheduler."""


def write_private(path: Path, document: Any) -> None:
    """Write JSON for the owner's eyes alone, whole or not at all."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(document, file)
    draft.replace(path)


def address(folder: Path) -> str:
    """The scheduler's socket. A path that the system finds too long gets a short one beside it."""
    path = folder / "socket"
    if len(os.fsencode(path)) < 100:
        return str(path)
    import hashlib
    import tempfile

    return str(Path(tempfile.gettempdir()) / f"acme-{hashlib.sha256(os.fsencode(path)).hexdigest()[:24]}.sock")


def _variables() -> Iterator[bytes]:
    """Those of every process but this one, as far as they may be read."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        if path.parent.name != str(os.getpid()):
            with contextlib.suppress(OSError):
                yield path.read_bytes()
