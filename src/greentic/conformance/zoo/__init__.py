"""The zoo: deployers and providers that are each wrong in one thing, and the check that must catch each.

Each is the plain deployer, or its machine, with a few lines changed. A suite in which one of them survives proves
nothing: `tests/integration/test_conformance_zoo.py` fails then. There is a module per profile.
"""

from __future__ import annotations

from greentic.conformance.zoo import core, credentials, drain, faults, tenancy, traffic  # noqa: F401 - they register
from greentic.conformance.zoo.mutant import Mutant, mutants

__all__ = ("Mutant", "mutants")
