"""The contracts that travel to executables: a protocol, what an implementation is made of, and what each verb may take.

The protocol's own signatures are the wire (`greentic.envpacks.wire`); here stands only what a signature cannot say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from greentic.envpacks.bench import Looker, LookerContext
from greentic.envpacks.deployer import Deployer, DeployerContext
from greentic.envpacks.revocation import TIMEOUT_SECONDS, Revocation, RevocationContext
from greentic.envpacks.secrets import Secrets, SecretsContext
from greentic.envpacks.sessions import Sessions
from greentic.envpacks.state import State, StateContext, check_bounds
from greentic.envpacks.telemetry import Telemetry
from greentic.spec.capabilities import Slot
from greentic.spec.errors import NotFound

Arguments = Mapping[str, Any]

USUAL_SECONDS: Final = 300.0
SPARE_SECONDS: Final = 60.0
"""What a verb that waits for something else (a drain, a grace) may take beyond that."""


def _nothing(_: str, __: Arguments) -> None:
    """No preconditions."""


@dataclass(frozen=True, slots=True, eq=False)
class Contract:
    """One contract. `context` is the class of what an implementation is made of, None for one that is made of nothing.

    `seconds` is how long each verb may take, `usual_seconds` any other; None: until it is stopped. `at_least` gives a
    verb the time that its arguments ask for. `precondition` refuses, without asking anybody, what a verb must refuse
    without calling its provider. `local` are verbs that do not travel. `kept`: one process answers many calls, and is
    ended by `close`.
    """

    protocol: Any
    context: Any = None
    seconds: Mapping[str, float | None] = field(default_factory=dict)
    usual_seconds: float = 30.0
    at_least: Mapping[str, Callable[[Arguments], float]] = field(default_factory=dict)
    precondition: Callable[[str, Arguments], None] = _nothing
    local: frozenset[str] = frozenset()
    kept: bool = False


def _deployer_precondition(verb: str, arguments: Arguments) -> None:
    """NotFound for a revision or a deployment that is not recorded, Conflict for the end of what has a share,
    SpecViolation for a split of another sum."""
    desired = arguments.get("desired")
    if desired is None:
        return
    if verb in ("drain_revision", "archive_revision"):
        desired.idle(arguments["revision_id"])
    elif "revision_id" in arguments:
        desired.revision(arguments["revision_id"])
    if verb == "apply_traffic_split":
        environment, deployment_id = desired.environment, arguments["deployment_id"]
        if environment.deployment(deployment_id) is None:
            raise NotFound(
                f"there is no deployment {deployment_id} in the environment '{environment.environment_id}'",
                details={"env_id": environment.environment_id, "deployment_id": deployment_id},
            )
        if environment.split(deployment_id) is not None:
            desired.split(deployment_id)  # refused unless it sums to 10,000


def _state_precondition(_: str, arguments: Arguments) -> None:
    """InvalidArgument for a key or a value that no store takes."""
    if "key" in arguments:
        check_bounds(arguments["key"], arguments.get("data", b""))


DEPLOYER: Final = Contract(
    Deployer,
    DeployerContext,
    seconds={
        "check_settings": 30.0,
        "stage_revision": 1800.0,
        "warm_revision": 900.0,
        "reconcile": 1800.0,
        "observe": 30.0,
        "plan": 30.0,
        "metrics": 30.0,
        "preview": 30.0,
        "serve": None,
    },
    usual_seconds=USUAL_SECONDS,
    at_least={
        "drain_revision": lambda told: told["desired"].revision(told["revision_id"]).drain_seconds + SPARE_SECONDS,
        "restart_routers": lambda told: USUAL_SECONDS + 8 * told["grace_seconds"],
    },
    precondition=_deployer_precondition,
)
SECRETS: Final = Contract(Secrets, SecretsContext)
SESSIONS: Final = Contract(Sessions)
STATE: Final = Contract(State, StateContext, precondition=_state_precondition, local=frozenset({"close"}), kept=True)
TELEMETRY: Final = Contract(Telemetry)
REVOCATION: Final = Contract(Revocation, RevocationContext, usual_seconds=TIMEOUT_SECONDS)
LOOKER: Final = Contract(Looker, LookerContext)
"""The bench of an executable: a program of its own (see `greentic.envpacks.program_bench`)."""

OF_SLOT: Final[Mapping[Slot, Contract]] = {
    Slot.DEPLOYER: DEPLOYER,
    Slot.SECRETS: SECRETS,
    Slot.SESSIONS: SESSIONS,
    Slot.STATE: STATE,
    Slot.TELEMETRY: TELEMETRY,
    Slot.REVOCATION: REVOCATION,
}
"""The slots that an executable can fill."""
