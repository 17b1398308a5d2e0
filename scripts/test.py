"""`make test`: the suite as two halves at once, for half of it waits for processes and clocks while the other computes.

What the second half says is held back until both have ended. The status is the first that is not 0.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile

PYTEST = (sys.executable, "-m", "pytest")
WAITS = "tests/integration"


def main() -> int:
    """Run both halves, and after Ctrl-C, which reaches both, wait until they have ended."""
    colour = "--color=yes" if sys.stdout.isatty() else "--color=auto"
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        halves = [
            subprocess.Popen([*PYTEST, WAITS]),
            subprocess.Popen([*PYTEST, "tests", f"--ignore={WAITS}", colour], stdout=said, stderr=subprocess.STDOUT),
        ]
        try:
            statuses = [half.wait() for half in halves]
        except KeyboardInterrupt:
            # They were interrupted, too, and end what they started.
            statuses = [half.wait() or 130 for half in halves]
        said.seek(0)
        shutil.copyfileobj(said, sys.stdout)
        sys.stdout.flush()
    return next((status for status in statuses if status), 0)


if __name__ == "__main__":
    sys.exit(main())
