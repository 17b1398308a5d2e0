"""Why a request went where it went: the record as facts for a person, and the same decision made again from them.

A fact about a cookie or token is what it says and whether it is genuine, never its text: whoever reads an explanation
cannot become the visitor. `replay` needs nothing but the document: it signs the same claims with a key of its own,
compiles the recorded row and asks the same pure `select`.
"""

from __future__ import annotations

import base64
import dataclasses
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from greentic.router import preview
from greentic.router.compiled import CompiledDeployment, compile_table
from greentic.router.cookie import CookieMint, Pin
from greentic.router.ended import Ended
from greentic.router.keys import SECRET_BYTES, KeyRing
from greentic.router.selection import COOKIE, NO_FACTS, Facts, select
from greentic.router.table import SLOTS, DeploymentRow, RoutingTable
from greentic.spec.errors import Conflict, Denied, SpecViolation

_NOT_GENUINE = b"not.genuine"


def explanation(ended: Ended, env_id: str) -> dict[str, Any]:
    """The explanation as JSON values.

    `revision` and `reason` are None when the router answered by itself (`error` says why). `cookie` and `preview` say
    what came and whether it counted; `slot` is the visitor's place in the table of 10,000, None where none took part.
    `replay` is what `replay` needs.
    """
    row, decision = ended.row, ended.decision
    told: dict[str, Any] = {
        "request_id": ended.request_id.decode(),
        "trace_id": ended.trace_id or None,
        "environment_id": env_id,
        "ended_at": _moment(ended.ended_at),
        "peer": ended.peer.decode(),
        "method": _text(ended.method),
        "host": _text(ended.host),
        "path": _text(ended.path),
        "status": ended.status,
        "error": ended.error,
        "milliseconds": round(ended.seconds * 1000, 3),
        "upstream_milliseconds": round(ended.upstream_seconds * 1000, 3) if ended.upstream_seconds else None,
        "received_bytes": ended.received_bytes,
        "sent_bytes": ended.sent_bytes,
        "deployment": None,
        "revision": None,
        "reason": None,
    }
    if row is None or ended.mint is None:
        return told
    told["deployment"] = {
        "deployment_id": row.deployment_id,
        "bundle_id": row.bundle_id,
        "customer_id": row.customer_id,
        "generation": row.generation,
    }
    facts = ended.facts
    if facts is None:
        return told
    pin = ended.mint.read(facts.revision_cookie) if facts.revision_cookie is not None else None
    slot = pin.slot if pin is not None and 0 <= pin.slot < SLOTS else None
    if decision is not None:
        revision = decision.revision
        told["revision"] = {
            "revision_id": revision.revision_id,
            "name": row.revisions[revision.index].name,
            "draining": revision.draining,
            "weight_bps": revision.weight,
        }
        told["reason"] = decision.reason
        issued = _issued(ended.mint, decision.set_cookie)
        slot = issued.slot if issued is not None else slot
    told["slot"] = slot
    told["cookie"] = _cookie(row, facts, pin, ended)
    told["preview"] = _preview(ended.mint.ring, row, facts, ended.selected_at)
    told["cookie_set"] = bool(decision is not None and decision.set_cookie)
    told["replay"] = {
        "env_id": env_id,
        "selected_at": ended.selected_at,
        "deployment": _row_document(row),
        "cookie": told["cookie"],
        "preview": told["preview"],
        "draw": None if decision is None or slot is None else [decision.revision.index, slot],
    }
    return told


def replay(document: Mapping[str, Any]) -> dict[str, Any]:
    """The decision made again from `explanation(…)["replay"]`: revision, reason, or the refusal's message.

    Raises SpecViolation when the document is not one.
    """
    try:
        keys = {"active": "k", "ring": [{"kid": "k", "secret": base64.b64encode(os.urandom(SECRET_BYTES)).decode()}]}
        row = document["deployment"]
        table = RoutingTable.parse({"version": 0, "env_id": document["env_id"], "keys": keys, "deployments": [row]})
        compiled = compile_table(table).deployments[row["deployment_id"]]
        compiled = dataclasses.replace(compiled, visitors=_Recorded(document["draw"]))
        facts = _facts(document, table, compiled)
        now = float(document["selected_at"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpecViolation("explanation", f"this is not the record of a decision: {error!r}") from None
    try:
        decision = select(compiled, table.keys, facts, now)
    except (Denied, Conflict) as error:
        return {"revision_id": None, "name": None, "reason": None, "refusal": error.message}
    name = compiled.row.revisions[decision.revision.index].name
    return {
        "revision_id": decision.revision.revision_id,
        "name": name,
        "reason": decision.reason,
        "refusal": None,
    }


def _cookie(row: DeploymentRow, facts: Facts, pin: Pin | None, ended: Ended) -> dict[str, Any] | None:
    """What the revision cookie said and whether its pin held, with the reason; None when none came."""
    if facts.revision_cookie is None:
        return None
    if pin is None:
        return {"genuine": False, "held": False, "why": "it is not a genuine cookie of this deployment"}
    revision = next((found for found in row.revisions if found.revision_id == pin.revision_id), None)
    held = ended.decision is not None and ended.decision.reason == COOKIE
    why = "its pin held"
    if not held:
        why = "something that goes before it decided"
        if revision is None:
            why = "its revision is not served any more"
        elif pin.expires <= ended.selected_at:
            why = "its pin had ended"
        elif pin.generation < revision.since:
            why = f"it was issued at generation {pin.generation}, before its revision came back at {revision.since}"
        elif not _weight(row, revision.revision_id):
            why = "its revision has no share any more"
    return {
        "genuine": True,
        "held": held,
        "why": why,
        "revision_id": pin.revision_id,
        "name": revision.name if revision is not None else None,
        "generation": pin.generation,
        "expires": pin.expires,
        "expires_at": _moment(pin.expires),
        "slot": pin.slot,
    }


def _preview(ring: KeyRing, row: DeploymentRow, facts: Facts, now: float) -> dict[str, Any] | None:
    """What a preview token granted, or why nothing; None when none came."""
    token, source = facts.preview_token, "request"
    if token is None:
        token, source = facts.preview_cookie, "cookie"
    if token is None:
        return None
    try:
        granted = preview.verify(ring, row.deployment_id, token, now)
    except Denied as error:
        return {"from": source, "granted": False, "why": error.message}
    return {"from": source, "granted": True, "revision_id": granted.revision_id, "expires": granted.expires}


def _facts(document: Mapping[str, Any], table: RoutingTable, compiled: CompiledDeployment) -> Facts:
    """The facts of the request, signed anew."""
    cookie, token = document["cookie"], document["preview"]
    if cookie is None and token is None:
        return NO_FACTS
    revision_cookie: bytes | None = None
    if cookie is not None:
        revision_cookie = _NOT_GENUINE
        if cookie["genuine"]:
            mint = CookieMint(
                table.keys,
                env_id=table.env_id,
                tenant=compiled.row.tenant,
                deployment_id=compiled.deployment_id,
                generation=int(cookie["generation"]),
                revision_ids=(str(cookie["revision_id"]),),
            )
            revision_cookie = mint.issue(0, int(cookie["expires"]), int(cookie["slot"]))
    signed: bytes | None = None
    if token is not None:
        signed = _NOT_GENUINE
        if token["granted"]:
            text = preview.mint(table.keys, compiled.deployment_id, str(token["revision_id"]), int(token["expires"]))
            signed = text.encode()
    asked = token is not None and token["from"] == "request"
    return Facts(
        preview_token=signed if asked else None,
        preview_cookie=None if asked else signed,
        revision_cookie=revision_cookie,
    )


class _Recorded:
    """A visitor sequence whose next draw is the recorded one."""

    def __init__(self, draw: list[int] | None) -> None:
        self._draw = None if draw is None else (int(draw[0]), int(draw[1]))

    def draw(self) -> tuple[int, int] | None:
        return self._draw


def _row_document(row: DeploymentRow) -> dict[str, Any]:
    """The row as `RoutingTable.parse` takes it. Where workers listen is nobody's business."""
    return {
        "deployment_id": row.deployment_id,
        "bundle_id": row.bundle_id,
        "customer_id": row.customer_id,
        "tenant": row.tenant,
        "team": row.team,
        "hosts": list(row.hosts),
        "path_prefixes": list(row.path_prefixes),
        "generation": row.generation,
        "pin_seconds": row.pin_seconds,
        "revisions": [
            {
                "revision_id": revision.revision_id,
                "address": "127.0.0.1:1",
                "state": "draining" if revision.draining else "ready",
                "since": revision.since,
                "name": revision.name,
            }
            for revision in row.revisions
        ],
        "slots": [list(run) for run in row.slots],
    }


def _weight(row: DeploymentRow, revision_id: str) -> int:
    return sum(count for count, index in row.slots if row.revisions[index].revision_id == revision_id)


def _issued(mint: CookieMint, line: bytes) -> Pin | None:
    """The pin in a Set-Cookie line of ours; None for another cookie's or none."""
    if not line.startswith(b"Set-Cookie: _gt_rev_"):
        return None
    return mint.read(line.partition(b"=")[2].partition(b";")[0])


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: bytes) -> str | None:
    return value.decode("latin-1") if value else None
