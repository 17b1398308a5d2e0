"""`environment.json`: the environment's document and, under one extra key, the transaction that wrote it.

    {
    …the Environment document of the reference, laid out as `layout` says…,
    "x-greentic-store":{
        "generation": 7,
        "digest":  hex SHA-256 of the canonical JSON of the document without this key; the etag
        "content": hex SHA-256 of the bytes before this key, closed with "\\n}": the same check without parsing
        "commit":  the transaction: key, request fingerprint, result, audit outcome (see `transaction`)
        "seal":    hex SHA-256 of the canonical JSON of this object without `seal`
    }
    }

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
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json

from greentic.spec.environment import Environment
from greentic.spec.errors import CorruptDocument, GreenticError, SpecViolation
from greentic.spec.integrity import canonical_json, digest
from greentic.spec.parsing import parse, parse_json, problems
from greentic.store import layout
from greentic.store.contract import Stored

KEY = "x-greentic-store"
_JOINT = f',\n"{KEY}":'.encode()
_END = b"\n}\n"
_HEADER = {"generation", "digest", "content", "commit", "seal"}


@dataclass(frozen=True, slots=True)
class Record:
    """One version of `environment.json`: its bytes, what they say, the transaction that wrote them (None: not we).

    `laid_out` when the bytes are, one by one, those that we wrote.
    """

    raw: bytes
    stored: Stored
    commit: Mapping[str, Any] | None
    laid_out: bool


@dataclass(frozen=True, slots=True)
class Body:
    """An environment ready to be written: its text without the last line break, and its digest."""

    content: bytes
    digest: str


def body(environment: Environment, before: Record | None) -> Body:
    """The text and the digest of `environment`; SpecViolation when they would not read back.

    An element of a long list that is the very object that stood in `before` was read from there or written there: it
    is not checked again, and its line is copied.
    """
    sections, known = ({}, {}) if before is None else _unchanged(environment, before)
    fresh = {
        name: () if name in sections else tuple(one for one in getattr(environment, name) if id(one) not in known)
        for name in layout.SECTIONS
    }
    try:
        values = environment.model_copy(update=fresh).model_dump(mode="json", warnings="error", exclude={KEY})
        parse(Environment, values, "the environment after the change")
        for name in layout.SECTIONS:
            elements = getattr(environment, name)
            if elements and name not in sections:
                added = iter(values.get(name, ()))
                sections[name] = layout.joined([known.get(id(one)) or canonical_json(next(added)) for one in elements])
        content = layout.text(values, sections)
    except (PydanticSerializationError, ValueError) as error:
        raise SpecViolation("Malformed", f"the environment cannot be written as JSON: {error}") from None
    return Body(content, hashlib.sha256(layout.canonical(content)).hexdigest())


def _unchanged(environment: Environment, before: Record) -> tuple[dict[str, bytes], dict[int, bytes]]:
    """What stands in `before` and still in `environment`: whole lists by name, lines by their element's identity."""
    sections: dict[str, bytes] = {}
    known: dict[int, bytes] = {}
    for name, section in layout.sections(before.raw) if before.laid_out else ():
        elements = getattr(before.stored.environment, name)
        if elements is getattr(environment, name):
            sections[name] = section
        else:
            known.update(zip(map(id, elements), layout.lines(section), strict=True))
    return sections, known


def encode(written: Body, environment: Environment, generation: int, commit: Mapping[str, Any]) -> Record:
    """The next version of the file."""
    header: dict[str, Any] = {
        "generation": generation,
        "digest": written.digest,
        "content": hashlib.sha256(written.content).hexdigest(),
        "commit": commit,
    }
    header["seal"] = digest(header)
    raw = b"".join((memoryview(written.content)[:-2], _JOINT, canonical_json(header), _END))
    return Record(raw, Stored(environment, generation, written.digest), commit, laid_out=True)


def decode(raw: bytes, path: Path, environment_id: str) -> Record:
    """The version of the environment `environment_id` that stands in `raw`, the content of `path`.

    Raises CorruptDocument naming the file, what is wrong and the command that restores it.
    """
    try:
        with unhurried_collector(len(raw)):
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
    content = b"".join((memoryview(raw)[:joint], b"\n}"))
    if not isinstance(header, dict) or header.get("content") != hashlib.sha256(content).hexdigest():
        return None
    _check_seal(header)
    # Keys repeat from element to element and are worth remembering; values seldom do.
    environment = Environment.model_validate(from_json(content, cache_strings="keys"))
    stored = Stored(environment, header["generation"], header["digest"])
    return Record(raw, stored, header["commit"], laid_out=True)


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
        return Record(raw, Stored(parse(Environment, values, "the document"), 0, actual), None, laid_out=False)
    if not isinstance(header, dict):
        raise CorruptDocument(f"'{KEY}' is not a JSON object")
    _check_seal(header)
    if header["digest"] != actual:
        raise CorruptDocument(f"its digest is {actual}, it was written with {header['digest']}")
    environment = parse(Environment, values, "the document")
    return Record(raw, Stored(environment, header["generation"], actual), header["commit"], laid_out=False)


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


_LARGE = 256 * 1024
"""Bytes of a document that make so many objects that the collector would run for nothing."""
_PUT_OFF = 64
"""How often a full collection may be put off."""
_readings = count(1)


@contextmanager
def unhurried_collector(size: int) -> Iterator[None]:
    """No cyclic garbage collection while a document of `size` bytes is read, if it is large: building 100,000 objects
    that live would make it run for nothing.

    Halves the time to read a large environment. Process-wide, harmless to other threads: they collect a little later.
    What is young is made old without being looked at, garbage as well, and the collector counts anew. So that one who
    reads all the time does not keep garbage for ever, a full collection is made now and then.
    """
    enabled = gc.isenabled()
    if size < _LARGE or not enabled:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            # Both together make all that is young old without looking at it, and leave nothing frozen. Otherwise
            # the next allocation would walk through all that was just built.
            gc.freeze()
            gc.unfreeze()
        gc.enable()
        if next(_readings) % _PUT_OFF == 0:
            gc.collect()
