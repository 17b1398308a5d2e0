"""The env-pack `acme.extension.example`: what greentic finds by the entry point in pyproject.toml.

An extension is bound as often as is needed, each time under an instance name and with answers of its own
(`gtc op extensions add`). What it does with them is between it and the workers that ask for it by name.
"""

from __future__ import annotations

from greentic.envpacks.preflight import ToolCheck
from greentic.envpacks.registry import EnvPack
from greentic.spec.capabilities import Slot


def pack() -> EnvPack:
    """Imported when somebody asks what is installed: heavy imports belong into functions."""
    return EnvPack(
        path="acme.extension.example",
        slot=Slot.EXTENSION,
        versions="^0.1.0",
        summary="a directory that workers can look things up in",
        preflight=_preflight,
        answers=lambda: {
            "type": "object",
            "additionalProperties": False,
            "required": ["url"],
            "properties": {"url": {"type": "string", "description": "where the directory is, https://…"}},
        },
    )


def _preflight() -> tuple[ToolCheck, ...]:
    """What has to be there on this machine for it to work."""
    from greentic.envpacks.preflight import binary

    return (binary("shell", ["sh", "-c", "exit 0"], hint="install a POSIX shell"),)
