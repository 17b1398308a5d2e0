"""The answers of a binding, as they lie in the environment's folder, and whether they are what the env-pack asks for.

An env-pack describes its answers by a JSON Schema (2020-12). Before they are bound, what can be wrong in a flat object
of answers is refused: names, and of each value `type`, `enum`, `const`, `minimum`, `maximum`, `minLength`, `maxLength`,
`pattern` and the `items` of a list. Every other keyword describes, and is the env-pack's own to hold to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from greentic.spec.errors import CorruptDocument, InvalidArgument

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}


def answers_at(folder: Path, reference: str | None, kind: str) -> dict[str, Any]:
    """The answers of a binding of `kind` at `reference` below `folder`; none for None, CorruptDocument when they cannot
    be read.
    """
    if reference is None:
        return {}
    try:
        found = json.loads((folder / reference).read_bytes())
    except (OSError, ValueError) as error:
        raise CorruptDocument(f"the answers of {kind} ({reference}) cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise CorruptDocument(f"the answers of {kind} ({reference}) are not an object")
    return found


def refuse_wrong(schema: Mapping[str, Any], answers: Mapping[str, Any], path: str) -> None:
    """InvalidArgument naming every answer for the env-pack `path` that is missing, not known or of no use.

    No value is repeated: one that was meant for a secret store may be among them.
    """
    problems = list(_problems(schema, answers))
    if problems:
        raise InvalidArgument(
            f"the answers for {path} cannot be used: {'; '.join(problems)}",
            details={"problems": problems},
            next_step=f"gtc op env-packs describe {path}; put the answers into a file and name it with --config",
        )


def _problems(schema: Mapping[str, Any], answers: Mapping[str, Any]) -> Iterator[str]:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in answers:
            yield f"'{name}' is missing"
    for name, value in answers.items():
        if isinstance(known.get(name), dict):
            yield from (f"'{name}' {problem}" for problem in _wrong(known[name], value))
        elif name not in known and schema.get("additionalProperties", True) is False:
            near = get_close_matches(name, known, n=1)
            yield f"'{name}' is not known" + (f"; did you mean '{near[0]}'?" if near else "")


def _wrong(schema: Mapping[str, Any], value: Any) -> Iterator[str]:
    kinds = schema.get("type", ())
    wanted = [kinds] if isinstance(kinds, str) else list(kinds)
    if wanted and not any(_is(value, kind) for kind in wanted):
        yield f"must be of the type {' or '.join(wanted)}"
        return
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        yield f"must be one of {', '.join(map(str, schema['enum']))}"
    if "const" in schema and not _same(value, schema["const"]):
        yield f"must be {schema['const']}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if "minimum" in schema and value < schema["minimum"]:
            yield f"must be at least {schema['minimum']}"
        if "maximum" in schema and value > schema["maximum"]:
            yield f"must be at most {schema['maximum']}"
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            yield f"must have at least {schema['minLength']} characters"
        if len(value) > schema.get("maxLength", len(value)):
            yield f"must have at most {schema['maxLength']} characters"
        if "pattern" in schema and not _matches(schema["pattern"], value):
            yield f"must match {schema['pattern']}"
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for number, item in enumerate(value):
            yield from (f"[{number}] {problem}" for problem in _wrong(schema["items"], item))


def _is(value: Any, kind: str) -> bool:
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES.get(kind, (object,)))


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON values: true is not 1."""
    return bool(one == other) and isinstance(one, bool) is isinstance(other, bool)


def _matches(pattern: Any, value: str) -> bool:
    try:
        return re.search(str(pattern), value) is not None
    except re.error:
        return True  # the env-pack's fault, not the answer's
