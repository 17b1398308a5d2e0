"""Run a module with its provider calls written down, and struck as a bench asks.

    python -P -m greentic.envpacks.witnessed FOLDER MODULE [ARGUMENT …]

FOLDER is that of a `greentic.envpacks.bench.Recording`; a kill is one of this whole process.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path

from greentic.envpacks import calls
from greentic.envpacks.bench import Recording


def command(folder: Path, module: str) -> tuple[str, ...]:
    """The interpreter's arguments that run `module` so, with the recording in `folder`."""
    return ("-m", __name__, str(folder), module)


if __name__ == "__main__":
    calls.observe(Recording(Path(sys.argv[1]), lambda: os.kill(os.getpid(), signal.SIGKILL)))
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
