"""The verbs that a deployer may do without: each refuses, in words that name the deployer;
a plan it derives from what the deployer observes.

A deployer that inherits from `OptionalVerbs` has to offer only what deploying needs, and goes on working when the
contract learns another optional verb. What it offers of these it overrides.
"""

from __future__ import annotations

from greentic.envpacks.deployer import (
    Deployer,
    DesiredState,
    Explanation,
    KeyRotation,
    Plan,
    Progress,
    RouterRestart,
    silent,
)
from greentic.envpacks.planning import planned
from greentic.spec.environment import Environment
from greentic.spec.errors import NotImplementedYet


class OptionalVerbs:
    """See `greentic.envpacks.deployer.Deployer`."""

    async def check_settings(self, environment: Environment) -> None:
        """Every setting is fine."""

    async def plan(self: Deployer, desired: DesiredState) -> Plan:
        """What the deployer's observation shows to differ from the record."""
        return planned(desired, await self.observe(desired))

    async def explain(self, desired: DesiredState, request_id: str) -> Explanation:  # noqa: ARG002
        """Refused."""
        raise self._refused("explain a request")

    async def metrics(self, desired: DesiredState) -> str:  # noqa: ARG002
        """Refused."""
        raise self._refused("measure")

    async def restart_routers(
        self,
        desired: DesiredState,  # noqa: ARG002
        grace_seconds: float,  # noqa: ARG002
        progress: Progress = silent,  # noqa: ARG002
    ) -> tuple[RouterRestart, ...]:
        """Refused."""
        raise self._refused("restart its routers")

    async def serve(self, desired: DesiredState, progress: Progress = silent) -> None:  # noqa: ARG002
        """Refused."""
        raise self._refused("serve in the foreground")

    async def preview(self, desired: DesiredState, revision_id: str, seconds: int) -> str:  # noqa: ARG002
        """Refused."""
        raise self._refused("preview a revision")

    async def trust_token(self, desired: DesiredState, deployment_id: str | None, seconds: int) -> str:  # noqa: ARG002
        """Refused."""
        raise self._refused("vouch for callers")

    async def rotate_keys(self, desired: DesiredState, progress: Progress = silent) -> KeyRotation:  # noqa: ARG002
        """Refused."""
        raise self._refused("turn the keys of its routers")

    def _refused(self, what: str) -> NotImplementedYet:
        return NotImplementedYet(f"the deployer {type(self).__name__} does not {what}")
