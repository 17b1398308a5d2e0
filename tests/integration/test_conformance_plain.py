"""The suite accuses no correct deployer: its own plain one passes every check."""

from __future__ import annotations

import asyncio

import pytest

from greentic.conformance.checking import Check, checks
from greentic.conformance.plain.bench import KIND, PlainBench
from greentic.conformance.runner import conduct


@pytest.mark.parametrize("check", checks(), ids=lambda check: check.name)
def test_the_plain_deployer(check: Check) -> None:
    verdict = asyncio.run(conduct(check, KIND, PlainBench))
    assert verdict.passed, verdict.evidence
