"""The check of histories rejects what no order explains, and finds nothing of that in the stores of databases."""

from __future__ import annotations

import random
from dataclasses import replace
from math import inf

import pytest
from tests.integration.linearizability import Operation, created, illegal, linearizable, record

from greentic.store.contract import Stored

SEEDS = 60
ENV = "e"
START = (1, "n0")


def read(begin, end, generation, name):
    return Operation(ENV, "read", begin, end, "seen", name, generation=generation)


def write(begin, end, name, ending="applied", generation=0, expected=None):
    return Operation(ENV, "write", begin, end, ending, name, expected, generation)


LEGAL = {
    "nothing": [],
    "one after another": [write(0, 1, "a", generation=2), read(2, 3, 2, "a")],
    "a read beside a write sees before": [write(0, 5, "a", generation=2), read(1, 2, 1, "n0")],
    "a read beside a write sees after": [write(0, 5, "a", generation=2), read(1, 2, 2, "a")],
    "two writes at once, the later called first": [write(0, 9, "a", generation=3), write(1, 9, "b", generation=2)],
    "lost, and never happened": [write(0, inf, "a", "lost"), read(2, 3, 1, "n0")],
    "lost, and happened late": [write(0, inf, "a", "lost"), read(2, 3, 1, "n0"), read(4, 5, 2, "a")],
    "repeated, and happened the first time": [write(0, 9, "a", "replayed"), read(1, 2, 2, "a")],
    "refused for what came first": [
        write(0, 1, "a", generation=2),
        write(2, 3, "b", "refused", generation=2, expected=1),
    ],
}
ILLEGAL = {
    "a stale read": [write(0, 1, "a", generation=2), read(2, 3, 1, "n0")],
    "a read from the future": [read(0, 1, 2, "a"), write(2, 3, "a", generation=2)],
    "a read of what nobody wrote": [read(0, 1, 2, "x")],
    "a generation given twice": [write(0, 9, "a", generation=2), write(1, 9, "b", generation=2)],
    "a lost update": [write(0, 1, "a", generation=2), write(2, 3, "b", generation=2, expected=1)],
    "two swaps of one generation": [
        write(0, 9, "a", generation=2, expected=1),
        write(1, 9, "b", generation=3, expected=1),
    ],
    "refused for no reason": [write(0, 1, "a", "refused", generation=1, expected=1)],
    "refused with what was not": [write(0, 1, "a", "refused", generation=7, expected=3)],
    "acknowledged and gone": [write(0, 1, "a", "replayed"), read(2, 3, 1, "n0")],
    "a repetition with a second effect": [write(0, 1, "a", "replayed"), read(2, 3, 3, "a")],
    "lost, happened, and was undone": [write(0, inf, "a", "lost"), read(2, 3, 2, "a"), read(4, 5, 1, "n0")],
    "reads in an order of their own": [
        write(0, 9, "a", generation=2),
        read(1, 2, 2, "a"),
        read(3, 4, 1, "n0"),
    ],
}


@pytest.mark.parametrize("name", LEGAL)
def test_what_an_order_explains_is_accepted(name):
    assert linearizable(LEGAL[name], START)


@pytest.mark.parametrize("name", ILLEGAL)
def test_what_no_order_explains_is_rejected(name):
    assert not linearizable(ILLEGAL[name], START)


def clients(database, opened):
    """One store for all clients of a SQLite file; two servers on one PostgreSQL database."""
    return [opened(database)] if database.endswith(".db") else [opened(database), opened(database)]


def test_the_stores_are_linearizable(database, opened):
    stores = clients(database, opened)
    endings = set()
    for seed in range(SEEDS):
        history = record(seed, stores)
        assert illegal(history, created) == [], f"seed {seed}"
        endings |= {one.ending for one in history}
    assert endings == {"seen", "applied", "replayed", "refused", "lost"}


def test_a_real_history_with_one_answer_changed_is_rejected(opened, tmp_path):
    stores = clients(str(tmp_path / "store.db"), opened)
    chance, rejected, tried = random.Random(2026), 0, 0
    for seed in range(5):
        history = record(seed, stores)
        for _ in range(10):
            at = chance.randrange(len(history))
            if history[at].ending in {"seen", "applied"}:
                tried += 1
                forged = replace(history[at], generation=history[at].generation + chance.choice((-1, 1)))
                rejected += bool(illegal([*history[:at], forged, *history[at + 1 :]], created))
    # What was lost for good may stand in for a generation that is missing, seldom.
    assert rejected >= 0.9 * tried > 20


class Forgetful:
    """A store that now and then answers a read with what it read before, and sometimes ignores an expectation."""

    def __init__(self, store, *, stale: bool, blind: bool) -> None:
        self._store = store
        self._old: dict[str, Stored] = {}
        self._stale, self._blind, self._calls = stale, blind, 0

    def load(self, environment_id):
        self._calls += 1
        if self._stale and self._calls % 2 and environment_id in self._old:
            return self._old[environment_id]
        self._old[environment_id] = self._store.load(environment_id)
        return self._old[environment_id]

    def apply(self, command, *, expected_generation=None):
        self._calls += 1
        expected = None if self._blind and self._calls % 3 == 0 else expected_generation
        return self._store.apply(command, expected_generation=expected)


@pytest.mark.parametrize("fault", [{"stale": True, "blind": False}, {"stale": False, "blind": True}])
def test_a_store_that_is_not_is_found_out(fault, opened, tmp_path):
    broken = Forgetful(opened(str(tmp_path / "store.db")), **fault)
    assert any(illegal(record(seed, [broken]), created) for seed in range(10))
