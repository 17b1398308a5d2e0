"""One HTTP exchange as A8 has it: headers and body in, envelopes and errors out (reference 02, sections 2.2 and 3)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from greentic.server.failures import RETRY_SECONDS, told
from greentic.spec.errors import Conflict, GreenticError, InvalidArgument
from greentic.spec.integrity import digest
from greentic.store.contract import Settled
from greentic.trust import health

MAX_KEY_BYTES = 255
MAX_BODY_BYTES = 2 * 1024 * 1024
BODY_SECONDS = 30.0
"""How long a client may take for a body, and as much longer as a slow line needs for a large one."""
SLOWEST = 128 * 1024
"""Bytes of a large body in each further second."""
JSON = "application/json"
REALM = "greentic-store"
_ETAG = re.compile(r'"([0-9a-f]{64})"|([0-9a-f]{64})')
_FILE = re.compile(r"[0-9a-f]{64}")
_GENERATION = re.compile(r"[0-9]{1,18}")


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`value` as JSON."""
    return Response(to_json(value), status, {"cache-control": "no-store", **(headers or {})}, JSON)


def refusal(error: GreenticError, *, seeds: bool = False) -> Response:
    """The answer that is an error; for `seeds` see `failures.told`."""
    status, body = told(error, seeds=seeds)
    headers = {"cache-control": "no-store"}
    if status == 401:
        headers["www-authenticate"] = f'Bearer realm="{REALM}"'
    if status in {429, 503}:
        headers["retry-after"] = str(RETRY_SECONDS)
    if status == 412 and body["actual_etag"]:
        headers["etag"] = f'"{body["actual_etag"]}"'
    return Response(to_json(body), status, headers, JSON)


def idempotency_key(request: Request) -> str:
    """The key of a change; InvalidArgument when it is missing, blank, too long or not ASCII."""
    key = (_single(request, "Idempotency-Key") or "").strip()
    if not key:
        raise InvalidArgument("a change needs the header Idempotency-Key")
    if not key.isascii() or not key.isprintable():
        raise InvalidArgument("the header Idempotency-Key holds printable ASCII characters")
    if len(key) > MAX_KEY_BYTES:
        raise InvalidArgument(f"the header Idempotency-Key holds at most {MAX_KEY_BYTES} bytes")
    return key


def if_match(request: Request) -> str | None:
    """The etag that the caller saw; InvalidArgument for a weak one, a list or `*`, which say less than that."""
    given = request.headers.getlist("if-match")
    if not given:
        return None
    found = _ETAG.fullmatch(given[0].strip()) if len(given) == 1 else None
    if found is None:
        raise InvalidArgument("the header If-Match holds one strong etag: 64 hexadecimal digits in double quotes")
    return found[1] or found[2]


def expected_generation(request: Request) -> int | None:
    """The generation that the caller saw, in the header If-Generation-Match, which is ours."""
    given = _single(request, "If-Generation-Match")
    if given is None:
        return None
    if not _GENERATION.fullmatch(given):
        raise InvalidArgument("the header If-Generation-Match holds a generation, a whole number")
    return int(given)


def file_match(request: Request) -> str | None:
    """The SHA-256 of the file that the caller saw, or `none`, in the header If-File-Match, which is ours; None when it
    does not say."""
    given = request.headers.get("if-file-match")
    if given is not None and given != "none" and not _FILE.fullmatch(given):
        raise InvalidArgument("the header If-File-Match holds the SHA-256 of a file in hex, or none")
    return given


def evidence(request: Request) -> tuple[str, ...]:
    """What data planes signed of the health of workers (`health_gate`), one envelope per header, which is ours."""
    return tuple(request.headers.getlist(health.HEADER))


def unchanged(request: Request, etag: str) -> bool:
    """Whether the caller has this very state already (RFC 9110, section 13.1.2)."""
    given = request.headers.get("if-none-match")
    return given is not None and any(one.strip() in {f'"{etag}"', f'W/"{etag}"', "*"} for one in given.split(","))


async def json_content(request: Request, limit: int) -> bytes:
    """The bytes of a body that is JSON; InvalidArgument when it is something else, too large or too slow."""
    kind = (_single(request, "Content-Type") or "").partition(";")[0].strip().lower()
    if kind != JSON and not (kind.startswith("application/") and kind.endswith("+json")):
        raise InvalidArgument(f"the header Content-Type must be {JSON}")
    return await _read(request, limit)


def json_of(data: bytes) -> Any:
    """The JSON values in `data`; InvalidArgument when it is not JSON in UTF-8 (RFC 8259, section 8.1).

    Of a key that stands twice the last counts, as the reference reads it.
    """
    try:
        return json.loads(data.decode(), parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise InvalidArgument("the body is not JSON that we read") from None


def fingerprint(request: Request, value: Any, actor: Mapping[str, Any]) -> str:
    """What tells requests apart under one key: who asks, and the reference's fingerprint (reference 02, section 3.7).

    Who asks belongs to it, so that nobody is given the answer to another one's request.
    """
    return f"{wire_fingerprint(request.method, raw_path(request), value)}:{digest(dict(actor))}"


def wire_fingerprint(method: str, path: str, value: Any) -> str:
    """The reference's fingerprint: method, path as sent, body."""
    try:
        return digest({"method": method, "path": path, "body": value})
    except (ValueError, RecursionError):
        raise InvalidArgument("the body is not JSON that we can write again") from None


def raw_path(request: Request) -> str:
    """The path as it was sent, without the query."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return raw.partition(b"?")[0].decode("latin-1")


def envelope(result: Any, settled: Settled) -> dict[str, Any]:
    """The envelope of a change that was carried out."""
    return {
        "result": result,
        "etag": settled.etag,
        "generation": settled.generation,
        "idempotency": {"idempotency": "applied"},
        "audit": dict(settled.event),
    }


def replayed(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The envelope as it was recorded, marked as a repetition."""
    return {**recorded, "idempotency": {"idempotency": "replayed"}}


def digest_of(data: bytes) -> str:
    """The SHA-256 of a body that is not JSON, in hex."""
    return hashlib.sha256(data).hexdigest()


async def content(request: Request, limit: int) -> bytes:
    """The bytes of the body; InvalidArgument when they are too many or too slow."""
    return await _read(request, limit)


def rehearsed(request: Request, *, possible: bool) -> bool:
    """Whether the caller asks for a rehearsal; InvalidArgument where that is not `possible`, and for what says neither
    yes nor no: who asked for a rehearsal must not find a change."""
    given = request.query_params.getlist("dry_run")
    if given in ([], ["false"]):
        return False
    if given != ["true"]:
        raise InvalidArgument("the query parameter dry_run is true or false")
    if not possible:
        raise InvalidArgument(
            "this route has no rehearsals, and did nothing",
            next_step="POST …/verbs/NOUN/VERB?dry_run=true",
        )
    return True


def _single(request: Request, name: str) -> str | None:
    """A header of which two would say two things; InvalidArgument then."""
    given = request.headers.getlist(name)
    if len(given) > 1:
        raise InvalidArgument(f"the header {name} stands in the request {len(given)} times")
    return given[0] if given else None


async def _read(request: Request, limit: int) -> bytes:
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise InvalidArgument("the body is to be sent as it is, without a Content-Encoding")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise InvalidArgument(f"the body is larger than {limit} bytes")
    data = bytearray()
    seconds = BODY_SECONDS + (min(int(length), limit) / SLOWEST if length.isdigit() else 0)
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    raise InvalidArgument(f"the body is larger than {limit} bytes")
    except TimeoutError:
        raise InvalidArgument(f"the body did not arrive within {seconds:.0f} seconds") from None
    except ClientDisconnect:
        raise Conflict("the client left") from None
    return bytes(data)


def _no_constant(text: str) -> Any:
    raise ValueError(text)


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise ValueError(text)
    return number
