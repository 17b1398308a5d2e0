"""Errors as A8 tells them: one place maps kinds to statuses and bodies (reference 02, section 3.4).

Beside the fields of the reference each body carries `error`: the error as our own clients raise it again, with its
details and its next step. What happened inside the server is told to nobody but its log.
"""

from __future__ import annotations

from typing import Any

from greentic.spec.errors import (
    AlreadyExists,
    BundleError,
    Conflict,
    CorruptDocument,
    Denied,
    GateFailed,
    GreenticError,
    InvalidArgument,
    NotFound,
    NotImplementedYet,
    SpecViolation,
    StoreError,
    TimedOut,
)
from greentic.spec.trust_root import KeyRemoved, TrustRootError
from greentic.spec.wire import STATUSES

INTERNAL = "the server failed; its log says why"
AWAY = "the database cannot be reached; ask again, and change under the same key"
RETRY_SECONDS = 1
_REUSED = {"idempotency-conflict", "idempotency-key-reused"}


class PreconditionRequired(InvalidArgument):
    """A change that overwrites needs to say what it overwrites."""


class Unauthenticated(Denied):
    """Nobody that this server knows."""


class Throttled(TimedOut):
    """Too many requests in too short a time."""


def told(error: GreenticError, *, seeds: bool = False) -> tuple[int, dict[str, Any]]:
    """(status, body) of an answer that is an error.

    `seeds`: the verb may begin an environment, so that one that is missing does not have the expected state.
    """
    status, body = _told(error, seeds=seeds)
    if isinstance(error, CorruptDocument):
        body["error"] = {"kind": error.kind, "message": "the stored environment cannot be trusted"}
    elif status < 500 or status == 501:
        body["error"] = error.document()
    return status, body


def _told(error: GreenticError, *, seeds: bool) -> tuple[int, dict[str, Any]]:
    if isinstance(error, Throttled):
        return 429, {"kind": "throttled", "detail": error.message}
    if isinstance(error, Denied):
        policy = str(error.details.get("policy", "server"))
        reason = str(error.details.get("reason", error.message))
        body = {"kind": "unauthorized", "policy": policy, "reason": reason}
        return (401 if isinstance(error, Unauthenticated) else 403), body
    if isinstance(error, NotFound):
        if set(error.details) <= {"environment_id"}:
            return 404, {"kind": "not-found"}
        return _detailed("dependent-not-found", error)
    if isinstance(error, Conflict):
        return _conflict(error, seeds=seeds)
    if isinstance(error, GateFailed):
        return STATUSES["health-gate-failed"], {
            "kind": "health-gate-failed",
            "revision_id": error.details["revision_id"],
            "failed_checks": error.details.get("failed_checks", []),
            "message": error.message.partition(" is not healthy: ")[2] or error.message,
        }
    if isinstance(error, CorruptDocument):
        found = {name: str(error.details.get(name, "")) for name in ("expected", "actual")}
        return STATUSES["integrity-mismatch"], {"kind": "integrity-mismatch", **found}
    if isinstance(error, PreconditionRequired):
        return _detailed("precondition-required", error)
    if isinstance(error, KeyRemoved):
        return _detailed("conflict", error)
    if isinstance(error, InvalidArgument | SpecViolation | BundleError | TrustRootError):
        return _detailed("invalid-request", error)
    if isinstance(error, NotImplementedYet):
        return _detailed("not-yet-implemented", error)
    if isinstance(error, StoreError) and error.details.get("away"):
        return 503, {"kind": "busy", "detail": AWAY}  # where the database is, is for the log
    if isinstance(error, TimedOut):
        return 503, {"kind": "busy", "detail": error.message}
    return STATUSES["internal"], {"kind": "internal", "message": INTERNAL}


def _conflict(error: Conflict, *, seeds: bool) -> tuple[int, dict[str, Any]]:
    details = error.details
    if details.get("reason") in _REUSED:
        return STATUSES["idempotency-conflict"], {"kind": "idempotency-conflict", "reason": error.message}
    if "actual_generation" in details:
        if details["actual_generation"] is None and not seeds:
            return 404, {"kind": "not-found"}
        generation = details["actual_generation"] or 0
        body = {
            "kind": "precondition-failed",
            "expected_etag": details.get("expected_etag"),
            "actual_etag": details["actual_etag"] or "",
            "expected_generation": generation
            if details.get("expected_generation") is None
            else details["expected_generation"],
            "actual_generation": generation,
        }
        return STATUSES["precondition-failed"], {name: value for name, value in body.items() if value is not None}
    exists = isinstance(error, AlreadyExists) or details.get("reason") == "already-exists"
    return _detailed("already-exists" if exists else "conflict", error)


def _detailed(kind: str, error: GreenticError) -> tuple[int, dict[str, Any]]:
    # Clients of others show the detail alone, so the next step stands in it too.
    detail = error.message if error.next_step is None else f"{error.message}; next: {error.next_step}"
    return STATUSES[kind], {"kind": kind, "detail": detail}
