"""Commands in the words of A8, for store servers that know no others (reference 02, sections 4, 7 and 8).

What A8 cannot say is refused before anything is sent, so that nothing is lost on the way in silence. Two steps of ours
are one of A8's: `begin-warm` belongs to its `warm` and `complete-drain` to its `drain`; they send nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from greentic.engine.command import Command
from greentic.engine.slots import moved, table
from greentic.spec.environment import Environment
from greentic.spec.errors import NotFound, NotImplementedYet
from greentic.spec.references import PackDescriptor

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """A command as A8 says it: method, path below the environment's, body (None: none)."""

    method: str
    path: tuple[str, ...]
    body: Any


Say = Callable[[Values, Environment | None], Said]
Hear = Callable[[Any, Values, Environment | None, Environment], Mapping[str, Any]]
"""(A8's result, our payload, the environment before, after) -> our result."""

SILENT = frozenset({("revisions", "begin-warm"), ("revisions", "complete-drain")})


def said(command: Command, before: Environment | None) -> Said:
    """How A8 says `command`; NotImplementedYet when it has no words for it, or not for all of it."""
    words = _WORDS.get((command.noun, command.verb))
    if words is None:
        raise _unsaid(command, "it has no such verb")
    payload = command.payload.to_json()
    left = [name for name in _OURS.get((command.noun, command.verb), ()) if payload.get(name) not in (None, [], {}, ())]
    if left:
        raise _unsaid(command, f"it knows no {', '.join(left)}")
    return words[0](payload, before)


def heard(command: Command, result: Any, before: Environment | None, after: Environment) -> Mapping[str, Any]:
    """A8's `result` of `command` as ours."""
    return _WORDS[command.noun, command.verb][1](result, command.payload.to_json(), before, after)


def silent(command: Command, environment: Environment) -> Mapping[str, Any]:
    """The result of a step that A8 takes together with the next or the one before."""
    revision = environment.revision(command.payload.to_json()["revision_id"])
    if revision is None:
        raise NotFound("there is no such revision", details={"revision_id": command.payload.to_json()["revision_id"]})
    return {"revision": revision.to_json(), "starting_lifecycle": revision.lifecycle.value}


def _unsaid(command: Command, why: str) -> NotImplementedYet:
    return NotImplementedYet(
        f"this store server speaks A8 only, and {why}: '{command.noun} {command.verb}' is not done",
        next_step="use a store server of gtc: gtc store serve",
    )


def _host(payload: Values, environment_id: str) -> dict[str, Any]:
    names = ("region", "tenant_org_id", "listen_addr", "public_base_url", "gui_enabled")
    return {"env_id": environment_id, **{name: payload[name] for name in names if payload.get(name) is not None}}


def _create(payload: Values, _before: Environment | None) -> Said:
    name = payload["environment_id"]
    return Said("POST", ("..",), {"env_id": name, "name": payload["name"], "host_config": _host(payload, name)})


def _patch(payload: Values, _before: Environment | None) -> Said:
    return Said("PATCH", (), {name: value for name, value in payload.items() if value is not None})


def _whole(method: str, *path: str) -> Say:
    """The payload as it is, without what is absent; names in braces in the path are taken from it."""

    def say(payload: Values, _before: Environment | None) -> Said:
        parts = tuple(str(payload[part[1:-1]]) if part.startswith("{") else part for part in path)
        return Said(method, parts, {name: value for name, value in payload.items() if value is not None})

    return say


def _bare(method: str, *path: str) -> Say:
    """The same without a body."""

    def say(payload: Values, _before: Environment | None) -> Said:
        parts = tuple(str(payload[part[1:-1]]) if part.startswith("{") else part for part in path)
        return Said(method, parts, None)

    return say


def _binding(payload: Values) -> dict[str, Any]:
    names = ("slot", "kind", "pack_ref", "instance_id", "answers_ref")
    found = {name: payload[name] for name in names if payload.get(name) is not None}
    return {**found, "pack_ref": payload.get("pack_ref") or payload["kind"]}


def _bind(method: str, *path: str) -> Say:
    def say(payload: Values, _before: Environment | None) -> Said:
        parts = tuple(str(payload[part[1:-1]]) if part.startswith("{") else part for part in path)
        return Said(method, parts, {"binding": _binding(payload)})

    return say


def _key(payload: Values) -> dict[str, Any]:
    path = payload.get("kind_path") or PackDescriptor.parse(payload["kind"]).path
    return {"kind_path": path, "instance_id": payload.get("instance_id")}


def _keyed(method: str, *path: str, bound: bool = False) -> Say:
    def say(payload: Values, _before: Environment | None) -> Said:
        body: dict[str, Any] = {"key": _key(payload)}
        if bound:
            body["binding"] = _binding(payload)
        return Said(method, path, body)

    return say


def _add_bundle(payload: Values, _before: Environment | None) -> Said:
    names = ("bundle_id", "customer_id", "revenue_share", "route_binding", "authorization_ref", "config_overrides")
    return Said("POST", ("bundles",), {name: payload[name] for name in names if payload.get(name) is not None})


def _stage(payload: Values, _before: Environment | None) -> Said:
    body = {name: value for name, value in payload.items() if value is not None and name != "display_version"}
    return Said("POST", ("revisions",), body)


def _warm(payload: Values, before: Environment | None) -> Said:
    revision = None if before is None else before.revision(payload["revision_id"])
    expected = "staged" if revision is None else revision.lifecycle.value
    gate = {name: value for name, value in payload["health_gate"].items() if value is not None}
    body = {"revision_id": payload["revision_id"], "health_gate": gate, "expected_lifecycle": expected}
    return Said("POST", ("revisions", payload["revision_id"], "warm"), body)


def _set_traffic(payload: Values, _before: Environment | None) -> Said:
    names = ("deployment_id", "entries", "updated_by", "authorization_ref")
    return Said("POST", ("traffic",), {name: payload[name] for name in names})


def _endpoint(*path: str) -> Say:
    def say(payload: Values, _before: Environment | None) -> Said:
        body = {name: value for name, value in payload.items() if value is not None and name != "endpoint_id"}
        return Said("POST", ("messaging", payload["endpoint_id"], *path) if path else ("messaging",), body)

    return say


def _trust(payload: Values, _before: Environment | None) -> Said:
    body = {name: payload[name] for name in ("key_id", "public_key_pem")}
    return Said("POST", ("trust-root", "keys"), body)


def _environment(_result: Any, _payload: Values, _before: Environment | None, after: Environment) -> Values:
    return {"environment_id": after.environment_id}


def _as(name: str, **more: Any) -> Hear:
    return lambda result, _payload, _before, _after: {name: result, **more}


def _same(result: Any, _payload: Values, _before: Environment | None, _after: Environment) -> Values:
    return dict(result)


def _bound(result: Any, _payload: Values, _before: Environment | None, _after: Environment) -> Values:
    return {"binding": result, "generation": result.get("generation", 0)}


def _back(result: Any, _payload: Values, _before: Environment | None, _after: Environment) -> Values:
    return {**result, "restored_generation": None}


def _updated(result: Any, payload: Values, _before: Environment | None, _after: Environment) -> Values:
    return {"deployment": result, "revenue_share_changed": payload.get("revenue_share") is not None}


def _moved_revision(result: Any, _payload: Values, _before: Environment | None, _after: Environment) -> Values:
    return {"revision": result["revision"], "starting_lifecycle": result["starting_lifecycle"]}


def _split(result: Any, payload: Values, before: Environment | None, after: Environment) -> Values:
    old = None if before is None else before.split(payload["deployment_id"])
    new = after.split(payload["deployment_id"])
    count = moved(() if old is None else table(old), () if new is None else table(new))
    generations = {name: result[name] for name in ("previous_generation", "new_generation")}
    return {"split": result.get("split") or result.get("restored"), **generations, "moved_slots": count}


def _rolled_back(result: Any, payload: Values, before: Environment | None, after: Environment) -> Values:
    live = None if before is None else before.split(payload["deployment_id"])
    stash = None if live is None else live.previous_split_ref
    generation = None
    with suppress(ValueError, AttributeError):  # what A8 keeps to go back to is all that says which it was
        text = (stash or "").removeprefix("inline://")
        generation = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))).get("generation")
    return {**_split(result, payload, before, after), "restored_generation": generation}


def _removed_endpoint(result: Any, _payload: Values, before: Environment | None, _after: Environment) -> Values:
    known = before is not None and any(one.endpoint_id == result for one in before.messaging_endpoints)
    return {"endpoint_id": result, "removed": known}


def _trusted(result: Any, _payload: Values, _before: Environment | None, after: Environment) -> Values:
    found = {"key_id": None, "public_key_pem": None, "trusted_key_count": None} if result is None else dict(result)
    return {"environment_id": after.environment_id, **found}


_WORDS: Mapping[tuple[str, str], tuple[Say, Hear]] = {
    ("env", "create"): (_create, _environment),
    ("env", "update"): (_patch, _environment),
    ("env", "migrate-bindings"): (_whole("POST", "migrate-bindings"), _same),
    ("env-packs", "add"): (_bind("POST", "packs"), _bound),
    ("env-packs", "update"): (_bind("PATCH", "packs", "{slot}"), _same),
    ("env-packs", "remove"): (_bare("DELETE", "packs", "{slot}"), _same),
    ("env-packs", "rollback"): (_bare("POST", "packs", "{slot}", "rollback"), _back),
    ("extensions", "add"): (_bind("POST", "extensions"), _bound),
    ("extensions", "update"): (_keyed("PATCH", "extensions", bound=True), _same),
    ("extensions", "remove"): (_keyed("DELETE", "extensions"), _same),
    ("extensions", "rollback"): (_keyed("POST", "extensions", "rollback"), _back),
    ("bundles", "add"): (_add_bundle, _as("deployment")),
    ("bundles", "update"): (_whole("PATCH", "bundles", "{deployment_id}"), _updated),
    ("bundles", "remove"): (_bare("DELETE", "bundles", "{deployment_id}"), _same),
    ("revisions", "stage"): (_stage, _as("revision")),
    ("revisions", "warm"): (_warm, _moved_revision),
    ("revisions", "drain"): (_bare("POST", "revisions", "{revision_id}", "drain"), _moved_revision),
    ("revisions", "archive"): (_bare("POST", "revisions", "{revision_id}", "archive"), _moved_revision),
    ("traffic", "set"): (_set_traffic, _split),
    ("traffic", "rollback"): (
        lambda payload, _before: Said("POST", ("traffic", "rollback"), {"deployment_id": payload["deployment_id"]}),
        _rolled_back,
    ),
    ("messaging.endpoint", "add"): (_endpoint(), _as("endpoint")),
    ("messaging.endpoint", "link-bundle"): (_endpoint("link"), _as("endpoint")),
    ("messaging.endpoint", "unlink-bundle"): (_endpoint("unlink"), _as("endpoint")),
    ("messaging.endpoint", "set-welcome-flow"): (
        _whole("POST", "messaging", "{endpoint_id}", "welcome-flow"),
        _as("endpoint"),
    ),
    ("messaging.endpoint", "remove"): (_bare("DELETE", "messaging", "{endpoint_id}"), _removed_endpoint),
    ("messaging.endpoint", "rotate-webhook-secret"): (_endpoint("rotate-secret"), _as("endpoint")),
    ("trust-root", "bootstrap"): (_bare("POST", "trust-root", "bootstrap"), _trusted),
    ("trust-root", "seed"): (_bare("POST", "trust-root", "seed"), _trusted),
    ("trust-root", "add"): (_trust, _trusted),
    ("trust-root", "remove"): (_bare("DELETE", "trust-root", "keys", "{key_id}"), _trusted),
}
_OURS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("env", "create"): ("packs", "stamp_revision"),
    ("env", "update"): ("stamp_revision", "router"),
    ("env-packs", "rollback"): ("to_generation",),
    ("extensions", "rollback"): ("to_generation",),
    ("traffic", "set"): ("note", "pins"),
    ("traffic", "rollback"): ("to_generation", "note", "pins"),
    ("trust-root", "add"): ("restore",),
}
"""Parts of a payload that A8 has no words for and that would change what happens, or be missed."""
