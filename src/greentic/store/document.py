"""`environment.json`: the environment's document and, under one extra key, the transaction that wrote it.

    { …the Environment document of the reference, pretty printed…,
      "x-greentic-store": {
        "generation": 7,
        "digest":  hex SHA-256 of the canonical JSON of the document without this key; the etag
        "content": hex SHA-256 of the bytes before this key, closed with "\\n}": the same check without parsing
        "commit":  the transaction: key, request fingerprint, result, audit outcome (see `transaction`)
        "seal":    hex SHA-256 of the canonical JSON of this object without `seal`
      } }

Because the record of the transaction stands in the same file, one rename commits state, idempotency record and audit
outcome together. A document that the reference wrote has no such key and is generation 0; one that was reformatted by
a tool is still accepted when its values are those of the digest. Any other difference is a CorruptDocument.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json

from greentic.spec.environment import Environment
from greentic.spec.errors import CorruptDocument, GreenticError, SpecViolation
from greentic.spec.integrity import digest
from greentic.spec.parsing import parse, parse_json, problems
from greentic.store.contract import Stored

KEY = "x-greentic-store"
_JOINT = f',\n  "{KEY}": '.encode()
_END = b"\n}\n"
_HEADER = {"generation", "digest", "content", "commit", "seal"}


@dataclass(frozen=True, slots=True)
class Record:
    """One version of `environment.json`: its bytes, what they say, the transaction that wrote them (None: not we)."""

    raw: bytes
    stored: Stored
    commit: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Body:
    """An environment ready to be written: its pretty JSON without the last newline, and its digest."""

    content: bytes
    digest: str


def body(environment: Environment, before: Environment | None) -> Body:
    """The bytes and the digest of `environment`; SpecViolation when they would not read back.

    What is the very object that stood in `before` was read from disk and is not checked again.
    """
    with unhurried_collector():
        try:
            content = environment.model_dump_json(indent=2, warnings="error", exclude={KEY}).encode()
        except (PydanticSerializationError, UnicodeEncodeError) as error:
            raise SpecViolation("Malformed", f"the environment cannot be written as JSON: {error}") from None
        values = json.loads(content)
        _readable(environment, before, values)
        return Body(content, digest(values))


def encode(written: Body, environment: Environment, generation: int, commit: Mapping[str, Any]) -> Record:
    """The next version of the file."""
    header: dict[str, Any] = {
        "generation": generation,
        "digest": written.digest,
        "content": hashlib.sha256(written.content).hexdigest(),
        "commit": commit,
    }
    header["seal"] = digest(header)
    pretty = to_json(header, indent=2).replace(b"\n", b"\n  ")
    raw = b"".join((written.content[:-2], _JOINT, pretty, _END))
    return Record(raw, Stored(environment, generation, written.digest), commit)


def decode(raw: bytes, path: Path, environment_id: str) -> Record:
    """The version of the environment `environment_id` that stands in `raw`, the content of `path`.

    Raises CorruptDocument naming the file, what is wrong and the command that restores it.
    """
    try:
        with unhurried_collector():
            record = _ours(raw) or _anybodys(raw)
    except CorruptDocument as error:
        raise corrupt(path, environment_id, error.message) from None
    except GreenticError as error:
        raise corrupt(path, environment_id, error.message, error.details) from None
    except ValidationError as error:
        found = problems(error)
        why = "; ".join(f"{one['path']}: {one['message']}" for one in found[:5])
        raise corrupt(path, environment_id, why, {"problems": found[:100]}) from None
    actual = record.stored.environment.environment_id
    if actual != environment_id:
        raise corrupt(path, environment_id, f"it is the document of the environment '{actual}'")
    return record


def corrupt(path: Path, environment_id: str, why: str, details: Mapping[str, Any] | None = None) -> CorruptDocument:
    """The error for a file that cannot be trusted."""
    return CorruptDocument(
        f"{path} cannot be trusted: {why}",
        details={**(details or {}), "path": str(path), "environment_id": environment_id, "reason": why},
        next_step=f"gtc op backup restore {environment_id}",
    )


def _ours(raw: bytes) -> Record | None:
    """The quick way for a file exactly as we wrote it; None for any other."""
    joint = raw.rfind(_JOINT)
    if joint < 0 or not raw.endswith(_END):
        return None
    try:
        header = json.loads(raw[joint + len(_JOINT) : -len(_END)])
    except (ValueError, RecursionError):
        return None
    content = raw[:joint] + b"\n}"
    if not isinstance(header, dict) or header.get("content") != hashlib.sha256(content).hexdigest():
        return None
    _check_seal(header)
    environment = Environment.model_validate(json.loads(content))
    return Record(raw, Stored(environment, header["generation"], header["digest"]), header["commit"])


def _anybodys(raw: bytes) -> Record:
    """The careful way: a file that the reference wrote, or that somebody reformatted."""
    values = parse_json(raw, "the document")
    if not isinstance(values, dict):
        raise CorruptDocument("it is not a JSON object")
    header = values.pop(KEY, None)
    actual = digest(values)
    if header is None:
        if any(isinstance(value, dict) and value.keys() >= _HEADER for value in values.values()):
            raise CorruptDocument(f"the record of its last change does not stand under '{KEY}'")
        return Record(raw, Stored(parse(Environment, values, "the document"), 0, actual), None)
    if not isinstance(header, dict):
        raise CorruptDocument(f"'{KEY}' is not a JSON object")
    _check_seal(header)
    if header["digest"] != actual:
        raise CorruptDocument(f"its digest is {actual}, it was written with {header['digest']}")
    environment = parse(Environment, values, "the document")
    return Record(raw, Stored(environment, header["generation"], actual), header["commit"])


def _check_seal(header: dict[str, Any]) -> None:
    seal = header.get("seal")
    if seal != digest({key: value for key, value in header.items() if key != "seal"}):
        raise CorruptDocument(f"the record of its last change ('{KEY}') does not match its seal")
    if not (
        isinstance(header.get("generation"), int)
        and isinstance(header.get("digest"), str)
        and isinstance(header.get("commit"), dict)
    ):
        raise CorruptDocument(f"the record of its last change ('{KEY}') lacks what every record has")


def _readable(environment: Environment, before: Environment | None, values: Any) -> None:
    """SpecViolation unless `values`, which are about to be written, read back as a valid Environment.

    The long lists hold frozen documents; an element that is the same object as before was valid when it was read.
    """
    shortened: dict[str, Any] = dict(values)
    if before is not None:
        for field in ("bundles", "revisions", "traffic_splits", "split_history", "messaging_endpoints"):
            if field not in shortened:
                continue
            known = {id(element) for element in getattr(before, field)}
            shortened[field] = [
                value
                for element, value in zip(getattr(environment, field), shortened[field], strict=True)
                if id(element) not in known
            ]
    parse(Environment, shortened, "the environment after the change")


@contextmanager
def unhurried_collector() -> Iterator[None]:
    """No cyclic garbage collection meanwhile: building 100,000 objects that live would make it run for nothing.

    Halves the time to read a large environment. Process-wide, harmless to other threads: they collect a little later.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
