"""A deployer that is an executable: each verb is one call of it (see `greentic.envpacks.conversation`).

It keeps the contract of `greentic.envpacks.deployer` as far as this side can see to it: pure preconditions are checked
before anything is started, answers are read into the contract's types, and every verb has its time. Whatever the
executable does is an error of that call, and the next call begins with a new process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from greentic.envpacks.conversation import Started, ask
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
    RouterRestart,
    silent,
)
from greentic.envpacks.executables import Executable
from greentic.envpacks.variables import passed
from greentic.envpacks.wire import PROTOCOL, from_json, to_json, verbs
from greentic.spec.environment import Environment
from greentic.spec.errors import NotFound, ProviderError, SpecViolation

SECONDS: Final[Mapping[str, float | None]] = {
    "check_settings": 30.0,
    "stage_revision": 1800.0,
    "warm_revision": 900.0,
    "reconcile": 1800.0,
    "observe": 30.0,
    "plan": 30.0,
    "metrics": 30.0,
    "preview": 30.0,
    "serve": None,
}
"""How long each verb may take, unless the manifest says otherwise; None: until it is stopped."""
USUAL_SECONDS: Final = 300.0
SPARE_SECONDS: Final = 60.0
"""What a verb that waits for something else (a drain, a grace) may take beyond that."""
_SHORTEST_HIDDEN = 6


class SubprocessDeployer:
    """See `greentic.envpacks.deployer.Deployer`. `operator` is the caller's environment, of which little is passed
    on."""

    def __init__(
        self, executable: Executable, context: DeployerContext, operator: Mapping[str, str] | None = None
    ) -> None:
        self._executable = executable
        self._context = context
        self._operator = os.environ if operator is None else operator

    async def check_settings(self, environment: Environment) -> None:
        """Ask it whether these settings could be served."""
        await self._call("check_settings", silent, environment=environment)

    async def stage_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        """Have it prepare the revision."""
        desired.revision(revision_id)
        await self._call("stage_revision", progress, desired=desired, revision_id=revision_id)

    async def warm_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        """Have it start the revision's worker and wait for its health."""
        desired.revision(revision_id)
        await self._call("warm_revision", progress, desired=desired, revision_id=revision_id)

    async def drain_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> DrainReport:
        """Have it wait for what is in flight, as long as the revision says, and end the worker."""
        longest = desired.revision(revision_id).drain_seconds + SPARE_SECONDS
        report: DrainReport = await self._call(
            "drain_revision", progress, at_least=longest, desired=desired, revision_id=revision_id
        )
        return report

    async def archive_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        """Have it leave nothing of the revision."""
        desired.revision(revision_id)
        await self._call("archive_revision", progress, desired=desired, revision_id=revision_id)

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        """Have its routers serve the recorded split."""
        environment = desired.environment
        if environment.deployment(deployment_id) is None:
            raise NotFound(
                f"there is no deployment {deployment_id} in the environment '{environment.environment_id}'",
                details={"env_id": environment.environment_id, "deployment_id": deployment_id},
            )
        if environment.split(deployment_id) is not None:
            desired.split(deployment_id)  # refused unless it sums to 10,000
        receipt: Receipt = await self._call(
            "apply_traffic_split", progress, desired=desired, deployment_id=deployment_id
        )
        return receipt

    async def reconcile(self, desired: DesiredState, progress: Progress = silent) -> Observation:
        """Have it match the whole record."""
        seen: Observation = await self._call("reconcile", progress, desired=desired)
        return seen

    async def plan(self, desired: DesiredState) -> Plan:
        """What it would change to match the record."""
        plan: Plan = await self._call("plan", silent, desired=desired)
        return plan

    async def observe(self, desired: DesiredState) -> Observation:
        """What it sees."""
        seen: Observation = await self._call("observe", silent, desired=desired)
        return seen

    async def explain(self, desired: DesiredState, request_id: str) -> Explanation:
        """What it knows of the requests with that id."""
        found: Explanation = await self._call("explain", silent, desired=desired, request_id=request_id)
        return found

    async def metrics(self, desired: DesiredState) -> str:
        """What it measures."""
        text: str = await self._call("metrics", silent, desired=desired)
        return text

    async def restart_routers(
        self, desired: DesiredState, grace_seconds: float, progress: Progress = silent
    ) -> tuple[RouterRestart, ...]:
        """Have it replace its routers one after the other."""
        longest = USUAL_SECONDS + 8 * grace_seconds
        restarts: tuple[RouterRestart, ...] = await self._call(
            "restart_routers", progress, at_least=longest, desired=desired, grace_seconds=grace_seconds
        )
        return restarts

    async def serve(self, desired: DesiredState, progress: Progress = silent) -> None:
        """Have it run the data plane until this call is cancelled or it ends."""
        await self._call("serve", progress, desired=desired)

    async def stop(self, desired: DesiredState, progress: Progress = silent) -> bool:
        """Have it end the data plane."""
        ended: bool = await self._call("stop", progress, desired=desired)
        return ended

    async def preview(self, desired: DesiredState, revision_id: str, seconds: int) -> str:
        """A token of its routers."""
        desired.revision(revision_id)
        token: str = await self._call("preview", silent, desired=desired, revision_id=revision_id, seconds=seconds)
        return token

    async def trust_token(self, desired: DesiredState, deployment_id: str | None, seconds: int) -> str:
        """A token that makes its bearer a trusted caller of its routers."""
        token: str = await self._call(
            "trust_token", silent, desired=desired, deployment_id=deployment_id, seconds=seconds
        )
        return token

    async def rotate_keys(self, desired: DesiredState, progress: Progress = silent) -> KeyRotation:
        """Have another key sign the cookies and tokens of its routers."""
        rotation: KeyRotation = await self._call("rotate_keys", progress, desired=desired)
        return rotation

    async def _call(self, verb: str, progress: Progress, *, at_least: float = 0.0, **arguments: Any) -> Any:
        context, manifest = self._context, self._executable.manifest
        params = {
            "protocol": PROTOCOL,
            "context": {
                "environment_id": context.environment_id,
                "folder": str(context.folder.absolute()),
                "answers": dict(context.answers),
            },
            **{name: to_json(value) for name, value in arguments.items()},
        }
        seconds: float | None = manifest.timeouts.get(verb, SECONDS.get(verb, USUAL_SECONDS))
        declared = {name: self._operator[name] for name in manifest.variables if name in self._operator}
        with self._executable.prepared() as (folder, lock):
            started = Started(
                name=f"the env-pack '{manifest.path}'",
                command=[str(folder / manifest.command[0]), *manifest.command[1:]],
                folder=folder,
                variables={**passed(self._operator), **declared, "GREENTIC_PYTHON": sys.executable},
                log=context.folder.absolute() / "logs" / "env-packs" / f"{manifest.path}.log",
                inherited=(lock,),
                hidden=tuple(value for value in declared.values() if len(value) >= _SHORTEST_HIDDEN),
            )
            answer = await ask(started, verb, params, progress, None if seconds is None else max(seconds, at_least))
        try:
            return from_json(verbs()[verb].gives, answer, f"its answer to {verb}")
        except SpecViolation as error:
            raise ProviderError(
                f"{started.name} answered {verb} with something else than the contract says: {error.message}",
                details=error.details,
                next_step="report it to whoever publishes the env-pack",
            ) from None
