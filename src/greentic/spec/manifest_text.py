"""The text of a manifest: YAML or JSON to JSON values, with the place of each.

YAML is read by its events, with a builder of our own: a value keeps its line and column, a key stands once, plain
scalars follow the core schema of YAML 1.2 (`no` is a word, `012` is twelve), and what aliases expand to is counted
before it is used, so that a few of them cannot describe a billion items.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from greentic.spec.errors import SpecViolation
from greentic.spec.parsing import parse_json

MAX_BYTES = 4 * 1024 * 1024
"""Bytes of a manifest."""
MAX_DEPTH = 64
"""Levels of nesting."""
MAX_NODES = 500_000
"""Keys and values, those that aliases repeat included; reading YAML takes about a second for 70,000 of them."""

Path = tuple[str | int, ...]
"""Keys and positions from the top: `("bundles", 0, "bundle_id")`."""
Place = tuple[int, int]
"""(line, column), both counted from 1."""

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?[0-9]{1,4200}", re.ASCII)
_OCTAL = re.compile(r"0o[0-7]{1,1400}", re.ASCII)
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]{1,1000}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", re.ASCII)
_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class ManifestText:
    """What stands in a manifest: `value` (JSON values) and where each part of it stands (empty for JSON).

    `origin` names the file in messages.
    """

    origin: str
    value: Any
    values: Mapping[Path, Place] = field(default_factory=dict)
    keys: Mapping[Path, Place] = field(default_factory=dict)

    def place(self, path: Path, *, key: bool = False) -> Place | None:
        """Where the value (or the key) at `path` stands, else the nearest part around it; None for JSON."""
        if key and path in self.keys:
            return self.keys[path]
        for length in range(len(path), -1, -1):
            if path[:length] in self.values:
                return self.values[path[:length]]
        return None


def read_text(data: bytes, origin: str) -> ManifestText:
    """The values in `data`; `origin` names it and, ending in .json, tells its form (else by the first character).

    Raises SpecViolation with the rule `Malformed` and the place: too large, not UTF-8, not YAML or JSON, a key twice,
    nested too deeply, an alias that expands without bounds, a value that JSON cannot express.
    """
    if len(data) > MAX_BYTES:
        raise SpecViolation("Malformed", f"{origin} is larger than {MAX_BYTES} bytes, more than any manifest needs")
    try:
        text = data.decode().removeprefix(_BOM)
    except UnicodeDecodeError as error:
        raise SpecViolation("Malformed", f"{origin} is not UTF-8: {error.reason} at byte {error.start}") from None
    if PurePath(origin).suffix.lower() == ".json":
        return ManifestText(origin, parse_json(text, origin))
    if text.lstrip()[:1] == "{":
        with suppress(SpecViolation):  # it may still be YAML in flow style
            return ManifestText(origin, parse_json(text, origin))
    return _Builder(origin).read(text)


class _Builder:
    """Values out of the events of one YAML stream."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._values: dict[Path, Place] = {}
        self._keys: dict[Path, Place] = {}
        self._anchored: dict[str, tuple[Any, int]] = {}
        self._nodes = 0
        self._events: Iterator[Any] = iter(())

    def read(self, text: str) -> ManifestText:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        self._events = iter(YAML(typ="safe", pure=True).parse(text))
        try:
            value = self._document()
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = ": ".join(str(part) for part in (error.context, error.problem) if part)
            at = None if mark is None else (mark.line + 1, mark.column + 1)
            raise self._refused(f"not YAML: {problem}", at) from None
        except (YAMLError, RecursionError, ValueError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).split("\n")[0]
            raise self._refused(f"not YAML: {reason}", None) from None
        except SpecViolation:
            raise
        except Exception as error:  # the library fails on some malformed input with errors of many types
            raise self._refused(f"not YAML: {type(error).__name__}: {str(error)[:200]}", None) from None
        return ManifestText(self._origin, value, self._values, self._keys)

    def _document(self) -> Any:
        value: Any = None
        documents = 0
        for event in self._events:
            name = type(event).__name__
            if name == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    raise self._refused("a manifest is one document; a second one begins here", _at(event))
                value, _ = self._node(next(self._events), (), 0)
        return value

    def _node(self, event: Any, path: Path, depth: int) -> tuple[Any, int]:
        """(the value that begins with `event`, how many nodes it has)."""
        at = _at(event)
        self._values[path] = at
        if depth > MAX_DEPTH:
            raise self._refused(f"it is nested deeper than {MAX_DEPTH} levels", at)
        name = type(event).__name__
        if name == "AliasEvent":
            return self._alias(event, at)
        tag = None if event.tag is None else str(event.tag)
        if tag is not None and tag != "!":
            raise self._refused(f"tags ({tag[:60]}) are not read here; write the value plainly", at)
        self._count(1, at)
        if name == "ScalarEvent":
            plain = event.style in {None, ""} and tag is None
            value, size = (self._scalar(event.value, at) if plain else str(event.value)), 1
        elif name == "SequenceStartEvent":
            value, size = self._sequence(path, depth)
        else:
            value, size = self._mapping(path, depth)
        if event.anchor is not None:
            self._anchored[str(event.anchor)] = (value, size)
        return value, size

    def _alias(self, event: Any, at: Place) -> tuple[Any, int]:
        found = self._anchored.get(str(event.anchor))
        if found is None:
            raise self._refused(f"the alias *{event.anchor} names nothing that ended before it", at)
        self._count(found[1], at)
        return found

    def _sequence(self, path: Path, depth: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        size = 1
        while type(event := next(self._events)).__name__ != "SequenceEndEvent":
            value, below = self._node(event, (*path, len(items)), depth + 1)
            items.append(value)
            size += below
        return items, size

    def _mapping(self, path: Path, depth: int) -> tuple[dict[str, Any], int]:
        entries: dict[str, Any] = {}
        size = 1
        while type(event := next(self._events)).__name__ != "MappingEndEvent":
            at = _at(event)
            if type(event).__name__ != "ScalarEvent":
                raise self._refused("a key must be a plain word", at)
            key = str(event.value)
            if key in entries:
                raise self._refused(f"the key '{key[:60]}' stands twice", at)
            self._count(1, at)
            value, below = self._node(next(self._events), (*path, key), depth + 1)
            self._keys[(*path, key)] = at
            entries[key] = value
            size += below + 1
        return entries, size

    def _scalar(self, text: str, at: Place) -> Any:
        """A plain scalar by the core schema of YAML 1.2, section 10.3.2."""
        if text in _NULL:
            return None
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        if _INTEGER.fullmatch(text):
            return int(text)
        if _OCTAL.fullmatch(text):
            return int(text[2:], 8)
        if _HEXADECIMAL.fullmatch(text):
            return int(text[2:], 16)
        if _NOT_FINITE.fullmatch(text):
            raise self._refused(f"{text} is not a number that a manifest can hold", at)
        if len(text) <= 400 and _FLOAT.fullmatch(text):
            number = float(text)
            if number - number != 0:
                raise self._refused("the number is too large", at)
            return number
        return text

    def _count(self, nodes: int, at: Place) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise self._refused(f"it holds more than {MAX_NODES} keys and values, aliases expanded", at)

    def _refused(self, problem: str, at: Place | None) -> SpecViolation:
        where = self._origin if at is None else f"{self._origin}:{at[0]}:{at[1]}"
        details: dict[str, Any] = {"problems": [{"path": "", "message": problem}]}
        if at is not None:
            details["problems"][0] |= {"line": at[0], "column": at[1]}
        return SpecViolation("Malformed", f"{where}: {problem}", details=details)


def _at(event: Any) -> Place:
    return event.start_mark.line + 1, event.start_mark.column + 1
