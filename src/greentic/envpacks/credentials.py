"""The contract of a deployer's credentials (reference 03, section 7.2).

What every implementation must guarantee, before any method:

1. **Looking changes nothing.** `check` leaves the world as it found it and never raises for what it finds: a capability
   that is not there is a failed check with the reason.
2. **All and no more.** `capabilities` names, in a stable order, exactly what the deployer needs.
3. **Silence.** Material that was handed over appears in no result, error or log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from greentic.spec.environment import Environment


@dataclass(frozen=True, slots=True)
class Capability:
    """Something that a deployer must be able to do, such as `local-process.fs.writable`."""

    id: str
    description: str


@dataclass(frozen=True, slots=True)
class CapabilityCheck:
    """Whether a capability is there; `reason` says why not, or why it was not looked at."""

    capability: Capability
    status: Literal["pass", "fail", "skipped"]
    reason: str | None = None

    def document(self) -> dict[str, Any]:
        """The check as JSON."""
        document: dict[str, Any] = {
            "capability": {"id": self.capability.id, "description": self.capability.description},
            "status": self.status,
        }
        return document if self.reason is None else {**document, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class CredentialsContext:
    """What is looked at: the environment as recorded, its folder, and the answers of the deployer's binding."""

    environment: Environment
    folder: Path
    answers: Mapping[str, Any] = field(default_factory=dict)


class DeployerCredentials(Protocol):
    """The credentials of one kind of deployer. The guarantees stand in the module's docstring."""

    needs_material: bool
    """Whether a key must be given; otherwise `check` works without one."""

    why_no_bootstrap: str | None
    """Why an administrator's key is of no use here; None when it can make what is needed."""

    def capabilities(self) -> tuple[Capability, ...]:
        """What the deployer needs."""
        ...

    def check(self, context: CredentialsContext) -> tuple[CapabilityCheck, ...]:
        """Look at each capability, in the order of `capabilities`."""
        ...
