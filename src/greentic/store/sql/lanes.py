"""Group commit: what waits to be written is written together, by one transaction and one sync.

Work waits in lanes: one for all environments, or one for each where the database lets them be written side by side.
A lane is served by one thread at a time, which takes what waits there, of each environment in turn, so that nobody who
sends much holds up others. While it waits for the disk, the next group gathers. Nobody is told anything before the
group is durable.
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


class _Queue:
    """What waits in a lane: of one environment in order, of several in turn."""

    def __init__(self) -> None:
        self._by_environment: dict[str, deque[Waiting]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_environment)

    def put(self, waiting: Waiting) -> None:
        """Behind what waits for the same environment."""
        self._by_environment.setdefault(waiting.environment_id, deque()).append(waiting)

    def take(self, most: int) -> list[Waiting]:
        """Up to `most`, one of each environment and again; whoever is left over comes first the next time."""
        taken: list[Waiting] = []
        while self._by_environment and len(taken) < most:
            name = next(iter(self._by_environment))
            queue = self._by_environment.pop(name)
            taken.append(queue.popleft())
            if queue:
                self._by_environment[name] = queue
        return taken

    def back(self, waiting: Sequence[Waiting]) -> None:
        """What was taken and not carried out waits before all others."""
        present, self._by_environment = self._by_environment, {}
        for one in waiting:
            self.put(one)
        for name, queue in present.items():
            self._by_environment.setdefault(name, deque()).extend(queue)


Serve = Callable[[str, Sequence[Waiting]], Sequence[Waiting]]
"""(lane, what waited there): carries it out from the beginning for as long as a turn may take and settles the futures
of what was carried out; what it answers waits on. Raises nothing."""


class Lanes:
    """The queues and the threads that serve them."""

    def __init__(self, serve: Serve, *, threads: int, name: str) -> None:
        self._serve = serve
        self._changed = threading.Condition()
        self._waiting: dict[str, _Queue] = {}
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
                queue = self._waiting[lane] = _Queue()
                self._ready.append(lane)
                self._changed.notify()
            queue.put(waiting)

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
                taken = queue.take(MOST)
            # From here on nobody can take anything back.
            group = [one for one in taken if one.future.running() or one.future.set_running_or_notify_cancel()]
            left: Sequence[Waiting] = ()
            try:
                if group:
                    left = self._serve(lane, group)
            except BaseException as error:  # a fault of ours must not leave everybody waiting for ever
                for one in group:
                    if not one.future.done():
                        one.future.set_exception(error)
            with self._changed:
                queue.back(left)
                if queue:  # what came meanwhile; the other lanes first
                    self._ready.append(lane)
                    self._changed.notify()
                else:
                    del self._waiting[lane]
