"""The bench: what a provider offers so that the driving test can look at its world instead of believing its deployer.

What every implementation must guarantee, before any method:

1. **It looks, it does not ask.** `world` is read from the provider itself (processes, sockets, objects, files), never
   from what the deployer remembers.
2. **All of it.** Whatever the deployer makes for the environment stands in `world`, with everything that others could
   read of it (arguments, annotations, logs) in `text`; what has ended stands there no more.
3. **Every call.** `calls` lists each call that the deployer made at the provider since the bench was opened, in order.
4. **A fault is where it was asked for.** After `inject`, the call of that number fails, loses its answer, or its
   process dies before it, once; later calls are real again.
5. **Clean.** `close` leaves nothing of the bench, whatever the deployer did.

A bench uses `Recording` for 3 and 4, with the seam of `greentic.envpacks.calls` in its provider.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from greentic.envpacks.calls import Call, Killed
from greentic.envpacks.deployer import Deployer
from greentic.spec.errors import ProviderError, TimedOut

CANARY = "CONFORMANCE_TOKEN"
"""The variable of the suite's operator that holds a secret."""
RECORDING = "GREENTIC_RECORDING"
"""The variable by which an executable is told where to write its calls down (see `Recording`)."""

Kind = Literal["worker", "router", "process", "socket", "record", "trace"]
FaultKind = Literal["error", "timeout", "kill"]


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that exists at the provider.

    `kind`: `worker`, `router`, `process` (anything else that runs), `socket` (anything that listens), `record` (what
    tells the provider what to run) or `trace` (what may stay when everything has ended, such as a log). `owner` is the
    revision that it exists for, None for what serves the whole environment. `identity` tells it from a successor of the
    same name (a process id and its start, an object's uid and version). `text` is everything that can be read of it by
    others than its owner, for the search for secrets.
    """

    kind: Kind
    name: str
    owner: str | None = None
    identity: str = ""
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of the call number `at` (from 0, counted from when the fault is injected).

    `error`: it fails and nothing was done. `timeout`: it was done, but the answer is lost. `kill`: the process that was
    to make it dies before it.
    """

    at: int
    kind: FaultKind


class Bench(Protocol):
    """A clean place at the provider for one environment. See the guarantees above."""

    environment_id: str
    folder: Path
    """The environment's folder, where revisions are staged (see `DeployerContext`)."""
    permissions: frozenset[str]
    """What the provider declares that its deployer needs: the permissions of its calls."""

    async def deployer(self) -> Deployer:
        """A deployer as a new process of the tool would make it."""
        ...

    async def world(self) -> tuple[Thing, ...]:
        """What exists now."""
        ...

    def secrets(self) -> tuple[str, ...]:
        """Values that the deployer holds or could see and that may stand nowhere: see `Thing.text`."""
        ...

    def calls(self) -> tuple[Call, ...]:
        """The calls made so far."""
        ...

    def inject(self, fault: Fault | None) -> None:
        """Have a call fail, counted from the next one; None takes it back."""
        ...

    async def close(self) -> None:
        """Remove everything."""
        ...


@dataclass(frozen=True, slots=True)
class LookerContext:
    """What looks at a provider is made of: the environment, its folder, and the answers of the deployer's binding."""

    environment_id: str
    folder: Path
    answers: Mapping[str, Any] = field(default_factory=dict)


class Looker(Protocol):
    """The part of a bench that knows the provider, as a program of its own may offer it; the rest is the suite's."""

    async def world(self) -> tuple[Thing, ...]:
        """What exists now. See guarantees 1 and 2."""

    def secrets(self) -> tuple[str, ...]:
        """Values that the provider's side holds and that may stand nowhere: see `Thing.text`."""
        ...

    async def clear(self) -> None:
        """Remove everything of the environment from the provider, whatever the deployer did."""


def operator_with(secret: str) -> dict[str, str]:
    """The variables of an operator who has a secret among them, for a provider whose workers run on this machine.

    What runs a worker is found fast: the running interpreter stands first on the path.
    """
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    return {**os.environ, "PATH": path, CANARY: secret}


class Recording:
    """Every call of one bench, in a folder, so that all processes that make calls write into the same one.

    A recording is a `calls.Witness`. `die` ends the process that would make the call; without it the call raises
    Killed, and so does every later one until `revive`: a dead process makes no calls.
    """

    def __init__(self, folder: Path, die: Callable[[], None] | None = None) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._calls = folder / "calls.jsonl"
        self._fault = folder / "fault.json"
        self._die = die
        self._dead = False

    @contextmanager
    def __call__(self, call: Call) -> Iterator[None]:
        if self._dead:
            raise Killed
        number = self._write(call)
        struck = self._strikes(number)
        if struck == "error":
            raise ProviderError(f"{call.permission} {call.target}: the provider failed, as the bench was asked to")
        if struck == "kill":
            if self._die is not None:
                self._die()
            self._dead = True
            raise Killed
        yield
        if struck == "timeout":
            raise TimedOut(f"{call.permission} {call.target}: no answer in time, as the bench was asked to")

    def calls(self) -> tuple[Call, ...]:
        """The calls so far, in the order in which they began."""
        try:
            lines = self._calls.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return ()
        return tuple(Call(*json.loads(line)) for line in lines)

    def revive(self) -> None:
        """Another process of the tool takes over."""
        self._dead = False

    def inject(self, fault: Fault | None) -> None:
        """See `Bench.inject`."""
        if fault is None:
            self._fault.unlink(missing_ok=True)
            return
        draft = self._fault.with_suffix(".draft")
        draft.write_text(json.dumps([len(self.calls()) + fault.at, fault.kind]), encoding="utf-8")
        draft.replace(self._fault)

    def _write(self, call: Call) -> int:
        """Write the call down; its number."""
        descriptor = os.open(self._calls, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            number = file.read().count(b"\n")
            file.write(json.dumps([call.permission, call.target]).encode() + b"\n")
        return number

    def _strikes(self, number: int) -> FaultKind | None:
        try:
            at, kind = json.loads(self._fault.read_bytes())
        except FileNotFoundError:
            return None
        return kind if at == number else None
