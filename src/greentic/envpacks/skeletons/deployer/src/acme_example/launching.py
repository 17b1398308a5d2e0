"""What the answers of the binding make of a worker's command. Change this first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ANSWERS: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "nice": {
            "type": "integer",
            "minimum": 0,
            "maximum": 19,
            "default": 0,
            "description": "how much way the workers give to other programs",
        }
    },
}
"""The JSON Schema of the answers: `gtc op env-packs describe` shows it."""


def command(argv: tuple[str, ...], answers: Mapping[str, Any]) -> tuple[str, ...]:
    """The command that starts a worker."""
    nice = answers.get("nice", 0)
    return ("nice", "-n", str(nice), *argv) if nice else argv
