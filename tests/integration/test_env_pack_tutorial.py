"""The tutorial does what it says: its commands are run as they stand, in order, and its errors are the real ones."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.command_line import free_port

PAGE = Path(__file__).parents[2] / "docs" / "env-pack-tutorial.md"
CURL = """#!/bin/sh
for word; do url=$word; done
exec %s -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())' "$url"
"""


@pytest.mark.slow
@pytest.mark.timeout(660)
def test_the_tutorial(tmp_path: Path) -> None:
    page = PAGE.read_text()
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    assert script.count("gtc ") > 30
    place = tmp_path / "place"
    for said, meant in (("/tmp/env-pack-tutorial", str(place)), ("8089", str(free_port())), ("EOF_", "END_OF_FILE")):
        assert said in script
        script = script.replace(said, meant)
    # `! command` asks that it fails, which `set -e` leaves unasked.
    script = re.sub(r"^! (.*)$", r"if \1; then echo 'THIS SHOULD HAVE FAILED'; exit 1; fi", script, flags=re.MULTILINE)
    programs = tmp_path / "programs"
    programs.mkdir()
    commands = {
        "gtc": f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m greentic.cli.main "$@"\n',
        "pip": f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pip "$@"\n',
        "python": f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n',
        **({} if shutil.which("curl") else {"curl": CURL % shlex.quote(sys.executable)}),
    }
    for name, text in commands.items():
        (programs / name).write_text(text)
        (programs / name).chmod(stat.S_IRWXU)
    variables = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INDEX": "1",
    }
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=640, check=False,
        )  # fmt: skip
    finally:
        left = {"GREENTIC_STORE_ROOT": str(place / "environments"), "PYTHONPATH": str(place / "site")}
        subprocess.run(
            [programs / "gtc", "stop", "local"], env={**variables, **left}, capture_output=True, timeout=60, check=False
        )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    for promised in re.findall(r"^error: (.*)$", page, re.MULTILINE):
        assert promised in said, promised
    assert "Max open files            256" in said
    assert not place.exists()
