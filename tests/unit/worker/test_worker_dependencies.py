"""Declared dependencies, installed by the real pip from a folder of wheels."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from greentic.spec.errors import BundleError, ProviderError, TimedOut
from greentic.worker.dependencies import folder, install


def wheel(index: Path, name: str, version: str) -> None:
    """A wheel with one module (PEP 427)."""
    index.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(index / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


def operator(index: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "SECRET": "hunter2"}


def test_nothing_is_installed_when_nothing_is_declared(tmp_path: Path) -> None:
    assert asyncio.run(install((), tmp_path / "cache", print, {})) is None
    assert not (tmp_path / "cache").exists()


def test_installed_once_and_shared(tmp_path: Path) -> None:
    wheel(tmp_path / "index", "gtleft", "1.0")
    cache = tmp_path / "cache"
    lines: list[str] = []

    async def both() -> list[Path | None]:
        requirements = ["gtleft==1.0"]
        one = install(requirements, cache, lines.append, operator(tmp_path / "index"))
        two = install(requirements, cache, lines.append, operator(tmp_path / "index"))
        return list(await asyncio.gather(one, two))

    first, second = asyncio.run(both())
    assert first == second == folder(cache, ["gtleft==1.0"])
    assert [path.name for path in cache.iterdir()] == [first.name], "nothing unfinished is left"
    assert any("Successfully installed" in line for line in lines)
    code = "import gtleft; print(gtleft.VERSION)"
    found = subprocess.run([sys.executable, "-c", code], cwd=first, capture_output=True, text=True, check=True)
    assert found.stdout == "1.0\n"
    lines.clear()
    assert asyncio.run(install(["gtleft==1.0"], cache, lines.append, {})) == first
    assert lines == []


def test_another_order_is_the_same_another_version_is_not(tmp_path: Path) -> None:
    assert folder(tmp_path, ["a", "b"]) == folder(tmp_path, ["b", "a"])
    assert folder(tmp_path, ["a==1"]) != folder(tmp_path, ["a==2"])


def test_what_cannot_be_installed_is_said_in_the_words_of_pip(tmp_path: Path) -> None:
    wheel(tmp_path / "index", "gtleft", "1.0")
    with pytest.raises(ProviderError) as caught:
        asyncio.run(install(["gtleft==9.0"], tmp_path / "cache", lambda _: None, operator(tmp_path / "index")))
    assert "gtleft==9.0" in caught.value.message
    assert caught.value.details["exit_status"] == 1
    assert any("1.0" in line for line in caught.value.details["last_lines"])
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_time_limit(tmp_path: Path) -> None:
    with pytest.raises(TimedOut):
        asyncio.run(install(["gtleft"], tmp_path / "cache", lambda _: None, operator(tmp_path), limit_seconds=0.01))
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("requirement", ["--index-url=http://evil", " -r/etc/passwd", "a\n--pre"])
def test_an_option_is_no_requirement(tmp_path: Path, requirement: str) -> None:
    with pytest.raises(BundleError):
        asyncio.run(install([requirement], tmp_path / "cache", lambda _: None, {}))
    assert not (tmp_path / "cache").exists()
