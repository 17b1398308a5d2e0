"""The runtime on a bench: the same runtime, its provider calls written down and struck as the bench asks.

    python -m greentic.providers.local.witnessed --folder FOLDER …   (arguments as of `runtime`)

The recording is in `calls` beside the environment's folder.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from greentic.envpacks import calls
from greentic.envpacks.bench import Recording
from greentic.providers.local import runtime

MODULE = "greentic.providers.local.witnessed"


def recording_of(folder: Path) -> Path:
    """Where the calls for the environment in `folder` are written down."""
    return folder.parent / "calls"


def main(arguments: list[str]) -> int:
    """See `runtime.main`."""
    folder = Path(arguments[arguments.index("--folder") + 1])
    calls.observe(Recording(recording_of(folder), lambda: os.kill(os.getpid(), signal.SIGKILL)))
    return runtime.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
