"""`gtc` from its first moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RUN = "from greentic.cli.entry import main; main()"


def test_it_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-c", RUN, "--version"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.startswith("gtc")


def test_an_interruption_while_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    variables = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, timeout=60, env=variables)
    assert (done.returncode, done.stderr) == (130, "interrupted; nothing was done\n")
