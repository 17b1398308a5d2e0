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
from greentic.router.ended import Ended
from greentic.router.keys import SECRET_BYTES, KeyRing
from greentic.router.pins import Pin
from greentic.router.selection import COOKIE, KEY, NO_FACTS, SESSION, Decision, Facts, in_session, select
from greentic.router.table import SLOTS, DeploymentRow, RoutingTable
from greentic.spec.errors import Conflict, Denied, NotFound, SpecViolation

_NOT_GENUINE = b"not.genuine"
_KINDS = {b"u": "user", b"s": "session", b"c": "client"}


def explanation(ended: Ended, env_id: str) -> dict[str, Any]:
    """The explanation as JSON values.

    `revision` and `reason` are None when the router answered by itself (`error` says why). `cookie` and `preview` say
    what came and whether it counted; `slot` is the visitor's place in the table of 10,000, None where none took part.
    `asked` is the revision that a trusted caller named, `key` the kind of key that the caller is known by (never the
    key) and its slot where it counted, `session` whether the request named one and the pin of it that counted.
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
        slot = decision.slot if decision.slot >= 0 else slot
    told["slot"] = slot
    told["cookie"] = _cookie(row, facts, pin, ended)
    told["preview"] = _preview(ended.mint.ring, row, facts, ended.selected_at)
    told["cookie_set"] = decision is not None and (decision.promise is not None or bool(decision.preview))
    told["asked"] = _text(facts.revision or b"")
    told["key"] = _key(facts, decision)
    told["session"] = _session(facts, decision)
    told["replay"] = {
        "env_id": env_id,
        "selected_at": ended.selected_at,
        "deployment": _row_document(row),
        "cookie": told["cookie"],
        "preview": told["preview"],
        "asked": told["asked"],
        "key": told["key"],
        "session": told["session"],
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
        key = document.get("key") or {}
        recorded = _RecordedSlot(key["slot"]) if key.get("slot") is not None else compiled.hasher
        compiled = dataclasses.replace(compiled, visitors=_Recorded(document["draw"]), hasher=recorded)
        facts = _facts(document, table, compiled)
        pin = _pin(document.get("session"))
        now = float(document["selected_at"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpecViolation("explanation", f"this is not the record of a decision: {error!r}") from None
    try:
        decision = select(compiled, table.keys, facts, now)
        if decision.promise is not None:
            decision = in_session(compiled, decision, pin, now)
    except (Denied, Conflict, NotFound) as error:
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
    asked, key = document.get("asked"), document.get("key") or {}
    if cookie is None and token is None and asked is None and key.get("slot") is None:
        return NO_FACTS
    revision_cookie: bytes | None = None
    if cookie is not None:
        revision_cookie = _NOT_GENUINE
        if cookie["genuine"]:
            pin = Pin(
                str(cookie["revision_id"]), int(cookie["generation"]), int(cookie["expires"]), int(cookie["slot"])
            )
            revision_cookie = compiled.mint.issue(pin)
    signed: bytes | None = None
    if token is not None:
        signed = _NOT_GENUINE
        if token["granted"]:
            text = preview.mint(table.keys, compiled.deployment_id, str(token["revision_id"]), int(token["expires"]))
            signed = text.encode()
    in_request = token is not None and token["from"] == "request"
    return Facts(
        preview_token=signed if in_request else None,
        preview_cookie=None if in_request else signed,
        revision_cookie=revision_cookie,
        revision=None if asked is None else str(asked).encode("latin-1"),
        key=None if key.get("slot") is None else b"recorded",
    )


def _key(facts: Facts, decision: Decision | None) -> dict[str, Any] | None:
    """The kind of the caller's key, and its slot where it took part; None when it is known by none."""
    if facts.key is None:
        return None
    counted = decision is not None and decision.reason in (KEY, SESSION)
    return {"kind": _KINDS[facts.key[:1]], "slot": decision.slot if decision is not None and counted else None}


def _session(facts: Facts, decision: Decision | None) -> dict[str, Any] | None:
    """The pin of the request's session that went first; `held` is False when there was none that did. None when the
    request named no session.
    """
    if facts.session is None:
        return None
    pin = decision.session if decision is not None else None
    if pin is None:
        return {"held": False}
    return {"held": True, "revision_id": pin.revision_id, "generation": pin.generation, "expires": pin.expires}


def _pin(session: Mapping[str, Any] | None) -> Pin | None:
    if session is None or not session["held"]:
        return None
    return Pin(str(session["revision_id"]), int(session["generation"]), int(session["expires"]))


class _RecordedSlot:
    """A hash whose remainder is the recorded slot, whatever the key."""

    def __init__(self, slot: int) -> None:
        self._digest = int(slot).to_bytes(8)

    def copy(self) -> _RecordedSlot:
        return self

    def update(self, _: bytes) -> None:
        pass

    def digest(self) -> bytes:
        return self._digest


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
                "honour_until": revision.honour_until,
                "honour_since": revision.honour_since,
                "name": revision.name,
            }
            for revision in row.revisions
        ],
        "slots": [list(run) for run in row.slots],
    }


def _weight(row: DeploymentRow, revision_id: str) -> int:
    return sum(count for count, index in row.slots if row.revisions[index].revision_id == revision_id)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: bytes) -> str | None:
    return value.decode("latin-1") if value else None
