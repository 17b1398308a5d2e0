"""Every promise of the driving test has its checks, every check its promise and its mutant; the page says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from greentic.conformance.checking import checks
from greentic.conformance.clauses import OURS, REFERENCE
from greentic.conformance.zoo import mutants

NAMED = {name for clause in (*REFERENCE, *OURS) for name in clause.checks}


def test_every_check_stands_for_a_promise() -> None:
    assert {check.name for check in checks()} == NAMED


def test_every_promise_has_a_mutant() -> None:
    caught = {mutant.caught_by for mutant in mutants()}
    assert [clause.promise for clause in (*REFERENCE, *OURS) if not caught.issuperset(clause.checks)] == []


def test_the_page_is_of_the_checks_as_they_are() -> None:
    script = Path(__file__).parents[3] / "scripts" / "checks.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
