"""Where two versions of a list differ, told by their elements' identity.

Documents are frozen and a change shares all that it leaves alone, so the same object means the same content, and most
of a long list is passed over without looking into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from operator import indexOf, is_
from typing import TypeVar

Element = TypeVar("Element")
_BLOCK = 256


def span(old: Sequence[object], new: Sequence[object]) -> tuple[int, int]:
    """How many elements at the beginning of both are the same objects, and how many of the others at the end."""
    if old is new:
        return len(new), 0
    head = _same(old, new, min(len(old), len(new)))
    return head, _same(old[::-1], new[::-1], min(len(old), len(new)) - head)


def _same(one: Sequence[object], other: Sequence[object], most: int) -> int:
    for begin in range(0, most, _BLOCK):
        end = min(begin + _BLOCK, most)
        alike = [*map(is_, one[begin:end], other[begin:end])]
        if not all(alike):
            return begin + alike.index(False)
    return most


def replaced(elements: tuple[Element, ...], old: Element, *new: Element) -> tuple[Element, ...]:
    """`elements` with `new` where the object `old` stood; ValueError when it does not stand there."""
    place = indexOf(map(is_, elements, repeat(old)), True)
    return (*elements[:place], *new, *elements[place + 1 :])
