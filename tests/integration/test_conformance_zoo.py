"""The suite catches every mutant of its zoo, each by the check that names its fault; a survivor fails the build."""

from __future__ import annotations

import asyncio

import pytest

from greentic.conformance.checking import checks
from greentic.conformance.plain.bench import KIND
from greentic.conformance.runner import conduct
from greentic.conformance.zoo import Mutant, mutants

CHECKS = {check.name: check for check in checks()}
FEWEST_MUTANTS = 30


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant: Mutant) -> None:
    verdict = asyncio.run(conduct(CHECKS[mutant.caught_by], KIND, mutant.bench))
    assert verdict.outcome == "failed", f"{mutant.fault} It survived ({verdict.outcome}): {verdict.evidence}"


def test_every_check_has_its_mutant() -> None:
    """A check that never caught anything has proved nothing."""
    assert {mutant.caught_by for mutant in mutants()} == set(CHECKS)
    assert len(mutants()) >= FEWEST_MUTANTS
    assert len({mutant.name for mutant in mutants()}) == len(mutants())
