"""What is made of verdicts: a document that reads back, and a page that claims no more than was seen."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from greentic.conformance import certify, report
from greentic.conformance.checking import PROFILES, checks
from greentic.conformance.runner import Verdict
from greentic.envpacks.registry import EnvPack, Registry
from greentic.spec.capabilities import Slot
from greentic.spec.conformance_report import ConformanceReport
from greentic.spec.errors import Conflict, InputOutput, InvalidArgument, NotFound
from greentic.spec.integrity import content_digest

PACK = EnvPack("acme.deployer.nomad", Slot.DEPLOYER, "^1.2.0", "runs workers on Nomad")
BEGAN = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)


def found(outcome: str = "passed", whole: tuple[str, ...] = PROFILES, evidence: str = "it was seen"):
    verdicts = [Verdict(check, "passed", evidence, 0.1) for check in checks(whole)]
    verdicts[0] = Verdict(verdicts[0].check, outcome, evidence, 0.1)
    return report.report(PACK, None, whole, (), verdicts, BEGAN, 12.3456)


def test_a_whole_pass_is_a_certificate() -> None:
    page = report.markdown(found(), "sha256:0")
    assert page.startswith("# Certificate of conformance\n")
    assert f"passed all {len(checks())} checks of every profile" in page
    assert all(f"`{check.name}`" in page for check in checks())
    assert report.text(found(), "sha256:0").startswith("Certificate of conformance\n")


def test_some_profiles_are_a_certificate_of_those() -> None:
    page = report.markdown(found(whole=("core",)), "sha256:0")
    assert page.startswith("# Certificate of conformance, in part\n")
    assert "of the profiles only core was taken whole" in page


@pytest.mark.parametrize("outcome", ["failed", "broken"])
def test_one_failure_is_no_certificate(outcome: str) -> None:
    for page in (report.markdown(found(outcome), "sha256:0"), report.text(found(outcome), "sha256:0")):
        assert "Not certified" in page
        assert f"did not pass 1 of {len(checks())} checks: core.stage-twice" in page


def test_nothing_run_is_no_certificate() -> None:
    assert not report.report(PACK, None, (), (), (), BEGAN, 0).passed


def test_what_a_provider_says_is_no_markup() -> None:
    page = report.markdown(found(evidence="a | b\n[x](http://evil) <script> `code`" + "y" * 400), "sha256:0")
    rows = [line for line in page.splitlines() if "stage-twice" in line]
    assert len(rows) == 1
    assert "a \\| b \\[x\\](http://evil) \\<script\\> \\`code\\`" in rows[0]
    assert rows[0].endswith("… |")


def test_the_report_reads_back_and_the_pages_name_its_digest(tmp_path: Path) -> None:
    paths = certify.write(tmp_path / "out", found())
    assert [path.name for path in paths] == ["report.json", "certificate.md", "certificate.txt"]
    data = paths[0].read_bytes()
    assert ConformanceReport.model_validate(json.loads(data)) == found()
    assert all(content_digest(data) in path.read_text() for path in paths[1:])


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputOutput, match="cannot be written"):
        certify.write(tmp_path / "out", found())


def test_what_can_be_tested() -> None:
    registry = Registry(
        {
            "acme.deployer.nomad": lambda: PACK,
            "acme.secrets.box": lambda: EnvPack("acme.secrets.box", Slot.SECRETS, "^1.0.0", ""),
        }
    )
    with pytest.raises(Conflict, match="offers no bench"):
        certify.candidate(registry, "acme.deployer.nomad")
    with pytest.raises(Conflict, match="fills the slot secrets"):
        certify.candidate(registry, "acme.secrets.box@1.0.0")
    with pytest.raises(NotFound, match=r"did you mean acme\.deployer\.nomad"):
        certify.candidate(registry, "acme.deployer.nomat")


def test_checks_are_chosen_by_profile_and_by_name() -> None:
    assert certify.chosen() == checks()
    assert [one.profile for one in certify.chosen(["drain", "core"])] == sorted(
        (one.profile for one in checks(("core", "drain"))), key=PROFILES.index
    )
    assert [one.name for one in certify.chosen((), ["core.warm-twice"])] == ["core.warm-twice"]
    with pytest.raises(InvalidArgument, match="no profile 'speed'"):
        certify.chosen(["speed"])
    with pytest.raises(InvalidArgument, match=r"no check 'core\.warm-twice'"):
        certify.chosen(["drain"], ["core.warm-twice"])


def test_every_check_says_what_it_proves() -> None:
    assert {check.profile for check in checks()} == set(PROFILES)
    assert len({check.name for check in checks()}) == len(checks())
    assert all(check.proves and check.proves[0].islower() and "\n" not in check.proves for check in checks())
