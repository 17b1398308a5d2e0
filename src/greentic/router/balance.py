"""How many connections each router of an environment has, in memory that they share, so that each can take its turn.

A page of 32-bit numbers: how many places are in use at most, then one place per process: 0 where there is none, else
its connections plus one. Each process writes its own place alone, so there is nothing to lock; a reader may see a
number that is a moment old, which costs fairness and never a connection. The parent makes the page, gives out places
and clears those of ended processes.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Final

PLACES: Final = 255
_BYTES: Final = 4 * (1 + PLACES)


class Balance:
    """A router's view of the page in the file `descriptor`, with a `place` of its own."""

    def __init__(self, descriptor: int, place: int) -> None:
        self._counts = memoryview(mmap.mmap(descriptor, _BYTES)).cast("I")
        self._place = place

    def tell(self, connections: int) -> None:
        """Write down how many connections this process has."""
        self._counts[1 + self._place] = connections + 1

    def leave(self) -> None:
        """Take no part any more."""
        self._counts[1 + self._place] = 0

    def others(self) -> list[int]:
        """How many connections each other process has."""
        counts = self._counts[1 : 1 + self._counts[0]].tolist()
        counts[self._place] = 0
        return [count - 1 for count in counts if count]


class Places:
    """The parent's view: makes the page and gives out its places."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as file:
            # Written, not only made longer: a page that the disk has no room for ends whoever touches it (SIGBUS).
            file.write(bytes(_BYTES))
            file.flush()
            self.descriptor = os.dup(file.fileno())
            """Of a file without a name, for routers to inherit."""
        self._counts = memoryview(mmap.mmap(self.descriptor, _BYTES)).cast("I")
        self._free = list(range(PLACES - 1, -1, -1))

    def take(self) -> int:
        """The lowest free place. IndexError when PLACES processes have one."""
        place = self._free.pop()
        self._counts[0] = max(self._counts[0], place + 1)
        return place

    def give_back(self, place: int) -> None:
        """Its process is gone: nobody waits for it to take its turn."""
        self._counts[1 + place] = 0
        self._free.append(place)
        self._free.sort(reverse=True)

    def close(self) -> None:
        """Let go of the file; may be repeated."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
