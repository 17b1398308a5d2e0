"""The elements of an environment's lists by their keys, found without going through the lists.

An index is made when it is first asked for. A copy of an environment takes over the indexes of the one that it was
copied from and moves each on by what differs between both lists, so that an index of ten thousand revisions is not made
anew because one of them changed. What is found is always of the very list that was asked about: an index remembers the
list that it was made of.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from greentic.spec.spans import span

Groups = Mapping[Hashable, tuple[Any, ...]]
"""By key, the elements that have it, in the order of the list."""


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """How to find the elements of the list `field`: each by all of its `keys`, which are the same for as long as it
    lives."""

    field: str
    keys: Callable[[Any], Iterable[Hashable]]


@dataclass(frozen=True, slots=True)
class _Made:
    """The indexes that were made of the list `source`. Threads may make the same one twice; both are right."""

    source: tuple[Any, ...]
    indexes: dict[Index, Groups]


class Indexes:
    """The indexes of one environment. They say nothing that its lists do not, so any two are equal."""

    __slots__ = ("_made",)

    def __init__(self, made: Mapping[str, _Made] | None = None) -> None:
        self._made: dict[str, _Made] = dict(made or {})

    def __copy__(self) -> Indexes:
        return Indexes(self._made.copy())

    def __deepcopy__(self, memo: object) -> Indexes:
        return Indexes()  # the elements are copied too

    def __reduce__(self) -> tuple[type[Indexes], tuple[()]]:
        return Indexes, ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Indexes)

    __hash__ = None  # type: ignore[assignment]

    def groups(self, index: Index, elements: tuple[Any, ...]) -> Groups:
        """The index over `elements`, the present list of its field."""
        made = self._made.get(index.field)
        if made is None or made.source is not elements:
            made = _Made(elements, {} if made is None else _moved(made, elements))
            self._made[index.field] = made
        found = made.indexes.get(index)
        if found is None:
            found = made.indexes[index] = _grouped(index, elements)
        return found


def _grouped(index: Index, elements: Iterable[Any]) -> Groups:
    found: dict[Hashable, list[Any]] = {}
    for element in elements:
        for key in index.keys(element):
            found.setdefault(key, []).append(element)
    return {key: tuple(group) for key, group in found.items()}


def _moved(made: _Made, elements: tuple[Any, ...]) -> dict[Index, Groups]:
    """The indexes of `made` as they are for `elements`; none when little of the list has stayed."""
    head, tail = span(made.source, elements)
    gone = made.source[head : len(made.source) - tail]
    come = elements[head : len(elements) - tail]
    if len(gone) + len(come) > len(elements) // 2:
        return {}
    # A thread that reads may add an index meanwhile, so it is a list of them that is gone through.
    return {index: _updated(index, groups, elements, gone, come, head) for index, groups in [*made.indexes.items()]}


def _updated(
    index: Index,
    groups: Groups,
    elements: tuple[Any, ...],
    gone: tuple[Any, ...],
    come: tuple[Any, ...],
    head: int,
) -> Groups:
    updated = dict(groups)
    left, fresh = _grouped(index, gone), _grouped(index, come)
    for key in left.keys() | fresh.keys():
        old, out, new = groups.get(key, ()), left.get(key, ()), fresh.get(key, ())
        if len(old) == len(out):
            group = new
        elif out and (place := _place(old, out)) is not None:
            group = (*old[:place], *new, *old[place + len(out) :])
        elif not out and head + len(come) == len(elements):
            group = (*old, *new)
        else:
            group = tuple(one for one in elements for own in index.keys(one) if own == key)
        if group:
            updated[key] = group
        else:
            updated.pop(key, None)
    return updated


def _place(group: tuple[Any, ...], out: tuple[Any, ...]) -> int | None:
    """Where in `group` the objects `out` stand, one after another; None when that cannot be told."""
    found = [place for place, one in enumerate(group) if one is out[0]]
    if len(found) != 1:
        return None
    place = found[0]
    alike = len(group) >= place + len(out) and all(group[place + n] is one for n, one in enumerate(out))
    return place if alike else None
