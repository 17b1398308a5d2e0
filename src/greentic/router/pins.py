"""Session pins: which revision a session was promised, kept where the contract below is kept.

What every store must guarantee, before any method:

1. **One winner.** Of any number of `try_pin` for one session, from any number of routers that share the store, one
   pin is kept and every caller is told that one, as long as it holds.
2. **A pin ends.** It is never returned at or after its `expires`, is never prolonged, and then takes no room any more:
   what has ended counts against no bound, also when nobody asks for it again.
3. **What does not hold is no pin.** `admissible` says, for each revision whose pins hold now, the lowest generation of
   such pins; any other pin is as good as absent and gives way to a new one.
4. **Bounded.** At most CAP_PER_TENANT live pins per scope. A pin that finds no room is not kept, and the caller is told
   so: the session then lands where the table says.
5. **Soft failure.** No method raises because of the store and none takes longer than its stated bound: a store that
   fails has no pins. Failures are counted in `document`.
6. **Isolation.** Sessions of one scope are never seen in another.

A hint is opaque here: the router gives a keyed digest of what the client said, so no store learns it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

CAP_PER_TENANT: Final = 4096
"""Live pins of one (environment, deployment, tenant); reference 04 section 1.5."""
HINT_LIMIT: Final = 64
"""Bytes of a hint as a store sees it."""
ENTRY_POINTS: Final = "greentic.pin_stores"
"""The group of entry points that offer a store: the name is the env-pack's path, the object a callable that takes the
settings and returns the store. It is read in the router's process, which knows nothing of env-packs.
"""


class Pin(NamedTuple):
    """A promise that a visitor stays on a revision: the generation at which it was given and its end (unix seconds).

    `slot` is the visitor's place in the table for after that end; -1 when it is not known.
    """

    revision_id: str
    generation: int
    expires: int
    slot: int = -1


class PinScope(NamedTuple):
    """Whose sessions are meant."""

    env_id: str
    deployment_id: str
    tenant: str


Admissible = Mapping[str, int]
"""Revision id -> the lowest generation whose pins hold now. A revision whose pins do not hold is absent."""


@dataclass(frozen=True, slots=True)
class PinSettings:
    """Which store: the path of its env-pack, and what it is to be opened with (there may be a password in it)."""

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)


IN_MEMORY: Final = PinSettings("greentic.sessions.in-memory")


class PinStore(Protocol):
    """Where session pins are. The guarantees stand in the module's docstring. `now` is unix seconds."""

    async def lookup(self, scope: PinScope, hint: bytes, admissible: Admissible, now: float) -> Pin | None:
        """The session's pin if it holds."""

    async def try_pin(self, scope: PinScope, hint: bytes, pin: Pin, admissible: Admissible, now: float) -> Pin | None:
        """Keep `pin` unless the session has one that holds; the one that is kept. None: there was no room, or the store
        failed.
        """

    async def counts(self, scope: PinScope, now: float) -> Mapping[str, int]:
        """Live pins by revision, whoever wrote them; empty when the store fails."""

    def document(self) -> dict[str, Any]:
        """Counters as JSON values: `failures` by kind, `skipped` (no room), and what else the store has to say."""

    async def close(self) -> None:
        """Let go of connections; the pins stay where they outlive the process."""
