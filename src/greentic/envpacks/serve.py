"""Serve what is written in Python as an executable: the other end of `greentic.envpacks.subprocess`.

    #!/usr/bin/env python3
    from acme_nomad import NomadDeployer
    from greentic.envpacks.serve import serve
    serve(NomadDeployer)

    from greentic.envpacks.contracts import SECRETS
    serve(VaultSecrets, SECRETS)

What it prints goes to standard error, so that it cannot disturb the conversation. Calls are carried out at the same
time; when the other end is gone, what still runs is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import stat
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from greentic.envpacks import calls
from greentic.envpacks.bench import RECORDING, Recording
from greentic.envpacks.contracts import DEPLOYER, Contract
from greentic.envpacks.conversation import CANCELLED
from greentic.envpacks.heard import METHOD_NOT_FOUND, REFUSED
from greentic.envpacks.wire import LIMIT_BYTES, PROTOCOL, Signature, encode, from_json, to_json, verbs
from greentic.spec.errors import GreenticError, SpecViolation

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603

_MOST_MADE: Final = 64

Make = Callable[..., Any]
"""Makes an implementation of a contract from its context; without an argument where the contract has none."""


def serve(make: Make, contract: Contract = DEPLOYER, more: Mapping[Contract, Make] | None = None) -> None:
    """Answer calls of what `make` makes, until standard input ends. `more` are other contracts of the same slot: those
    of the routers' half."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode) and not stat.S_ISSOCK(os.fstat(0).st_mode):
        sys.exit("this program is an env-pack: greentic starts it and speaks JSON-RPC with it (docs/env-packs.md)")
    said = os.fdopen(os.dup(1), "wb", buffering=0)
    heard = os.fdopen(os.dup(0), "rb", buffering=0)
    # Whatever prints or reads meanwhile does so elsewhere, also in programs that are started.
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a device
        os.dup2(nothing.fileno(), 0)
    if RECORDING in os.environ:  # on a bench: every call is written down, and struck as it asks
        calls.observe(Recording(Path(os.environ[RECORDING]), lambda: os.kill(os.getpid(), signal.SIGKILL)))
    asyncio.run(_Server({contract: make, **(more or {})}, said).run(heard))


class _Server:
    def __init__(self, makes: Mapping[Contract, Make], said: BinaryIO) -> None:
        self._verbs = {
            name: (contract, make, signature)
            for contract, make in makes.items()
            for name, signature in verbs(contract.protocol).items()
            if name not in contract.local
        }
        self._made: dict[tuple[Contract, str], Any] = {}
        self._said = said
        self._calls: dict[Any, asyncio.Task[None]] = {}

    async def run(self, heard: BinaryIO) -> None:
        reader = asyncio.StreamReader(limit=LIMIT_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), heard
        )
        try:
            while line := await _line(reader):
                self._hear(line)
        finally:
            transport.close()
            for call in self._calls.values():
                call.cancel()
            await asyncio.gather(*self._calls.values(), return_exceptions=True)

    def _hear(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            return self._fail(None, PARSE_ERROR, "what was said is not JSON")
        if not isinstance(message, dict) or not isinstance(message.get("method"), str):
            return self._fail(None, INVALID_REQUEST, "what was said is no request")
        method, params, number = message["method"], message.get("params"), message.get("id")
        if method == "cancel" and number is None:
            call = self._calls.get(params.get("id")) if isinstance(params, dict) else None
            if call is not None:
                call.cancel()
            return None
        if not isinstance(number, int | str) or isinstance(number, bool):
            return None  # a notification that we do not know
        if method not in self._verbs:
            return self._fail(number, METHOD_NOT_FOUND, f"there is no verb {method[:100]}")
        if number in self._calls:
            return self._fail(number, INVALID_REQUEST, "a call of that id is going on")
        task = asyncio.create_task(self._carry_out(number, method, params))
        self._calls[number] = task
        task.add_done_callback(lambda _: self._calls.pop(number, None))
        return None

    async def _carry_out(self, number: int | str, method: str, params: Any) -> None:
        def progress(line: str) -> None:
            self._say({"jsonrpc": "2.0", "method": "progress", "params": {"id": number, "message": line}})

        contract, make, signature = self._verbs[method]
        try:
            context, arguments = _arguments(contract, signature, params)
        except SpecViolation as error:
            return self._fail(number, INVALID_PARAMS, error.message)
        try:
            if signature.progresses:
                arguments["progress"] = progress
            verb = getattr(self._one(contract, make, context, params), method)
            result = await (verb(**arguments) if signature.waits else asyncio.to_thread(verb, **arguments))
        except asyncio.CancelledError:
            return self._fail(number, CANCELLED, f"{method} was cancelled")
        except GreenticError as error:
            return self._fail(number, REFUSED, error.message, error.document())
        except Exception as error:
            traceback.print_exc()
            return self._fail(number, INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        return self._say({"jsonrpc": "2.0", "id": number, "result": to_json(result)})

    def _one(self, contract: Contract, make: Make, context: Any, params: Mapping[str, Any]) -> Any:
        """The implementation for this context: made once, for whoever is asked again and again."""
        if contract.context is None:
            return make()
        key = (contract, json.dumps(params["context"], sort_keys=True))
        if key not in self._made:
            if len(self._made) >= _MOST_MADE:
                self._made.clear()
            self._made[key] = make(context)
        return self._made[key]

    def _fail(self, number: int | str | None, code: int, message: str, data: dict[str, Any] | None = None) -> None:
        error: dict[str, Any] = {"code": code, "message": message}
        if data is not None:
            error["data"] = data
        self._say({"jsonrpc": "2.0", "id": number, "error": error})

    def _say(self, message: dict[str, Any]) -> None:
        data = memoryview(encode(message))
        with contextlib.suppress(BrokenPipeError):  # nobody listens any more: the end of the input follows
            while data:
                data = data[self._said.write(data) or 0 :]


def _arguments(contract: Contract, signature: Signature, params: Any) -> tuple[Any, dict[str, Any]]:
    """What the implementation is made of, and the verb's arguments; SpecViolation."""
    if not isinstance(params, dict) or params.get("protocol") != PROTOCOL:
        raise SpecViolation("Protocol", f"this env-pack speaks version {PROTOCOL} of the protocol")
    context = None if contract.context is None else from_json(contract.context, params.get("context"), "context")
    missing = sorted(set(signature.takes) - signature.optional - set(params))
    if missing:
        raise SpecViolation("Malformed", f"missing: {', '.join(missing)}")
    given = {name: kind for name, kind in signature.takes.items() if name in params}
    return context, {name: from_json(kind, params[name], name) for name, kind in given.items()}


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next line; nothing at the end of the input, or when a line is longer than a caller may say."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError:
        return b""
    except asyncio.LimitOverrunError:
        return b""
