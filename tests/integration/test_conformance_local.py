"""The deployer of this machine takes the driving test: real processes, real requests."""

from __future__ import annotations

import asyncio

import pytest

from greentic.conformance.checking import Check, checks
from greentic.conformance.runner import conduct
from greentic.envpacks.registry import Registry

pytestmark = pytest.mark.timeout(400)  # a life is gone through call by call
PACK = Registry.installed().named("greentic.deployer.local-process")


@pytest.mark.parametrize("check", checks(), ids=lambda check: check.name)
def test_the_local_deployer(check: Check) -> None:
    assert PACK is not None
    assert PACK.bench is not None
    verdict = asyncio.run(conduct(check, PACK.descriptor, PACK.bench))
    assert verdict.passed, verdict.evidence
