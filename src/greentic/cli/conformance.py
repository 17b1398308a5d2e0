"""`gtc conformance`: the driving test that every deployer takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from greentic.cli.invocation import Concluded, Invocation, need, verb
from greentic.cli.nouns import Noun

if TYPE_CHECKING:
    from greentic.conformance.runner import Verdict

FOLDER = click.Path(path_type=Path, file_okay=False)
PROFILES = "core,traffic,drain,tenancy,credentials,faults"
_GATE_FAILED = 7


@click.group(cls=Noun)
def conformance() -> None:
    """The driving test that every deployer takes: it looks at the provider's world and sends real requests."""


@conformance.command()
@click.option("--deployer", "kind", metavar="KIND", help="The env-pack to test: PATH or PATH@VERSION.")
@click.option("--bench", metavar="NAME", help="Who looks at an executable: an env-pack, or 'processes'.")
@click.option("--profile", "profiles", metavar="NAME,…", help=f"Which checks. [default: {PROFILES}]")
@click.option("--check", "names", metavar="NAME", multiple=True, help="Only this check; may be repeated.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Write report.json and the certificate there.")
@verb("conformance", "run", view=lambda result: _view_run(result))
async def run(
    invocation: Invocation,
    kind: str | None,
    bench: str | None,
    profiles: str | None,
    names: tuple[str, ...],
    out: Path | None,
) -> Any:
    """Test a deployer in a clean world of its own for each check. Exits 7 when one is not passed."""
    from greentic.conformance import certify
    from greentic.envpacks.registry import Registry

    registry = Registry.installed()
    subject = certify.candidate(registry, need(kind, "option '--deployer'"), bench)
    asked = certify.chosen([one.strip() for one in (profiles or PROFILES).split(",") if one.strip()], names)
    if out is not None:
        certify.prepare(out)
    count = 0

    def told(verdict: Verdict) -> None:
        nonlocal count
        count += 1
        mark = {"passed": "✓", "failed": "✗", "broken": "!"}[verdict.outcome]
        shown = f"{mark} {count}/{len(asked)} {verdict.check.name} ({verdict.seconds:.1f} s)"
        invocation.progress(shown if verdict.passed else f"{shown}: {verdict.evidence}")

    found = await certify.certify(registry, subject, asked, told)
    written = certify.write(out, found) if out is not None else ()
    result = {**found.to_json(), "written": [str(path) for path in written]}
    return Concluded(result, 0 if found.passed else _GATE_FAILED)


@conformance.command("list")
@click.option("--profile", "profiles", metavar="NAME,…", help=f"Which checks. [default: {PROFILES}]")
@verb("conformance", "list", view=lambda result: _view_list(result))
def list_(invocation: Invocation, profiles: str | None) -> Any:
    """Show every check and what it proves."""
    from greentic.conformance import certify

    asked = certify.chosen([one.strip() for one in (profiles or PROFILES).split(",") if one.strip()])
    return {"checks": [{"name": one.name, "profile": one.profile, "proves": one.proves} for one in asked]}


def _view_run(result: Any) -> None:
    from greentic.cli.tables import line, table

    failed = [one for one in result["checks"] if one["outcome"] != "passed"]
    if failed:
        table(("NOT PASSED", "", "SEEN"), [(one["name"], one["outcome"], one["evidence"]) for one in failed])
    for path in result["written"]:
        line(f"wrote {path}")
    passed = len(result["checks"]) - len(failed)
    told = f"{result['subject']['kind']}: {passed} of {len(result['checks'])} checks in {result['seconds']:.0f} s"
    line((told, "green" if result["passed"] else "red"))


def _view_list(result: Any) -> None:
    from greentic.cli.tables import table

    table(("CHECK", "THE DEPLOYER …"), [(one["name"], one["proves"]) for one in result["checks"]])
