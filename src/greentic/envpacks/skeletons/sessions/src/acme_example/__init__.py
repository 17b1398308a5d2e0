"""The env-pack `acme.sessions.example`: what greentic finds by the two entry points in pyproject.toml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from greentic.envpacks.registry import EnvPack
from greentic.envpacks.sessions import Sessions
from greentic.router.pins import PinStore
from greentic.spec.capabilities import Slot


def pack() -> EnvPack:
    """The half that runs with the commands. Heavy imports belong into the functions below."""
    return EnvPack(
        path="acme.sessions.example",
        slot=Slot.SESSIONS,
        versions="^0.1.0",
        summary="keeps the pins of sessions in an SQLite database, shared by the routers of this machine",
        sessions=_sessions,
        answers=lambda: {
            "type": "object",
            "additionalProperties": False,
            "required": ["file"],
            "properties": {"file": {"type": "string", "description": "where the database is, an absolute path"}},
        },
    )


def pin_store(settings: Mapping[str, Any]) -> PinStore:
    """The half that runs in a router's process."""
    from acme_example.pins import ExamplePins

    return ExamplePins(settings)


def _sessions() -> Sessions:
    from acme_example.answers import ExampleSessions

    return ExampleSessions()
