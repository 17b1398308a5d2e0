"""Is what concurrent clients saw explained by some order of their operations, one after another? (Wing and Gong, 1993)

A register per environment: its generation and its name. An operation takes effect at one moment between its call and
its answer. One whose answer was lost for good may take effect at any later moment, or never. Environments are checked
one by one: a history is linearizable if each object's part of it is (Herlihy and Wing, 1990).

`python -m tests.integration.linearizability [--seeds N] [--first N] [--database sqlite|postgresql|both]` records and
checks histories of a real store: compare-and-swap, blind writes, repetitions under the same key, reads, requests and
answers that are lost. The tests do the same with few seeds.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from greentic.spec.errors import Conflict
from greentic.store.conformance import Walk
from greentic.store.contract import Store

State = tuple[int, str]
"""(generation, name)."""
Kind = Literal["read", "write"]
Ending = Literal["seen", "applied", "replayed", "refused", "lost"]


@dataclass(frozen=True, slots=True)
class Operation:
    """What a client asked of an environment between `called` and `answered`, and how that ended.

    A read was answered `state`. A write of `name` expected `expected` (None: anything); applied, it made `generation`;
    refused, it was told that `generation` is the present one.
    """

    environment_id: str
    kind: Kind
    called: float
    answered: float
    ending: Ending
    name: str = ""
    expected: int | None = None
    generation: int = 0


def step(state: State, operation: Operation) -> State | None:
    """The state after the operation took effect on `state`; None when it could not have ended as it did."""
    generation, _ = state
    if operation.kind == "read":
        return state if state == (operation.generation, operation.name) else None
    fits = operation.expected is None or operation.expected == generation
    if operation.ending == "refused":
        return state if not fits and operation.generation == generation else None
    if not fits:
        return None
    if operation.ending == "applied" and operation.generation != generation + 1:
        return None
    return (generation + 1, operation.name)


def linearizable(history: Sequence[Operation], initial: State) -> bool:
    """Whether some order explains the history of one environment."""
    operations = sorted(history, key=lambda one: one.called)
    everything = (1 << len(operations)) - 1
    optional = sum(1 << number for number, one in enumerate(operations) if one.ending == "lost")
    seen: set[tuple[int, State]] = set()
    pending = [(0, initial)]
    while pending:
        done, state = pending.pop()
        if done | optional == everything:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        # Nothing may come before what had its answer before it was called.
        first = min(one.answered for number, one in enumerate(operations) if not done >> number & 1)
        for number, one in enumerate(operations):
            if done >> number & 1:
                continue
            if one.called > first:
                break
            after = step(state, one)
            if after is not None:
                pending.append((done | 1 << number, after))
    return False


def illegal(history: Iterable[Operation], initial: Callable[[str], State]) -> list[str]:
    """The environments whose part of the history no order explains."""
    parts: dict[str, list[Operation]] = {}
    for operation in history:
        parts.setdefault(operation.environment_id, []).append(operation)
    return [name for name, part in parts.items() if not linearizable(part, initial(name))]


class Lost(Exception):
    """The network lost the request or its answer."""


class Client:
    """One client of the store: asks at random, repeats what was lost under the same key, records what it saw."""

    def __init__(self, number: int, seed: int, stores: Sequence[Store], environments: Sequence[str]) -> None:
        self._number = number
        self._chance = random.Random(seed * 1_000 + number)
        self._stores = stores
        self._environments = environments
        self._known: dict[str, int] = {}
        self.history: list[Operation] = []

    def work(self, operations: int) -> None:
        """Carry out some operations."""
        for count in range(operations):
            environment_id = self._chance.choice(self._environments)
            if self._chance.random() < 0.3:
                self._read(environment_id)
            else:
                self._write(environment_id, f"c{self._number}-{count}")

    def _read(self, environment_id: str) -> None:
        called = time.monotonic()
        stored = self._chance.choice(self._stores).load(environment_id)
        answered = time.monotonic()
        self._known[environment_id] = stored.generation
        seen = Operation(environment_id, "read", called, answered, "seen", stored.environment.name)
        self.history.append(replace(seen, generation=stored.generation))

    def _write(self, environment_id: str, name: str) -> None:
        expected = self._known.get(environment_id) if self._chance.random() < 0.6 else None
        command = Walk(environment_id).rename(name, key=name)
        asked = Operation(environment_id, "write", time.monotonic(), inf, "lost", name, expected)
        for _ in range(self._chance.choice((1, 2, 4))):  # somebody gives up at last
            store = self._chance.choice(self._stores)
            fate = self._chance.random()
            try:
                if fate < 0.1:
                    raise Lost
                applied = store.apply(command, expected_generation=expected)
                if fate < 0.3:
                    raise Lost
            except Lost:
                continue
            except Conflict as refused:
                actual = refused.details["actual_generation"]
                self._known[environment_id] = actual
                asked = replace(asked, ending="refused", generation=actual, answered=time.monotonic())
            else:
                self._known[environment_id] = applied.generation
                ending: Ending = "replayed" if applied.replayed else "applied"
                asked = replace(asked, ending=ending, generation=applied.generation, answered=time.monotonic())
            break
        self.history.append(asked)


def record(seed: int, stores: Sequence[Store], *, clients: int = 5, operations: int = 7) -> list[Operation]:
    """The history of one seed, on environments of its own."""
    environments = [f"s{seed}-{letter}" for letter in "ab"]
    for environment_id in environments:
        stores[0].apply(Walk(environment_id).create())
    crowd = [Client(number, seed, stores, environments) for number in range(clients)]
    errors: list[BaseException] = []

    def run(client: Client) -> None:
        try:
            client.work(operations)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(client,)) for client in crowd]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    history = [operation for client in crowd for operation in client.history]
    for environment_id in environments:  # and what is there in the end
        stored, now = stores[-1].load(environment_id), time.monotonic()
        end = Operation(environment_id, "read", now, now, "seen", stored.environment.name)
        history.append(replace(end, generation=stored.generation))
    return history


def created(_environment_id: str) -> State:
    """What an environment begins as."""
    return (1, "n0")


def main() -> int:
    """The full check."""
    from tests.integration import databases

    from greentic.store.sql.store import open_store

    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    asked = parser.parse_args()
    bad = 0
    for kind in ("sqlite", "postgresql") if asked.database == "both" else (asked.database,):
        begin, operations, lost = time.monotonic(), 0, 0
        with TemporaryDirectory() as folder:
            server = databases.server() if kind == "postgresql" else None
            place = str(Path(folder) / "store.db") if server is None else server.fresh()
            stores = [open_store(place)] if server is None else [open_store(place), open_store(place)]
            for seed in range(asked.first, asked.first + asked.seeds):
                history = record(seed, stores)
                operations += len(history)
                lost += sum(one.ending in {"lost", "replayed"} for one in history)
                for environment_id in illegal(history, created):
                    bad += 1
                    print(f"{kind}: seed {seed}: no order explains {environment_id}:")
                    for one in sorted(history, key=lambda one: one.called):
                        if one.environment_id == environment_id:
                            print(f"  {one}")
            for store in stores:
                store.close()
            if server is not None:
                server.remove()
        seconds = time.monotonic() - begin
        print(
            f"{kind}: {asked.seeds} seeds, {operations} operations, {lost} of them lost or repeated, {bad} illegal "
            f"histories, {seconds:.0f} s",
            flush=True,
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
