"""Lives in virtual time (`tests.simulation`): they are in order, the same again, and find what is broken on purpose."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from tests.simulation.life import live
from tests.simulation.oracle import Broken

from greentic.engine import traffic
from greentic.engine.slots import relayout
from greentic.router import (
    compiled,
    cookie,
    forwarding,
    gateway,
    keys,
    lease,
    memory_pins,
    projection,
    selection,
    sequence,
)

FIRST = int(os.environ.get("GREENTIC_LIVES", "0"))
SECONDS = 15.0


@pytest.mark.parametrize("first", range(FIRST, FIRST + 48, 6))
def test_lives_are_in_order(first: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(first, first + 6):
        counts += live(seed, SECONDS, hurried=seed % 2 == 1).counts
    for wanted in ("reason cookie", "reason key", "reason sequence", "status 200", "move done", "requests"):
        assert counts[wanted], f"nothing of '{wanted}' in {counts}"


def test_a_seed_is_the_same_life_in_every_process() -> None:
    told = set()
    for order in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulation", "--seed", "3", "--seconds", "8"]
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": order},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        told.add(done.stdout.splitlines()[0])
    assert len(told) == 1
    assert re.match(r"seed 3: \d+ steps, digest [0-9a-f]{8}$", told.pop())


# What the simulation must find. Each is a way in which such a router was, or might have been, wrong.


def _wrong_since(revision: Any, generation: int, now: float) -> bool:
    return revision.weight > 0 or (generation >= revision.honour_since and now < revision.honour_until)


def _no_honour(revision: Any, generation: int, now: float) -> bool:
    return revision.weight > 0 and generation >= revision.since


def _reviving(revision: Any, generation: int, now: float) -> bool:
    return (revision.weight > 0 and generation >= revision.since) or now < revision.honour_until


def _endless(deployment: Any, pin: Any, now: float) -> Any:
    revision = deployment.by_id.get(pin.revision_id)
    return revision if revision is not None and revision.honours(pin.generation, now) else None


def _one_too_many(previous: Any, weights: Any) -> Any:
    runs = list(relayout(previous, weights))
    if previous and len(runs) > 1:
        # The shares are right; one slot more than needed has another owner.
        (count, owner), *rest = runs
        last, final = rest[-1]
        if final != owner:
            rest[-1] = (last - 1, final)
            runs = [(1, final), (count - 1, owner), *rest, (1, owner)]
    return tuple(run for run in runs if run[0])


def _in_blocks(weights: Any, phase: float = 0.0) -> Any:
    return iter([index for index, weight in enumerate(weights) for _ in range(weight)])


_deployments = projection.deployments


def _ended_ones_too(environment: Any, addresses: Any, *, draining: Any = (), ended: Any = ()) -> Any:
    return _deployments(environment, addresses, draining=draining, ended=())


def _by_the_newest_key(ring: Any, message: bytes, signature: bytes) -> bool:
    return bool(ring.active.sign(message) == signature)


async def _by_the_old_table(self: Any, session: bytes, hint: bytes, decision: Any, table: Any) -> None:
    pin = await self._gateway.pins.ask(self.deployment, hint, None)
    if not self._over:
        self._begin(selection.in_session(self.deployment, decision, pin, time.time()))


def _restored_by_weights(split: Any, _table: Any = traffic.table) -> Any:
    runs = list(_table(split))
    return tuple(sorted(runs, key=lambda run: run[1]))


_serve = gateway.Gateway.configure


def _acknowledged_early(self: Any, table: Any) -> Any:
    if self.table is None:
        return _serve(self, table)
    self._loop.call_later(0.05, _serve, self, table)
    generations = {row["deployment_id"]: row["generation"] for row in table["deployments"]}
    return {"version": table["version"], "generations": generations, "compile_ms": 0.0, "warnings": []}


_look = memory_pins.MemoryPins.look


def _forgetful(self: Any, scope: Any, hint: bytes, admissible: Any, now: float) -> Any:
    return _look(self, scope, hint, admissible, now) if int(now) % 3 else None


_read = cookie.CookieMint.read


def _trusting(self: Any, value: bytes) -> Any:
    found = _read(self, value)
    if found is None and value.endswith(b"AA"):
        return self._pin(cookie.decode(value.partition(b".")[0]))
    return found


MUTANTS: dict[str, tuple[Any, str, Callable[..., Any], str]] = {
    "since is ignored": (compiled.CompiledRevision, "honours", _wrong_since, "expected"),
    "honour_until is forgotten": (compiled.CompiledRevision, "honours", _no_honour, "expected"),
    "ended promises come back": (compiled.CompiledRevision, "honours", _reviving, "expected"),
    "pins have no end": (compiled.CompiledDeployment, "held", _endless, "expected"),
    "a move takes a slot too many": (traffic, "relayout", _one_too_many, "slots where"),
    "a rollback lays its table out anew": (traffic, "table", _restored_by_weights, "rollback|slots where"),
    "keyless visitors come in blocks": (sequence, "fair_sequence", _in_blocks, "visitors at shares"),
    "what has ended stays in the table": (projection, "deployments", _ended_ones_too, "cannot be reached|was ended"),
    "a stale table after its acknowledgement": (gateway.Gateway, "configure", _acknowledged_early, "receipt|record"),
    "a lease does not lapse": (lease.Lease, "lapsed", lambda *_: False, "past its lease"),
    "only the newest key verifies": (keys.KeyRing, "verifies", _by_the_newest_key, "expected|went first"),
    "a session by a table of before": (forwarding.Exchange, "_ask_session", _by_the_old_table, "not served any more"),
    "a session's pin is lost": (memory_pins.MemoryPins, "look", _forgetful, "was not kept"),
    "a forged cookie is believed": (cookie.CookieMint, "read", _trusting, "expected"),
}
LIVES = 40


@pytest.mark.parametrize("name", MUTANTS)
def test_it_finds(name: str) -> None:
    target, attribute, wrong, reason = MUTANTS[name]
    with mock.patch.object(target, attribute, wrong):
        seed, said = next((found for found in map(_broken, range(LIVES)) if found[1]), (-1, ""))
    assert said, f"{LIVES} lives have not found it"
    assert re.search(reason, said), said
    assert f"python -m tests.simulation --seed {seed} --seconds 15 --hurried --trace" in said


def _broken(seed: int) -> tuple[int, str]:
    """What is wrong with that life; empty when nothing is."""
    try:
        live(seed, SECONDS, hurried=True)
    except Broken as broken:
        return seed, str(broken)
    return seed, ""
