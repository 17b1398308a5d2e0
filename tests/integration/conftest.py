"""Bundles are built once; each test has its own environments, and leaves nothing running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.command_line import CommandLine, build, write_worker


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """v1 and v2 of a worker, one that is never healthy, one that does not start, one that dies at once."""
    folder = tmp_path_factory.mktemp("bundles")
    kinds = {
        "v1": write_worker(folder / "one", "1.0.0"),
        "v2": write_worker(folder / "two", "2.0.0"),
        "sick": write_worker(folder / "sick", "3.0.0", status=500),
        "broken": write_worker(folder / "broken", "4.0.0", application="raise RuntimeError('no such luck')\n"),
        "mute": write_worker(folder / "mute", "5.0.0", application="application = None\n"),
    }
    return {name: build(source, folder / f"{name}.gtbundle") for name, source in kinds.items()}


@pytest.fixture
def gtc(tmp_path: Path) -> Iterator[CommandLine]:
    """The command line with environments of its own."""
    command = CommandLine(tmp_path / "environments of mine")
    yield command
    command("stop")
