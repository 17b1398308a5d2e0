"""What the command `gtc` runs first: next to nothing, so that Ctrl-C is answered in words from the first moment on."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; exit status 130 after Ctrl-C, also while it is being loaded."""
    try:
        from greentic.cli.main import main as run
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was done\n")
        sys.exit(130)
    run()
