"""The report of a run as a document, and the page that a person signs: certificate or refusal."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version

from greentic.conformance.checking import PROFILES
from greentic.conformance.runner import Verdict
from greentic.envpacks.registry import EnvPack, Origin
from greentic.spec.conformance_report import CheckResult, ConformanceReport, Subject, Surroundings
from greentic.store.clock import timestamp

_EVIDENCE_CHARACTERS = 300
"""How much of what was seen stands on the page; the report has all of it."""


def report(
    pack: EnvPack,
    origin: Origin | None,
    whole: Sequence[str],
    parts: Sequence[str],
    verdicts: Sequence[Verdict],
    began: datetime,
    seconds: float,
    looker: str = "",
) -> ConformanceReport:
    """What was found of `pack`, which `origin` offers, by `looker`: the profiles that were taken whole, and those in
    part.
    """
    return ConformanceReport(
        subject=Subject(
            kind=pack.descriptor,
            summary=pack.summary,
            **({} if origin is None else {"distribution": origin.name, "version": origin.version}),
        ),
        surroundings=Surroundings(
            suite=version("greentic"),
            python=platform.python_version(),
            system=f"{platform.system()} {platform.release()} {platform.machine()}",
            processors=os.cpu_count() or 1,
            **({"looker": looker} if looker else {}),
        ),
        started_at=timestamp(began),
        seconds=round(seconds, 3),
        profiles=tuple(whole),
        parts=tuple(parts),
        complete=set(whole) == set(PROFILES),
        passed=bool(verdicts) and all(verdict.passed for verdict in verdicts),
        checks=tuple(
            CheckResult(
                name=verdict.check.name,
                profile=verdict.check.profile,
                proves=verdict.check.proves,
                outcome=verdict.outcome,
                evidence=verdict.evidence,
                seconds=verdict.seconds,
            )
            for verdict in verdicts
        ),
    )


def markdown(found: ConformanceReport, digest: str) -> str:
    """The page as Markdown; `digest` is that of the report's file."""
    lines = [f"# {_title(found)}", "", _statement(found), "", "| | |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in _facts(found, digest)]
    for profile in (*found.profiles, *found.parts):
        rows = [one for one in found.checks if one.profile == profile]
        passed = sum(one.outcome == "passed" for one in rows)
        lines += ["", f"## {profile}: {passed} of {len(rows)}", "", "| check | the deployer … | what was seen |"]
        lines += ["|---|---|---|"]
        lines += [f"| {_mark(one)} `{one.name}` | {_cell(one.proves)} | {_cell(one.evidence)} |" for one in rows]
    return "\n".join(lines) + "\n"


def text(found: ConformanceReport, digest: str) -> str:
    """The page as plain text."""
    title = _title(found)
    lines = [title, "=" * len(title), "", _statement(found), ""]
    lines += [f"{name + ':':14} {value}" for name, value in _facts(found, digest)]
    for profile in (*found.profiles, *found.parts):
        lines += ["", profile, "-" * len(profile)]
        for one in found.checks:
            if one.profile == profile:
                lines += [f"{_mark(one)} {one.name}", f"    {one.proves}", f"    seen: {_short(one.evidence)}"]
    return "\n".join(lines) + "\n"


def _title(found: ConformanceReport) -> str:
    if not found.passed:
        return "Not certified"
    return "Certificate of conformance" if found.complete else "Certificate of conformance, in part"


def _statement(found: ConformanceReport) -> str:
    failed = [one.name for one in found.checks if one.outcome != "passed"]
    if failed or not found.passed:
        return f"{found.subject.kind} did not pass {len(failed)} of {len(found.checks)} checks: {', '.join(failed)}."
    if found.complete:
        return f"{found.subject.kind} passed all {len(found.checks)} checks of every profile."
    whole = f"; of the profiles only {', '.join(found.profiles)} was taken whole" if found.profiles else ""
    return f"{found.subject.kind} passed the {len(found.checks)} checks that it took{whole or ', of no profile all'}."


def _facts(found: ConformanceReport, digest: str) -> list[tuple[str, str]]:
    subject, where = found.subject, found.surroundings
    offered = f"{subject.distribution} {subject.version}" if subject.distribution else "not known"
    return [
        ("deployer", f"{subject.kind}: {subject.summary}"),
        ("offered by", offered),
        *([("looked at by", where.looker)] if where.looker else []),
        ("suite", f"greentic {where.suite}, {len(found.checks)} checks"),
        ("where", f"{where.system}, {where.processors} processors, Python {where.python}"),
        ("when", f"{found.started_at}, in {found.seconds:.0f} s"),
        ("report", digest),
    ]


def _mark(one: CheckResult) -> str:
    return {"passed": "✓", "failed": "✗", "broken": "!"}[one.outcome]


def _short(evidence: str) -> str:
    line = " ".join(evidence.split())
    return line if len(line) <= _EVIDENCE_CHARACTERS else f"{line[:_EVIDENCE_CHARACTERS]} …"


def _cell(value: str) -> str:
    """One cell of a table: what a worker or a provider said must not become markup."""
    shown = _short(value).replace("\\", "\\\\")
    for character in "|`*_<>[]":
        shown = shown.replace(character, f"\\{character}")
    return shown
