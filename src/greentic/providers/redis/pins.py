"""Session pins in Redis (see `greentic.router.pins`).

    <namespace>:pin:{<env>:<deployment>:<tenant>}:<hint>   revision|generation|end, expires at its end
    <namespace>:pins:{<env>:<deployment>:<tenant>}         sorted set of revision|hint by end: what the cap counts

The braces are Redis Cluster's: the keys of one scope lie together. Each question is one round trip, a script that looks
and keeps in one step, which is what makes one of many first requests win. Members of the sorted set that have ended are
taken out by their score before they are counted, so they never fill the cap (reference 04 section 1.5, WEAK).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from redis import asyncio as client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from greentic.envpacks.breaker import Breaker
from greentic.router.pins import CAP_PER_TENANT, HINT_LIMIT, Admissible, Pin, PinScope

CONNECTIONS: Final = 32
"""Questions to Redis at a time, per router; more wait for their turn, within their time."""
LATE_SECONDS: Final = 1.0
"""How long a question goes on after whoever asked has gone on without the pin: a connection that takes long to open is
there for the next one, and a late answer is read by nobody else.
"""

_log = logging.getLogger(__name__)

_PIN: Final = """
local now, cap, hint = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local wanted, generation, ends = ARGV[4], ARGV[5], ARGV[6]
local held = redis.call('GET', KEYS[1])
local revision, given, last
if held then
  revision, given, last = string.match(held, '^(.-)|(%d+)|(%d+)$')
  if revision and tonumber(last) > now then
    for i = 7, #ARGV, 2 do
      if ARGV[i] == revision and tonumber(given) >= tonumber(ARGV[i + 1]) then return held end
    end
  end
end
if wanted == '' or tonumber(ends) <= now then return false end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[1])
if revision then
  redis.call('ZREM', KEYS[2], revision .. '|' .. hint)
  redis.call('DEL', KEYS[1])
end
if redis.call('ZCARD', KEYS[2]) >= cap then return 0 end
local milliseconds = math.ceil((tonumber(ends) - now) * 1000)
local value = wanted .. '|' .. generation .. '|' .. ends
redis.call('SET', KEYS[1], value, 'PX', milliseconds)
redis.call('ZADD', KEYS[2], ends, wanted .. '|' .. hint)
if redis.call('PTTL', KEYS[2]) < milliseconds then redis.call('PEXPIRE', KEYS[2], milliseconds) end
return value
"""

_COUNT: Final = """
local counts, told = {}, {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf')) do
  local revision = string.match(member, '^(.*)|')
  counts[revision] = (counts[revision] or 0) + 1
end
for revision, count in pairs(counts) do
  told[#told + 1] = revision
  told[#told + 1] = count
end
return told
"""


class RedisPins:
    """Pins at the `url` of the settings (see `greentic.providers.redis.answers`)."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._namespace = str(settings["namespace"])
        self._seconds = int(settings["timeout_ms"]) / 1000
        pool = client.BlockingConnectionPool.from_url(
            str(settings["url"]),
            password=settings.get("password"),
            max_connections=CONNECTIONS,
            timeout=self._seconds,
            socket_connect_timeout=LATE_SECONDS,
            socket_timeout=LATE_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            decode_responses=True,
        )
        self._redis = client.Redis(connection_pool=pool)
        self._pin = self._redis.register_script(_PIN)
        self._count = self._redis.register_script(_COUNT)
        self._breaker = Breaker()
        self._questions: set[asyncio.Task[Any]] = set()
        self._failures: dict[str, int] = {}
        self._skipped = 0
        self._asked = 0

    async def lookup(self, scope: PinScope, hint: bytes, admissible: Admissible, now: float) -> Pin | None:
        """The session's pin if it holds."""
        return _read(await self._ask_pin(scope, hint, ("", 0, 0), admissible, now))

    async def try_pin(self, scope: PinScope, hint: bytes, pin: Pin, admissible: Admissible, now: float) -> Pin | None:
        """Keep `pin` unless the session has one that holds; the one that is kept."""
        answer = await self._ask_pin(scope, hint, (pin.revision_id, pin.generation, pin.expires), admissible, now)
        if answer == 0:
            self._skipped += 1
        return _read(answer)

    async def counts(self, scope: PinScope, now: float) -> Mapping[str, int]:
        """Live pins by revision, whoever wrote them."""
        told = await self._ask(self._count, [self._set(scope)], [repr(now)])
        if not isinstance(told, list):
            return {}
        return {str(revision): int(count) for revision, count in zip(told[::2], told[1::2], strict=True)}

    def document(self) -> dict[str, Any]:
        """Questions asked, failures by kind, pins that found no room, and whether Redis is being left alone."""
        return {
            "asked": self._asked,
            "failures": dict(self._failures),
            "skipped": self._skipped,
            "interruptions": self._breaker.openings,
        }

    async def close(self) -> None:
        """Close the connections."""
        for question in self._questions:
            question.cancel()
        await asyncio.gather(*self._questions, return_exceptions=True)
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def _ask_pin(
        self, scope: PinScope, hint: bytes, pin: tuple[str, int, int], admissible: Admissible, now: float
    ) -> Any:
        if len(hint) > HINT_LIMIT:
            return None
        name = hint.hex()
        keys = [f"{self._namespace}:pin:{_tag(scope)}:{name}", self._set(scope)]
        held = [text for revision_id, lowest in admissible.items() for text in (revision_id, lowest)]
        return await self._ask(self._pin, keys, [repr(now), CAP_PER_TENANT, name, *pin, *held])

    async def _ask(self, script: Any, keys: list[str], arguments: list[Any]) -> Any:
        """The script's answer; None when there is none in time."""
        breaker = self._breaker
        if not breaker.allows(time.monotonic()):
            self._failed("interrupted")
            return None
        self._asked += 1
        question = asyncio.ensure_future(script(keys=keys, args=arguments))
        self._questions.add(question)
        question.add_done_callback(self._ended)
        try:
            await asyncio.wait((question,), timeout=self._seconds)
        except asyncio.CancelledError:
            breaker.failed(time.monotonic())
            raise
        kind = _failure(question)
        if kind is None:
            if breaker.succeeded():
                _log.warning("session pins: Redis answers again")
            return question.result()
        self._failed(kind)
        if breaker.failed(time.monotonic()):
            _log.warning("session pins: Redis does not answer (%s); sessions land by their slot meanwhile", kind)
        return None

    def _ended(self, question: asyncio.Task[Any]) -> None:
        self._questions.discard(question)
        if not question.cancelled():
            question.exception()  # seen: whoever asked may be gone

    def _failed(self, kind: str) -> None:
        self._failures[kind] = self._failures.get(kind, 0) + 1

    def _set(self, scope: PinScope) -> str:
        return f"{self._namespace}:pins:{_tag(scope)}"


def _failure(question: asyncio.Task[Any]) -> str | None:
    """Why there is no answer; None when there is one."""
    if not question.done():
        return "timeout"
    if question.cancelled():
        return "closed"
    error = question.exception()
    if error is None:
        return None
    if isinstance(error, (client.TimeoutError, TimeoutError)):
        return "timeout"
    return "connection" if isinstance(error, (client.ConnectionError, OSError)) else type(error).__name__


def _tag(scope: PinScope) -> str:
    return "{" + ":".join(quote(part, safe="") for part in scope) + "}"


def _read(answer: Any) -> Pin | None:
    if not isinstance(answer, str):
        return None
    revision_id, generation, expires = answer.rsplit("|", 2)
    return Pin(revision_id, int(generation), int(expires))
