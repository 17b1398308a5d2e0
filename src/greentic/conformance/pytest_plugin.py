"""The driving test in pytest: `pytest --greentic-deployer KIND` adds one test per check.

    pytest --greentic-deployer acme.deployer.nomad --greentic-profile core,traffic

The tests come beside whatever else pytest collects; `-k` and `-m conformance` choose among them as usual.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from greentic.conformance.certify import Candidate
    from greentic.conformance.checking import Check


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("greentic")
    group.addoption("--greentic-deployer", metavar="KIND", help="take this deployer through the driving test")
    group.addoption("--greentic-bench", metavar="NAME", help="who looks at an executable")
    group.addoption("--greentic-profile", metavar="NAME,…", default="", help="only these profiles of it")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker of the tests."""
    config.addinivalue_line("markers", "conformance: a check of the driving test of deployers")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the checks, before others choose."""
    kind = config.getoption("--greentic-deployer")
    if not kind:
        return
    from greentic.conformance import certify
    from greentic.envpacks.registry import Registry
    from greentic.spec.errors import GreenticError

    try:
        subject = certify.candidate(Registry.installed(), kind, config.getoption("--greentic-bench"))
        profiles = [one.strip() for one in config.getoption("--greentic-profile").split(",") if one.strip()]
        asked = certify.chosen(profiles)
    except GreenticError as error:
        raise pytest.UsageError(error.message) from None
    place = Conformance.from_parent(session, name=f"conformance of {subject.pack.descriptor}")
    items.extend(CheckItem.from_parent(place, name=check.name, check=check, subject=subject) for check in asked)


class Conformance(pytest.Collector):
    """Holds the checks of one deployer."""

    def collect(self) -> Iterator[pytest.Item]:
        """Nothing more: the checks were added to what was collected."""
        return iter(())


class CheckItem(pytest.Item):
    """One check as a test."""

    def __init__(self, *, check: Check, subject: Candidate, **given: Any) -> None:
        super().__init__(**given)
        self._check = check
        self._subject = subject
        self.add_marker("conformance")

    def runtest(self) -> None:
        """Fail with what was seen."""
        import asyncio

        from greentic.conformance.runner import conduct

        verdict = asyncio.run(conduct(self._check, self._subject.pack.descriptor, self._subject.open_bench))
        self.user_properties.append(("evidence", verdict.evidence))
        if not verdict.passed:
            pytest.fail(f"the deployer does not pass '{self._check.proves}': {verdict.evidence}", pytrace=False)

    def reportinfo(self) -> tuple[str, None, str]:
        """Where it stands in a report."""
        return self._subject.pack.path, None, self.name
