"""How an environment's document is kept in rows, and how its etag is found without writing all of it anew.

The members of the document stand in one row, the elements of its long lists in a row each, at a place that they keep.
Positions grow, with gaps between them in which there is room for what is put between two elements. A change inserts the
rows that it changed under its generation and touches no other: the state of a generation is, for each position, the
newest row that is not younger. A row without data says that the element is gone.

The etag is the SHA-256 of the whole canonical JSON. Its text is not kept in one piece: it is hashed piece by piece in
the order of its keys, and the state of the hash is remembered before each piece. The next etag begins with the first
piece that differs. So a new revision costs the hash of what follows it, not of ten thousand others.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from operator import eq
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json

from greentic.spec.environment import Environment
from greentic.spec.errors import CorruptDocument, GreenticError, SpecViolation
from greentic.spec.integrity import canonical_json
from greentic.spec.parsing import parse, problems
from greentic.spec.spans import span
from greentic.store.contract import Stored
from greentic.store.document import unhurried_collector
from greentic.store.layout import SECTIONS

MEMBERS = ""
"""The section of the row that holds the members."""
_BLOCK = 128
"""Elements that are hashed as one piece."""
_STRIDE = 2**32
"""How far apart elements stand that are numbered anew or added at the end: room between them for what comes later."""
_STEP = 2**16
"""How far from the one before an element is put between two, where there is room: more tends to come after it."""
_EMPTY = {
    name: b'"%s":[]' % name.encode() for name in ("bundles", "messaging_endpoints", "revisions", "traffic_splits")
}
"""The lists that stand in the document even when they are empty."""

Row = tuple[str, int, bytes | None]
"""(section, position, canonical JSON or None)."""
Line = bytes
Piece = bytes | tuple[Line, ...]
"""What is hashed at once: a text, or lines that commas join."""


@dataclass(frozen=True, slots=True)
class Section:
    """A long list: the canonical JSON of its elements in order, and the position of each."""

    lines: tuple[Line, ...] = ()
    positions: tuple[int, ...] = ()


_NONE = Section()


@dataclass(frozen=True, slots=True)
class State:
    """An environment as it stands in its rows. `members` is the text of the row that holds them."""

    stored: Stored
    members: bytes
    sections: Mapping[str, Section]
    hashed: Hashed = field(repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """The document after a change: its parts, its etag and the rows that differ."""

    members: bytes
    sections: Mapping[str, Section]
    hashed: Hashed
    rows: tuple[Row, ...]

    def state(self, environment: Environment, generation: int) -> State:
        """The state that the change makes."""
        stored = Stored(environment, generation, self.hashed.etag)
        return State(stored, self.members, self.sections, self.hashed)


class Hashed:
    """The etag of a document, and what is needed to find that of the next one sooner."""

    __slots__ = ("_marks", "_pieces", "etag")

    def __init__(self, members: Mapping[str, bytes], sections: Mapping[str, Section], before: Hashed | None) -> None:
        pieces = list(_pieces(members, sections))
        marks: list[Any] = []
        known = [] if before is None else before._pieces
        same = 0
        for piece, old in zip(pieces, known, strict=False):
            if piece != old:  # tuples of the same objects compare without looking into them
                break
            same += 1
        if before is not None and same:
            marks = before._marks[: same + 1]
            current = marks.pop().copy()
        else:
            current = hashlib.sha256()
        for piece in pieces[same:]:
            marks.append(current)
            current = current.copy()
            # Joined anew each time: a text that was just written is hashed sooner than one that was kept.
            current.update(piece if isinstance(piece, bytes) else b",".join(piece))
        marks.append(current)
        self._pieces: list[Piece] = pieces
        self._marks: list[Any] = marks
        self.etag: str = current.hexdigest()


def _pieces(members: Mapping[str, bytes], sections: Mapping[str, Section]) -> Iterator[Piece]:
    opening = b"{"
    for name in sorted({*members, *(name for name, section in sections.items() if section.lines)}):
        lines = sections[name].lines if name in sections else ()
        if not lines:
            yield opening + members[name]
        else:
            yield opening + _named(name, b"[")
            for begin in range(0, len(lines), _BLOCK):
                if begin:
                    yield b","
                yield lines[begin : begin + _BLOCK]
            yield b"]"
        opening = b","
    yield b"}"


def _members(values: Mapping[str, Any]) -> dict[str, bytes]:
    """By name, the text of each member that is no long list: its name and its value."""
    return {name: _named(name, canonical_json(value)) for name, value in values.items() if name not in SECTIONS}


def _named(name: str, value: bytes) -> bytes:
    return b"%s:%s" % (_quoted(name), value)


@lru_cache(maxsize=256)
def _quoted(name: str) -> bytes:
    return canonical_json(name)


def change(environment: Environment, before: State | None) -> Change:
    """What `environment` looks like in rows after `before`; SpecViolation when it would not read back.

    An element that is the very object that stood in `before` is neither checked nor written again.
    """
    edits: dict[str, _Edit] = {}
    added: dict[str, tuple[Any, ...]] = {}
    for name in SECTIONS:
        elements = getattr(environment, name)
        old = () if before is None else getattr(before.stored.environment, name)
        if before is not None and elements is old:
            added[name] = ()
            continue
        edit = edits[name] = _edit(old, elements, _NONE if before is None else before.sections[name])
        added[name] = tuple(one for one in edit.elements if id(one) not in edit.known)
    try:
        values = environment.model_copy(update=added).model_dump(mode="json", warnings="error")
        parse(Environment, values, "the environment after the change")
        sections = {} if before is None else dict(before.sections)
        rows: list[Row] = []
        for name, edit in edits.items():
            fresh_lines = iter([canonical_json(value) for value in values.get(name, ())])
            lines = tuple(edit.known.get(id(one)) or next(fresh_lines) for one in edit.elements)
            old_section = _NONE if before is None else before.sections[name]
            sections[name], found = _placed(name, lines, old_section, edit.head, edit.tail)
            rows += found
        for name in SECTIONS:
            sections.setdefault(name, _NONE)
        members = _members(values)
    except (PydanticSerializationError, ValueError) as error:
        raise SpecViolation("Malformed", f"the environment cannot be written as JSON: {error}") from None
    written = b"{%s}" % b",".join(members[name] for name in sorted(members))
    if before is None or written != before.members:
        rows.append((MEMBERS, 0, written))
    hashed = Hashed(_with_empty(members), sections, None if before is None else before.hashed)
    return Change(written, sections, hashed, tuple(rows))


@dataclass(frozen=True, slots=True)
class _Edit:
    """What a change did to a list: `elements` stand now between the first `head` and the last `tail`, which are as they
    were. `known` are the lines of those among them that stood between these before, by the element's identity."""

    head: int
    tail: int
    elements: tuple[Any, ...]
    known: Mapping[int, Line]


def _edit(old: tuple[Any, ...], new: tuple[Any, ...], section: Section) -> _Edit:
    head, tail = span(old, new)
    between = slice(head, len(old) - tail)
    known = {id(one): line for one, line in zip(old[between], section.lines[between], strict=True)}
    return _Edit(head, tail, new[head : len(new) - tail], known)


def _placed(name: str, lines: tuple[Line, ...], old: Section, head: int, tail: int) -> tuple[Section, list[Row]]:
    """The section with `lines` between its first `head` and its last `tail`, and the rows to insert.

    What stays keeps its position. What is new gets that of what it replaces, or one after the last, or one in the gap
    between two that stay; when that has no room left, the list is numbered anew.
    """
    gone = old.lines[head : len(old.lines) - tail]
    alike = _same(lines, gone)
    ending = _same(lines[alike:][::-1], gone[alike:][::-1])
    middle, gone = lines[alike : len(lines) - ending], gone[alike : len(gone) - ending]
    head, tail = head + alike, tail + ending
    end = len(old.lines) - tail
    places = old.positions[head:end]
    floor = old.positions[head - 1] if head else 0
    ceiling = old.positions[end] if tail else None
    found = _fitted(middle, dict(zip(gone, places, strict=True)), places, floor, ceiling)
    whole = (*old.lines[:head], *middle, *old.lines[end:])
    if found is None:
        positions = tuple(range(_STRIDE, _STRIDE * (1 + len(whole)), _STRIDE))
        was, now = dict(zip(old.positions, old.lines, strict=True)), dict(zip(positions, whole, strict=True))
    else:
        positions = (*old.positions[:head], *found, *old.positions[end:])
        was, now = dict(zip(places, gone, strict=True)), dict(zip(found, middle, strict=True))
    rows: list[Row] = [(name, place, line) for place, line in now.items() if was.get(place) != line]
    rows += [(name, place, None) for place in was.keys() - now.keys()]
    return Section(whole, positions), rows


def _fitted(
    middle: tuple[Line, ...], known: Mapping[Line, int], places: tuple[int, ...], floor: int, ceiling: int | None
) -> list[int] | None:
    """A growing position between `floor` and `ceiling` for each of `middle`; None when there is no room."""
    found: list[int] = []
    pending, last = 0, floor
    for line in middle:
        place = known.get(line)
        if place is None:
            pending += 1
            continue
        between = _between(pending, places, last, place)
        if place <= last or between is None:
            return None
        found += [*between, place]
        pending, last = 0, place
    between = _between(pending, places, last, ceiling)
    return None if between is None else [*found, *between]


def _between(count: int, places: tuple[int, ...], low: int, high: int | None) -> Iterable[int] | None:
    """`count` positions between two, those that were in use first; None when there are too few."""
    end = len(places) if high is None else bisect_left(places, high)
    spots = places[bisect_right(places, low) : end]
    if len(spots) >= count:
        return spots[:count]
    if high is None:
        after = spots[-1] if spots else low
        return [*spots, *range(after + _STRIDE, after + _STRIDE * (1 + count - len(spots)), _STRIDE)]
    step = min(_STEP, (high - low) // (count + 1))
    return range(low + step, low + step * count + 1, step) if step else None


def _same(one: tuple[Line, ...], other: tuple[Line, ...]) -> int:
    """How many lines both begin with."""
    for number, same in enumerate(map(eq, one, other)):
        if not same:
            return number
    return min(len(one), len(other))


def assembled(rows: Iterable[tuple[str, int, bytes | None]], generation: int, etag: str, environment_id: str) -> State:
    """The state in `rows`, which come by section, position and age; CorruptDocument when it is not that of `etag`."""
    members = b""
    newest: dict[str, dict[int, Line | None]] = {name: {} for name in SECTIONS}
    for section, position, data in rows:
        if section == MEMBERS:
            members = data or b""
        elif section in newest:
            newest[section][position] = data
    return _state(members, newest, generation, etag, environment_id, None)


def advanced(before: State, rows: Iterable[tuple[str, int, bytes | None]], generation: int, etag: str) -> State:
    """The state after `before`, given the rows that are younger; CorruptDocument when it is not that of `etag`."""
    members = before.members
    sections: dict[str, dict[int, Line | None]] = {}
    for section, position, data in rows:
        if section == MEMBERS:
            members = data or b""
            continue
        known = sections.get(section)
        if known is None:
            old = before.sections[section]
            known = sections[section] = {**dict(zip(old.positions, old.lines, strict=True))}
        known[position] = data
    return _state(members, sections, generation, etag, before.stored.environment.environment_id, before)


def _state(
    members: bytes,
    newest: Mapping[str, Mapping[int, Line | None]],
    generation: int,
    etag: str,
    environment_id: str,
    before: State | None,
) -> State:
    sections = {} if before is None else dict(before.sections)
    try:
        for name, found in newest.items():
            there = sorted((place, line) for place, line in found.items() if line is not None)
            sections[name] = Section(tuple(line for _, line in there), tuple(place for place, _ in there))
        values = from_json(members)
        hashed = Hashed(_with_empty(_members(values)), sections, None if before is None else before.hashed)
        if hashed.etag != etag:
            raise CorruptDocument(f"its digest is {hashed.etag}, it was written with {etag}")
        read = 0 if before is not None else sum(len(line) for section in sections.values() for line in section.lines)
        with unhurried_collector(read):
            environment = _environment(values, sections, before)
    except GreenticError as error:
        raise corrupt(environment_id, error.message) from None
    except ValidationError as error:
        why = "; ".join(f"{one['path']}: {one['message']}" for one in problems(error)[:5])
        raise corrupt(environment_id, why) from None
    except (ValueError, TypeError, AttributeError) as error:
        raise corrupt(environment_id, f"its rows cannot be read: {error}") from None
    if environment.environment_id != environment_id:
        raise corrupt(environment_id, f"they hold the document of '{environment.environment_id}'")
    return State(Stored(environment, generation, etag), members, sections, hashed)


def _environment(values: Mapping[str, Any], sections: Mapping[str, Section], before: State | None) -> Environment:
    """The environment; of an element whose line stood in `before`, the object that it was there."""
    if before is None:
        whole = {name: b"[%s]" % b",".join(section.lines) for name, section in sections.items()}
        read = {name: from_json(found, cache_strings="keys") for name, found in whole.items()}
        return Environment.model_validate({**values, **read})
    known: dict[str, dict[int, Any]] = {}
    lists: dict[str, list[Any]] = {}
    for name, section in sections.items():
        if section is before.sections[name]:
            continue
        old = getattr(before.stored.environment, name)
        known[name] = {id(line): one for line, one in zip(before.sections[name].lines, old, strict=True)}
        lists[name] = [from_json(line) for line in section.lines if id(line) not in known[name]]
    partial = Environment.model_validate({**values, **lists})
    update: dict[str, Any] = {}
    for name, section in sections.items():
        if name in known:
            new = iter(getattr(partial, name))
            update[name] = tuple(known[name].get(id(line)) or next(new) for line in section.lines)
        else:
            update[name] = getattr(before.stored.environment, name)
    return partial.model_copy(update=update)


def text(state: State) -> bytes:
    """The canonical JSON of the document."""
    found = _pieces(_with_empty(_members(from_json(state.members))), state.sections)
    return b"".join(piece if isinstance(piece, bytes) else b",".join(piece) for piece in found)


def corrupt(environment_id: str, why: str) -> CorruptDocument:
    """The error for an environment whose rows cannot be trusted."""
    return CorruptDocument(
        f"the environment '{environment_id}' cannot be trusted: {why}",
        details={"environment_id": environment_id, "reason": why},
        next_step=f"gtc op backup restore {environment_id}",
    )


def _with_empty(members: Mapping[str, bytes]) -> dict[str, bytes]:
    return {**_EMPTY, **members}
