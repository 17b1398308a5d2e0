"""What a provider is asked to do, call by call: the seam where a bench counts, fails and kills.

A provider wraps each call that changes something outside of its own process (a process started, a file written, an
object patched) in `making`. Nothing listens unless a bench does, and then a call costs one comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the permission that it needs, as the provider declares it, and what it is about. Never a secret."""

    permission: str
    target: str


class Killed(BaseException):
    """The process that was to make the call has died, in a bench that performs within the suite's own process.

    No error of the product: nothing that handles errors may handle it. Whoever performs makes no call after it.
    """


Witness = Callable[[Call], AbstractContextManager[None]]
"""Wraps each call. What it raises on the way in keeps the call from being made; what it raises on the way out is a call
whose answer was lost."""

_witness: ContextVar[Witness | None] = ContextVar("witness", default=None)


@contextmanager
def making(permission: str, target: object) -> Iterator[None]:
    """The block makes one call to the provider, which needs `permission`, about `target`."""
    witness = _witness.get()
    if witness is None:
        yield
    else:
        with witness(Call(permission, str(target))):
            yield


def observe(witness: Witness | None) -> None:
    """Have `witness` told of every call of this context and of the tasks it begins; None for nobody."""
    _witness.set(witness)
