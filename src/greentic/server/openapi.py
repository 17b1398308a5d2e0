"""The description of the interface (OpenAPI 3.1), derived from the registry of verbs and the types of its bodies."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema
from pydantic_core import to_json

from greentic.server import dialect
from greentic.spec import wire
from greentic.spec.audit import AuditEvent
from greentic.spec.environment import Environment
from greentic.spec.runtime import EnvironmentRuntime
from greentic.spec.verbs import OPERATIONS, VERBS, Operation, Route, Verb

_NAMES = re.compile(r"\{([a-z_]+)\}")
_REFUSALS = {
    "400": "The request is not one that can be carried out",
    "401": "The caller is not known",
    "403": "The caller may not",
    "404": "There is no such environment, or nothing of that name in it",
    "409": "The state does not allow it, or the key was used for another request",
    "412": "The state is another one than was named",
    "422": "A health gate said no (and that is recorded), or what is stored cannot be trusted",
    "428": "The request must name the state that it is of",
    "429": "Too many requests",
    "500": "The server failed",
    "501": "Not in this version",
    "503": "The environment is busy, or the server cannot take more",
}
_BODIES: dict[tuple[str, str], Any] = {
    ("env", "reconcile-complete"): wire.ReconcileCompletionRequest,
    ("evidence", "record"): wire.EvidenceRequest,
    ("backup", "restore"): wire.RestoreRequest,
    ("backup", "import"): wire.ImportRequest,
}
_STREAMS = {("env", "watch"), ("audit", "list")}
_QUERIES: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
    ("env", "list"): {"limit": {"type": "integer", "minimum": 1, "maximum": 1000}, "after": {"type": "string"}},
    ("audit", "list"): {
        "limit": {"type": "integer", "minimum": 1, "maximum": 1000},
        "after": {"type": "integer", "minimum": 0},
        "tail": {"type": "integer", "minimum": 1, "maximum": 1000},
    },
    ("files", "list"): {"under": {"type": "string"}},
}


@cache
def document() -> dict[str, Any]:
    """The whole description."""
    paths: dict[str, dict[str, Any]] = {}
    bodies = [dialect.words(one.noun, one.verb).body for one in VERBS if one.route is not None]
    payloads = [one.payload() for one in VERBS]
    models = list(dict.fromkeys([*bodies, *payloads, *_BODIES.values(), Environment, AuditEvent, EnvironmentRuntime]))
    keys, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    schemas: dict[str, Any] = definitions.get("$defs", {})
    named = {model: keys[model, "validation"] for model in models}
    for operation in OPERATIONS:
        _put(paths, operation.route, _operation(operation, named))
    for verb in VERBS:
        if verb.route is not None:
            body = dialect.words(verb.noun, verb.verb).body
            _put(paths, verb.route, _verb(verb, verb.route, named[body] if body.model_fields else None, "a8"))
        own = Route("POST", verb.path)
        _put(paths, own, _verb(verb, own, named[verb.payload()], "verbs"))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Greentic operator store server",
            "version": version("greentic"),
            "description": "The contract A8, and every verb in our own words under /verbs.",
        },
        "security": [{"bearer": []}, {"certificate": []}],
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Envelope": _envelope(), "Refusal": _refusal()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "certificate": {"type": "mutualTLS"},
            },
        },
    }


@cache
def text() -> bytes:
    """The description as it is served: encoded once, for anybody may ask for it."""
    return to_json(document())


def _put(paths: dict[str, dict[str, Any]], route: Route, told: dict[str, Any]) -> None:
    paths.setdefault(route.path, {})[route.method.lower()] = told


def _verb(verb: Verb, route: Route, body: Any, tag: str) -> dict[str, Any]:
    parameters = [*_path(route), _header("Idempotency-Key", required=True, maxLength=255, minLength=1, pattern=_KEY)]
    parameters.append(_header("If-Match", pattern=r'^"?[0-9a-f]{64}"?$'))
    if tag == "verbs":
        parameters.append(_header("If-Generation-Match", pattern=r"^[0-9]{1,18}$"))
        parameters.append({"name": "dry_run", "in": "query", "schema": {"type": "string", "enum": ["true"]}})
    told: dict[str, Any] = {
        "operationId": f"{tag}.{verb.noun}.{verb.verb}",
        "tags": [tag],
        "summary": verb.summary,
        "parameters": parameters,
        "responses": _responses("The change", {"$ref": "#/components/schemas/Envelope"}),
    }
    if body is not None:
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return told


def _operation(operation: Operation, named: dict[Any, Any]) -> dict[str, Any]:
    name = (operation.noun, operation.verb)
    parameters = _path(operation.route)
    parameters += [{"name": query, "in": "query", "schema": schema} for query, schema in _QUERIES.get(name, {}).items()]
    if operation.changes:
        parameters.append(_header("Idempotency-Key", required=True, maxLength=255, minLength=1, pattern=_KEY))
    if name == ("env", "reconcile"):
        parameters.append(_header("If-Match", required=True, pattern=r'^"?[0-9a-f]{64}"?$'))
    if name == ("env", "show"):
        parameters.append(_header("If-None-Match"))
    if name in _STREAMS:
        parameters.append(_header("Last-Event-ID", pattern=r"^[0-9]{1,18}$"))
    told: dict[str, Any] = {
        "operationId": f"{operation.noun}.{operation.verb}",
        "tags": ["a8" if operation.of_a8 else "ours"],
        "summary": operation.summary,
        "parameters": parameters,
    }
    if operation.health:
        told["security"] = []
    success: dict[str, Any] = {"$ref": "#/components/schemas/Envelope"} if operation.changes else {"type": "object"}
    told["responses"] = _responses(operation.summary, success)
    content = told["responses"]["200"]["content"]
    if name in _STREAMS:
        content["text/event-stream"] = {}
    if name == ("env", "watch"):
        del content["application/json"]
    if name == ("server", "metrics"):
        told["responses"]["200"]["content"] = {"text/plain": {}}
    if name in {("files", "show"), ("audit", "head")}:
        told["responses"]["200"]["content"] = {"application/octet-stream": {}}
    if name == ("files", "put"):
        told["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    if name == ("env", "show"):
        told["responses"]["304"] = {"description": "The caller has this state already"}
    if name in _BODIES:
        body = named[_BODIES[name]]
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if name == ("backup", "accept"):
        schema = {"type": "object", "properties": {"environment": named[Environment]}, "required": ["environment"]}
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return told


_KEY = "^[ -~]*[!-~][ -~]*$"


def _responses(what: str, schema: dict[str, Any]) -> dict[str, Any]:
    refusal = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    told: dict[str, Any] = {"200": {"description": what, "content": {"application/json": {"schema": schema}}}}
    told |= {status: {"description": why, "content": refusal} for status, why in _REFUSALS.items()}
    return told


def _path(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _NAMES.findall(route.path)
    ]


def _header(name: str, *, required: bool = False, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": required, "schema": {"type": "string", **schema}}


def _envelope() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["result", "etag", "generation"],
        "properties": {
            "result": {},
            "etag": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "generation": {"type": "integer", "minimum": 0},
            "idempotency": {
                "type": "object",
                "properties": {"idempotency": {"enum": ["applied", "replayed"]}},
                "required": ["idempotency"],
            },
            "audit": {"$ref": "#/components/schemas/AuditEvent"},
            "present": {"type": "object", "description": "Where the environment is now; in our own words only."},
        },
    }


def _refusal() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["kind"],
        "properties": {
            "kind": {"type": "string"},
            "detail": {"type": "string"},
            "error": {"type": "object", "description": "The error as our own clients raise it."},
        },
    }
