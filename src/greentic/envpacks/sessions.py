"""The contract of the sessions slot: where the routers of an environment keep the pins of sessions.

An env-pack of this slot has two halves. This one runs with the commands and the deployer: it checks the answers of a
binding before anything is bound, and turns them into the settings that the routers are given. The other half is the
store itself: it is found in the router's process by an entry point of the group `greentic.pin_stores` that bears the
env-pack's path, and gets those settings over the router's control socket. What it must guarantee stands in
`greentic.router.pins`.

What every implementation must guarantee:

1. **No secret in answers.** Answers lie in a file. A password is named by the address of a secret, and answers that
   hold one are refused.
2. **Checked before bound.** `check` refuses what could never work, a missing extra included, with what to do next. It
   does not need the service to answer: that is no reason not to bind.
3. **Settings are JSON values.** They may hold a secret: whoever passes them on writes them nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from greentic.envpacks.secrets import SecretValue
from greentic.spec.secrets import SecretAddress


@dataclass(frozen=True, slots=True)
class SessionsContext:
    """The answers of the binding, how a secret of the environment is looked up (None: there is none there), and the
    environment's folder (None where there is none on this machine).
    """

    environment_id: str
    answers: Mapping[str, Any] = field(default_factory=dict)
    secret: Callable[[SecretAddress], SecretValue | None] = lambda _: None
    folder: Path | None = None


class Sessions(Protocol):
    """The guarantees stand in the module's docstring."""

    def check(self, environment_id: str, answers: Mapping[str, Any]) -> None:
        """InvalidArgument for answers that cannot work, Conflict when something is not installed here."""

    def settings(self, context: SessionsContext) -> Mapping[str, Any]:
        """What the routers open the store with. As `check`; NotFound for a secret that is not there."""
