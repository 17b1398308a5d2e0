"""The contract of the state slot: small values that workers keep between requests, by key.

What every implementation must guarantee, before any method:

1. **Isolation.** A value is reached under its own scope only: whatever a key holds, it never names another scope's.
2. **Compare and swap.** Every write of a key gives it a version higher than any it had, also over a deletion. Of
   several writers that expect the same version, exactly one succeeds; the others get Conflict and change nothing.
3. **Visibility.** What `put` or `delete` did is what every call that begins after its return sees, from any client of
   the same store.
4. **Ends.** A value is never returned at or after its end, and then takes no room any more.
5. **Bounds.** A key holds 1 to MAX_KEY bytes, a value at most MAX_VALUE. A store that is full refuses what is new and
   keeps what it has.
6. **Cancellation.** A call that is cancelled or times out has either happened whole or not at all; `get` tells which.

Workers do not meet a store: a deployer opens it and has their requests answered by `greentic.worker.state`, which
gives each worker its own scope. Two versions of a worker share their deployment's values.

How long values outlive a process is the provider's to say, in its summary. Errors: InvalidArgument (bounds), Conflict
(another version, or no room), TimedOut, ProviderError (anything the provider said).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from greentic.envpacks.secrets import SecretValue
from greentic.spec.errors import InvalidArgument
from greentic.spec.secrets import SecretAddress

MAX_KEY: Final = 512
"""Bytes of a key, in UTF-8."""
MAX_VALUE: Final = 1024 * 1024
"""Bytes of a value."""
ABSENT: Final = 0
"""The version to expect of a key that must not be there."""


class StateScope(NamedTuple):
    """Whose values are meant."""

    environment_id: str
    deployment_id: str
    tenant: str


@dataclass(frozen=True, slots=True)
class StateValue:
    """A value, the version that wrote it (from 1) and its end (unix seconds, None: none)."""

    data: bytes
    version: int
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class StateContext:
    """What a store of state is made of: the environment, its folder, the answers of its binding, and how a secret of
    the environment is looked up (None: there is none there). Answers lie in a file: a password stands in none of them.
    """

    environment_id: str
    folder: Path
    answers: Mapping[str, Any] = field(default_factory=dict)
    secret: Callable[[SecretAddress], SecretValue | None] = lambda _: None


class State(Protocol):
    """A place for values. The guarantees stand in the module's docstring. `now` is unix seconds."""

    async def get(self, scope: StateScope, key: str, now: float) -> StateValue | None:
        """The value, None when there is none."""

    async def put(
        self,
        scope: StateScope,
        key: str,
        data: bytes,
        now: float,
        *,
        expires: float | None = None,
        expected: int | None = None,
    ) -> int:
        """Keep `data` until `expires`; the version it got. Conflict when the version is another than `expected`
        (ABSENT: the key must not be there; None: whatever it is).
        """

    async def delete(self, scope: StateScope, key: str, now: float, *, expected: int | None = None) -> bool:
        """Forget the value; False when there was none. Conflict as of `put`."""

    async def keys(self, scope: StateScope, prefix: str, now: float) -> tuple[str, ...]:
        """The keys that begin with `prefix`, sorted."""

    async def close(self) -> None:
        """Let go of connections; values stay where they outlive the process."""


def check_bounds(key: str, data: bytes = b"") -> None:
    """InvalidArgument for a key or a value that no store takes."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidArgument("a key of state must be Unicode") from None
    if not 1 <= size <= MAX_KEY:
        raise InvalidArgument(f"a key of state holds 1 to {MAX_KEY} bytes, not {size}")
    if len(data) > MAX_VALUE:
        raise InvalidArgument(f"a value of state holds at most {MAX_VALUE:,} bytes, not {len(data):,}")
