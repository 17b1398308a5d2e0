"""Checks of tools: what each outcome looks like, from real programs."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from greentic.envpacks.preflight import binary, version_in


def tool(folder: Path, script: str) -> str:
    path = folder / "tool"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("script", "at_least", "status"),
    [
        ("echo v1.2.3", None, "ok"),
        ("echo v1.2.3", "1.2.3", "ok"),
        ("echo v1.10.0", "1.9.9", "ok"),
        ("echo v1.2.3", "1.2.4", "version_mismatch"),
        ("echo nothing", "1.2.3", "probe_error"),
        ("echo 1.2.3; exit 3", "1.2.3", "probe_error"),
        ("echo 1.2.3 >&2", "1.2.3", "ok"),
    ],
)
def test_a_tool_is_judged_by_what_it_says(tmp_path: Path, script: str, at_least: str | None, status: str) -> None:
    check = binary("it", [tool(tmp_path, script), "--version"], at_least=at_least, hint="install it")
    assert check.status == status
    assert check.passed == (status == "ok")
    outcome = check.document()["outcome"]
    assert outcome["status"] == status
    if status == "version_mismatch":
        assert outcome == {
            "status": status,
            "found": "1.2.3",
            "required": ">=1.2.4",
            "install_hint": "install it",
        }


def test_a_tool_that_is_not_there_is_missing(tmp_path: Path) -> None:
    check = binary("it", [str(tmp_path / "none")], hint="install it")
    assert check.document()["outcome"]["install_hint"] == "install it"
    assert check.status == "missing"
    (tmp_path / "plain").write_text("no program")
    assert binary("it", [str(tmp_path / "plain")], hint="x").status == "missing"


def test_a_tool_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    assert binary("it", [tool(tmp_path, "exec sleep 30")], hint="x", seconds=0.2).status == "probe_error"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("aws-cli/2.15.0 Python/3.11.7", (2, 15, 0)),
        ('gitVersion: "v1.29.1"', (1, 29, 1)),
        ("kind version 0.20.0", (0, 20, 0)),
        ("Docker 24.0.0-rc.1+build", (24, 0, 0)),
        ("version 3.11", None),
        ("10.0.0.1", None),
        ("", None),
    ],
)
def test_a_version_is_found_in_what_tools_print(output: str, expected: tuple[int, int, int] | None) -> None:
    assert version_in(output) == expected
