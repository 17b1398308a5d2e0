"""The report of a driving test: which deployer took which checks, and what was seen in each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from greentic.spec.identifiers import Timestamp
from greentic.spec.parsing import Document, Text
from greentic.spec.revision import OMITTED

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Subject(Document):
    """What was tested: the descriptor (`path@version`), and the distribution that offers it."""

    kind: Text
    summary: Text
    distribution: Text | None = OMITTED
    version: Text | None = OMITTED


class Surroundings(Document):
    """Where it was tested: versions of the suite and of Python, the machine, and who looked at the provider."""

    suite: Text
    python: Text
    system: Text
    processors: Annotated[int, Field(ge=1, strict=True)]
    looker: Text | None = OMITTED


class CheckResult(Document):
    """One check: what it proves, how it ended, what was seen, and the seconds that it took.

    `broken`: it ended by an error that is none of a deployer, so that nothing was judged; that counts as not passed.
    """

    name: Text
    profile: Text
    proves: Text
    outcome: Literal["passed", "failed", "broken"]
    evidence: str
    seconds: Seconds


class ConformanceReport(Document):
    """`report.json` of `gtc conformance run`.

    `profiles` were taken whole, of `parts` some checks were left out. `passed`: every check that was taken was passed;
    `complete`: every profile was taken whole. A certificate is both.
    """

    schema_: Literal["greentic.conformance-report.v1"] = Field("greentic.conformance-report.v1", alias="schema")
    subject: Subject
    surroundings: Surroundings
    started_at: Timestamp
    seconds: Seconds
    profiles: tuple[Text, ...]
    parts: tuple[Text, ...] = ()
    complete: Annotated[bool, Field(strict=True)]
    passed: Annotated[bool, Field(strict=True)]
    checks: tuple[CheckResult, ...]
