"""Runs a state machine until every path that matters was walked; seeds in a fixed order, so every run decides alike.

`GREENTIC_LIVES=N` begins with seed N instead of 0, to look further.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from hypothesis import seed, settings
from hypothesis.stateful import RuleBasedStateMachine, get_state_machine_test

SEEDS = 8
"""A path missed by chance is looked for again; one that cannot be reached stays missed."""


def walk(machine: type[RuleBasedStateMachine], reached: Counter[str], wanted: Sequence[str], *, examples: int) -> None:
    """Live `examples` lives per seed until `reached` counts each of `wanted`; AssertionError for what is missed."""
    first = int(os.environ.get("GREENTIC_LIVES", "0"))
    bounds = settings(max_examples=examples, stateful_step_count=40, deadline=None, database=None, derandomize=False)
    missed = list(wanted)
    for number in range(first, first + SEEDS):
        seed(number)(get_state_machine_test(machine, settings=bounds))()
        missed = [name for name in missed if not reached[name]]
        if not missed:
            return
    raise AssertionError(f"never reached: {missed}; reached: {reached}")
