"""Why a request went where it went, from the routers' memory, the access log, or a record that somebody kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from greentic.operations.context import Context, desired
from greentic.router.explaining import replay
from greentic.spec.errors import NotFound, SpecViolation


async def explain(context: Context, environment_id: str, request_id: str) -> dict[str, Any]:
    """Every request with that id that is still known, each decision made again from its facts.

    NotFound, saying how long requests are remembered, when none is.
    """
    stored = context.store.load(environment_id)
    explanation = await context.deployer(stored, leaving=True).explain(desired(stored), request_id)
    if not explanation.matches:
        raise NotFound(
            f"no request '{request_id[:128]}' is known in the environment '{environment_id}': {explanation.remembers}",
            details={"environment_id": environment_id, "request_id": request_id[:128]},
            next_step="the id is in the response's X-Request-Id",
        )
    return {
        "environment_id": environment_id,
        "request_id": request_id,
        "matches": [_replayed(match) for match in explanation.matches],
        "remembers": explanation.remembers,
    }


def from_record(document: Any) -> dict[str, Any]:
    """The same from what `explain` printed as JSON: nothing is asked, the decisions are made again.

    SpecViolation when `document` is no such record.
    """
    result = document.get("result", document) if isinstance(document, Mapping) else None
    matches = result.get("matches") if isinstance(result, Mapping) else None
    if not isinstance(matches, list) or not all(isinstance(match, Mapping) for match in matches) or not matches:
        raise SpecViolation(
            "explanation",
            "this is not the record of an explanation",
            next_step="keep one with: gtc op explain REQUEST_ID --json > record.json",
        )
    assert isinstance(result, Mapping)
    return {
        "environment_id": result.get("environment_id"),
        "request_id": result.get("request_id"),
        "matches": [_replayed(match) for match in matches],
        "remembers": "",
    }


def _replayed(match: Mapping[str, Any]) -> dict[str, Any]:
    """`match` with `replayed`: the decision made again, and whether it agrees; None where the facts are not known."""
    if not match.get("replay"):
        return {**match, "replayed": None}
    again = replay(match["replay"])
    revision = match.get("revision")
    recorded = (revision["revision_id"] if revision else None, match.get("reason"))
    return {**match, "replayed": {**again, "agrees": (again["revision_id"], again["reason"]) == recorded}}
