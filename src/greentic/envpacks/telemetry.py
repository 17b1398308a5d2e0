"""The contract of the telemetry slot: where the routers of an environment send spans.

An env-pack of this slot has two halves, as one of the sessions slot has. This one runs with the commands and the
deployer: it checks the answers of a binding before anything is bound, and turns them into the settings that the routers
are given over their control socket. The other half sends: it is found in the router's process by an entry point of the
group `greentic.span_exporters` that bears the env-pack's path (see `greentic.router.spans`).

What every implementation must guarantee, before any method:

1. **No secret in answers.** Answers lie in a file. A token or a header that is secret is named by the address of a
   secret, and answers that hold one are refused.
2. **Checked before bound.** `check` refuses what could never work, a missing extra included, with what to do next. It
   does not need the collector to answer: that is no reason not to bind.
3. **Settings are JSON values.** They may hold a secret: whoever passes them on writes them nowhere.
4. **Never in the way.** Whatever becomes of the collector, no request waits for it and none fails by it. What cannot be
   sent is dropped and counted, within a bound in memory.
5. **Idempotence.** Both methods may be called again and again and change nothing in the world.

Errors: InvalidArgument (answers that cannot work), Conflict (something is not installed here), NotFound (a secret that
is not there). Neither method waits for anything, so there is nothing to cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from greentic.envpacks.secrets import SecretValue
from greentic.spec.secrets import SecretAddress


@dataclass(frozen=True, slots=True)
class TelemetryContext:
    """The answers of the binding, how a secret of the environment is looked up (None: there is none there), and the
    environment's folder (None where there is none on this machine).
    """

    environment_id: str
    answers: Mapping[str, Any] = field(default_factory=dict)
    secret: Callable[[SecretAddress], SecretValue | None] = lambda _: None
    folder: Path | None = None


class Telemetry(Protocol):
    """What routers export, and where to. The guarantees stand in the module's docstring."""

    def check(self, environment_id: str, answers: Mapping[str, Any]) -> None:
        """InvalidArgument for answers that cannot work, Conflict when something is not installed here."""

    def settings(self, context: TelemetryContext) -> Mapping[str, Any]:
        """What the routers send with. As `check`; NotFound for a secret that is not there."""
