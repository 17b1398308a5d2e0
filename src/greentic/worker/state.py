"""How a worker keeps values: the environment's store of state, over HTTP on this machine.

A worker is told an address (GREENTIC_STATE_URL) and a token of its own (GREENTIC_STATE_TOKEN), and no more: which
store it is, where that is and with which password, only whoever runs the worker knows. The token stands for one scope,
so that a worker reaches its own deployment's values of its own tenant, whatever it asks for.

    GET    URL?key=K                 200 the value, ETag its version, Greentic-Expires its end in unix seconds; 404
    GET    URL?prefix=P              200 {"keys": […]}, sorted
    PUT    URL?key=K[&seconds=S]     204, ETag the version it got; it ends after S seconds
    DELETE URL?key=K                 204; 404 when there was none

`Authorization: Bearer TOKEN` goes with each. `If-Match: "7"` writes over version 7 alone, `If-None-Match: *` only what
is not there: 412 otherwise, with the version that is. Other refusals: 400, 401, 405, 413 (too long), 429 (CALLS at a
time), 503 (the store cannot be asked), 504 (it does not answer), 507 (no room). Each has a body {"error": {"kind",
"message", …}}. Bounds and guarantees are those of `greentic.envpacks.state`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from greentic.envpacks.state import ABSENT, MAX_VALUE, State, StateScope
from greentic.spec.errors import Conflict, GreenticError, InvalidArgument, NotFound, ProviderError, TimedOut

URL_VARIABLE: Final = "GREENTIC_STATE_URL"
TOKEN_VARIABLE: Final = "GREENTIC_STATE_TOKEN"  # noqa: S105 - the name of a variable
PATH: Final = "/v1/state"
CALLS: Final = 64
"""Requests of one worker at a time."""
SECONDS: Final = 10.0
"""For the store to answer."""
LONGEST_SECONDS: Final = 10 * 365 * 24 * 3600
_HOST = "127.0.0.1"
_TOKEN_BYTES = 32
_LAST_SECONDS = 1.0
_VERSION = re.compile(r'"([1-9][0-9]{0,18})"')

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]


@dataclass(slots=True)
class _Holder:
    scope: StateScope
    calls: int = 0


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class StateDoor:
    """Answers workers on a port of 127.0.0.1 from `open` to `close`. `clock` gives unix seconds. `told` hears why the
    store cannot be asked, when that begins or is another reason, and None when it can again.
    """

    def __init__(
        self,
        state: State,
        clock: Callable[[], float] = time.time,
        told: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self._state = state
        self._clock = clock
        self._told = told
        self._problem: str | None = None
        self._tokens: dict[str, str] = {}
        self._holders: dict[str, _Holder] = {}
        self._server: asyncio.Server | None = None
        self._url = ""
        self._connections: set[Any] = set()
        self._requests: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen. ProviderError when no port can be had."""
        from uvicorn.config import Config
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
        from uvicorn.server import ServerState

        config = Config(
            self._application, http="httptools", ws="none", lifespan="off", interface="asgi3", log_config=None,
            access_log=False, server_header=False, date_header=False, proxy_headers=False, timeout_keep_alive=75,
        )  # fmt: skip
        shared = ServerState()
        self._connections, self._requests = shared.connections, shared.tasks
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: HttpToolsProtocol(config, shared, {}), _HOST, 0)
        except OSError as error:
            raise ProviderError(f"workers' state cannot be served on {_HOST}: {error}") from None
        self._url = f"http://{_HOST}:{self._server.sockets[0].getsockname()[1]}{PATH}"

    def admit(self, holder: str, scope: StateScope) -> dict[str, str]:
        """The variables with which `holder` reaches the values of `scope`; what it was given before ends."""
        self.dismiss(holder)
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._tokens[holder] = token
        self._holders[token] = _Holder(scope)
        return {URL_VARIABLE: self._url, TOKEN_VARIABLE: token}

    def dismiss(self, holder: str) -> None:
        """`holder` reaches nothing any more. Fine when it never did."""
        token = self._tokens.pop(holder, None)
        if token is not None:
            del self._holders[token]

    async def close(self) -> None:
        """Answer nobody any more; requests that are being answered have a moment."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in tuple(self._connections):
            connection.shutdown()
        if self._requests:
            await asyncio.wait(tuple(self._requests), timeout=_LAST_SECONDS)
        for connection in tuple(self._connections):
            connection.transport.close()

    async def _application(
        self, scope: Scope, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        holder = self._holders.get(_token(scope))
        if holder is None:
            told = _refused(401, "unauthorized", f"no worker has this token; {TOKEN_VARIABLE} holds yours")
            answer = _Answer(told.status, told.body, {**told.headers, "WWW-Authenticate": "Bearer"})
        elif holder.calls >= CALLS:
            answer = _refused(429, "conflict", f"{CALLS} requests of this worker are being answered already")
        else:
            holder.calls += 1
            try:
                answer = await self._answered(holder.scope, scope, receive)
            finally:
                holder.calls -= 1
        headers = {"Content-Length": str(len(answer.body)), "Cache-Control": "no-store", **answer.headers}
        if answer.status == 204:
            del headers["Content-Length"]
        if answer.status in (401, 405, 413, 429):
            headers["Connection"] = "close"  # what is left of the body is read by nobody
        given = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": given})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answered(self, owner: StateScope, scope: Scope, receive: Callable[[], Awaitable[Message]]) -> _Answer:
        if scope["path"] != PATH:
            return _refused(404, "not-found", f"there is only {PATH}")
        method = scope["method"]
        if method not in ("GET", "PUT", "DELETE"):
            told = _refused(405, "invalid-argument", "state is read by GET, written by PUT and forgotten by DELETE")
            return _Answer(told.status, told.body, {**told.headers, "Allow": "GET, PUT, DELETE"})
        try:
            asked = _query(scope)
            data = b"" if method != "PUT" else await _body(receive)
            async with asyncio.timeout(SECONDS):
                answer = await self._asked(method, owner, asked, data, scope)
            self._note(None)
            return answer
        except _TooLong:
            return _refused(413, "invalid-argument", f"a value of state holds at most {MAX_VALUE:,} bytes")
        except TimeoutError:
            return self._failed(TimedOut("the store of state does not answer", details={"seconds": SECONDS}))
        except GreenticError as error:
            return self._failed(error)
        except Exception as error:  # an env-pack's own fault harms nobody but whoever asked
            return self._failed(ProviderError(f"the store of state failed: {type(error).__name__}: {error}"))

    def _failed(self, error: GreenticError) -> _Answer:
        answer = _failed(error)
        if answer.status in (503, 504):
            self._note(error.message)
        return answer

    def _note(self, problem: str | None) -> None:
        if problem != self._problem:
            self._problem = problem
            self._told(problem)

    async def _asked(
        self, method: str, owner: StateScope, asked: Mapping[str, str], data: bytes, scope: Scope
    ) -> _Answer:
        now = self._clock()
        if method == "GET" and "key" not in asked:
            keys = await self._state.keys(owner, asked.get("prefix", ""), now)
            return _document(200, {"keys": list(keys)})
        key, expected = asked.get("key", ""), _expected(scope)
        if method == "GET":
            found = await self._state.get(owner, key, now)
            if found is None:
                raise _nothing(key)
            ends = {} if found.expires is None else {"Greentic-Expires": f"{found.expires:.3f}"}
            tag = {"ETag": f'"{found.version}"', "Content-Type": "application/octet-stream"}
            return _Answer(200, found.data, {**tag, **ends})
        if method == "PUT":
            ends_at = None if "seconds" not in asked else now + _seconds(asked["seconds"])
            version = await self._state.put(owner, key, data, now, expires=ends_at, expected=expected)
            return _Answer(204, headers={"ETag": f'"{version}"'})
        if not await self._state.delete(owner, key, now, expected=expected):
            raise _nothing(key)
        return _Answer(204)


class _TooLong(Exception):
    """The body is longer than any value may be."""


def _token(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if scheme.lower() == "bearer" else ""
    return ""


def _query(scope: Scope) -> dict[str, str]:
    known = {"key", "prefix", "seconds"}
    try:
        text = scope["query_string"].decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict")
    except ValueError:
        raise InvalidArgument("the query cannot be read: it is key=K or prefix=P, percent-encoded UTF-8") from None
    asked = dict(pairs)
    if len(asked) != len(pairs) or set(asked) - known or {"key", "prefix"} <= set(asked):
        raise InvalidArgument(f"the query holds key (with seconds) or prefix, each once; not {', '.join(dict(pairs))}")
    return asked


async def _body(receive: Callable[[], Awaitable[Message]]) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidArgument("the worker went away in the middle of its value")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_VALUE:
            raise _TooLong
        more = message.get("more_body", False)
    return b"".join(parts)


def _expected(scope: Scope) -> int | None:
    """The version that a write expects; None when it expects nothing."""
    asked = {name: value.decode("latin-1").strip() for name, value in scope["headers"] if name in _CONDITIONS}
    if len(asked) > 1:
        raise InvalidArgument("a write has one condition: If-Match or If-None-Match")
    if b"if-none-match" in asked:
        if asked[b"if-none-match"] != "*":
            raise InvalidArgument("If-None-Match is '*': only what is not there is written")
        return ABSENT
    if b"if-match" not in asked:
        return None
    version = _VERSION.fullmatch(asked[b"if-match"])
    if version is None:
        raise InvalidArgument('If-Match is the ETag of one version, such as "7"')
    return int(version[1])


_CONDITIONS = (b"if-match", b"if-none-match")


def _seconds(text: str) -> float:
    seconds = float("nan")
    with contextlib.suppress(ValueError):
        seconds = float(text)
    if not 0 < seconds <= LONGEST_SECONDS:
        raise InvalidArgument(f"seconds is a number above 0, at most {LONGEST_SECONDS}")
    return seconds


def _nothing(key: str) -> NotFound:
    return NotFound(f"there is no value '{key}'")


def _failed(error: GreenticError) -> _Answer:
    statuses: dict[type[GreenticError], int] = {InvalidArgument: 400, NotFound: 404, TimedOut: 504}
    status = next((status for kind, status in statuses.items() if isinstance(error, kind)), 503)
    tag: dict[str, str] = {}
    if isinstance(error, Conflict):
        version = error.details.get("version")
        status = 507 if version is None else 412
        tag = {"ETag": f'"{version}"'} if version else {}
    told = _document(status, {"error": error.document()})
    return _Answer(told.status, told.body, {**told.headers, **tag})


def _refused(status: int, kind: str, message: str) -> _Answer:
    return _document(status, {"error": {"kind": kind, "message": message}})


def _document(status: int, document: Mapping[str, Any]) -> _Answer:
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    return _Answer(status, body, {"Content-Type": "application/json"})
