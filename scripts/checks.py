"""Writes docs/conformance-checks.md: what the driving test promises, which checks prove it, which mutants prove those.

    python scripts/checks.py [--check]

`--check` writes nothing and exits 1 when the page is not what would be written.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from greentic.conformance.checking import checks
from greentic.conformance.clauses import OURS, REFERENCE, Clause
from greentic.conformance.zoo import mutants

PAGE = Path(__file__).resolve().parents[1] / "docs" / "conformance-checks.md"
HEAD = """# What the driving test proves

Written by `make docs` from the checks themselves; [conformance.md](conformance.md) says how to run them. A mutant is a
deployer or a router that is wrong in one thing; the check on its line catches it, in every build.
"""


def page() -> str:
    """The page as it should be."""
    return "".join(
        (
            HEAD,
            "\n## What the reference checks, by asking\n\n",
            *_promises(REFERENCE),
            "\n## What it checks beyond that, by looking\n\n",
            *_promises(OURS),
            "\n## The checks, and who proves them\n\n| check | the deployer … | caught by it |\n|---|---|---|\n",
            *_checks(),
        )
    )


def _promises(clauses: Iterable[Clause]) -> Iterable[str]:
    yield "| promise | checks |\n|---|---|\n"
    for clause in clauses:
        yield f"| {clause.promise} | {', '.join(f'`{name}`' for name in clause.checks)} |\n"


def _checks() -> Iterable[str]:
    for check in checks():
        caught = [f"`{mutant.name}`: {mutant.fault}" for mutant in mutants() if mutant.caught_by == check.name]
        yield f"| `{check.name}` | {check.proves} | {'<br>'.join(caught)} |\n"


def main() -> int:
    """Write or check the page."""
    wanted = page()
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == wanted:
            return 0
        print("docs/conformance-checks.md is not of the checks as they are; write it anew: make docs", file=sys.stderr)
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
