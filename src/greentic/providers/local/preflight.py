"""What the local deployer uses: this Python, which workers run on, and pip, which installs what they declare."""

from __future__ import annotations

import sys

from greentic.envpacks.preflight import ToolCheck, binary


def checks() -> tuple[ToolCheck, ...]:
    """The Python of workers, and its pip."""
    return (
        binary(
            "python",
            [sys.executable, "--version"],
            at_least="3.11.0",
            hint="install Python 3.11 or newer, and greentic into it",
        ),
        binary(
            "pip",
            [sys.executable, "-m", "pip", "--version"],
            hint="python -m ensurepip; only bundles that declare dependencies need it",
        ),
    )
