"""Group commit: what waits to be written is written together, by one transaction and one sync.

Work waits in lanes: one for all environments, or one for each where the database lets them be written side by side.
A lane is served by one thread at a time, which takes all that waits there. While it waits for the disk, the next group
gathers. Nobody is told anything before the group is durable.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from greentic.spec.errors import StoreError
from greentic.store.sql.view import Job

MOST = 256
"""How much is written together."""


@dataclass(slots=True)
class Waiting:
    """A job that waits: the environment it is for, the keys that it will look for, and who waits for it."""

    environment_id: str
    keys: tuple[str, ...]
    job: Job
    future: Future[Any] = field(default_factory=Future)


Serve = Callable[[str, Sequence[Waiting]], None]
"""(lane, what waited there): carries all of it out and settles every future; raises nothing."""


class Lanes:
    """The queues and the threads that serve them."""

    def __init__(self, serve: Serve, *, threads: int, name: str) -> None:
        self._serve = serve
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[Waiting]] = {}
        self._ready: deque[str] = deque()
        self._closed = False
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def put(self, lane: str, waiting: Waiting) -> None:
        """Let a job wait its turn; StoreError when the store was closed."""
        with self._changed:
            if self._closed:
                raise StoreError("the store was closed")
            queue = self._waiting.get(lane)
            if queue is None:
                queue = self._waiting[lane] = deque()
                self._ready.append(lane)
                self._changed.notify()
            queue.append(waiting)

    def close(self) -> None:
        """Finish what waits, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._ready:
                    if self._closed:
                        return
                    self._changed.wait()
                lane = self._ready.popleft()
                queue = self._waiting[lane]
                taken = [queue.popleft() for _ in range(min(len(queue), MOST))]
            # From here on nobody can take anything back.
            group = [one for one in taken if one.future.set_running_or_notify_cancel()]
            try:
                if group:
                    self._serve(lane, group)
            except BaseException as error:  # a fault of ours must not leave everybody waiting for ever
                for one in group:
                    if not one.future.done():
                        one.future.set_exception(error)
            with self._changed:
                if self._waiting[lane]:  # what came meanwhile; the other lanes first
                    self._ready.append(lane)
                    self._changed.notify()
                else:
                    del self._waiting[lane]
