"""An implementation of a contract that is an executable. The client of each contract is made from its protocol.

A verb is one call: a process is started, asked and ended (`greentic.envpacks.conversation`), or, where the contract is
asked too often for that, one process is kept and asked again and again (`greentic.envpacks.peer`). The client keeps the
contract as far as this side can see to it: pure preconditions are checked before anything is started, answers are read
into the contract's types, and every verb has its time. Whatever the executable does is an error of that call.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, Final

from greentic.envpacks.bench import RECORDING
from greentic.envpacks.contracts import DEPLOYER, Contract
from greentic.envpacks.conversation import ask
from greentic.envpacks.deployer import Progress, silent
from greentic.envpacks.executables import Executable
from greentic.envpacks.peer import Peer
from greentic.envpacks.secrets import SecretValue
from greentic.envpacks.streams import Started
from greentic.envpacks.variables import passed
from greentic.envpacks.wire import PROTOCOL, Signature, from_json, to_json, verbs
from greentic.spec.errors import ProviderError, SpecViolation

_SHORTEST_HIDDEN: Final = 6
_CONTEXT: Final = "context"


class Subprocess:
    """What the clients of all contracts share. Made by `client`.

    `context` is what the contract's implementations are made of. `operator` is the caller's environment, of which
    little is passed on. A `recording` is where a bench wants every call to the provider written down.
    """

    contract: Contract

    def __init__(
        self,
        executable: Executable,
        context: Any = None,
        operator: Mapping[str, str] | None = None,
        *,
        command: tuple[str, ...] | None = None,
        recording: Path | None = None,
    ) -> None:
        self._executable = executable
        self._context = context
        self._operator = os.environ if operator is None else operator
        self._command = command or executable.manifest.command
        self._recording = recording
        self._made_of: dict[str, Any] | None = None
        self._name = f"the env-pack '{executable.manifest.path}'"
        self._peer = Peer(self._kept, self._name) if self.contract.kept else None

    async def close(self) -> None:
        """End the process that is kept, if any is."""
        if self._peer is not None:
            await self._peer.close()

    async def _call(self, verb: str, signature: Signature, arguments: dict[str, Any], progress: Progress) -> Any:
        self.contract.precondition(verb, arguments)
        params = {"protocol": PROTOCOL, **self.made_of(), **{name: to_json(one) for name, one in arguments.items()}}
        seconds = self._seconds(verb, arguments)
        if self._peer is not None:
            answer = await self._peer.ask(verb, params, seconds or self.contract.usual_seconds)
        else:
            folder = getattr(self._context or arguments.get(_CONTEXT), "folder", None)
            with self.started(folder, _secrets(arguments, params), withheld=signature.secret) as started:
                answer = await ask(started, verb, params, progress, seconds)
        try:
            return from_json(signature.gives, answer, f"its answer to {verb}")
        except SpecViolation as error:
            raise ProviderError(
                f"{self._name} answered {verb} with something else than the contract says: {error.message}",
                details=error.details,
                next_step="report it to whoever publishes the env-pack",
            ) from None

    def made_of(self) -> dict[str, Any]:
        """The member `context` of every call; none for a contract that is made of nothing."""
        if self._made_of is None:
            self._made_of = {} if self.contract.context is None else {_CONTEXT: to_json(self._context)}
        return self._made_of

    @contextmanager
    def started(
        self, folder: Path | None, hidden: tuple[str, ...] = (), *, withheld: bool = False
    ) -> Iterator[Started]:
        """How the process is started, from a folder of its own that is there as long as the block lasts."""
        manifest = self._executable.manifest
        declared = {name: self._operator[name] for name in manifest.variables if name in self._operator}
        bench = {} if self._recording is None else {RECORDING: str(self._recording)}
        with self._executable.prepared() as (place, lock):
            yield Started(
                name=self._name,
                command=[str(place / self._command[0]), *self._command[1:]],
                folder=place,
                variables={**passed(self._operator), **declared, "GREENTIC_PYTHON": sys.executable, **bench},
                log=None if folder is None else log_of(folder, manifest.path),
                inherited=(lock,),
                hidden=(*(value for value in declared.values() if len(value) >= _SHORTEST_HIDDEN), *hidden),
                withheld=withheld,
            )

    def _kept(self) -> Any:
        return self.started(getattr(self._context, "folder", None), _secrets({}, self.made_of()))

    def _seconds(self, verb: str, arguments: Mapping[str, Any]) -> float | None:
        contract = self.contract
        usual = contract.seconds.get(verb, contract.usual_seconds)
        seconds: float | None = self._executable.manifest.timeouts.get(verb, usual)
        at_least = contract.at_least.get(verb)
        return seconds if seconds is None or at_least is None else max(seconds, at_least(arguments))


def log_of(folder: Path, path: str) -> Path:
    """Where the standard error of the env-pack `path` goes, in an environment's folder."""
    return folder.absolute() / "logs" / "env-packs" / f"{path}.log"


@cache
def client(contract: Contract) -> type[Subprocess]:
    """The client of a contract: its protocol's verbs, each of which is asked of the executable."""
    protocol = contract.protocol
    methods = {
        name: _method(name, getattr(protocol, name), signature)
        for name, signature in verbs(protocol).items()
        if name not in contract.local
    }
    return type(f"Subprocess{protocol.__name__}", (Subprocess,), {"contract": contract, **methods})


def _method(name: str, declared: Callable[..., Any], signature: Signature) -> Callable[..., Any]:
    bind = inspect.signature(declared).bind

    def call(self: Subprocess, given: tuple[Any, ...], named: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        bound = bind(self, *given, **named)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        del arguments["self"]
        return self._call(name, signature, arguments, arguments.pop("progress", silent))

    @wraps(declared)
    async def waiting(self: Subprocess, *given: Any, **named: Any) -> Any:
        return await call(self, given, named)

    @wraps(declared)
    def at_once(self: Subprocess, *given: Any, **named: Any) -> Any:
        return _run(lambda: call(self, given, named))

    return waiting if signature.waits else at_once


def _run(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Wait for `call` from code that is no coroutine, wherever it is called from."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(call())
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(call())).result()


def _secrets(arguments: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[str, ...]:
    """What the executable is told that may be shown nowhere."""
    values = tuple(value.reveal() for value in arguments.values() if isinstance(value, SecretValue))
    named = params.get(_CONTEXT, {}).get("secrets", {})
    return (*values, *named.values())


SubprocessDeployer = client(DEPLOYER)
