"""One exchange with a store server: sent, sent again under the same key when that is safe, and judged (reference 02,
sections 7.4, 7.5 and 20).

A change that was sent may have happened even when no answer came. Repeating it under the same key is safe, under
another it is not; so only the same request is ever sent again, and what stays unknown is told with its key.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2

from greentic.spec.errors import (
    AlreadyExists,
    Conflict,
    CorruptDocument,
    Denied,
    GateFailed,
    GreenticError,
    InvalidArgument,
    NotFound,
    NotImplementedYet,
    StoreError,
    TimedOut,
)
from greentic.spec.integrity import canonical_json
from greentic.spec.parsing import parse_json
from greentic.spec.wire import STATUSES
from greentic.store.failures import revived
from greentic.store.remote.origin import Origin

ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 3.0
TIMEOUT_SECONDS = 30.0
MAX_ANSWER_BYTES = 256 * 1024 * 1024
_AGAIN = {429, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers in lower case, the JSON values (None: no body)."""

    status: int
    headers: Mapping[str, str]
    value: Any


class NoSuchPath(NotImplementedYet):
    """The server does not know the path: it is an older one, or one of others."""


def joined(*segments: str) -> str:
    """A path below the server's URL; InvalidArgument for a segment that would lead elsewhere."""
    for segment in segments:
        if not segment.strip("."):
            raise InvalidArgument(f"'{segment}' cannot stand in the path of a store server")
    return "/".join(quote(segment, safe="-_~.") for segment in segments)


class Transport:
    """Exchanges with one server. `sleep` and `chance` are seams: the pauses between attempts, and their jitter."""

    def __init__(
        self,
        origin: Origin,
        *,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.origin = origin
        self._sleep, self._chance = sleep, chance
        headers = {"accept": "application/json", "user-agent": "gtc"}
        if origin.token is not None:
            headers["authorization"] = f"Bearer {origin.token}"
        self._client = httpx2.Client(
            base_url=origin.url,
            headers=headers,
            timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
            verify=_verification(origin),
            transport=transport,
            trust_env=False,
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def content(self, where: str) -> bytes:
        """The bytes that a GET is answered with."""
        found: bytes = self._sent("GET", where, None, {"accept": "application/octet-stream"}, None, raw=True).value
        return found

    def read(self, where: str, headers: Mapping[str, str] | None = None) -> Answer:
        """The answer to a GET; what the server refuses is raised."""
        return self._sent("GET", where, None, dict(headers or {}), None)

    def change(self, method: str, where: str, body: Any, key: str, headers: Mapping[str, str]) -> Answer:
        """The answer to a change under `key`; what the server refuses is raised."""
        return self._sent(method, where, body, {**headers, "idempotency-key": key}, key)

    def _sent(
        self, method: str, where: str, body: Any, headers: dict[str, str], key: str | None, *, raw: bool = False
    ) -> Answer:
        content = None if body is None else canonical_json(body)
        if content is not None:
            headers["content-type"] = "application/json"
        ambiguous, pause = False, FIRST_PAUSE_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = self._client.request(method, where, content=content, headers=headers)
            except httpx2.ConnectError as error:
                failure: GreenticError = self._unreachable(error)
            except (httpx2.TransportError, httpx2.InvalidURL) as error:
                ambiguous = key is not None
                failure = self._unreachable(error)
            else:
                if response.status_code not in _AGAIN:
                    return self._judged(response, key, raw=raw)
                ambiguous = ambiguous or (key is not None and response.status_code != 429)
                failure = _refusal(response.status_code, _json(response))
            if attempt < ATTEMPTS:
                self._sleep(pause * (0.5 + self._chance()))
                pause = min(pause * 3, LONGEST_PAUSE_SECONDS)
        if ambiguous and key is not None:
            raise unsure(failure.message, key)
        raise failure

    def _judged(self, response: httpx2.Response, key: str | None, *, raw: bool) -> Answer:
        status = response.status_code
        if status == 304:
            return Answer(status, dict(response.headers), None)
        if 200 <= status < 300 and raw:
            return Answer(status, dict(response.headers), response.content)
        if 200 <= status < 300:
            value = _json(response)
            if value is None:
                if key is not None:
                    raise unsure("the server reported success in words that are not JSON", key)
                raise StoreError("the store server answered in words that are not JSON")
            return Answer(status, dict(response.headers), value)
        if 300 <= status < 400:
            raise StoreError(
                f"the store server points elsewhere ({status}); its token goes nowhere else",
                next_step="give the address that it points to in --store-url, when you trust it",
            )
        raise _refusal(status, _json(response))

    def _unreachable(self, error: Exception) -> StoreError:
        return StoreError(
            f"the store server {self.origin.url} does not answer: {error or type(error).__name__}",
            next_step="check --store-url and the server: curl URL/healthz",
        )


def unsure(why: str, key: str) -> StoreError:
    """The error of a change that may have happened."""
    return StoreError(
        f"{why}; whether the change happened is not known",
        details={"committed": "unknown", "idempotency_key": key},
        next_step=f"run the same command again with --idempotency-key {key}: it happens once",
    )


def _refusal(status: int, body: Any) -> GreenticError:
    """What the server said, as our error. Its own words count when kind and status agree."""
    if not isinstance(body, dict) or not isinstance(body.get("kind"), str):
        return _bare(status)
    kind = body["kind"]
    agrees = STATUSES.get(kind, status) == status or (kind == "unauthorized" and status == 401)
    if not agrees:
        return StoreError(f"the store server contradicts itself: status {status} for '{kind[:64]}'")
    told = body.get("error")
    if isinstance(told, dict) and isinstance(told.get("kind"), str) and isinstance(told.get("message"), str):
        error = revived(told)
        if kind == "already-exists":
            return AlreadyExists(error.message, details=error.details, next_step=error.next_step)
        return error
    detail = str(body.get("detail") or body.get("reason") or body.get("message") or kind)[:2_000]
    if kind == "precondition-failed":
        names = ("expected_generation", "actual_generation", "expected_etag", "actual_etag")
        return Conflict("somebody changed the environment in between", details={name: body.get(name) for name in names})
    if kind == "idempotency-conflict":
        return Conflict(detail, details={"reason": kind})
    if kind == "unauthorized":
        return Denied(detail, details={"policy": body.get("policy"), "reason": body.get("reason")})
    if kind == "not-found":
        return NotFound("there is no such environment on the store server", details={"environment_id": None})
    if kind == "health-gate-failed":
        details = {"revision_id": body.get("revision_id"), "failed_checks": body.get("failed_checks")}
        return GateFailed(detail, details=details)
    family = _FAMILY.get(kind)
    return StoreError(f"the store server failed: {detail}") if family is None else family(detail)


_FAMILY: Mapping[str, type[GreenticError]] = {
    "invalid-request": InvalidArgument,
    "precondition-required": Conflict,
    "dependent-not-found": NotFound,
    "already-exists": AlreadyExists,
    "conflict": Conflict,
    "integrity-mismatch": CorruptDocument,
    "not-yet-implemented": NotImplementedYet,
    "no-such-path": NoSuchPath,
    "throttled": TimedOut,
    "busy": TimedOut,
}


def _bare(status: int) -> GreenticError:
    """An answer that is not the store server's, such as a proxy's before it."""
    if status in {401, 403}:
        return Denied(f"something before the store server refused ({status})", details={"policy": "remote"})
    if status == 404:
        return NoSuchPath("the store server has no such path")
    return StoreError(f"the store server answered {status} and nothing that says why")


def _json(response: httpx2.Response) -> Any:
    try:
        return parse_json(response.content, "the answer")
    except GreenticError:
        return None


def _verification(origin: Origin) -> ssl.SSLContext | bool:
    if not origin.url.startswith("https:"):
        return False  # there is nothing to verify, and reading the system's authorities takes its time
    try:
        context = ssl.create_default_context(cafile=None if origin.ca is None else str(origin.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if origin.certificate is not None and origin.key is not None:
            context.load_cert_chain(origin.certificate, origin.key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(f"the certificates for the store server cannot be used: {error}") from None
    return context
