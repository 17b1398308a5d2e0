"""Environments and audit logs as they change: server-sent events with resume (HTML Living Standard, section 9.2).

Who watches is told the newest state, not every state between: an event says that the environment is at generation N
now. Audit entries are told one by one, each with its number as its id, so that `Last-Event-ID` goes on where it ended.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from greentic.server.access import ANYBODY
from greentic.server.desk import Desk
from greentic.spec.errors import GreenticError, InvalidArgument, NotFound, TimedOut

BEAT_SECONDS = 15.0
"""Between two signs of life; no longer does a stream go on without a look at its caller's right to it."""
MAX_STREAMS = 512
"""Half of them for one caller at most."""
PAGE = 200
RETRY_MILLISECONDS = 2_000


class Feed:
    """Wakes those who watch an environment when it changes, here or through another server on the same database."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._watching: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._store: object = None
        self.ending = asyncio.Event()
        self._open: Counter[str] = Counter()

    @property
    def streams(self) -> int:
        """How many are open."""
        return self._open.total()

    def audit(self, request: Request, caller: str, environment_id: str, after: int) -> StreamingResponse:
        """The entries after number `after`, and those to come."""
        return self._stream(caller, self._entries(request, environment_id, after))

    def states(self, request: Request, caller: str, environment_id: str) -> StreamingResponse:
        """The environment's generation and etag now, and whenever they change."""
        return self._stream(caller, self._generations(request, environment_id, last_event_id(request)))

    def end(self) -> None:
        """Let every stream end: the server is about to."""
        self.ending.set()
        for waiting in list(self._watching.values()):
            for one in waiting:
                one.set()

    def _stream(self, caller: str, events: AsyncIterator[str]) -> StreamingResponse:
        if self.streams >= MAX_STREAMS:
            raise TimedOut(f"{MAX_STREAMS} streams are open already")
        if caller != ANYBODY.name and self._open[caller] >= MAX_STREAMS // 2:
            raise TimedOut(f"{MAX_STREAMS // 2} streams of yours are open already")
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        told = _Stream(_begun(events), 200, headers, "text/event-stream")
        told.counted = partial(self._count, caller)
        return told

    def _count(self, caller: str, change: int) -> None:
        self._open[caller] += change
        if not self._open[caller]:
            del self._open[caller]

    async def _entries(self, request: Request, environment_id: str, after: int) -> AsyncIterator[str]:
        admission = _Admission(self._desk, request, "audit", "list", whole=True)
        with _Waiting(self, environment_id) as waiting:
            while not self.ending.is_set():
                waiting.clear()
                read = partial(self._desk.store.events, environment_id, after, PAGE)
                page = await self._desk.in_thread(read)
                for event in page:
                    if not await admission.holds():
                        return
                    after = event["sequence"]
                    yield _event("audit", after, event)
                if len(page) == PAGE:
                    continue
                if not await self._woken(waiting):
                    if not await admission.holds():
                        return
                    yield ": still here\n\n"

    async def _generations(self, request: Request, environment_id: str, seen: int | None) -> AsyncIterator[str]:
        admission = _Admission(self._desk, request, "env", "watch", whole=False)
        with _Waiting(self, environment_id) as waiting:
            while not self.ending.is_set():
                waiting.clear()
                if not await admission.holds():
                    return
                try:
                    stored = await self._desk.in_thread(partial(self._desk.store.load, environment_id))
                except NotFound:
                    yield _event("gone", seen or 0, {"environment_id": environment_id})
                    return
                except GreenticError as error:
                    yield _event("trouble", seen or 0, {"environment_id": environment_id, "kind": error.kind})
                    return
                if stored.generation != seen:
                    seen = stored.generation
                    told = {"environment_id": environment_id, "generation": seen, "etag": stored.etag}
                    yield _event("environment", seen, told)
                if not await self._woken(waiting):
                    if not await admission.holds():
                        return
                    yield ": still here\n\n"

    async def _woken(self, waiting: asyncio.Event) -> bool:
        try:
            async with asyncio.timeout(BEAT_SECONDS):
                await waiting.wait()
        except TimeoutError:
            return False
        return True

    def enter(self, environment_id: str, waiting: asyncio.Event) -> None:
        """Wake `waiting` whenever the environment changes."""
        if self._store is not self._desk.store:
            self._loop, self._store = asyncio.get_running_loop(), self._desk.store
            self._desk.store.subscribe(self._heard)
        self._watching[environment_id].add(waiting)

    def leave(self, environment_id: str, waiting: asyncio.Event) -> None:
        """Wake it no more."""
        self._watching[environment_id].discard(waiting)
        if not self._watching[environment_id]:
            del self._watching[environment_id]

    def _heard(self, environment_id: str, _generation: int) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, environment_id)

    def _wake(self, environment_id: str) -> None:
        for one in self._watching.get(environment_id, ()):
            one.set()


async def _begun(events: AsyncIterator[str]) -> AsyncIterator[str]:
    yield f"retry: {RETRY_MILLISECONDS}\n\n"
    async for event in events:
        yield event


class _Stream(StreamingResponse):
    """A stream that counts from the moment it is answered, before anybody else has a turn, until its end."""

    counted: Callable[[int], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.counted(+1)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.counted(-1)


class _Admission:
    """A stream's right to go on, decided anew once it is `BEAT_SECONDS` old: a token may have been revoked or narrowed
    meanwhile, and an environment that is never quiet must not hide that."""

    def __init__(self, desk: Desk, request: Request, noun: str, verb: str, *, whole: bool) -> None:
        self._desk, self._request, self._noun, self._verb, self._whole = desk, request, noun, verb, whole
        self._since = desk.clock()

    async def holds(self) -> bool:
        """Whether the caller may still be told."""
        if self._desk.clock() - self._since < BEAT_SECONDS:
            return True
        try:
            principal = await self._desk.caller(self._request)
        except GreenticError:
            return False
        self._since = self._desk.clock()
        if self._whole and principal.customers is not None:
            return False
        environment_id = self._request.path_params["environment_id"]
        return principal.decide(self._noun, self._verb, environment_id, changes=False).allowed


class _Waiting:
    """One stream's place among those who wait for an environment."""

    def __init__(self, feed: Feed, environment_id: str) -> None:
        self._feed, self._environment_id = feed, environment_id
        self._event = asyncio.Event()

    def __enter__(self) -> asyncio.Event:
        self._feed.enter(self._environment_id, self._event)
        return self._event

    def __exit__(self, *_: object) -> None:
        self._feed.leave(self._environment_id, self._event)


def last_event_id(request: Request) -> int | None:
    """Where the caller's last stream ended; InvalidArgument for what is no number."""
    given = request.headers.get("last-event-id")
    if given is None or not given.strip():
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 19):
        raise InvalidArgument("the header Last-Event-ID holds a number")
    return int(given)


def wanted(request: Request) -> bool:
    """Whether the caller asks for a stream."""
    return "text/event-stream" in request.headers.get("accept", "")


def _event(name: str, number: int, value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\nid: {number}\ndata: {text}\n\n"
